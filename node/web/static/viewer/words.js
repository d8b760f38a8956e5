// What the viewer says, in the language of the page.

const words = JSON.parse(document.getElementById('viewer').dataset.words);

/** A phrase in the reader's language with values in the places of {name}; English where there is no translation. */
export function say(phrase, values = {}) {
  return (words[phrase] ?? phrase).replace(/\{(\w+)\}/g, (place, name) => values[name] ?? place);
}

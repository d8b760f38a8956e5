// Frames of source images: fetched from DICOMweb as numbers, or as a picture where they are coloured.

const KEPT = 96;
const kept = new Map();

/** What `make` gives for a key, made once; the ones used last are kept. */
export function remember(key, make) {
  if (!kept.has(key)) {
    const made = make();
    made.catch(() => kept.delete(key));
    kept.set(key, made);
    if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  } else {
    const found = kept.get(key);
    kept.delete(key);
    kept.set(key, found);
  }
  return kept.get(key);
}

/** Bytes at a URL, or an error with what the node says. */
export async function octets(url) {
  const answer = await fetch(url, { headers: { Accept: 'application/octet-stream' } });
  if (!answer.ok) throw new Error(await said(answer));
  return answer.arrayBuffer();
}

export async function said(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text).detail ?? `status ${answer.status}`;
  } catch {
    return `status ${answer.status}`;
  }
}

/** A frame: { values: Float32Array } of rescaled numbers, or { picture: ImageBitmap }. */
export function frameOf(slice) {
  return remember(slice.url, async () => (slice.colour ? picture(slice) : numbers(slice)));
}

async function picture(slice) {
  const answer = await fetch(`${slice.url}/rendered`, { headers: { Accept: 'image/png' } });
  if (!answer.ok) throw new Error(await said(answer));
  return { picture: await createImageBitmap(await answer.blob()) };
}

async function numbers(slice) {
  const stored = typed(await octets(slice.url), slice);
  const count = slice.rows * slice.columns;
  if (stored.length < count) throw new Error('the frame has fewer pixels than its image says');
  const values = new Float32Array(count);
  for (let at = 0; at < count; at++) values[at] = stored[at] * slice.slope + slice.intercept;
  return { values };
}

function typed(buffer, { bits, signed }) {
  if (bits === 8) return signed ? new Int8Array(buffer) : new Uint8Array(buffer);
  if (bits === 16) return signed ? new Int16Array(buffer) : new Uint16Array(buffer);
  if (bits === 32) return signed ? new Int32Array(buffer) : new Uint32Array(buffer);
  throw new Error(`images of ${bits} bits are not shown`);
}

/** Grey levels of values in a window { centre, width }, as ImageData. */
export function windowed(values, slice, { centre, width }) {
  const image = new ImageData(slice.columns, slice.rows);
  const words = new Uint32Array(image.data.buffer);
  const low = centre - width / 2;
  const factor = 255 / Math.max(width, 1e-6);
  for (let at = 0; at < words.length; at++) {
    let level = (values[at] - low) * factor;
    level = level < 0 ? 0 : level > 255 ? 255 : Math.round(level);
    if (slice.inverted) level = 255 - level;
    words[at] = 0xff000000 | (level << 16) | (level << 8) | level;
  }
  return image;
}

/** A window from the values: their 1st and 99.7th percentile. */
export function windowFrom(values) {
  const step = Math.max(1, Math.floor(values.length / 20000));
  const sample = [];
  for (let at = 0; at < values.length; at += step) if (Number.isFinite(values[at])) sample.push(values[at]);
  sample.sort((one, other) => one - other);
  const at = share => sample[Math.min(sample.length - 1, Math.round(share * (sample.length - 1)))] ?? 0;
  const low = at(0.01);
  const high = Math.max(at(0.997), low + 1e-6);
  return { centre: (low + high) / 2, width: high - low };
}

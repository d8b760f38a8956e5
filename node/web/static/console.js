// Open pages load themselves again when there is news; everything else here is comfort. No page needs this file to work.
'use strict';
(() => {
  const PAUSE = 1000;
  let timer = null;
  let missed = false;

  // Whoever is typing or has a form open is not to lose it.
  function busy() {
    const at = document.activeElement;
    const typing = at && at.closest('[data-live]') && at.matches('input, select, textarea');
    return document.hidden || typing || document.querySelector('[data-live] details[data-form][open]') !== null;
  }

  function refresh() {
    timer = null;
    missed = busy();
    if (!missed) window.htmx.trigger(document.body, 'news');
  }

  function soon() {
    if (timer === null) timer = setTimeout(refresh, PAUSE);
  }

  function pulse(on) {
    const sign = document.getElementById('pulse');
    if (!sign) return;
    sign.textContent = on ? sign.dataset.on : sign.dataset.off;
    sign.className = on ? 'on' : 'off';
  }

  function listen() {
    const stream = new EventSource('/events');
    // The page says which revision it shows, so that nothing between its making and this stream is missed.
    const compare = event => {
      if (document.querySelector('[data-live]')?.dataset.revision !== event.data) soon();
    };
    stream.onopen = () => pulse(true);
    stream.onerror = () => pulse(false);
    stream.onmessage = compare;
    stream.addEventListener('news', compare);
    stream.addEventListener('over', () => {
      stream.close();
      window.location.reload();
    });
  }

  let open = [];
  document.addEventListener('htmx:beforeSwap', () => {
    open = [...document.querySelectorAll('details[open][id]')].map(each => each.id);
  });
  document.addEventListener('htmx:afterSettle', () => {
    for (const id of open) document.getElementById(id)?.setAttribute('open', '');
  });
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden && missed) soon();
  });
  document.addEventListener('focusout', () => {
    if (missed) soon();
  });
  document.addEventListener('submit', event => {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });
  document.addEventListener('keydown', event => {
    if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches('input, select, textarea')) return;
    const field = document.getElementById('find');
    if (!field) return;
    event.preventDefault();
    field.focus();
  });
  if (document.querySelector('[data-live]')) listen();
})();

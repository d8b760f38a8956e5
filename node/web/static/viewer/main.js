// The overlay viewer's page: panes, list of segments, keys.
import { said } from './frames.js';
import { nearest, Pane } from './pane.js';
import { say } from './words.js';

const root = document.getElementById('viewer');
const display = { fill: true, contour: true, hidden: new Set() };
const panes = [];
let active = null;
let following = false;

start().catch(error => trouble(error.message));

async function start() {
  const scene = await sceneOf(root.dataset.study);
  const [first, ...older] = scene.overlays;
  // Results of earlier runs stay in the list, switched off.
  for (const overlay of older) if (overlay.run !== first.run) overlay.segments.forEach(each => display.hidden.add(key(overlay, each)));
  const told = [];
  if (scene.lost.length) told.push(say('{count} image(s) of this study cannot be read and are not shown.', { count: scene.lost.length }));
  if (scene.unreadable.length) told.push(say('{count} segmentation(s) of this study cannot be placed and are not drawn.', { count: scene.unreadable.length }));
  trouble(told.join(' '));
  panes.push(new Pane(document.getElementById('current'), scene, display, changed));
  active = panes[0];
  list(scene);
  listen();
  const [stack, index] = beginning(scene);
  if (stack) panes[0].show(stack.key, index);
  else trouble(say('There are no images to show.'));
  const prior = document.getElementById('prior');
  if (prior) {
    const earlier = await sceneOf(prior.dataset.study);
    panes.push(new Pane(prior, earlier, display, changed));
    const alike = earlier.stacks.find(each => each.description === stack?.description) ?? earlier.stacks[0];
    if (alike) panes[1].show(alike.key, stack ? partner(panes[0], alike) : 0);
  }
  root.dataset.loaded = 'true';
}

async function sceneOf(study) {
  const answer = await fetch(`/study/${study}/view/scene`);
  if (!answer.ok) throw new Error(await said(answer));
  return answer.json();
}

/** The largest slice of the first finding, in the images it was made from; else the middle of the first stack. */
function beginning(scene) {
  for (const overlay of scene.overlays) {
    const wanted = overlay.madeFrom[0] ?? Object.keys(overlay.placed)[0];
    const found = overlay.segments.map(each => each.slices[wanted]).find(Boolean);
    if (found) return [scene.stacks.find(each => each.key === wanted), found.largest];
  }
  return [scene.stacks[0], Math.floor((scene.stacks[0]?.slices.length ?? 0) / 2)];
}

const key = (overlay, segment) => `${overlay.sop} ${segment.number}`;

function list(scene) {
  const place = document.getElementById('overlays');
  for (const overlay of scene.overlays) {
    const group = document.createElement('fieldset');
    const legend = document.createElement('legend');
    legend.textContent = `${overlay.label} — ${overlay.ours ? `${say('AI result, not reviewed')}; ${overlay.state}` : say('received')}`;
    group.append(legend, ...overlay.segments.map(segment => row(overlay, segment)));
    place.append(group);
  }
  if (!scene.overlays.length) place.textContent = say('There is no segmentation.');
}

function row(overlay, segment) {
  const line = document.createElement('div');
  line.className = 'segment';
  const label = document.createElement('label');
  const box = document.createElement('input');
  box.type = 'checkbox';
  box.checked = !display.hidden.has(key(overlay, segment));
  box.dataset.segment = key(overlay, segment);
  box.addEventListener('change', () => {
    display.hidden[box.checked ? 'delete' : 'add'](key(overlay, segment));
    panes.forEach(pane => pane.draw());
  });
  const swatch = document.createElement('span');
  swatch.className = 'swatch';
  swatch.style.backgroundColor = segment.colour;
  const name = document.createElement('span');
  name.textContent = segment.meaning && segment.meaning !== segment.label ? `${segment.label} (${segment.meaning})` : segment.label;
  label.append(box, swatch, name);
  const jump = document.createElement('button');
  jump.type = 'button';
  jump.textContent = say('Go to it');
  jump.disabled = !Object.keys(segment.slices).length;
  jump.addEventListener('click', () => {
    const here = panes[0].stack.key in segment.slices ? panes[0].stack.key : (overlay.madeFrom[0] ?? Object.keys(segment.slices)[0]);
    panes[0].show(here, segment.slices[here]?.largest);
  });
  line.append(label, jump);
  return line;
}

async function changed(pane) {
  if (!following && panes.length > 1 && document.getElementById('linked')?.checked) {
    const other = panes.find(each => each !== pane);
    following = true;
    if (other.stack && pane.stack) other.go(partner(pane, other.stack));
    following = false;
  }
  if (pane === active) await listWindows(pane);
}

/** Slice of a stack of the other study that belongs to a pane's slice. */
function partner(pane, stack) {
  if (stack.frameOfReference && stack.frameOfReference === pane.stack.frameOfReference) return nearest(stack, pane.slice);
  const part = pane.stack.slices.length > 1 ? pane.index / (pane.stack.slices.length - 1) : 0.5;
  return Math.round(part * (stack.slices.length - 1));
}

async function listWindows(pane) {
  const chooser = document.getElementById('window');
  try {
    const [presets, chosen] = await Promise.all([pane.presets(), pane.window()]);
    if (pane !== active) return;
    const isSame = each => each.window.centre === chosen.centre && each.window.width === chosen.width;
    const all = presets.some(isSame) ? presets : [{ name: say('Chosen'), window: chosen }, ...presets];
    chooser.replaceChildren(...all.map(each => new Option(each.name, JSON.stringify(each.window), false, isSame(each))));
    document.getElementById('window-values').textContent = say('centre {centre}, width {width}', {
      centre: chosen.centre.toPrecision(4),
      width: chosen.width.toPrecision(4),
    });
  } catch (error) {
    trouble(error.message);
  }
}

function listen() {
  document.getElementById('window').addEventListener('change', event => active.setWindow(JSON.parse(event.target.value)));
  for (const name of ['fill', 'contour']) {
    document.getElementById(name).addEventListener('change', event => {
      display[name] = event.target.checked;
      panes.forEach(pane => pane.draw());
    });
  }
  document.addEventListener('keydown', onKey);
  for (const element of document.querySelectorAll('.pane canvas')) {
    const own = () => panes.find(pane => pane.canvas === element);
    element.addEventListener('focus', () => {
      active = own() ?? active;
      if (active.stack) listWindows(active);
    });
    element.addEventListener('wheel', event => {
      event.preventDefault();
      own()?.go(own().index + Math.sign(event.deltaY));
    }, { passive: false });
    drag(element, own);
  }
  for (const button of document.querySelectorAll('.to-image')) {
    button.addEventListener('click', () => showImage(button.dataset.sop, Number(button.dataset.frame)));
  }
}

/** Dragging changes the window: sideways its width, up and down its centre. */
function drag(element, own) {
  let from = null;
  element.addEventListener('pointerdown', async event => {
    element.focus();
    const pane = own();
    if (event.button || !pane?.stack) return;
    element.setPointerCapture(event.pointerId);
    from = { x: event.clientX, y: event.clientY, chosen: await pane.window() };
  });
  element.addEventListener('pointermove', event => {
    if (!from || !(event.buttons & 1)) return;
    const step = Math.max(from.chosen.width, 1e-3) / 200;
    own().setWindow({
      centre: from.chosen.centre + (event.clientY - from.y) * step,
      width: Math.max(step, from.chosen.width + (event.clientX - from.x) * step * 2),
    });
  });
  for (const end of ['pointerup', 'pointercancel']) element.addEventListener(end, () => (from = null));
}

function showImage(sop, frame) {
  const pane = panes[0];
  for (const stack of pane.scene.stacks) {
    const index = stack.slices.findIndex(slice => slice.sop === sop && slice.frame === frame);
    if (index >= 0) {
      pane.show(stack.key, index);
      pane.canvas.scrollIntoView({ block: 'nearest' });
      return trouble('');
    }
  }
  trouble(say('The image this report names is not here.'));
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !active?.stack) return;
  if (event.target.closest('input:not([type=checkbox]), select, textarea')) return;
  const last = active.stack.slices.length - 1;
  const steps = { ArrowUp: -1, ArrowDown: 1, PageUp: -5, PageDown: 5 };
  if (event.key in steps) active.go(active.index + steps[event.key]);
  else if (event.key === 'Home') active.go(0);
  else if (event.key === 'End') active.go(last);
  else if (event.key === 'n' || event.key === 'p') finding(event.key === 'n' ? 1 : -1);
  else if (event.key === 'f') document.getElementById('fill').click();
  else if (event.key === 'c') document.getElementById('contour').click();
  else if (event.key === 'w') nextWindow();
  else if (/^[1-9]$/.test(event.key)) document.querySelectorAll('#overlays input')[Number(event.key) - 1]?.click();
  else return;
  event.preventDefault();
}

/** The next finding beyond this slice, or the one before. */
function finding(direction) {
  const largest = active.scene.overlays
    .flatMap(overlay => overlay.segments.filter(each => !display.hidden.has(key(overlay, each))))
    .map(segment => segment.slices[active.stack.key]?.largest)
    .filter(index => index !== undefined && Math.sign(index - active.index) === direction)
    .sort((one, other) => (one - other) * direction);
  if (largest.length) active.go(largest[0]);
}

function nextWindow() {
  const chooser = document.getElementById('window');
  chooser.selectedIndex = (chooser.selectedIndex + 1) % chooser.options.length;
  chooser.dispatchEvent(new Event('change'));
}

function trouble(words) {
  document.getElementById('trouble').textContent = words;
}

// One canvas with its stack: draws the slice, what lies over it, and which side is which.
import { frameOf, windowed, windowFrom } from './frames.js';
import { filled, maskOf, outline } from './segments.js';
import { say } from './words.js';

const OUTLINE_PIXELS = 2;
const FILL_OPACITY = 0.35;

export class Pane {
  /** `display` is shared: { fill, contour, hidden: Set of 'sop segment' }. */
  constructor(element, scene, display, changed) {
    this.element = element;
    this.canvas = element.querySelector('canvas');
    this.scene = scene;
    this.display = display;
    this.changed = changed;
    this.stack = null;
    this.index = 0;
    this.windows = new Map();
    this.turn = 0;
    this.chooser = element.querySelector('.stack');
    for (const stack of scene.stacks) this.chooser.append(new Option(titleOf(stack), stack.key));
    this.chooser.addEventListener('change', () => this.show(this.chooser.value));
    this.slider = element.querySelector('.scroll');
    this.slider.addEventListener('input', () => this.go(Number(this.slider.value)));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  get slice() {
    return this.stack?.slices[this.index];
  }

  show(key, index = null) {
    const stack = this.scene.stacks.find(each => each.key === key);
    if (!stack) return;
    const before = this.slice;
    this.stack = stack;
    this.chooser.value = key;
    this.slider.max = stack.slices.length - 1;
    this.go(index ?? nearest(stack, before), true);
  }

  go(index, always = false) {
    if (!this.stack) return;
    const wanted = Math.max(0, Math.min(this.stack.slices.length - 1, index));
    if (wanted === this.index && !always) return;
    this.index = wanted;
    this.slider.value = wanted;
    this.changed(this);
    this.draw();
  }

  /** Window of this stack; the images' own, else from the values of the slice in the middle. */
  async window() {
    const { key } = this.stack;
    if (!this.windows.has(key)) this.windows.set(key, (await this.presets())[0].window);
    return this.windows.get(key);
  }

  /** Windows to choose from, the first is the one to begin with. */
  async presets() {
    const { slices, modality } = this.stack;
    const middle = slices[Math.floor(slices.length / 2)];
    const found = [];
    if (middle.window) found.push({ name: say('Of the images'), window: { centre: middle.window[0], width: middle.window[1] } });
    if (!middle.colour) found.push({ name: say('From the values'), window: windowFrom((await frameOf(middle)).values) });
    return [...found, ...(modality === 'CT' ? CT_WINDOWS : []), ...(found.length ? [] : [NO_WINDOW])];
  }

  setWindow(chosen) {
    this.windows.set(this.stack.key, chosen);
    this.changed(this);
    return this.draw();
  }

  async draw() {
    const turn = ++this.turn;
    const { slice, canvas } = this;
    canvas.dataset.ready = 'false';
    if (!slice || !canvas.clientWidth) return;
    try {
      const [frame, chosen] = await Promise.all([frameOf(slice), this.window()]);
      const masks = await this.masks();
      if (turn !== this.turn) return;
      this.paint(slice, frame, chosen, masks);
      this.element.classList.remove('failed');
    } catch (error) {
      if (turn !== this.turn) return;
      this.clear();
      this.element.classList.add('failed');
      this.element.querySelector('.refusal').textContent = say('This slice cannot be shown: {reason}', { reason: error.message });
      return;
    }
    this.label(slice);
    canvas.dataset.ready = 'true';
  }

  /** What of the segmentations lies over this slice and is switched on. */
  async masks() {
    const wanted = [];
    for (const overlay of this.scene.overlays) {
      for (const placed of overlay.placed[this.stack.key]?.[this.index] ?? []) {
        for (const segment of overlay.segments) {
          const isHere = placed.segment === segment.number || placed.segment === null;
          if (isHere && !this.display.hidden.has(`${overlay.sop} ${segment.number}`)) wanted.push({ overlay, placed, segment });
        }
      }
    }
    return Promise.all(
      wanted.map(async each => ({ ...each, mask: await maskOf(each.overlay, each.placed, each.segment.number) }))
    );
  }

  clear() {
    this.canvas.getContext('2d').clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  paint(slice, frame, chosen, masks) {
    const { canvas, display } = this;
    const density = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * density);
    canvas.height = Math.round(canvas.clientHeight * density);
    const [rowSpacing, columnSpacing] = slice.spacing;
    const zoom = Math.min(canvas.width / (slice.columns * columnSpacing), canvas.height / (slice.rows * rowSpacing));
    const scale = { x: zoom * columnSpacing, y: zoom * rowSpacing };
    const left = (canvas.width - slice.columns * scale.x) / 2;
    const top = (canvas.height - slice.rows * scale.y) / 2;
    const context = canvas.getContext('2d');
    context.fillStyle = '#000';
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.setTransform(scale.x, 0, 0, scale.y, left, top);
    context.imageSmoothingEnabled = true;
    context.drawImage(frame.picture ?? greys(frame.values, slice, chosen), 0, 0);
    context.imageSmoothingEnabled = false;
    for (const { overlay, segment, mask } of masks) {
      if (display.fill) {
        context.globalAlpha = FILL_OPACITY;
        context.drawImage(filled(mask, overlay, segment.colour), 0, 0);
        context.globalAlpha = 1;
      }
      if (display.contour) {
        const path = new Path2D();
        path.addPath(outline(mask, overlay), new DOMMatrix([scale.x, 0, 0, scale.y, left, top]));
        context.save();
        context.resetTransform();
        context.lineWidth = OUTLINE_PIXELS * density;
        context.strokeStyle = segment.colour;
        context.stroke(path);
        context.restore();
      }
    }
    context.resetTransform();
    // Where the pixels of the image are on the canvas, in pixels of the canvas.
    Object.assign(canvas.dataset, { sop: slice.sop, frame: slice.frame, slice: this.index, left, top, scaleX: scale.x, scaleY: scale.y });
  }

  label(slice) {
    const { element, stack } = this;
    for (const side of ['left', 'right', 'top', 'bottom']) {
      element.querySelector(`.side.${side}`).textContent = slice.sides?.[side] ?? '?';
    }
    const counted = say('{number} of {count}', { number: this.index + 1, count: stack.slices.length });
    const where = `${counted}${slice.place ? `, ${slice.place}` : ''}`;
    element.querySelector('.where').textContent = where;
    this.canvas.setAttribute('aria-label', `${titleOf(stack)}, ${say('slice')} ${where}`);
    const refusals = this.scene.overlays.flatMap(overlay => {
      const { label } = overlay;
      const reason = overlay.refused[stack.key];
      if (reason) return [say('{label} is not drawn here: {reason}.', { label, reason: say(reason) })];
      const count = overlay.unplaced[stack.key];
      return count ? [say('{label}: {count} frames lie at no slice of this series and are not drawn.', { label, count })] : [];
    });
    if (!slice.sides) refusals.push(say('These images do not say which side is which.'));
    element.querySelector('.refusal').textContent = refusals.join(' ');
  }
}

const CT_WINDOWS = [
  ['Brain', 40, 80],
  ['Stroke', 35, 40],
  ['Subdural', 75, 215],
  ['Bone', 480, 2500],
  ['Lung', -600, 1500],
  ['Soft tissue', 50, 400],
].map(([name, centre, width]) => ({ name: say(name), window: { centre, width } }));
const NO_WINDOW = { name: say('As stored'), window: { centre: 128, width: 256 } };

export function titleOf(stack) {
  return [stack.number || '', stack.description].filter(String).join(' ');
}

function greys(values, slice, chosen) {
  const canvas = new OffscreenCanvas(slice.columns, slice.rows);
  canvas.getContext('2d').putImageData(windowed(values, slice, chosen), 0, 0);
  return canvas;
}

/** The slice of a stack at the place of another one; the middle where places cannot be compared. */
export function nearest(stack, other, shared = true) {
  const middle = Math.floor(stack.slices.length / 2);
  if (!other || !shared || other.offset === null || stack.slices.some(slice => slice.offset === null)) return middle;
  let best = 0;
  stack.slices.forEach((slice, index) => {
    if (Math.abs(slice.offset - other.offset) < Math.abs(stack.slices[best].offset - other.offset)) best = index;
  });
  return best;
}

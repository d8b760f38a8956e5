// Frames of a segmentation as masks, and their outlines along the edges of pixels.
import { octets, remember } from './frames.js';

/** Mask of one segment in one frame: 1 inside, 0 outside. `placed` is { frame, segment } as the node placed it. */
export async function maskOf(overlay, placed, segment) {
  const url = overlay.url + placed.frame;
  const pixels = await remember(url, async () => unpacked(overlay, await octets(url)));
  if (overlay.kind !== 'LABELMAP') return pixels;
  return remember(`${url} ${segment}`, async () => pixels.map(value => (value === segment ? 1 : 0)));
}

function unpacked(overlay, buffer) {
  const count = overlay.rows * overlay.columns;
  const stored = new Uint8Array(buffer);
  if (overlay.kind === 'BINARY' && stored.length < count) {
    // One bit a pixel, the lowest bit first (PS3.5 8.1.1).
    const mask = new Uint8Array(count);
    for (let at = 0; at < count; at++) mask[at] = (stored[at >> 3] >> (at & 7)) & 1;
    return mask;
  }
  if (overlay.kind === 'LABELMAP') return stored.length >= 2 * count ? new Uint16Array(buffer) : stored;
  return stored.map(value => (value >= Math.max(overlay.threshold, 0.5) ? 1 : 0));
}

/** A canvas of the mask's size in one colour, transparent outside. */
export function filled(mask, overlay, colour) {
  const canvas = new OffscreenCanvas(overlay.columns, overlay.rows);
  const image = new ImageData(overlay.columns, overlay.rows);
  const [red, green, blue] = [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16));
  for (let at = 0; at < mask.length; at++) if (mask[at]) image.data.set([red, green, blue, 255], 4 * at);
  canvas.getContext('2d').putImageData(image, 0, 0);
  return canvas;
}

/** Edges between inside and outside, in pixels; pixel (column, row) covers column … column + 1, row … row + 1. */
export function outline(mask, { rows, columns }) {
  const path = new Path2D();
  const inside = (row, column) => row >= 0 && column >= 0 && row < rows && column < columns && mask[row * columns + column];
  const edge = (x, y, toX, toY) => {
    path.moveTo(x, y);
    path.lineTo(toX, toY);
  };
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if (!mask[row * columns + column]) continue;
      if (!inside(row - 1, column)) edge(column, row, column + 1, row);
      if (!inside(row + 1, column)) edge(column, row + 1, column + 1, row + 1);
      if (!inside(row, column - 1)) edge(column, row, column, row + 1);
      if (!inside(row, column + 1)) edge(column + 1, row, column + 1, row + 1);
    }
  }
  return path;
}

// Opens a study in OHIF, looks at every object in it, writes what it saw: node ohif.mjs TASK.json SEEN.json
//
// TASK: { dist, chromium, dicomwebPort, studyUid, series, folder, places: [{ number, world: [x, y, z] }] }
import fs from 'node:fs';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { serve } from './serving.mjs';

const task = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const PATIENCE = { timeout: 30000 };

const server = await serve(task.dist, task.dicomwebPort);
const browser = await chromium.launch({
  executablePath: task.chromium,
  headless: true,
  args: ['--no-sandbox', '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader'],
});
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  fs.writeFileSync(process.argv[3], JSON.stringify(await look(page)));
} finally {
  await browser.close();
  server.closeAllConnections();
  server.close();
}

async function look(page) {
  await page.goto(`http://127.0.0.1:${server.address().port}/viewer?StudyInstanceUIDs=${task.studyUid}`);
  await page.waitForFunction(
    count => window.services?.displaySetService?.getActiveDisplaySets?.().length >= count,
    task.series,
    PATIENCE
  );
  await page.getByText('Skip all').click(PATIENCE);
  const sets = await page.evaluate(() =>
    window.services.displaySetService.getActiveDisplaySets().map(set => ({
      uid: set.displaySetInstanceUID,
      series: set.SeriesInstanceUID,
      sopClass: set.SOPClassUID,
      modality: set.Modality,
      isUnsupported: Boolean(set.unsupported),
    }))
  );
  const seen = { sets, overlays: {}, pictures: {}, documents: {}, texts: {} };
  // A colour map, once chosen, stays with the viewport: the maps come last.
  const isMap = set => set.modality === 'PMAP';
  for (const set of [...sets.filter(one => !isMap(one)), ...sets.filter(isMap)]) {
    if (['SEG', 'RTSTRUCT', 'PMAP'].includes(set.modality)) {
      seen.overlays[set.modality] = await lookAtOverlay(page, set);
    } else if (set.modality === 'OT') seen.pictures[set.series] = await lookAtPicture(page, set);
    else if (set.modality === 'DOC') (seen.documents[set.series] ??= []).push(await lookAtDocument(page, set));
    else if (set.modality === 'SR') seen.texts[set.series] = await lookAtText(page, set);
  }
  return seen;
}

/** Put a display set into the viewport and return the viewport's id. */
async function show(page, set) {
  return page.evaluate(uid => {
    const grid = window.services.viewportGridService;
    const viewportId = grid.getActiveViewportId();
    grid.setDisplaySetsForViewports([{ viewportId, displaySetInstanceUIDs: [uid] }]);
    return viewportId;
  }, set.uid);
}

/** Picture of the canvas, as soon as it shows something and two pictures in a row are the same. */
async function photograph(page, viewportId, file) {
  const canvas = page.locator('canvas.cornerstone-canvas').first();
  await page.evaluate(id => window.services.cornerstoneViewportService.getCornerstoneViewport(id).render(), viewportId);
  let before = null;
  for (const end = Date.now() + PATIENCE.timeout; Date.now() < end; ) {
    await page.waitForTimeout(400);
    const taken = await canvas.screenshot({ path: file });
    const isBlank = await page.evaluate(id => {
      const shown = window.services.cornerstoneViewportService.getCornerstoneViewport(id).getCanvas();
      const values = shown.getContext('2d').getImageData(0, 0, shown.width, shown.height).data;
      return !values.some((value, n) => n % 4 < 3 && value > 0);
    }, viewportId);
    if (!isBlank && before?.equals(taken)) return;
    before = taken;
  }
  throw new Error(`${file}: nothing came to rest on the canvas`);
}

async function lookAtOverlay(page, set) {
  const viewportId = await show(page, set);
  await page.waitForFunction(
    ([id, uid]) => {
      const { segmentationService, cornerstoneViewportService } = window.services;
      const viewport = cornerstoneViewportService.getCornerstoneViewport(id);
      const isLoaded = segmentationService.getSegmentations().some(one => one.segmentationId === uid);
      // A map is an actor of its own beside the images.
      return viewport?.getImageIds?.().length > 0 && (isLoaded || viewport.getActors().length > 1);
    },
    [viewportId, set.uid],
    PATIENCE
  );
  await page.waitForTimeout(1500);
  const seen = [];
  for (const place of task.places) {
    const where = await page.evaluate(async ([id, world]) => {
      const viewport = window.services.cornerstoneViewportService.getCornerstoneViewport(id);
      viewport.jumpToWorld(world);
      await new Promise(resolve => setTimeout(resolve, 800));
      viewport.render();
      const at = offset => Array.from(viewport.worldToCanvas(world.map((value, n) => value + offset[n])));
      return { focus: viewport.getCamera().focalPoint, corners: [at([0, 0, 0]), at([10, 0, 0]), at([0, 10, 0])] };
    }, [viewportId, place.world]);
    const file = path.join(task.folder, `${set.modality}-${place.number}.png`);
    await photograph(page, viewportId, file);
    seen.push({ number: place.number, file, ...where });
  }
  await page.screenshot({ path: path.join(task.folder, `${set.modality}.png`) });
  return seen;
}

async function lookAtPicture(page, set) {
  const viewportId = await show(page, set);
  await page.waitForFunction(
    ([id, uid, series]) => {
      const viewport = window.services.cornerstoneViewportService.getCornerstoneViewport(id);
      const shown = window.services.viewportGridService.getState().viewports.get(id)?.displaySetInstanceUIDs;
      // The grid changes at once; the picture of the set before stays until this one has come.
      const hasCome = viewport?.csImage?.imageId?.includes(series);
      return shown?.[0] === uid && hasCome && viewport.getImageData?.()?.dimensions?.[0] > 300;
    },
    [viewportId, set.uid, set.series],
    PATIENCE
  );
  // On a slow machine the viewer keeps the camera of the set before, under which this one is a dot; as "reset" in its menu.
  await page.evaluate(id => window.services.cornerstoneViewportService.getCornerstoneViewport(id).resetCamera(), viewportId);
  const file = path.join(task.folder, `picture-${set.sopClass}.png`);
  await photograph(page, viewportId, file);
  const dimensions = await page.evaluate(id => {
    const viewport = window.services.cornerstoneViewportService.getCornerstoneViewport(id);
    return [...viewport.getImageData().dimensions.slice(0, 2), viewport.getImageIds().length];
  }, viewportId);
  return { file, dimensions };
}

async function lookAtDocument(page, set) {
  await show(page, set);
  const element = page.locator('object[type="application/pdf"]');
  await element.waitFor({ state: 'attached', ...PATIENCE });
  // The element may still be that of the document shown before.
  await page.waitForTimeout(1000);
  return page.evaluate(async () => {
    const answer = await fetch(document.querySelector('object[type="application/pdf"]').data);
    const digest = await crypto.subtle.digest('SHA-256', await answer.arrayBuffer());
    return [...new Uint8Array(digest)].map(byte => byte.toString(16).padStart(2, '0')).join('');
  });
}

async function lookAtText(page, set) {
  await show(page, set);
  await page.waitForTimeout(1500);
  return page.evaluate(() => document.body.innerText);
}

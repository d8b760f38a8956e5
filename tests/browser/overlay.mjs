// Opens the overlay viewer of a node and writes what it showed: node overlay.mjs TASK.json SEEN.json
//
// TASK: { chromium, url, folder, width, height, segments: [{ index }] }
import fs from 'node:fs';
import path from 'node:path';
import { chromium } from 'playwright-core';

const task = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const browser = await chromium.launch({ executablePath: task.chromium, headless: true, args: ['--no-sandbox'] });
try {
  const page = await browser.newPage({ viewport: { width: task.width, height: task.height } });
  const complaints = [];
  // A browser asks for an icon by itself.
  const isOwn = message => message.type() === 'error' && !message.location().url.endsWith('/favicon.ico');
  page.on('console', message => isOwn(message) && complaints.push(`${message.text()} ${message.location().url}`));
  page.on('pageerror', error => complaints.push(String(error)));
  page.on('dialog', dialog => {
    complaints.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  const seen = await look(page);
  fs.writeFileSync(process.argv[3], JSON.stringify({ ...seen, complaints }));
} finally {
  await browser.close();
}

async function look(page) {
  await page.goto(task.url);
  await page.waitForSelector('#viewer[data-loaded=true]', { timeout: 30000 });
  await settled(page);
  const seen = { first: await shown(page, 'first'), slices: [] };
  await page.screenshot({ path: path.join(task.folder, 'page.png'), fullPage: true });
  const jumps = page.locator('#overlays button');
  for (const segment of task.segments) {
    await jumps.nth(segment.index).click();
    await settled(page);
    seen.slices.push(await shown(page, `segment-${segment.index}`));
  }
  seen.banner = await page.locator('.banner').innerText();
  seen.overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  seen.labels = await page.locator('#overlays .segment label').allInnerTexts();
  seen.legends = await page.locator('#overlays legend').allInnerTexts();
  seen.reports = await page.locator('.report').allInnerTexts();
  if (await page.locator('#prior').count()) seen.prior = await prior(page);
  if (task.segments.length) {
    seen.keys = await keys(page);
    seen.unfilled = await switched(page);
  }
  seen.refused = await otherStacks(page);
  seen.sides = await sides(page);
  seen.injected = await page.evaluate(() => window.injected ?? null);
  return seen;
}

/** Wait until every pane has drawn what it was asked for. */
async function settled(page) {
  await page.waitForTimeout(50);
  await page.waitForFunction(
    () => [...document.querySelectorAll('.pane canvas')].every(canvas => canvas.dataset.ready === 'true'),
    null,
    { timeout: 30000 }
  );
}

/** The canvas's own pixels as a file, and where the image lies on it. */
async function shown(page, name, pane = '#current') {
  const { data, place } = await page.locator(`${pane} canvas`).evaluate(canvas => ({
    data: canvas.toDataURL('image/png'),
    place: { ...canvas.dataset },
  }));
  const file = path.join(task.folder, `${name}.png`);
  fs.writeFileSync(file, Buffer.from(data.split(',')[1], 'base64'));
  const text = selector => page.locator(`${pane} ${selector}`).innerText();
  return { file, ...place, where: await text('.where'), refusal: await text('.refusal'), unreviewed: await text('.unreviewed') };
}

async function sides(page) {
  const text = side => page.locator(`#current .side.${side}`).innerText();
  return [await text('left'), await text('right'), await text('top'), await text('bottom')];
}

async function prior(page) {
  const before = await shown(page, 'prior', '#prior');
  await page.locator('#current canvas').focus();
  await page.keyboard.press('Home');
  await settled(page);
  return { before, after: await shown(page, 'prior-home', '#prior'), current: await shown(page, 'home') };
}

async function keys(page) {
  const index = async () => Number(await page.locator('#current canvas').getAttribute('data-slice'));
  const press = async key => {
    await page.keyboard.press(key);
    await settled(page);
    return index();
  };
  await page.locator('#current canvas').focus();
  const found = { home: await press('Home'), down: await press('ArrowDown'), end: await press('End'), up: await press('ArrowUp') };
  await press('Home');
  found.next = await press('n');
  const values = () => page.locator('#window-values').innerText();
  found.window = await values();
  await page.keyboard.press('w');
  await page.waitForTimeout(200);
  found.nextWindow = await values();
  const box = await page.locator('#current canvas').boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 2 + 40, box.y + box.height / 2 + 30, { steps: 4 });
  await page.mouse.up();
  await page.waitForTimeout(200);
  found.dragged = await values();
  await page.mouse.wheel(0, 100);
  await settled(page);
  found.wheel = (await index()) - found.next;
  return found;
}

/** With fill and contour off, and with the first segment off, nothing is coloured. */
async function switched(page) {
  const [first] = task.segments;
  await page.locator('#overlays button').nth(first.index).click();
  await settled(page);
  await page.locator('#overlays input').nth(first.index).uncheck();
  await settled(page);
  const without = await shown(page, 'without');
  await page.locator('#overlays input').nth(first.index).check();
  await page.locator('#fill').uncheck();
  await settled(page);
  const contour = await shown(page, 'contour');
  await page.locator('#contour').uncheck();
  await settled(page);
  const bare = await shown(page, 'bare');
  await page.locator('#fill').check();
  await page.locator('#contour').check();
  return { without, contour, bare };
}

/** What each series says about the segmentation. */
async function otherStacks(page) {
  const found = {};
  for (const option of await page.locator('#stack-current option').all()) {
    await page.locator('#stack-current').selectOption(await option.getAttribute('value'));
    await settled(page);
    found[await option.innerText()] = await page.locator('#current .refusal').innerText();
  }
  return found;
}

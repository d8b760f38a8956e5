// Uses the console as people do, writes what it saw: node console.mjs TASK.json SEEN.json
//
// TASK: { base, chromium, folder, send: [command, ...], administrator, viewer: { name, passcode }, studyUid, accession, model }
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { chromium } from 'playwright-core';

const task = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const axe = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PATIENCE = { timeout: 30000 };
const seen = { complaints: [], findings: [], overflows: [], pictures: [], steps: {} };

const browser = await chromium.launch({ executablePath: task.chromium, headless: true, args: ['--no-sandbox'] });
try {
  const page = await open({ width: 1280, height: 860 });
  await signIn(page, task.administrator);
  await arriveAndRun(page);
  await holdAndRelease(page);
  await approve(page);
  await lookAround(page);
  await inJapanese(page);
  await asViewer();
} finally {
  fs.writeFileSync(process.argv[3], JSON.stringify(seen));
  await browser.close();
}

async function open(viewport) {
  // CSP is what is tested, so nothing goes around it; axe is run through the protocol.
  const page = await (await browser.newContext({ viewport, locale: 'en-GB' })).newPage();
  page.setDefaultTimeout(PATIENCE.timeout);
  await page.addInitScript(() =>
    document.addEventListener('securitypolicyviolation', event =>
      console.error(`stopped: ${event.effectiveDirective} ${event.sourceFile}:${event.lineNumber} ${event.sample}`)
    )
  );
  page.on('console', message => {
    if (['error', 'warning'].includes(message.type())) seen.complaints.push(`${page.url()}: ${message.text()}`);
  });
  page.on('pageerror', error => seen.complaints.push(`${page.url()}: ${error}`));
  page.on('dialog', dialog => dialog.accept());
  return page;
}

async function signIn(page, who) {
  await page.goto(`${task.base}/studies`);
  await picture(page, 'sign-in');
  // By keyboard alone: the first field has the focus.
  await page.keyboard.type(who.name);
  await page.keyboard.press('Tab');
  await page.keyboard.type(who.passcode);
  await page.keyboard.press('Enter');
  await page.locator('.who').waitFor();
}

/** A study comes while the first page is open; its run is cancelled, tried again, and ends in the archive. */
async function arriveAndRun(page) {
  await page.goto(`${task.base}/system`);
  await page.locator('#pause summary').click();
  await page.locator('#pause select').selectOption('rule infarct');
  await page.locator('#pause input[name=reason]').fill('waiting for the console');
  await page.locator('#pause button').click();
  await page.getByText('Paused. Receiving goes on.').waitFor();

  await page.goto(`${task.base}/`);
  await page.locator('#pulse.on').waitFor();
  await page.evaluate(() => (window.notReloaded = true));
  await run(task.send);
  const row = page.locator('#main').getByRole('link', { name: task.accession });
  await row.first().waitFor();
  seen.steps.arrivedLive = await page.evaluate(() => window.notReloaded === true);
  await picture(page, 'today-arriving');
  await row.first().click();
  const state = page.locator('#runs ~ .scroll').first().locator('tbody .state').first();
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.getByText('The run is cancelled.').waitFor();
  seen.steps.cancelled = await state.textContent();
  await picture(page, 'study-cancelled');
  await page.getByRole('button', { name: 'Retry' }).click();
  await page.getByText('The run is queued again.').waitFor();
  seen.steps.retried = await state.textContent();

  await page.goto(`${task.base}/system`);
  await picture(page, 'system-paused');
  await page.locator('#main input[name=reason]').first().fill('seen');
  await page.getByRole('button', { name: 'Resume' }).click();
  await page.getByText('Resumed.').waitFor();

  await page.goto(`${task.base}/study/${task.studyUid}`);
  await page.evaluate(() => (window.notReloaded = true));
  await page.locator('.state.committed').nth(2).waitFor();
  seen.steps.ranLive = await page.evaluate(() => window.notReloaded === true);
  seen.steps.ran = await state.textContent();
  await page.getByRole('button', { name: 'Replay' }).first().click();
  await page.getByText('Queued to be sent again').waitFor();
  await page.getByText(/asked for: replay/).waitFor();
  await page.locator('.state.committed').nth(2).waitFor();
  seen.steps.replayed = true;
  await checked(page, 'study');
}

async function holdAndRelease(page) {
  await page.locator('#hold summary').click();
  await page.locator('#reason').fill('wrong side');
  await page.getByRole('button', { name: /^Hold:/ }).click();
  await page.getByText('The study is held.').waitFor();
  await picture(page, 'study-held');
  await page.goto(`${task.base}/`);
  seen.steps.needsSomebody = await page.locator('#needs + .scroll').getByRole('link', { name: task.accession }).count();
  await checked(page, 'today');
  await page.goto(`${task.base}/study/${task.studyUid}`);
  await page.getByRole('button', { name: 'Release' }).click();
  await page.getByText('The study is released.').waitFor();
}

async function approve(page) {
  await page.goto(`${task.base}/models`);
  const box = page.locator(`#${task.model}`);
  seen.steps.before = await box.locator('.state').first().textContent();
  await box.locator('input[type=checkbox]').check();
  await box.getByRole('button', { name: 'Approve these files' }).click();
  await page.getByText('The model may serve.').waitFor();
  seen.steps.after = await box.locator('.state').first().textContent();
}

async function lookAround(page) {
  for (const [name, address] of [
    ['studies', '/studies'],
    ['destinations', '/destinations'],
    ['models', '/models'],
    ['rules', '/rules/dry-run?days=7'],
    ['system', '/system'],
    ['audit', '/audit'],
    ['users', '/users'],
    ['account', '/account'],
    ['fault', '/study/9.9'],
  ]) {
    await page.goto(task.base + address);
    await checked(page, name);
  }
  seen.steps.dryRun = await page
    .goto(`${task.base}/rules/dry-run?days=7`)
    .then(() => page.locator('#main table').last().locator('tbody tr').first().textContent());
  // The key that goes to the search field, then the study by its number.
  await page.keyboard.press('/');
  await page.keyboard.type(task.accession);
  await page.keyboard.press('Enter');
  await page.waitForURL(/studies\?accession=/);
  seen.steps.found = await page.locator('#main tbody tr').count();
}

async function inJapanese(page) {
  await page.goto(`${task.base}/`);
  await page.getByRole('link', { name: '日本語' }).click();
  seen.steps.language = await page.locator('html').getAttribute('lang');
  seen.steps.title = await page.locator('h1').textContent();
  await checked(page, 'today-ja');
  await page.goto(`${task.base}/study/${task.studyUid}`);
  await checked(page, 'study-ja');
}

async function asViewer() {
  const page = await open({ width: 1280, height: 860 });
  await signIn(page, task.viewer);
  await page.goto(`${task.base}/study/${task.studyUid}`);
  seen.steps.viewersButtons = await page.locator('#main button').count();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.waitForURL(/login$/);
  await page.goto(`${task.base}/`);
  seen.steps.signedOut = new URL(page.url()).pathname;
  await checked(page, 'login');
}

/** A page in light and dark, wide and narrow (what is light and narrow has no rule of its own): axe has nothing serious to say, nothing sticks out. */
async function checked(page, name) {
  for (const [colorScheme, width, height] of [['light', 1280, 860], ['dark', 1280, 860], ['dark', 390, 844]]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    if (wide > width) seen.overflows.push(`${name} at ${width}: ${wide}`);
    await audit(page, `${name} ${colorScheme} ${width}`);
    await picture(page, `${name}-${colorScheme}-${width}`);
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 1280, height: 860 });
}

async function audit(page, where) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  for (const each of violations.filter(one => ['serious', 'critical'].includes(one.impact))) {
    seen.findings.push(`${where}: ${each.id}: ${each.nodes.slice(0, 3).map(node => node.html.slice(0, 160)).join(' | ')}`);
  }
}

async function picture(page, name) {
  const file = path.join(task.folder, `${name}.png`);
  await page.screenshot({ path: file, fullPage: true });
  seen.pictures.push(name);
}

function run([command, ...words]) {
  return new Promise((resolve, reject) =>
    execFile(command, words, error => (error ? reject(error) : resolve()))
  );
}

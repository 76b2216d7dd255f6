// Starts Debian's Chromium for the tests.

import { chromium } from 'playwright-core';

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--autoplay-policy=no-user-gesture-required',
  // Tabs side by side: none of them is in the background.
  '--disable-background-timer-throttling', '--disable-renderer-backgrounding',
  '--disable-backgrounding-occluded-windows',
];

/** @param {string[]} [flags] to add to the command line */
export function openBrowser(flags = []) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: [...FLAGS, ...flags],
  });
}

/** A page of its own context, its console errors collected in `page.errors`. */
export async function openPage(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.errors = [];
  page.on('pageerror', (error) => page.errors.push(error.message));
  await page.goto(url);
  return page;
}

/** What the page's players say. */
export function players(page) {
  return page.evaluate(() => window.pinhole?.players() ?? {});
}

export async function player(page, name) {
  return (await players(page))[name];
}

/** Waits for `check(value of read())`; says what was last seen when it does not come. */
export async function until(what, read, check, timeoutMs = 10_000) {
  const start = performance.now();
  let last;
  while (performance.now() - start < timeoutMs) {
    last = await read();
    if (check(last)) return { value: last, ms: Math.round(performance.now() - start) };
    await new Promise((done) => setTimeout(done, 25));
  }
  throw new Error(`not within ${timeoutMs} ms: ${what}; last seen: ${JSON.stringify(last)}`);
}

export function untilPlaying(page, name, timeoutMs) {
  return until(`${name} plays`, () => player(page, name), (p) => p?.state === 'playing', timeoutMs);
}

/** The words over a camera's picture, or '' while there are none. */
export function veil(page, name) {
  return page.evaluate((n) => {
    const element = document.querySelector(`[data-camera="${n}"] .veil`);
    return !element || element.hidden ? '' : element.innerText.replace(/\s+/g, ' ').trim();
  }, name);
}

export function untilVeil(page, name, pattern, timeoutMs) {
  return until(`words over ${name} match ${pattern}`, () => veil(page, name), (text) => pattern.test(text), timeoutMs);
}

/** A number that differs when the shown picture differs. */
export function pictureHash(page, name) {
  return page.evaluate((n) => {
    const canvas = new OffscreenCanvas(160, 90);
    const g = canvas.getContext('2d');
    g.drawImage(document.querySelector(`[data-camera="${n}"] video`), 0, 0, 160, 90);
    return g.getImageData(0, 0, 160, 90).data.reduce((hash, byte) => (hash * 31 + byte) >>> 0, 7);
  }, name);
}

// Starts Debian's Chromium for the tests.

import { chromium } from 'playwright-core';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const FLAGS = [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--autoplay-policy=no-user-gesture-required',
  // Tabs side by side: none of them is in the background.
  '--disable-background-timer-throttling', '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows',
];

/** @param {object} [options] of the context; `flags` are added to the command line */
export async function openBrowser({ flags = [], ...options } = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'pinhole-chromium-'));
  const context = await chromium.launchPersistentContext(dir, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    viewport: { width: 1280, height: 800 },
    args: [...FLAGS, ...flags],
    ...options,
  });
  const close = async () => {
    await context.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
  };
  return { context, close };
}

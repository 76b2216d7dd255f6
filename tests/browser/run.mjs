// Plays Pinhole's page in a real Chromium.   usage: node run.mjs [part of a case's name]...
//
// env PINHOLE   the binary (default target/release/pinhole)
//     OUT       where screenshots go (default target/browser)
//     CHROMIUM  the browser (default /usr/bin/chromium)
//
// Prints one line per case with its figures and ends with `N passed, M failed`; exit 1 on failure.

import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cases as gatewayCases } from './gateway.mjs';
import { cases as pageCases } from './page.mjs';
import { BINARY, endAll } from './processes.mjs';
import { cases as wordCases } from './words.mjs';

const OUT = process.env.OUT ?? fileURLToPath(new URL('../../target/browser', import.meta.url));
/** A case that takes longer hangs, ms. */
const CASE_MS = 60_000;

const shoot = (page, name) => page.screenshot({ path: join(OUT, `${name}.png`) });

/**
 * Figures by the wall clock are at the mercy of whatever else the machine does: a case of a real
 * browser that misses one is run once more. Both runs are printed.
 */
const triesOf = (name) => (name in wordCases ? 1 : 2);

async function runCase(name, body, tries = triesOf(name)) {
  const passed = await tryCase(name, body, tries > 1 ? 'once more' : 'FAIL');
  return passed || (tries > 1 && runCase(name, body, tries - 1));
}

async function tryCase(name, body, verdict) {
  const start = performance.now();
  let timer;
  const tooLong = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('hangs')), CASE_MS); });
  try {
    const figures = await Promise.race([body({ shoot }), tooLong]);
    report('ok  ', name, figures, start);
    return true;
  } catch (error) {
    report(verdict, name, error.stack, start);
    return false;
  } finally {
    clearTimeout(timer);
    await endAll();
  }
}

function report(verdict, name, text, start) {
  console.log(`${verdict} ${name}: ${text} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
}

async function main() {
  mkdirSync(OUT, { recursive: true });
  const wanted = process.argv.slice(2);
  const all = Object.entries({ ...wordCases, ...pageCases, ...gatewayCases });
  const chosen = all.filter(([name]) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
  if (chosen.some(([name]) => name in gatewayCases) && !existsSync(BINARY)) {
    throw new Error(`${BINARY} does not exist: build it, or name it by PINHOLE`);
  }
  const results = [];
  for (const [name, body] of chosen) results.push(await runCase(name, body));
  const failed = results.filter((is) => !is).length;
  console.log(`${results.length - failed} passed, ${failed} failed`);
  process.exit(failed > 0 || results.length === 0 ? 1 : 0);
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});

// Cases against the stand-in: every state of the page, and faults that a healthy Pinhole does not
// show.

import assert from 'node:assert/strict';
import { openBrowser, openPage, pictureHash, player, players, until, untilPlaying, untilVeil, veil } from './browser.mjs';
import { Mock, camera } from './mock.mjs';
import { openSender } from './sender.mjs';

// The stand-in's media comes from another tab: with .local names they would find each other late.
const FLAGS = ['--disable-features=WebRtcHideLocalIpsWithMdns'];
const SIZES = { tablet: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };

/** Runs `body` with a browser, a sender and a stand-in of its own. */
async function staged(body) {
  const browser = await openBrowser(FLAGS);
  const sender = await openSender(await browser.newContext());
  const mock = new Mock(sender);
  await mock.start();
  try {
    return await body({ browser, sender, mock });
  } finally {
    await mock.stop();
    await browser.close();
  }
}

const DOWN = { state: 'down', reason: 'unreachable', detail: 'connect to 192.168.1.21:554: timed out', retry_in_ms: 3400, since_ms: 4000, last_picture_ms: 12_300 };

async function everyStateIsShown({ shoot }) {
  return staged(async ({ browser, mock }) => {
    mock.cameras = [
      camera('front-door'), camera('driveway', DOWN), camera('garden'),
      camera('workshop', { state: 'idle', last_picture_ms: undefined, viewers: 0 }), camera('printer'),
      camera('nest-box', { ...DOWN, reason: 'unauthorized', retry_in_ms: undefined, since_ms: 7_500_000, last_picture_ms: undefined }),
    ];
    const page = await openPage(browser, `${mock.url}?live=3`, { colorScheme: 'dark' });
    await untilPlaying(page, 'front-door');
    await untilPlaying(page, 'garden');
    await untilVeil(page, 'driveway', /^Offline for 1\d s unreachable: the camera does not answer next try in [23] s$/);
    await untilVeil(page, 'nest-box', /^Offline for 2 h 5 min unauthorized: .* no further try$/);
    await untilVeil(page, 'workshop', /^asleep until someone watches select to watch$/);
    assert.equal(await veil(page, 'front-door'), '', 'a live picture speaks for itself');
    assert.match(await page.textContent('#summary'), /6 cameras, 2 offline/);
    await shootAll(page, 'grid', shoot);
    await page.goto(`${mock.url}?live=3#driveway`);
    await untilVeil(page, 'driveway', /Offline/);
    await page.waitForTimeout(500); // the style's transitions, for the eye
    await shootAll(page, 'offline', shoot);
    assert.deepEqual(page.errors, []);
    return 'texts of playing, offline (2), asleep';
  });
}

async function shootAll(page, name, shoot) {
  for (const colorScheme of ['dark', 'light']) {
    await page.emulateMedia({ colorScheme });
    for (const [size, viewport] of Object.entries(SIZES)) {
      await page.setViewportSize(viewport);
      await page.waitForTimeout(400); // the style's transitions, for the eye
      await shoot(page, `${name}-${size}-${colorScheme}`);
    }
  }
  await page.setViewportSize(SIZES.tablet);
}

async function clickKeysAndLinksLeadAbout({ shoot }) {
  return staged(async ({ browser, mock }) => {
    mock.cameras = [camera('a'), camera('b'), camera('c')];
    const page = await openPage(browser, `${mock.url}?live=1`, { colorScheme: 'light' });
    await untilPlaying(page, 'a');
    const { session } = await player(page, 'a');
    await page.click('[data-camera=a] .open');
    await page.waitForSelector('body[data-view=one]');
    assert.equal((await player(page, 'a')).session, session, 'a playing tile becomes large without a new session');
    await until('figures', () => page.innerText('#facts'), (t) => /960×540/.test(t) && /kbit\/s|Mbit\/s/.test(t));
    await shoot(page, 'large-tablet-light');
    await page.setViewportSize(SIZES.phone);
    await page.waitForTimeout(300); // the style's transitions, for the eye
    await shoot(page, 'large-phone-light');
    await page.keyboard.press('ArrowRight');
    await until('b is open', () => page.evaluate(() => location.hash), (hash) => hash === '#b');
    await untilPlaying(page, 'b');
    await page.keyboard.press('Escape');
    await page.waitForSelector('body[data-view=grid]');
    await page.keyboard.press('ArrowRight');
    const tile = await focused(page);
    await page.keyboard.press('Enter');
    await page.waitForSelector('body[data-view=one]');
    await until('the focus is on what leads back', () => focused(page), (on) => on === 'back', 2000);
    await page.goBack();
    await page.waitForSelector('body[data-view=grid]');
    await until('the focus is on the camera again', () => focused(page), (on) => on === tile, 2000);
    await page.keyboard.press('Enter');
    await page.waitForSelector('body[data-view=one]');
    await page.keyboard.press('Escape');
    await page.waitForSelector('body[data-view=grid]');
    await until('and again', () => focused(page), (on) => on === tile, 2000);
    await until('b is let go', () => players(page), (all) => all.b.state === 'idle' || all.c.state === 'idle', 8000);
    return 'click, arrows, Enter, Back, Escape with the focus; session kept';
  });
}

/** What has the focus: an element's id, or the address that a tile leads to. */
function focused(page) {
  return page.evaluate(() => document.activeElement.id || document.activeElement.getAttribute('href'));
}

async function frozenSessionIsReplaced({ shoot }) {
  return staged(async ({ browser, sender, mock }) => {
    mock.cameras = [camera('door')];
    const page = await openPage(browser, `${mock.url}#door`);
    await untilPlaying(page, 'door');
    await page.waitForTimeout(1200); // one that has played a while freezes
    await sender.freeze(true);
    const { ms: told } = await untilVeil(page, 'door', /Picture is \d+ s old/, 5000);
    await shoot(page, 'stale');
    const { ms } = await until('a new session', () => player(page, 'door'), (p) => p.counts.freezes === 1, 8000);
    await sender.freeze(false);
    await untilPlaying(page, 'door');
    await untilVeil(page, 'door', /^$/);
    assert.equal(mock.seen.filter((r) => r.line.startsWith('DELETE')).length, 1, 'the old session was ended');
    return `told after ${told} ms, replaced after ${told + ms} ms`;
  });
}

/** Callbacks of shown frames stay away: what is decoded reaches no screen. */
function paintNothingFromNowOn() {
  HTMLVideoElement.prototype.requestVideoFrameCallback = () => 1;
}

async function pictureThatIsNotPaintedIsToldAndReplaced() {
  return staged(async ({ browser, mock }) => {
    mock.cameras = [camera('door')];
    const page = await openPage(browser, mock.url);
    await untilPlaying(page, 'door');
    await page.waitForTimeout(3500); // as long as a session has to live to count as steady
    assert.equal((await player(page, 'door')).counts.sessions, 1, 'one that is painted is left alone');
    const before = (await player(page, 'door')).figures.framesDecoded;
    await page.evaluate(paintNothingFromNowOn);
    const { ms: told } = await untilVeil(page, 'door', /Picture is \d+ s old/, 5000);
    assert.ok((await player(page, 'door')).figures.framesDecoded > before, 'frames are decoded all the while');
    const { ms } = await until('a new session', () => player(page, 'door'), (p) => p.counts.freezes === 1, 8000);
    return `told after ${told} ms, replaced after ${told + ms} ms`;
  });
}

async function silentCameraIsSaidNotReconnected() {
  return staged(async ({ browser, sender, mock }) => {
    mock.cameras = [camera('door')];
    const page = await openPage(browser, mock.url);
    await untilPlaying(page, 'door');
    // Known to whoever asks from then on: one who hears it late would rightly blame the session.
    const stopped = performance.now();
    const silent = camera('door');
    Object.defineProperty(silent, 'last_picture_ms', { enumerable: true, get: () => Math.round(performance.now() - stopped) });
    mock.cameras = [silent];
    await sender.freeze(true);
    const { ms } = await untilVeil(page, 'door', /No picture for \d+ s/, 6000);
    await page.waitForTimeout(3000); // in which no second session may come
    const { counts } = await player(page, 'door');
    assert.equal(counts.sessions, 1, 'the fault is the camera\'s: the session stays');
    return `told after ${ms} ms, session kept`;
  });
}

async function refusalsAreSaidAndObeyed({ shoot }) {
  return staged(async ({ browser, mock }) => {
    mock.cameras = [camera('door')];
    mock.faults.whep = { status: 503, headers: { 'retry-after': '2' }, body: { title: 'Service Unavailable', detail: 'limits.viewers is reached' } };
    const page = await openPage(browser, mock.url);
    await untilVeil(page, 'door', /Pinhole is full limits.viewers is reached/);
    await until('a second POST', () => posts(mock).length, (n) => n >= 2);
    const [first, second] = posts(mock);
    assert.ok(second.at - first.at >= 1990, `Retry-After obeyed: ${second.at - first.at} ms`);
    mock.faults.whep = { status: 422, body: { title: 'Unprocessable Content', detail: 'no common codec: the offer has VP8, the camera sends H.264' } };
    await untilVeil(page, 'door', /This browser cannot play it no common codec: the offer has VP8/);
    mock.faults.whep = null;
    mock.faults.api = { status: 401, body: { title: 'Unauthorized' } };
    await page.waitForSelector('#note form:not([hidden])');
    assert.match(await page.innerText('#note'), /wants a token/);
    await shoot(page, 'token');
    mock.faults.api = null;
    await untilPlaying(page, 'door');
    return `503 asked again after ${Math.round(second.at - first.at)} ms; 422, 401 said`;
  });
}

const posts = (mock) => mock.seen.filter((r) => r.line.startsWith('POST'));

async function endedSessionIsReplacedAtOnce() {
  return staged(async ({ browser, sender, mock }) => {
    mock.cameras = [camera('door')];
    const page = await openPage(browser, mock.url);
    await untilPlaying(page, 'door');
    await sender.end();
    const { ms } = await until('a second session plays', () => player(page, 'door'),
      (p) => p.counts.sessions >= 2 && p.state === 'playing', 5000);
    return `playing again after ${ms} ms`;
  });
}

async function offerIsPostedAtOnceAndCandidatesFollow() {
  return staged(async ({ browser, mock }) => {
    mock.cameras = [camera('door')];
    mock.faults.isMute = true;
    const page = await openPage(browser, mock.url);
    const { value: { times } } = await untilPlaying(page, 'door');
    const patches = mock.seen.filter((r) => r.line.startsWith('PATCH'));
    const post = mock.seen.findIndex((r) => r.line.startsWith('POST'));
    const patch = mock.seen.findIndex((r) => r.line.startsWith('PATCH'));
    assert.ok(post >= 0 && post < patch, 'the offer went before any candidate');
    assert.doesNotMatch(mock.seen[post].body, /^a=end-of-candidates/m, 'it did not wait for all of them');
    assert.ok(patches.length > 0, 'candidates were trickled');
    assert.equal(patches[0].headers['if-match'], mock.etag);
    assert.equal(patches[0].headers['content-type'], 'application/trickle-ice-sdpfrag');
    await page.goto('about:blank');
    await until('DELETE on leaving', () => mock.seen.filter((r) => r.line.startsWith('DELETE')).length, (n) => n === 1, 3000);
    return `posted after ${Math.round(times.posted - times.open)} ms, found by ${patches.length} PATCH with If-Match, DELETE on leaving`;
  });
}

async function nothingToShowIsSaid({ shoot }) {
  return staged(async ({ browser, mock }) => {
    const page = await openPage(browser, mock.url, { colorScheme: 'light' });
    await until('the hint', () => page.innerText('main'), (t) => /No cameras yet/.test(t) && /\[\[camera\]\]/.test(t));
    await shoot(page, 'empty-light');
    mock.cameras = [camera('door')];
    await untilPlaying(page, 'door');
    await page.goto(`${mock.url}#shed`);
    await until('the name', () => page.innerText('main'), (t) => /No camera is named “shed”/.test(t) && /door/.test(t));
    await page.click('#note a');
    await page.waitForSelector('body[data-view=grid]');
    return 'empty list, unknown camera';
  });
}

async function kioskFillsTheWall({ shoot }) {
  return staged(async ({ browser, mock }) => {
    mock.cameras = ['a', 'b', 'c', 'd'].map((name) => camera(name));
    const page = await openPage(browser, `${mock.url}?kiosk`);
    for (const { name } of mock.cameras) await untilPlaying(page, name);
    assert.equal(await page.isVisible('#bar'), false);
    const overflow = await page.evaluate(() => document.querySelector('main').scrollHeight - innerHeight);
    assert.ok(overflow <= 0, `all on one screen: ${overflow} px too many`);
    await page.waitForTimeout(500); // the style's transitions, for the eye
    await shoot(page, 'kiosk');
    const before = await pictureHash(page, 'd');
    await until('the picture moves', () => pictureHash(page, 'd'), (now) => now !== before, 2000);
    return '4 cameras on one screen, no bar';
  });
}

async function hiddenPageLetsGo() {
  return staged(async ({ browser, mock }) => {
    mock.cameras = [camera('door')];
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.clock.install();
    await page.goto(mock.url);
    await untilPlaying(page, 'door');
    await hide(page, true);
    await page.clock.fastForward(1000);
    await new Promise((done) => setTimeout(done, 300)); // what was under way has arrived
    const asked = mock.seen.length;
    await page.evaluate(() => dispatchEvent(new Event('online')));
    await page.clock.fastForward(14_000);
    assert.equal(mock.seen.length, asked, 'a hidden page asks nothing, whatever the network does');
    assert.equal((await player(page, 'door')).state, 'playing', 'a short look elsewhere costs nothing');
    await page.clock.fastForward(10_000);
    await until('the camera is let go', () => player(page, 'door'), (p) => p.state === 'idle', 3000);
    assert.equal(mock.seen.filter((r) => r.line.startsWith('DELETE')).length, 1);
    await hide(page, false);
    const { ms } = await untilPlaying(page, 'door');
    return `kept for 15 s, let go before 25 s, playing ${ms} ms after the return`;
  });
}

function hide(page, isHidden) {
  return page.evaluate((hidden) => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event('visibilitychange'));
  }, isHidden);
}

async function fewTilesPlayAtOnce() {
  return staged(async ({ browser, mock }) => {
    mock.cameras = Array.from({ length: 12 }, (_, i) => camera(`cam-${i}`, { fps: 25 }));
    const page = await openPage(browser, `${mock.url}?live=2`);
    await untilPlaying(page, 'cam-1');
    await page.waitForTimeout(1000); // in which no third session may come
    assert.equal(new Set(posts(mock).map(({ line }) => line)).size, 2, 'no more cameras than asked for');
    await page.hover('[data-camera=cam-2] .open');
    await untilPlaying(page, 'cam-2');
    await page.mouse.move(1, 1);
    await until('it is let go', () => player(page, 'cam-2'), (p) => p.state === 'idle', 8000);
    return '12 cameras, 2 live, a third under the pointer';
  });
}

async function unreachablePinholeIsSaid({ shoot }) {
  return staged(async ({ browser, sender, mock }) => {
    mock.cameras = [camera('door'), camera('yard')];
    const page = await openPage(browser, mock.url, { colorScheme: 'dark' });
    await untilPlaying(page, 'door');
    await mock.stop();
    await sender.freeze(true);
    const { ms } = await until('the banner', () => page.innerText('#banner'), (t) => /not reachable since .*by itself\. \(\d/.test(t), 6000);
    await untilVeil(page, 'door', /No connection to Pinhole/);
    await shoot(page, 'unreachable');
    await mock.start();
    await sender.freeze(false);
    const { ms: back } = await until('the banner goes', () => page.isVisible('#banner'), (is) => !is, 5000);
    await untilVeil(page, 'door', /^$/);
    return `banner after ${ms} ms, gone ${back} ms after the return`;
  });
}

async function newReleaseIsTaken() {
  return staged(async ({ browser, mock }) => {
    mock.cameras = [camera('door')];
    const page = await openPage(browser, mock.url);
    await untilPlaying(page, 'door');
    for (const { release, isNew } of [{ release: '"r1"', isNew: false }, { release: '"r2"', isNew: true }]) {
      await page.evaluate(() => { window.isOld = true; });
      await mock.stop();
      await until('it is away', () => page.isVisible('#banner'), Boolean, 6000);
      mock.release = release;
      const asked = mock.seen.length;
      await mock.start();
      await until('the page asked which release this is', () => mock.seen.slice(asked).map(({ line }) => line), (lines) => lines.includes('HEAD /app.js'), 6000);
      if (isNew) await until('another page', () => page.evaluate(() => window.isOld ?? false).catch(() => true), (is) => !is, 6000);
      await untilPlaying(page, 'door');
      assert.equal(await page.evaluate(() => window.isOld ?? false), !isNew, release);
    }
    await page.evaluate(() => { window.isOld = true; });
    mock.release = '"r3"'; // no request of the page has failed
    const { ms } = await until('another page', () => page.evaluate(() => window.isOld ?? false).catch(() => true), (is) => !is, 15_000);
    return `kept over a restart, loaded again after an upgrade, after a quick one within ${ms} ms`;
  });
}

/** As browsers that save power do: nothing plays but in the event of a tap. */
function refuseToPlay() {
  const play = HTMLMediaElement.prototype.play;
  let isTap = false;
  for (const type of ['click', 'pointerup']) addEventListener(type, () => { isTap = true; setTimeout(() => { isTap = false; }); }, true);
  HTMLMediaElement.prototype.play = function tapped() {
    return isTap ? play.call(this) : Promise.reject(new DOMException('no gesture', 'NotAllowedError'));
  };
  const setter = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, 'srcObject').set;
  Object.defineProperty(HTMLMediaElement.prototype, 'srcObject', { set(stream) { this.autoplay = false; setter.call(this, stream); } });
}

/** As Firefox before 132. */
function tellOfNoFrame() {
  delete HTMLVideoElement.prototype.requestVideoFrameCallback;
}

/** A tick of the page comes between the tap and the picture. */
function tellOfFramesLate() {
  const ask = HTMLVideoElement.prototype.requestVideoFrameCallback;
  HTMLVideoElement.prototype.requestVideoFrameCallback = function late(told) {
    return ask.call(this, () => setTimeout(told, 1200));
  };
}

async function heldBackPictureIsPlayedByATap({ shoot }, also = () => {}) {
  return staged(async ({ browser, mock }) => {
    mock.cameras = [camera('door')];
    const page = await openPage(browser, 'about:blank');
    await page.addInitScript(refuseToPlay);
    await page.addInitScript(also);
    await page.goto(mock.url);
    await untilVeil(page, 'door', /^Tap to play/, 8000);
    // For longer than a session that is not held back may go without a picture.
    await until('frames are decoded', () => player(page, 'door'), (p) => p.figures?.framesDecoded > 80);
    assert.match(await veil(page, 'door'), /^Tap to play/, 'the first frame is painted, and stands still');
    await shoot(page, 'tap-to-play');
    const tap = () => page.click('[data-camera=door] .open');
    await tap();
    const { ms: first } = await untilVeil(page, 'door', /^$/, 5000);
    assert.equal(await page.evaluate(() => location.hash), '', 'the tap led nowhere');
    // What was playing is stopped by the browser, for a phone call or to save power.
    await page.evaluate(() => document.querySelector('[data-camera=door] video').pause());
    const { ms: told } = await untilVeil(page, 'door', /^Tap to play/, 5000);
    await tap();
    await untilVeil(page, 'door', /^$/, 5000);
    assert.equal((await player(page, 'door')).counts.sessions, 1, 'all in one session');
    return `a tap plays after ${first} ms, and the grid stays; a later stop is told after ${told} ms`;
  });
}

export const cases = {
  'page: every state is shown, light, dark, phone, tablet': everyStateIsShown,
  'page: click, keys and links lead about': clickKeysAndLinksLeadAbout,
  'page: a frozen session is told and replaced': frozenSessionIsReplaced,
  'page: a picture that is not painted is told and replaced': pictureThatIsNotPaintedIsToldAndReplaced,
  'page: a silent camera is told, its session kept': silentCameraIsSaidNotReconnected,
  'page: refusals are said and Retry-After is obeyed': refusalsAreSaidAndObeyed,
  'page: an ended session is replaced at once': endedSessionIsReplacedAtOnce,
  'page: the offer is posted at once, candidates follow': offerIsPostedAtOnceAndCandidatesFollow,
  'page: nothing to show is said': nothingToShowIsSaid,
  'page: a kiosk fills its wall': kioskFillsTheWall,
  'page: few tiles play at once': fewTilesPlayAtOnce,
  'page: a hidden page lets go of its cameras': hiddenPageLetsGo,
  'page: an unreachable Pinhole is said': unreachablePinholeIsSaid,
  'page: a new release is taken by a page that stays open': newReleaseIsTaken,
  'page: what the browser holds back is played by a tap': heldBackPictureIsPlayedByATap,
  'page: the same in a browser that tells of no frame': (kit) => heldBackPictureIsPlayedByATap(kit, tellOfNoFrame),
  'page: the same where frames are late': (kit) => heldBackPictureIsPlayedByATap(kit, tellOfFramesLate),
};

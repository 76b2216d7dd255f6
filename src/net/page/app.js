// The page: which cameras there are, which of them play, which one is large.
//
// In: the API, the address bar, the keyboard. Out: tiles and what surrounds them.
// Not here: one camera's elements (tile.js), its session (player.js), the words (words.js).
//
//   view 'grid'  all cameras; those in sight play, at most LIVE_MOST at once
//   view 'one'   `#camera-name`: that tile alone, large, with its figures; the same <video>
//                and the same session go on, so a playing tile is large without a break
//   view 'note'  nothing to show: no camera, unknown camera, no token
//
// Address: `?kiosk` hides all but pictures; `?live=N` lets N tiles play in the grid. The screen
// stays awake where browsers allow it: on localhost and behind a proxy that speaks https.

import { Api } from './api.js';
import { Tile, write } from './tile.js';
import { advice, facts, span, summary } from './words.js';

/** Tiles that play in the grid at once, so that a small board and a phone can follow. */
const LIVE_MOST = 9;
/** A hidden page plays on for this long, ms, then lets go of its cameras. */
const HIDDEN_MS = 20_000;
/** Narrowest tile, px, for which all cameras are fitted on one screen without scrolling. */
const FIT_LEAST_PX = { kiosk: 150, page: 300 };
/** Between two looks for a new release, ms: a restart may be too quick for anything to fail. */
const RELEASE_MS = 10_000;
/** The pointer of a kiosk disappears after resting this long, ms. */
const POINTER_MS = 3000;

const byId = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const isKiosk = query.has('kiosk');
const liveMost = Number.parseInt(query.get('live') ?? '', 10);

/** @type {Map<string, Tile>} in the order of Pinhole's list */
const tiles = new Map();
const api = new Api(new URL('api/cameras', document.baseURI), onAnswer);
const banner = { element: byId('banner'), text: byId('banner').firstElementChild, age: byId('banner').lastElementChild };
let release = null; // of the page that runs here: the tag that its files were served with
const sight = new IntersectionObserver(onSight, { threshold: 0.2 });
let isAsleep = false;
let sleepTimer = null;
let shown = { view: null, name: '' };
let openedHere = false; // the large view was opened from the grid: Back leads there
let wakeLock = null; // a promise of one

start();

function start() {
  document.body.classList.toggle('kiosk', isKiosk);
  dropTokenFromAddress();
  listen();
  api.start();
  followRelease();
  setInterval(() => document.hidden || followRelease(), RELEASE_MS);
  setInterval(tick, 1000);
  setInterval(render, 250);
}

/** The token did its work when the page was served: it stays out of the history. */
function dropTokenFromAddress() {
  if (!query.has('token')) return;
  query.delete('token');
  const rest = query.toString();
  history.replaceState(null, '', location.pathname + (rest ? `?${rest}` : '') + location.hash);
}

function listen() {
  addEventListener('hashchange', show);
  addEventListener('resize', fit);
  addEventListener('keydown', onKey);
  addEventListener('pagehide', () => tiles.forEach((tile) => tile.want(false, true)));
  addEventListener('pageshow', (event) => event.persisted && play());
  addEventListener('online', () => document.hidden || api.start());
  document.addEventListener('visibilitychange', onVisibility);
  byId('home').addEventListener('click', onHome);
  byId('back').addEventListener('click', close);
  byId('prev').addEventListener('click', () => step(-1));
  byId('next').addEventListener('click', () => step(1));
  byId('full').addEventListener('click', toggleFullscreen);
  byId('full').hidden = !document.fullscreenEnabled;
  byId('grid').addEventListener('click', (event) => { openedHere ||= event.target.matches('.open'); });
  if (isKiosk) hidePointer();
}

// ---- what Pinhole says

function onAnswer(_, was) {
  if (api.cameras) reconcile(api.cameras);
  // 404s and lost sessions are worth another try as soon as there is reason to think so.
  if (api.state === 'ok' && was !== 'ok') {
    tiles.forEach((tile) => tile.player.hurry());
    if (was === 'unreachable') followRelease();
  }
  show();
  render();
}

/** A page that stays open over an upgrade of Pinhole takes the new one's scripts. */
async function followRelease() {
  const response = await fetch('app.js', { method: 'HEAD', cache: 'no-store' }).catch(() => null);
  const tag = response?.headers.get('etag');
  if (!tag) return;
  if (release && tag !== release) location.reload();
  release = tag;
}

/** Makes the tiles those of the list, in its order. */
function reconcile(cameras) {
  const names = new Set(cameras.map((camera) => camera.name));
  for (const [name, tile] of tiles) {
    if (!names.has(name)) drop(name, tile);
  }
  cameras.forEach((camera, index) => {
    const tile = tiles.get(camera.name) ?? add(camera.name);
    tile.update(camera, api.receivedAt);
    const grid = byId('grid');
    if (grid.children[index] !== tile.element) grid.insertBefore(tile.element, grid.children[index] ?? null);
  });
}

function add(name) {
  const tile = new Tile(name, play);
  tiles.set(name, tile);
  sight.observe(tile.element);
  return tile;
}

function drop(name, tile) {
  sight.unobserve(tile.element);
  tile.remove();
  tiles.delete(name);
}

// ---- what is shown

/** The camera that the address names, or ''. */
function named() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return location.hash.slice(1);
  }
}

/** Brings the page in line with the address and the API. */
function show() {
  const name = named();
  const note = noteFor(name);
  const view = note ? 'note' : name ? 'one' : 'grid';
  document.body.dataset.view = view;
  if (view === 'grid') openedHere = false;
  byId('note').hidden = !note;
  if (note) writeNote(note);
  for (const tile of tiles.values()) {
    tile.element.classList.toggle('is-open', view === 'one' && tile.camera.name === name);
  }
  document.title = view === 'one' ? `${name} – Pinhole` : 'Pinhole';
  write(byId('title'), view === 'one' ? name : '');
  write(byId('summary'), api.state === 'ok' ? summary(api.cameras) : '');
  byId('prev').hidden = byId('next').hidden = tiles.size < 2;
  byId('facts').hidden = view !== 'one' || isKiosk;
  fit();
  play();
  keepAwake();
  moveFocus(shown, view);
  shown = { view, name };
}

/** What had the focus is hidden by a change of view: the focus goes there and back with the eyes. */
function moveFocus(from, view) {
  if (from.view === 'grid' && view === 'one') byId('back').focus({ preventScroll: true });
  else if (from.view === 'one' && view === 'grid') tiles.get(from.name)?.element.querySelector('.open').focus();
}

/** What to say instead of pictures, or null. */
function noteFor(name) {
  if (api.state === 'unauthorized') {
    return { icon: 'key', title: 'This Pinhole wants a token', form: true,
      text: 'Open the URL that it printed at its start, with its token, or enter the token here.' };
  }
  if (!api.cameras) {
    return api.state === 'asking' ? { icon: 'busy', title: 'Asking Pinhole for its cameras', text: '' }
      : { icon: 'off', title: 'Pinhole is not reachable', text: 'This page tries again by itself.' };
  }
  if (name && !tiles.has(name)) {
    return { icon: 'off', title: `No camera is named “${name}”`, link: true,
      text: tiles.size ? `There are: ${[...tiles.keys()].join(', ')}.` : 'There is no camera at all.' };
  }
  if (tiles.size === 0) {
    return { icon: 'idle', title: 'No cameras yet', code: '[[camera]]\nname = "door"\nsource = "rtsp://192.168.1.20/stream"',
      text: 'Add one to the configuration file and restart Pinhole:' };
  }
  return null;
}

function writeNote({ icon, title, text, code = '', form = false, link = false }) {
  const note = byId('note');
  note.dataset.icon = icon;
  note.querySelector('use').setAttribute('href', `#i-${icon}`);
  write(note.querySelector('h2'), title);
  write(note.querySelector('p'), text);
  write(note.querySelector('pre'), code);
  note.querySelector('pre').hidden = !code;
  note.querySelector('form').hidden = !form;
  note.querySelector('a').hidden = !link;
}

/** The age is outside of what screen readers are told to say at once: it changes all the time. */
function renderBanner() {
  const since = api.unreachableSince;
  const isShown = api.state === 'unreachable';
  banner.element.hidden = !isShown;
  write(banner.text, isShown ? `Pinhole is not reachable since ${since.toLocaleTimeString()}. This page tries again by itself.` : '');
  write(banner.age, isShown ? ` (${span(Date.now() - since)})` : '');
}

/** Chooses the number of columns with which all tiles are large on one screen. */
function fit() {
  const grid = byId('grid');
  const { width, height, gap } = space(grid);
  let best = { columns: 0, tile: 0 };
  for (let columns = 1; columns <= tiles.size; columns += 1) {
    const rows = Math.ceil(tiles.size / columns);
    const byWidth = (width - gap * (columns - 1)) / columns;
    const byHeight = ((height - gap * (rows - 1)) / rows) * (16 / 9);
    const tile = Math.floor(Math.min(byWidth, byHeight));
    // A row that fills the width is worth a little size.
    if (tile > best.tile * 0.9) best = { columns, tile };
  }
  const isFit = best.tile >= (isKiosk ? FIT_LEAST_PX.kiosk : FIT_LEAST_PX.page);
  grid.classList.toggle('is-fit', isFit);
  grid.style.setProperty('--columns', best.columns);
  grid.style.setProperty('--tile', `${best.tile}px`);
}

/** The room for tiles, px. */
function space(grid) {
  const style = getComputedStyle(grid);
  const sides = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
  const ends = parseFloat(style.paddingTop) + parseFloat(style.paddingBottom);
  const gap = parseFloat(style.rowGap) || 0;
  return { width: byId('main').clientWidth - sides, height: byId('main').clientHeight - ends, gap };
}

// ---- what plays

function onSight(entries) {
  for (const entry of entries) {
    const tile = tiles.get(entry.target.dataset.camera);
    if (tile) tile.isVisible = entry.isIntersecting;
  }
  play();
}

/** Lets the right tiles play: the large one, or those in sight up to the limit. */
function play() {
  const isStopped = isAsleep || api.state === 'unauthorized';
  const wanted = isStopped ? new Set() : choose();
  for (const tile of tiles.values()) tile.want(wanted.has(tile), isStopped);
}

function choose() {
  const all = [...tiles.values()];
  if (document.body.dataset.view === 'one') return new Set(all.filter((t) => t.camera.name === named()));
  if (document.body.dataset.view === 'note') return new Set();
  const most = Number.isNaN(liveMost) ? LIVE_MOST : liveMost;
  return new Set([
    ...all.filter((t) => t.isHovered),
    ...all.filter((t) => t.isVisible).slice(0, Math.max(0, most)),
  ]);
}

function onVisibility() {
  clearTimeout(sleepTimer);
  if (document.hidden) {
    api.stop();
    sleepTimer = setTimeout(() => { isAsleep = true; play(); }, HIDDEN_MS);
  } else {
    isAsleep = false;
    api.start();
    play();
    keepAwake();
  }
}

/**
 * A wall tablet, or someone watching one camera, wants the screen to stay on. Browsers let only
 * secure pages ask for that: over plain HTTP it is the tablet's own setting that counts.
 */
function keepAwake() {
  const wish = !document.hidden && (isKiosk || document.body.dataset.view === 'one');
  if (!wish) {
    wakeLock?.then((lock) => lock?.release());
    wakeLock = null;
    return;
  }
  // The browser takes the lock back when the page is hidden, and may refuse it (battery).
  wakeLock ??= navigator.wakeLock?.request('screen').then((lock) => {
    lock.addEventListener('release', () => { wakeLock = null; });
    return lock;
  }, () => { wakeLock = null; });
}

// ---- words and figures

/** Once a second: the players read their figures and judge their sessions. */
function tick() {
  for (const tile of tiles.values()) tile.player.tick();
}

/** Often enough that ages count evenly. */
function render() {
  renderBanner();
  for (const tile of tiles.values()) tile.render(api.state);
  const tile = tiles.get(named());
  if (tile && !byId('facts').hidden) writeFacts(tile);
}

function writeFacts(tile) {
  const panel = byId('facts');
  const rows = facts(tile.agedCamera, tile.player);
  const hint = [advice(tile.camera), ...(tile.camera.notes ?? [])].filter(Boolean).join(' · ');
  if (panel.querySelectorAll('dt').length !== rows.length) buildFacts(panel, rows);
  const values = panel.querySelectorAll('dd');
  rows.forEach(([, value], i) => write(values[i], value));
  write(panel.querySelector('p'), hint);
}

function buildFacts(panel, rows) {
  const list = document.createElement('dl');
  for (const [name] of rows) {
    const pair = document.createElement('div');
    pair.append(document.createElement('dt'), document.createElement('dd'));
    pair.firstChild.textContent = name;
    list.append(pair);
  }
  panel.replaceChildren(list, document.createElement('p'));
}

// ---- getting about

function onHome(event) {
  event.preventDefault();
  if (document.body.dataset.view !== 'grid') close();
}

/** Back to the grid, as the browser's own Back where that leads there. */
function close() {
  if (openedHere) {
    openedHere = false;
    history.back();
  } else {
    history.replaceState(null, '', location.pathname + location.search);
    show();
  }
}

/** The camera before or after, round and round. */
function step(by) {
  const names = [...tiles.keys()];
  const index = names.indexOf(named());
  if (index < 0 || names.length < 2) return;
  const name = names[(index + by + names.length) % names.length];
  history.replaceState(history.state, '', `#${encodeURIComponent(name)}`);
  show();
  render();
}

function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches('input')) return;
  const isOne = document.body.dataset.view !== 'grid';
  if (event.key === 'Escape' && isOne && !document.fullscreenElement) close();
  else if (event.key === 'ArrowLeft') return isOne ? step(-1) : roam(event, -1);
  else if (event.key === 'ArrowRight') return isOne ? step(1) : roam(event, 1);
  else if (event.key === 'f') toggleFullscreen();
}

/** Arrow keys go from tile to tile in the grid. */
function roam(event, by) {
  const links = [...document.querySelectorAll('.open')];
  const index = links.indexOf(document.activeElement);
  const next = links[index < 0 ? 0 : (index + by + links.length) % links.length];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

function toggleFullscreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen?.().catch(() => {});
}

function hidePointer() {
  let timer = null;
  addEventListener('pointermove', () => {
    document.body.classList.remove('is-still');
    clearTimeout(timer);
    timer = setTimeout(() => document.body.classList.add('is-still'), POINTER_MS);
  });
}

/** For tests: what every player is doing. */
window.pinhole = {
  players: () => Object.fromEntries([...tiles].map(([name, { player: p }]) => [name, {
    state: p.state, session: p.session, why: p.why, status: p.status, figures: p.figures,
    counts: { ...p.counts }, firstFrameMs: p.firstFrameMs, times: p.times,
  }])),
};

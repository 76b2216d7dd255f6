// One camera on the page: its elements, and what they say.
//
// In: what the API says (`update`), the state of the page (`render`). Out: elements.
// Not here: which tiles play (app.js), the session (player.js), the words (words.js).

import { Player } from './player.js';
import { badges, describe } from './words.js';

/** A tile that is no longer wanted plays on for this long, ms: people come back. */
const LINGER_MS = 4000;
/** The pointer must rest this long, ms, on a tile before it plays ahead of a click. */
const HOVER_MS = 250;

export class Tile {
  /** The API's words, as received. */
  camera;
  isVisible = false;
  isHovered = false;
  player;
  element;

  #parts;
  #receivedAt = 0;
  #away = null;
  #releaseTimer = null;
  #hoverTimer = null;
  #onChange;

  /** @param {string} name  @param {() => void} onChange when the tiles to play may be others */
  constructor(name, onChange) {
    const template = document.getElementById('tile');
    this.element = template.content.cloneNode(true).firstElementChild;
    this.#parts = parts(this.element);
    this.#onChange = onChange;
    this.#name(name);
    this.player = new Player({
      video: this.#parts.video,
      still: this.#parts.still,
      endpoint: new URL(`whep/${encodeURIComponent(name)}`, document.baseURI),
      isInSight: () => this.isVisible,
      onChange: () => this.render(),
    });
    this.element.addEventListener('pointerenter', (e) => this.#hover(e.pointerType === 'mouse'));
    this.element.addEventListener('pointerleave', () => this.#hover(false));
    this.element.addEventListener('click', (event) => this.#tap(event));
  }

  /** Takes what the API says. */
  update(camera, receivedAt) {
    this.camera = camera;
    this.#receivedAt = receivedAt;
    this.#followAway(camera, receivedAt);
    this.player.tell(camera);
  }

  /** Plays, or stops: at once, or after a while in which it may be wanted again. */
  want(wanted, isAtOnce = false) {
    if (wanted || isAtOnce) {
      clearTimeout(this.#releaseTimer);
      this.#releaseTimer = null;
      this.player.want(wanted);
    } else if (this.player.wanted) {
      this.#releaseTimer ??= setTimeout(() => this.want(false, true), LINGER_MS);
    }
  }

  /** The camera's facts with ages advanced to now. */
  get agedCamera() {
    const passed = performance.now() - this.#receivedAt;
    const { since_ms, last_picture_ms: last, retry_in_ms: retry } = this.camera;
    return {
      ...this.camera,
      since_ms: since_ms + passed,
      last_picture_ms: last === undefined ? undefined : last + passed,
      retry_in_ms: retry === undefined ? undefined : Math.max(0, retry - passed),
    };
  }

  /** Shows the state. `api` is remembered between calls. */
  render(api = this.api) {
    this.api = api;
    if (!this.camera || !api) return;
    const { player } = this;
    const camera = this.agedCamera;
    const away = this.#away && { ...this.#away, ms: performance.now() - this.#away.since };
    const said = describe({
      camera,
      away,
      api,
      player: { state: player.state, stale: player.stale(), isBlocked: player.isBlocked, why: player.why,
        status: player.status, retryInMs: player.retryAt - performance.now() },
    });
    this.#veil(said);
    this.#badges(said ? [] : badges(player.figures, camera));
    this.element.dataset.player = player.state;
  }

  /** The page lets go of this camera. */
  remove() {
    this.want(false, true);
    this.element.remove();
  }

  #name(name) {
    const { name: label, open, video } = this.#parts;
    this.element.dataset.camera = name;
    label.textContent = name;
    open.href = `#${encodeURIComponent(name)}`;
    open.setAttribute('aria-label', `Show ${name} large`);
    video.setAttribute('aria-label', `Live picture of ${name}`);
  }

  /** "Tap to play": this tap plays, and leads nowhere. */
  #tap(event) {
    if (!this.player.isBlocked) return;
    event.preventDefault();
    event.stopPropagation();
    this.player.unblock();
  }

  #hover(isHovered) {
    clearTimeout(this.#hoverTimer);
    this.#hoverTimer = setTimeout(() => {
      this.isHovered = isHovered;
      this.#onChange();
    }, isHovered ? HOVER_MS : 0);
  }

  /** Remembers since when and why the camera is away while it tries, fails and tries again. */
  #followAway(camera, receivedAt) {
    if (camera.state === 'playing' || camera.state === 'idle') {
      this.#away = null;
    } else if (camera.state === 'down') {
      const since = receivedAt - Math.max(camera.since_ms, camera.last_picture_ms ?? 0);
      this.#away = {
        since: Math.min(since, this.#away?.since ?? Infinity),
        reason: camera.reason,
        detail: camera.detail,
      };
    }
  }

  #veil(said) {
    const { veil, icon, title, text, detail, more } = this.#parts;
    const tone = said?.tone ?? 'good';
    this.element.dataset.tone = tone;
    veil.hidden = !said;
    if (!said) return;
    write(title, said.title);
    write(text, said.text);
    write(more, said.more);
    write(detail, said.detail ?? '');
    if (icon.getAttribute('href') !== `#i-${said.icon}`) icon.setAttribute('href', `#i-${said.icon}`);
    veil.dataset.icon = said.icon;
  }

  #badges(texts) {
    write(this.#parts.badges, texts.join(' · '));
  }
}

function parts(element) {
  const find = (selector) => element.querySelector(selector);
  return {
    video: find('video'), still: find('.still'), veil: find('.veil'), icon: find('.veil use'),
    title: find('.veil-title'), text: find('.veil-text'), detail: find('.veil-detail'), more: find('.veil-more'),
    name: find('.name'), badges: find('.badges'), open: find('.open'),
  };
}

/** Sets text only where it differs: selections and screen readers stay undisturbed. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Asks Pinhole about its cameras, again and again.
//
// In: the API's URL. Out: `onAnswer` after each try.
// Not here: what the answer means to a person (words.js).
//
//   state: 'asking' (no answer yet) | 'ok' | 'unauthorized' | 'unreachable'

/** Pause after an answer and after a failure while the page is seen, ms. */
const PERIOD_MS = { answered: 1000, failed: 500 };
/** Longest wait for one answer, ms. */
const TIMEOUT_MS = 4000;
/** Tries in a row that must fail before Pinhole counts as unreachable: one is a hiccup. */
const FAILURES = 2;

export class Api {
  state = 'asking';
  /** As Pinhole lists them, or null before the first answer. */
  cameras = null;
  /** When the list was received, `performance.now()`. */
  receivedAt = 0;
  /** Since when Pinhole has not answered (Date), or null. */
  unreachableSince = null;

  #url;
  #onAnswer;
  #failures = 0;
  #firstFailure = null;
  #timer = null;
  #running = false;
  #busy = false;

  /** @param {URL} url  @param {(api: Api, was: string) => void} onAnswer */
  constructor(url, onAnswer) {
    this.#url = url;
    this.#onAnswer = onAnswer;
  }

  /** Asks now and then again and again. */
  start() {
    this.#running = true;
    if (!this.#busy) this.#ask();
  }

  /** Asks no more until the next start. */
  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
  }

  async #ask() {
    clearTimeout(this.#timer);
    this.#busy = true;
    const was = this.state;
    try {
      const response = await fetch(this.#url, { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) });
      await this.#take(response);
    } catch {
      this.#onFailure();
    }
    this.#busy = false;
    const pause = this.#failures > 0 ? PERIOD_MS.failed : PERIOD_MS.answered;
    // First, so that an exception below does not end the asking of a page that runs for months.
    if (this.#running) this.#timer = setTimeout(() => this.#ask(), pause);
    this.#onAnswer(this, was);
  }

  async #take(response) {
    if (response.status === 401 || response.status === 403) {
      this.#answered('unauthorized');
      return;
    }
    if (!response.ok) throw new Error(`status ${response.status}`);
    const body = await response.json();
    this.cameras = Array.isArray(body) ? body : body.cameras;
    this.receivedAt = performance.now();
    this.#answered('ok');
  }

  #answered(state) {
    this.state = state;
    this.#failures = 0;
    this.#firstFailure = null;
    this.unreachableSince = null;
  }

  #onFailure() {
    this.#failures += 1;
    this.#firstFailure ??= new Date();
    if (this.#failures < FAILURES) return;
    this.state = 'unreachable';
    this.unreachableSince = this.#firstFailure;
  }
}

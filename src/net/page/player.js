// One camera's picture: keeps a WHEP session open on a <video> for as long as it is wanted.
//
// In: wanted or not, what the API says of the camera, whether the tile is in sight, a tick per second.
// Out: state and figures, through `onChange`.
// Not here: HTTP and SDP (whep.js), words and layout (words.js, tile.js).
//
//   idle ── want(true) ──► connecting ──► waiting ──► playing
//                            ▲   │           │           │   a frame came ↔ none came in time,
//                            │   ▼           ▼           ▼   session lost or refused
//                            └─ retrying ◄───┴───────────┘
//
//   idle        nothing is asked of the server
//   connecting  the offer is out, or ICE and DTLS are under way
//   waiting     connected, no picture yet (the camera may be away: the server keeps the session)
//   playing     pictures came; `stale()` says for how long none has
//   retrying    nothing open; tries again at `retryAt` (Infinity: only when `hurry()` is called)

import { WhepClient } from './whep.js';

/** First and longest pause before another try, ms; doubled each time, +-25 %. */
const BACKOFF_MS = { first: 500, most: 10_000 };
/** Playing for so long, ms, makes the next failure count as the first. */
const STEADY_MS = 3000;
/** Connecting may take this long, ms: POST, ICE and DTLS with their own resends. */
const CONNECT_MS = 12_000;
/** A connection in doubt is given this long, ms, before it is replaced. */
const DISCONNECTED_MS = 3000;
/** A picture may stand this long, ms, while the camera's pictures do reach Pinhole. */
const FREEZE_MS = 3000;
/** The camera is healthy when Pinhole's last picture from it is younger than this, ms. */
const FRESH_MS = 2000;
/** Pauses after refusals that another try soon would not change, ms. */
const REFUSED_MS = { 401: Infinity, 403: Infinity, 404: 10_000, 422: 30_000 };
/** Longest Retry-After that is obeyed, ms. */
const RETRY_AFTER_MOST_MS = 60_000;

export class Player {
  state = 'idle';
  /** When the state was entered, `performance.now()`. */
  since = 0;
  /** Why there is no session, for a person; with `status` of the HTTP refusal, or 0. */
  why = '';
  status = 0;
  retryAt = 0;
  /** Figures of the last second, or null. */
  figures = null;
  /** The browser refuses to play before a tap (power saving, a strict autoplay rule). */
  isBlocked = false;
  /** Counts since the page was loaded. */
  counts = { sessions: 0, freezes: 0, failures: 0 };
  /** From the wish to see to the first picture on the screen, ms, of the current session. */
  firstFrameMs = null;

  #video;
  #still;
  #endpoint;
  #isInSight;
  #onChange;
  #wanted = false;
  #wantedAt = 0;
  #client = null;
  #failuresInARow = 0;
  #retryTimer = null;
  #camera = null;
  #playableSince = 0; // the camera plays, and the browser lets it
  #lastFrameAt = 0;
  #frameRequest = 0; // pending: no frame was shown since
  #drawRequest = 0;
  #isDrawn = false; // the page was, since frames were last asked for
  #disconnectedAt = null;
  #sample = null; // the statistics that rates are taken against

  /**
   * @param {{video: HTMLVideoElement, still: HTMLCanvasElement, endpoint: URL,
   *          isInSight: () => boolean, onChange: () => void}} parts
   */
  constructor({ video, still, endpoint, isInSight, onChange }) {
    this.#video = video;
    this.#still = still;
    this.#endpoint = endpoint;
    this.#isInSight = isInSight;
    this.#onChange = onChange;
    // Where no frame is told of, the first one is by this, later ones by being decoded.
    if (!video.requestVideoFrameCallback) video.addEventListener('loadeddata', () => this.#onShown());
  }

  /** Opens a session, or ends it. */
  want(wanted) {
    if (wanted === this.#wanted) return;
    this.#wanted = wanted;
    if (wanted) {
      this.#wantedAt = performance.now();
      this.#failuresInARow = 0;
      this.#connect();
    } else {
      this.#drop();
      this.#enter('idle');
    }
  }

  get wanted() {
    return this.#wanted;
  }

  /** Pinhole is back, or the camera is listed again: no reason to wait any longer. */
  hurry() {
    if (!this.#wanted) return;
    this.#failuresInARow = 0;
    const isMute = this.state !== 'connecting' && this.stale() > 1000;
    if (this.state === 'retrying' || isMute) this.#connect();
  }

  /** What the API says of the camera; null while it says nothing. */
  tell(camera) {
    const was = this.#camera?.state;
    this.#camera = camera;
    if (camera?.state === 'playing' && was !== 'playing') this.#playableSince = performance.now();
  }

  /** For how long, ms, no picture has come; 0 where none could have. */
  stale() {
    if (this.state === 'playing') return performance.now() - this.#lastFrameAt;
    return this.state === 'waiting' ? performance.now() - this.since : 0;
  }

  get session() {
    return this.#client?.session ?? null;
  }

  get times() {
    return { wanted: this.#wantedAt, ...this.#client?.times };
  }

  /** Once a second: reads the figures and judges the session by them. */
  async tick() {
    const client = this.#client;
    if (!client) return;
    const report = await client.stats().catch(() => new Map());
    if (client !== this.#client) return;
    this.#read(report);
    this.#askForFrame();
    this.#judge(performance.now());
    this.#onChange();
  }

  #connect() {
    this.#drop();
    this.counts.sessions += 1;
    this.firstFrameMs = null;
    const client = new WhepClient(this.#endpoint, {
      onTrack: (track) => client === this.#client && this.#show(track),
      onState: (state, why) => client === this.#client && this.#onClient(state, why),
    });
    this.#client = client;
    this.#enter('connecting');
    client.open();
  }

  #onClient(state, why) {
    if (state === 'connected') {
      this.#disconnectedAt = null;
      if (this.state === 'connecting') this.#enter('waiting');
    } else if (state === 'disconnected') {
      this.#disconnectedAt = performance.now();
    } else if (state === 'failed') {
      this.#retry(why.message, why);
    }
  }

  #show(track) {
    const video = this.#video;
    video.muted = true; // as a property too: only then is autoplay allowed everywhere
    video.srcObject = new MediaStream([track]);
    this.#start();
    this.#askForFrame();
  }

  /** Plays what the browser holds back. To be called in the event of a tap: only then may it. */
  unblock() {
    this.#start();
    this.#askForFrame();
  }

  #start() {
    this.#video.play().then(
      () => {
        if (this.isBlocked) this.#playableSince = performance.now();
        this.isBlocked = false;
      },
      (error) => { this.isBlocked = error.name === 'NotAllowedError'; },
    );
  }

  /** Has the next frame told that reaches the screen: one a second, as each costs a rendering step. */
  #askForFrame() {
    this.#isDrawn = false;
    cancelAnimationFrame(this.#drawRequest);
    this.#drawRequest = requestAnimationFrame(() => { this.#isDrawn = true; });
    this.#frameRequest ||= this.#video.requestVideoFrameCallback?.(() => {
      this.#frameRequest = 0;
      this.#onShown();
    }) ?? 0;
  }

  /** A frame is on the screen. The first one gets there even while the browser holds the picture back. */
  #onShown() {
    if (this.#video.paused) return;
    this.#lastFrameAt = performance.now();
    if (this.state !== 'playing') this.#onFirstFrame();
  }

  #onFirstFrame() {
    this.firstFrameMs = Math.round(this.#lastFrameAt - (this.#wantedAt || this.#client.times.open));
    this.#wantedAt = 0; // later sessions count from their own start
    this.#enter('playing');
  }

  /** Takes the figures out of a statistics report. */
  #read(report) {
    const entries = [...report.values()];
    const video = entries.find((s) => s.type === 'inbound-rtp' && s.kind === 'video');
    if (!video) return;
    const transport = entries.find((s) => s.type === 'transport');
    const pair = report.get(transport?.selectedCandidatePairId)
      ?? entries.find((s) => s.type === 'candidate-pair' && s.nominated);
    const before = this.#sample ?? { framesDecoded: 0 };
    if (video.framesDecoded > before.framesDecoded) this.#onDecoded();
    this.figures = {
      width: video.frameWidth ?? 0,
      height: video.frameHeight ?? 0,
      fps: perSecond(video, before, 'framesDecoded') ?? video.framesPerSecond ?? 0,
      bitrate: this.#sample && perSecond(video, before, 'bytesReceived') * 8,
      roundTripMs: pair?.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000,
      bufferMs: perUnit(video, before, 'jitterBufferDelay', 'jitterBufferEmittedCount') * 1000,
      decodeMs: perUnit(video, before, 'totalDecodeTime', 'framesDecoded') * 1000,
      framesDecoded: video.framesDecoded ?? 0,
      framesDropped: video.framesDropped ?? 0,
      freezeCount: video.freezeCount ?? 0,
      packetsLost: video.packetsLost ?? 0,
      packetsReceived: video.packetsReceived ?? 0,
    };
    this.#sample = video;
  }

  /** Decoded frames count as shown, but where one would have been told of by now. */
  #onDecoded() {
    const isUnshown = this.#frameRequest && this.#isDrawn && this.#isInSight();
    if (!isUnshown) this.#onShown();
  }

  /** Replaces a session that does not deliver what it should. */
  #judge(now) {
    const age = now - this.since;
    if (this.state === 'playing' && age > STEADY_MS && this.stale() < 1000) this.#failuresInARow = 0;
    if (this.#video.srcObject && this.#video.paused) this.#start();

    if (this.state === 'connecting' && age > CONNECT_MS) {
      this.#retry('no connection came about');
    } else if (this.#disconnectedAt !== null && now - this.#disconnectedAt > DISCONNECTED_MS) {
      this.#retry('the connection was lost');
    } else if (this.#isFrozen(now)) {
      this.counts.freezes += 1;
      this.#retry(this.state === 'playing' ? 'the picture stood still' : 'no picture came');
    }
  }

  /** Nothing is shown although Pinhole has fresh pictures: the fault is in this session. */
  #isFrozen(now) {
    const camera = this.#camera;
    if (this.isBlocked || camera?.state !== 'playing' || (camera.last_picture_ms ?? 0) > FRESH_MS) return false;
    // Slow cameras: four pictures late. A still-waiting viewer may have to wait for a key frame.
    const pictures = camera.fps > 0 ? 4000 / camera.fps : 0;
    const keyFrame = this.state === 'waiting' ? (camera.key_frame_interval_ms ?? 2000) + 1000 : 0;
    const patience = Math.max(FREEZE_MS, pictures, keyFrame);
    return Math.min(this.stale(), now - this.#playableSince) > patience;
  }

  #retry(why, { status = 0, retryAfterMs = null } = {}) {
    this.#drop();
    this.counts.failures += 1;
    const backoff = Math.min(BACKOFF_MS.most, BACKOFF_MS.first * 2 ** this.#failuresInARow);
    this.#failuresInARow += 1;
    const jittered = backoff * (0.75 + Math.random() * 0.5);
    // Later than asked, and each by another while: tiles refused together would be so again.
    const asked = Math.min(retryAfterMs ?? 0, RETRY_AFTER_MOST_MS) * (1 + Math.random());
    const pause = Math.max(jittered, asked, REFUSED_MS[status] ?? 0);
    this.why = why;
    this.status = status;
    this.retryAt = performance.now() + pause;
    if (pause !== Infinity) this.#retryTimer = setTimeout(() => this.#connect(), pause);
    this.#enter('retrying');
  }

  /** Ends what is open; the last picture stays behind on the still. */
  #drop() {
    clearTimeout(this.#retryTimer);
    this.#keepStill();
    this.#client?.close();
    this.#client = null;
    if (this.#frameRequest) this.#video.cancelVideoFrameCallback(this.#frameRequest);
    this.#frameRequest = 0;
    this.#disconnectedAt = null;
    this.#sample = null;
    this.isBlocked = false;
    this.figures = null;
    this.#video.srcObject = null;
  }

  #keepStill() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (!width || !height) return;
    const scale = Math.min(1, 1280 / width);
    this.#still.width = Math.round(width * scale);
    this.#still.height = Math.round(height * scale);
    this.#still.getContext('2d').drawImage(this.#video, 0, 0, this.#still.width, this.#still.height);
    this.#still.dataset.filled = '';
  }

  /** The one door between states. */
  #enter(state) {
    this.state = state;
    this.since = performance.now();
    this.#onChange();
  }
}

/** Growth of a counter per second between two statistics; null without a first. */
function perSecond(now, before, name) {
  const ms = now.timestamp - before.timestamp;
  return ms > 0 ? ((now[name] - before[name]) * 1000) / ms : null;
}

/** Growth of one counter per unit of another. */
function perUnit(now, before, name, unit) {
  const units = now[unit] - (before[unit] ?? 0);
  return units > 0 ? (now[name] - (before[name] ?? 0)) / units : 0;
}

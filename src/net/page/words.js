// What is said to a person about a camera, in words and numbers. Pure: facts in, text out.
//
// Not here: elements (tile.js), where the facts come from (api.js, player.js).

const REASONS = {
  unreachable: 'the camera does not answer',
  unauthorized: 'the camera refuses the user name or password',
  unsupported: 'the camera sends nothing that a browser can play',
  stalled: 'the camera went silent',
  no_signal: 'nothing usable at the input that the pictures come from',
  errors: 'too many errors in a row',
  ended: 'the camera ended the stream',
  internal: 'a fault inside Pinhole, see its log',
};

/** A camera whose last picture is older than this, ms, is said to be late. */
const LATE_MS = 2500;
/** A viewer without a new picture for this long, ms, is told. */
const STALE_MS = 1800;

/** A span of time: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function span(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 1) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  const pair = (big, bigUnit, small, smallUnit) => (small ? `${big} ${bigUnit} ${small} ${smallUnit}` : `${big} ${bigUnit}`);
  if (s < 3600) return pair(Math.floor(s / 60), 'min', Math.floor(s % 60), 's');
  if (s < 86_400) return pair(Math.floor(s / 3600), 'h', Math.floor((s % 3600) / 60), 'min');
  return pair(Math.floor(s / 86_400), 'd', Math.floor((s % 86_400) / 3600), 'h');
}

/** A bit rate: `820 kbit/s`, `4.1 Mbit/s`. */
export function rate(bitsPerSecond) {
  if (bitsPerSecond >= 1e6) return `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
  return `${Math.round(bitsPerSecond / 1000)} kbit/s`;
}

/** A picture size as people call it: `720p`, `1080p`, else `640×360`. */
export function size(width, height) {
  const isWide = Math.abs(width / height - 16 / 9) < 0.02;
  return isWide && [480, 720, 1080, 1440, 2160].includes(height) ? `${height}p` : `${width}×${height}`;
}

/** The summary over all cameras. */
export function summary(cameras) {
  if (!cameras) return '';
  const away = cameras.filter((c) => c.state === 'down').length;
  const count = `${cameras.length} ${cameras.length === 1 ? 'camera' : 'cameras'}`;
  if (away === 0) return count;
  return `${count}, ${away} offline`;
}

/**
 * What to show over a camera's picture.
 *
 * @param {object} facts
 * @param {object} facts.camera the API's words, its ages already advanced to now
 * @param {object | null} facts.away since when it does not play: `{ms, reason, detail}`
 * @param {{state: string, stale: number, isBlocked: boolean, why: string, status: number,
 *          retryInMs: number}} facts.player
 * @param {string} facts.api state of the API
 * @returns {{tone: 'good' | 'busy' | 'bad' | 'idle', icon: string, title: string, text: string,
 *            more: string, detail: string} | null} null: the picture is live and speaks for itself
 */
export function describe({ camera, away, player, api }) {
  const slowly = camera.fps > 0 ? 3000 / camera.fps : 0;
  const isLive = !player.isBlocked && player.state === 'playing' && player.stale < Math.max(STALE_MS, slowly);
  if (api === 'unreachable') return isLive ? null : say('bad', 'off', 'No connection to Pinhole', '', 'trying again');
  if (away) return offline(camera, away);
  if (player.state === 'retrying') return refused(player);
  if (player.state === 'idle') return resting(camera);
  const lastPicture = camera.last_picture_ms ?? 0;
  if (isLive) return null;
  if (camera.state === 'playing' && lastPicture > Math.max(LATE_MS, slowly)) {
    return say('busy', 'busy', `No picture for ${span(lastPicture)}`, 'the camera is connected, but sends nothing');
  }
  if (player.isBlocked) return say('idle', 'play', 'Tap to play', 'the browser holds the picture back');
  const why = camera.has_b_frames ? 'the camera sends B-frames, which browsers cannot play' : '';
  if (player.state === 'playing') return say('busy', 'busy', `Picture is ${span(player.stale)} old`, why);
  return say('busy', 'busy', joining(camera, player), why);
}

function offline(camera, { ms, reason, detail }) {
  const text = [reason, REASONS[reason]].filter(Boolean).join(': ') || 'the reason is not known';
  return { ...say('bad', 'off', `Offline for ${span(ms)}`, text, outlook(camera)), detail };
}

function outlook({ state, retry_in_ms: retry }) {
  if (state === 'waiting') return 'connected again, waiting for a picture';
  if (state !== 'down' || retry < 500) return 'trying now';
  return retry === undefined ? 'no further try' : `next try in ${span(retry)}`;
}

function refused({ why, status, retryInMs }) {
  const next = retryInMs === Infinity ? '' : `next try in ${span(retryInMs)}`;
  if (status === 401 || status === 403) {
    return say('bad', 'key', 'Not allowed', 'open the URL that Pinhole printed at its start, with its token');
  }
  if (status === 404) return say('bad', 'off', 'Unknown camera', why, next);
  if (status === 422) return say('bad', 'off', 'This browser cannot play it', why, next);
  // A limit is named; else it is too busy, or ends to start again.
  if (status === 503) return say('busy', 'busy', / is reached$/.test(why) ? 'Pinhole is full' : 'Pinhole is busy', why, next);
  return say('busy', 'busy', 'Reconnecting', why, retryInMs < 1000 ? '' : next);
}

function resting(camera) {
  if (camera.state === 'playing') return say('idle', 'play', '', '', 'select to watch');
  const text = camera.state === 'idle' ? 'asleep until someone watches' : 'the camera is being opened';
  return say('idle', 'play', '', text, 'select to watch');
}

function joining(camera, player) {
  if (player.state === 'connecting') return 'Connecting';
  if (camera.state === 'idle' || camera.state === 'opening') return 'Opening the camera';
  return 'Waiting for the first picture';
}

function say(tone, icon, title, text = '', more = '') {
  return { tone, icon, title, text, more, detail: '' };
}

/** Small figures for a tile in the grid. */
export function badges(figures, camera) {
  if (!figures?.width) return [];
  const live = [size(figures.width, figures.height), `${Math.round(figures.fps)} fps`];
  return camera?.load?.overloaded ? [...live, 'overloaded'] : live;
}

/** The figures of the large view: `[name, value, hint]`. */
export function facts(camera, player) {
  const f = player.figures;
  const live = f?.width ? [
    ['Resolution', `${f.width}×${f.height}`],
    ['Frame rate', `${f.fps.toFixed(f.fps < 10 ? 1 : 0)} fps`],
    ['Bit rate', f.bitrate === null ? '–' : rate(f.bitrate)],
    ['Round trip', f.roundTripMs === null ? '–' : `${f.roundTripMs.toFixed(f.roundTripMs < 10 ? 1 : 0)} ms`],
    ['Buffer', `${Math.round(f.bufferMs)} ms`],
    ['Lost packets', lost(f)],
  ] : ['Resolution', 'Frame rate', 'Bit rate', 'Round trip', 'Buffer', 'Lost packets'].map((n) => [n, '–']);
  return [...live, ...cameraFacts(camera)];
}

function lost({ packetsLost, packetsReceived }) {
  if (packetsLost <= 0) return 'none';
  const share = (packetsLost / (packetsLost + packetsReceived)) * 100;
  return share < 0.1 ? `${packetsLost}` : `${share.toFixed(1)} %`;
}

function cameraFacts(camera) {
  // Pictures left out come in hundreds, and none of them is an error of the stream.
  const { lost = 0, late = 0, full = 0, skipped = 0, ...kinds } = camera.errors ?? {};
  const leftOut = [[lost, 'lost'], [late + full, 'late'], [skipped, 'for the bit rate']].filter(([n]) => n > 0);
  const errors = Object.values(kinds).reduce((sum, n) => sum + n, 0);
  return [
    ['Codec', [camera.codec, camera.profile_level].filter(Boolean).join(' ') || '–'],
    ['Key frame every', camera.key_frame_interval_ms ? span(camera.key_frame_interval_ms) : '–'],
    ['Viewers', `${camera.viewers ?? 0}`],
    ['Restarts', `${camera.restarts ?? 0}`],
    ['Errors', `${errors}`],
    ...(leftOut.length ? [['Left out', leftOut.map(([n, why]) => `${n} ${why}`).join(', ')]] : []),
    ...loadFacts(camera.load),
    ...stageFacts(camera.stages),
  ];
}

/** How long a picture takes in each stage inside Pinhole: half of them at most, 99 of 100 at most. */
function stageFacts(stages = {}) {
  const ms = (value) => `${Number(value.toPrecision(2))}`;
  return Object.entries(stages).map(([stage, { p50_ms: p50, p99_ms: p99 }]) => (
    [`${stage[0].toUpperCase()}${stage.slice(1)} p50/p99`, `${ms(p50)} / ${ms(p99)} ms`]));
}

/** Of cameras that Pinhole encodes itself. */
function loadFacts(load) {
  if (!load) return [];
  const ms = (value) => value.toFixed(value < 10 ? 1 : 0);
  const cost = `${ms(load.encode_ms)} of ${ms(load.interval_ms)} ms`;
  return [
    ['Encoder', load.encoder],
    ['Encoding', load.overloaded ? `overloaded (${load.overload_cause}): ${cost}` : cost],
  ];
}

/** Why a machine may be slow, as far as it says so. */
function heat({ cpu_mhz: mhz, cpu_max_mhz: max, temperature_c: celsius }) {
  const clock = mhz === undefined ? '' : `processor at ${mhz}${max === undefined ? '' : ` of ${max}`} MHz`;
  const warmth = celsius === undefined ? '' : `${Math.round(celsius)} °C`;
  const parts = [clock, warmth].filter(Boolean);
  return parts.length ? ` (${parts.join(', ')})` : '';
}

/** Advice about a camera that plays worse than it could; empty when there is none. */
export function advice(camera) {
  const { load } = camera;
  if (load?.overloaded) {
    const now = `it now codes ${load.width}×${load.height} at ${load.fps} fps.`;
    if (load.overload_cause === 'starved') {
      return `Other programs leave this machine no time for the camera${heat(load)}: ${now} Pictures are cheap to code, but come to their turn too late.`;
    }
    return `This machine is too slow for the camera as configured${heat(load)}: ${now} A smaller size, fewer frames or hardware encoding would help.`;
  }
  if (load?.skipped_percent > 50) {
    return `The picture holds more than the bit rate carries: ${load.skipped_percent} of 100 frames are left out. A higher bit rate, a smaller size or fewer frames would help.`;
  }
  if (!camera.has_b_frames) return '';
  return 'This camera sends B-frames, which browsers play badly or not at all. Turn them off in the camera (profile Baseline, or “B-frames: 0”).';
}

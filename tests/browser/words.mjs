// Cases without a browser: the page's pure parts.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { camera } from './mock.mjs';

const { fragment } = await pageModule('whep.js');
const { advice, badges, describe, facts, rate, size, span } = await pageModule('words.js');

const LIVE = { state: 'playing', stale: 40, isBlocked: false, why: '', status: 0, retryInMs: 0 };

/** By its text: Node 18 takes a .js file that lies in no package for CommonJS. */
function pageModule(file) {
  const text = readFileSync(new URL(`../../src/net/page/${file}`, import.meta.url), 'utf8');
  return import(`data:text/javascript,${encodeURIComponent(text)}`);
}

function spansAndRatesReadWell() {
  const spans = [[-5, '0.0 s'], [420, '0.4 s'], [12_900, '12 s'], [60_000, '1 min'], [200_000, '3 min 20 s'],
    [7_500_000, '2 h 5 min'], [3 * 86_400_000 + 4 * 3_600_000, '3 d 4 h']];
  for (const [ms, text] of spans) assert.equal(span(ms), text);
  assert.equal(rate(820_400), '820 kbit/s');
  assert.equal(rate(4_140_000), '4.1 Mbit/s');
  assert.equal(size(1920, 1080), '1080p');
  assert.equal(size(1080, 1920), '1080×1920');
  assert.deepEqual(badges({ width: 1280, height: 720, fps: 24.9 }), ['720p', '25 fps']);
  const slow = { load: { overloaded: true } };
  assert.deepEqual(badges({ width: 1280, height: 720, fps: 10 }, slow), ['720p', '10 fps', 'overloaded']);
  assert.deepEqual(badges(null), []);
  return `${spans.length} spans, rates, sizes`;
}

function everyStateHasItsWords() {
  const said = (facts) => {
    const d = describe({ camera: camera('door'), away: null, player: LIVE, api: 'ok', ...facts });
    return d && [d.title, d.text, d.detail, d.more].filter(Boolean).join(' | ');
  };
  const down = (facts) => camera('door', { state: 'down', ...facts });
  const away = { ms: 12_300, reason: 'unreachable', detail: '' };
  assert.equal(said({}), null);
  assert.equal(said({ camera: camera('door', { fps: 0.5 }), player: { ...LIVE, stale: 4000 } }), null, 'a slow camera is not late');
  assert.equal(said({ player: { ...LIVE, stale: 3200 } }), 'Picture is 3 s old');
  assert.equal(said({ camera: camera('door', { last_picture_ms: 4100 }), player: { ...LIVE, stale: 4000 } }),
    'No picture for 4 s | the camera is connected, but sends nothing');
  assert.equal(said({ away, camera: down({ retry_in_ms: 3200 }) }),
    'Offline for 12 s | unreachable: the camera does not answer | next try in 3 s');
  assert.equal(said({ away, camera: down({ retry_in_ms: 200 }) }), 'Offline for 12 s | unreachable: the camera does not answer | trying now');
  assert.equal(said({ away, camera: down({}) }), 'Offline for 12 s | unreachable: the camera does not answer | no further try');
  assert.equal(said({ away: { ...away, reason: 'new-word' }, camera: down({}) }), 'Offline for 12 s | new-word | no further try');
  assert.equal(said({ api: 'unreachable' }), null, 'media that still flows is shown');
  assert.equal(said({ api: 'unreachable', player: { ...LIVE, stale: 3000 } }), 'No connection to Pinhole | trying again');
  assert.match(said({ player: { ...LIVE, state: 'retrying', status: 401, retryInMs: Infinity } }), /^Not allowed/);
  const refused = (why) => said({ player: { ...LIVE, state: 'retrying', status: 503, why, retryInMs: 2000 } });
  assert.equal(refused('limits.half_open is reached'), 'Pinhole is full | limits.half_open is reached | next try in 2 s');
  assert.equal(refused('Pinhole is shutting down'), 'Pinhole is busy | Pinhole is shutting down | next try in 2 s');
  assert.match(said({ player: { ...LIVE, isBlocked: true, state: 'waiting' } }), /^Tap to play/);
  assert.match(said({ player: { ...LIVE, isBlocked: true } }), /^Tap to play/, 'frames may come while it is stopped');
  return 'playing, slow, late, offline, unreachable, refused, blocked';
}

function aPoorPictureSaysWhatWouldHelp() {
  const told = (cause) => advice(camera('door', {
    load: { overloaded: true, overload_cause: cause, width: 640, height: 360, fps: 10, temperature_c: 81.4 },
  }));
  assert.match(told('cost'), /too slow .* \(81 °C\): it now codes 640×360 at 10 fps\. A smaller size/);
  assert.match(told('starved'), /^Other programs .* it now codes 640×360 at 10 fps\. Pictures are cheap/);
  assert.match(advice(camera('door', { load: { overloaded: false, skipped_percent: 90 } })), /bit rate carries: 90 of 100/);
  assert.equal(advice(camera('door', { load: { overloaded: false, skipped_percent: 30 } })), '', 'a key frame costs some');
  return 'cost, starved, bit rate, none';
}

function picturesLeftOutAreNoErrors() {
  const errors = { packet: 1, encode: 2, lost: 400, late: 7, full: 1, skipped: 9 };
  const rows = Object.fromEntries(facts(camera('door', { errors }), { figures: null }));
  assert.deepEqual([rows.Errors, rows['Left out']], ['3', '400 lost, 8 late, 9 for the bit rate']);
  assert.ok(!('Left out' in Object.fromEntries(facts(camera('door'), { figures: null }))));
  return '3 errors, 417 left out';
}

function stagesAreTold() {
  const stages = { encode: { count: 9, p50_ms: 5, p99_ms: 20.04, max_ms: 31 }, sent: { count: 9, p50_ms: 0.2, p99_ms: 1, max_ms: 2 } };
  const rows = facts(camera('door', { stages }), { figures: null }).filter(([name]) => /p99/.test(name));
  assert.deepEqual(rows, [['Encode p50/p99', '5 / 20 ms'], ['Sent p50/p99', '0.2 / 1 ms']]);
  assert.ok(facts(camera('door'), { figures: null }).every(([name]) => !/p99/.test(name)), 'an older Pinhole tells none');
  return 'encode, sent';
}

function fragmentIsWellFormed() {
  const offer = 'v=0\r\na=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=mid:0\r\n';
  assert.equal(fragment(offer, ['candidate:1 1 udp 1 x.local 5 typ host', 'end-of-candidates']),
    'a=ice-ufrag:u\r\na=ice-pwd:p\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n'
    + 'a=candidate:1 1 udp 1 x.local 5 typ host\r\na=end-of-candidates\r\n');
  return 'RFC 8840 fragment';
}

export const cases = {
  'words: spans and rates read well': spansAndRatesReadWell,
  'words: every state has its words': everyStateHasItsWords,
  'words: pictures left out are no errors': picturesLeftOutAreNoErrors,
  'words: a poor picture says what would help': aPoorPictureSaysWhatWouldHelp,
  'words: the time in each stage is told': stagesAreTold,
  'words: a trickle fragment is well-formed': fragmentIsWellFormed,
};

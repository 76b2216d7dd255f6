// A WHEP session over plain HTTP, and what every viewer in JavaScript counts and reports.
//
// In: the endpoint's URL, the token (env PINHOLE_TOKEN), RTP packets. Out: one line of JSON.
// Not here: WebRTC (the *_viewer files), judgement (run.py).

const bearer = () => (process.env.PINHOLE_TOKEN ? { authorization: `Bearer ${process.env.PINHOLE_TOKEN}` } : {});

/** The value of the first `a=NAME:` line. */
const attribute = (sdp, name) => sdp.match(new RegExp(`^a=${name}:(.*?)\r?$`, 'm'))?.[1];

export class Session {
  patched = [];

  constructor(endpoint) {
    this.endpoint = endpoint;
  }

  /** POSTs `offer`, less its candidates: those are trickled. Returns the answer. */
  async open(offer) {
    this.offer = offer.replace(/^a=(candidate:.*|end-of-candidates)\r?\n/gm, '');
    this.posted = performance.now();
    const headers = { 'content-type': 'application/sdp', ...bearer() };
    const response = await fetch(this.endpoint, { method: 'POST', headers, body: this.offer });
    const text = await response.text();
    this.answeredMs = performance.now() - this.posted;
    if (response.status !== 201) throw new Error(`POST: ${response.status} ${text}`);
    this.url = new URL(response.headers.get('location'), this.endpoint);
    this.etag = response.headers.get('etag');
    return text;
  }

  /** PATCHes candidates (`candidate:...`) of the first media section. */
  async trickle(candidates, isEnd) {
    const lines = [
      `a=ice-ufrag:${attribute(this.offer, 'ice-ufrag')}`,
      `a=ice-pwd:${attribute(this.offer, 'ice-pwd')}`,
      'm=video 9 UDP/TLS/RTP/SAVPF 0',
      `a=mid:${attribute(this.offer, 'mid')}`,
      ...candidates.map((candidate) => `a=${candidate}`),
      ...(isEnd ? ['a=end-of-candidates'] : []),
      '',
    ];
    const headers = { 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': this.etag, ...bearer() };
    const response = await fetch(this.url, { method: 'PATCH', headers, body: lines.join('\r\n') });
    this.patched.push(response.status);
  }

  /** DELETEs twice: the statuses of both. */
  async close() {
    const statuses = [];
    for (let i = 0; i < 2; i += 1) {
      statuses.push((await fetch(this.url, { method: 'DELETE', headers: bearer() })).status);
    }
    return statuses;
  }
}

/** Counts H.264 over RTP as it comes; nothing is decoded. */
export class Figures {
  packets = 0;
  frames = 0;
  keyFrames = 0;
  missing = 0;
  joinMs = null;
  longestGapMs = 0;
  #inKeyFrame = false;
  #next = null;
  #last = null;

  constructor(stack, session) {
    this.stack = stack;
    this.session = session;
  }

  onRtp(sequenceNumber, isLastOfFrame, payload) {
    this.packets += 1;
    const ahead = this.#next === null ? 0 : (sequenceNumber - this.#next) & 0xffff;
    if (ahead < 0x8000) {
      this.missing += ahead;
      this.#next = (sequenceNumber + 1) & 0xffff;
    } else {
      this.missing -= 1; // it came late, not never
    }
    this.#inKeyFrame ||= hasIdr(payload);
    if (isLastOfFrame) this.#onFrame(performance.now());
  }

  #onFrame(now) {
    this.frames += 1;
    this.keyFrames += this.#inKeyFrame;
    if (this.#inKeyFrame) this.joinMs ??= now - this.session.posted;
    this.#inKeyFrame = false;
    if (this.#last !== null) this.longestGapMs = Math.max(this.longestGapMs, now - this.#last);
    this.#last = now;
  }

  report(state, deleted) {
    const { stack, joinMs, packets, missing, frames, keyFrames, longestGapMs } = this;
    const { answeredMs, patched } = this.session;
    const figures = { stack, state, answeredMs, joinMs, packets, missing, frames, keyFrames, longestGapMs, patched, deleted };
    console.log(JSON.stringify(figures));
  }
}

/** RFC 6184: the payload is, or begins, or aggregates, a slice of a key frame. */
function hasIdr(payload) {
  const type = payload[0] & 31;
  if (type === 28) return (payload[1] & 0x9f) === 0x85;
  if (type !== 24) return type === 5;
  for (let at = 1; at + 2 < payload.length; at += 2 + payload.readUInt16BE(at)) {
    if ((payload[at + 2] & 31) === 5) return true;
  }
  return false;
}

// A WHEP client: one session on one endpoint, received over one RTCPeerConnection.
//
// In: an endpoint URL. Out: a track, states, statistics.
// Not here: pages and videos (tile.js), when to try again (player.js).
//
// States, told by `onState(state, why)`; each at most once, except the middle two:
//
//   new ── open() ──► opening ──► connecting ──► connected ◄──► disconnected
//                        │            │              │                │
//                        └────────────┴── failed ◄───┴────────────────┘
//   close() ends every state in silence.
//
// Nothing waits for ICE gathering: the offer is posted at once, with the candidates there are by
// then, and later ones are trickled (RFC 8840). A server that is reachable answers the checks of
// an unknown address as peer-reflexive, so most sessions are up before the first trickle leaves.

/** Longest wait for the answer to the POST, ms. */
const POST_TIMEOUT_MS = 6000;
/** Candidates found within this span share one PATCH, ms. */
const TRICKLE_GATHER_MS = 60;

/** A session that could not be opened. `status` is 0 when no HTTP answer came. */
export class WhepError extends Error {
  /**
   * @param {string} message for a person
   * @param {{status?: number, title?: string, retryAfterMs?: number | null}} [facts]
   */
  constructor(message, { status = 0, title = '', retryAfterMs = null } = {}) {
    super(message);
    this.status = status;
    this.title = title;
    this.retryAfterMs = retryAfterMs;
  }
}

export class WhepClient {
  /** When each step was reached, `performance.now()` ms. */
  times = { open: 0, posted: 0, answered: 0, connected: 0 };

  #endpoint;
  #onTrack;
  #onState;
  #pc = null;
  #closed = false;
  #session = null; // URL
  #etag = null;
  #offer = '';
  #candidates = [];
  #trickleTimer = null;

  /**
   * @param {URL | string} endpoint where offers are posted
   * @param {{onTrack: (track: MediaStreamTrack) => void,
   *          onState: (state: string, why?: WhepError) => void}} handlers
   */
  constructor(endpoint, { onTrack, onState }) {
    this.#endpoint = endpoint;
    this.#onTrack = onTrack;
    this.#onState = onState;
  }

  /** The session's URL, once the server has named it. */
  get session() {
    return this.#session?.href ?? null;
  }

  /** Opens the session. Never throws: what goes wrong is told by `onState('failed', why)`. */
  async open() {
    this.times.open = performance.now();
    this.#tell('opening');
    try {
      await this.#negotiate();
    } catch (error) {
      this.#fail(error instanceof WhepError ? error : new WhepError(String(error.message ?? error)));
    }
  }

  /** The connection's statistics, or an empty report when there is none. */
  async stats() {
    return this.#closed || !this.#pc ? new Map() : this.#pc.getStats();
  }

  /** Ends the session here and, as far as it can be reached, at the server. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#trickleTimer);
    this.#pc?.close();
    this.#delete();
  }

  async #negotiate() {
    const pc = this.#pc = this.#connection();
    await pc.setLocalDescription();
    this.#offer = pc.localDescription.sdp;
    this.times.posted = performance.now();
    const response = await this.#post(this.#offer);
    const answer = await response.text();
    this.times.answered = performance.now();
    this.#session = new URL(response.headers.get('location') ?? '', response.url);
    this.#etag = response.headers.get('etag');
    if (this.#closed) return this.#delete(); // left while the server was answering
    this.#tell('connecting');
    await pc.setRemoteDescription({ type: 'answer', sdp: answer });
    this.#scheduleTrickle();
  }

  #connection() {
    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    const { receiver } = pc.addTransceiver('video', { direction: 'recvonly' });
    // Show each picture as soon as it is whole: a camera is watched live or not at all.
    if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = 0;
    if ('playoutDelayHint' in receiver) receiver.playoutDelayHint = 0;
    pc.ontrack = ({ track }) => this.#onTrack(track);
    pc.onicecandidate = ({ candidate }) => this.#onCandidate(candidate);
    pc.onconnectionstatechange = () => this.#onConnection(pc.connectionState);
    return pc;
  }

  async #post(sdp) {
    let response;
    try {
      response = await fetch(this.#endpoint, {
        method: 'POST',
        headers: { 'content-type': 'application/sdp', accept: 'application/sdp, application/problem+json' },
        body: sdp,
        signal: AbortSignal.timeout(POST_TIMEOUT_MS),
      });
    } catch (error) {
      throw new WhepError(error.name === 'TimeoutError' ? 'Pinhole does not answer' : 'Pinhole is not reachable');
    }
    if (response.status !== 201) throw await refusal(response);
    return response;
  }

  #onConnection(state) {
    if (state === 'connected') {
      this.times.connected ||= performance.now();
      this.#watchTransport();
      this.#tell('connected');
    } else if (state === 'disconnected') {
      this.#tell('disconnected');
    } else if (state === 'failed') {
      this.#fail(new WhepError(this.times.connected
        ? 'the connection was lost'
        : 'no media gets through: is the media port of Pinhole (UDP) open?'));
    }
  }

  /** A server that leaves says so with a DTLS close, seconds before ICE would notice. */
  #watchTransport() {
    const transport = this.#pc.getReceivers()[0]?.transport;
    if (!transport || transport.onstatechange) return;
    transport.onstatechange = () => {
      if (transport.state === 'closed') this.#fail(new WhepError('Pinhole ended the session'));
    };
  }

  #onCandidate(candidate) {
    const line = candidate ? candidate.candidate : 'end-of-candidates';
    if (line && !this.#offer.includes(line)) this.#candidates.push(line);
    if (this.#session) this.#scheduleTrickle();
  }

  #scheduleTrickle() {
    if (this.#closed || this.#trickleTimer !== null) return;
    this.#trickleTimer = setTimeout(() => this.#trickle(), TRICKLE_GATHER_MS);
  }

  async #trickle() {
    this.#trickleTimer = null;
    // Once connected there is nothing that another candidate could improve.
    if (this.#closed || this.times.connected || this.#candidates.length === 0) return;
    const lines = this.#candidates.splice(0);
    await fetch(this.#session, {
      method: 'PATCH',
      headers: { 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': this.#etag ?? '*' },
      body: fragment(this.#offer, lines),
      signal: AbortSignal.timeout(POST_TIMEOUT_MS),
    }).catch(() => { /* the checks go on without it; a dead session shows as 'failed' */ });
  }

  #delete() {
    if (!this.#session) return;
    // keepalive: it still leaves while the page goes away.
    fetch(this.#session, { method: 'DELETE', keepalive: true }).catch(() => {});
    this.#session = null;
  }

  #fail(why) {
    if (this.#closed) return;
    this.close();
    this.#onState('failed', why);
  }

  #tell(state) {
    if (!this.#closed) this.#onState(state);
  }
}

/** A trickle fragment (RFC 8840 section 4.4) for the first media section of `offer`. */
export function fragment(offer, candidates) {
  const line = (prefix) => offer.split(/\r?\n/).find((l) => l.startsWith(prefix));
  return [
    line('a=ice-ufrag:'),
    line('a=ice-pwd:'),
    line('m='),
    line('a=mid:'),
    ...candidates.map((c) => `a=${c}`),
  ].filter(Boolean).join('\r\n') + '\r\n';
}

/** What a server's refusal says, from problem+json (RFC 9457) where it is that. */
async function refusal(response) {
  const problem = response.headers.get('content-type')?.includes('json')
    ? await response.json().catch(() => ({}))
    : {};
  return new WhepError(problem.detail || problem.title || `HTTP status ${response.status}`, {
    status: response.status,
    title: problem.title ?? '',
    retryAfterMs: retryAfter(response.headers.get('retry-after')),
  });
}

/** `Retry-After` in ms: seconds or an HTTP date; null when there is none. */
function retryAfter(value) {
  if (!value) return null;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : null;
}

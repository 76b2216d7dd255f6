// A scripted stand-in for Pinhole: its page, `/api/cameras` and WHEP, to stage what a healthy
// Pinhole cannot be made to do (a session that freezes, 503, 422, a list without cameras).
//
// In: `cameras`, `faults`, a sender of pictures. Out: HTTP on a loopback port.
// Not here: media (sender.mjs).

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const PAGE = new URL('../../src/net/page/', import.meta.url);
const TYPES = { html: 'text/html; charset=utf-8', css: 'text/css', js: 'text/javascript', svg: 'image/svg+xml' };

/** One camera as the API lists it, playing unless told otherwise. */
export function camera(name, facts = {}) {
  return {
    name, state: 'playing', since_ms: 60_000, last_picture_ms: 30, codec: 'H264', profile_level: '42e01f',
    width: 1280, height: 720, fps: 25, bitrate: 2_400_000, key_frame_interval_ms: 2000, has_b_frames: false,
    can_force_key_frame: false, viewers: 1, restarts: 0,
    errors: { packet: 0, loss: 0, picture: 0, encode: 0, device: 0, lost: 0, late: 0, full: 0, skipped: 0, fallback: 0 }, notes: [], ...facts,
  };
}

export class Mock {
  cameras = [];
  /**
   * `api` and `whep`: null, or {status, body, headers} that is answered instead. `isMute`: the
   * answer names no candidate, so that the viewer is found by what it trickles or not at all.
   */
  faults = { api: null, whep: null, isMute: false };
  /** Requests since the start: `POST /whep/door`, with their bodies where they are of WHEP. */
  seen = [];
  /** Of the page's files: another one is another release. */
  release = '"r1"';
  /** Sent with the next answers to POST. */
  etag = '"g1"';

  #sender;
  #server = null;
  #sessions = 0;
  #port = 0;

  /** @param {object} sender of sender.mjs */
  constructor(sender) {
    this.#sender = sender;
  }

  get url() {
    return `http://127.0.0.1:${this.#port}/`;
  }

  /** Listens; again on the same port after a stop. */
  async start() {
    this.#server = createServer((req, res) => this.#serve(req, res).catch((e) => res.writeHead(500).end(String(e))));
    await new Promise((done) => this.#server.listen(this.#port, '127.0.0.1', done));
    this.#port = this.#server.address().port;
  }

  async stop() {
    this.#server?.closeAllConnections();
    await new Promise((done) => (this.#server ? this.#server.close(done) : done()));
  }

  async #serve(req, res) {
    const { pathname } = new URL(req.url, this.url);
    const request = { line: `${req.method} ${pathname}`, headers: req.headers, body: '', at: performance.now() };
    this.seen.push(request);
    if (pathname === '/api/cameras') return reply(res, this.faults.api ?? { status: 200, body: this.cameras });
    if (pathname.startsWith('/whep/')) return this.#whep(req, res, pathname, request);
    return servePage(res, pathname, this.release);
  }

  async #whep(req, res, pathname, request) {
    const body = await text(req);
    request.body = body;
    if (req.method === 'PATCH') {
      await this.#sender.trickle(pathname.split('/').pop(), body);
      return reply(res, { status: 204 });
    }
    if (req.method !== 'POST') return reply(res, { status: 200 });
    if (this.faults.whep) return reply(res, this.faults.whep);
    const id = String(this.#sessions += 1);
    const answer = await this.#sender.answer(body, decodeURIComponent(pathname.slice(6)), id);
    res.writeHead(201, { 'content-type': 'application/sdp', location: `/whep/session/${id}`, etag: this.etag })
      .end(this.faults.isMute ? answer.replace(/a=(candidate|end-of-candidates).*\r\n/g, '') : answer);
  }
}

async function servePage(res, pathname, release) {
  const name = pathname === '/' ? 'index.html' : pathname.slice(1);
  if (!/^[a-z]+\.[a-z]+$/.test(name)) return reply(res, { status: 404 });
  const bytes = await readFile(fileURLToPath(new URL(name, PAGE)));
  res.writeHead(200, {
    'content-type': TYPES[name.split('.').pop()],
    'content-security-policy': "default-src 'self'; frame-ancestors 'self'; base-uri 'none'",
    'cache-control': 'no-store',
    etag: release,
  }).end(bytes);
}

function reply(res, { status, body = null, headers = {} }) {
  const type = status >= 400 ? 'application/problem+json' : 'application/json';
  res.writeHead(status, body ? { 'content-type': type, ...headers } : headers).end(body ? JSON.stringify(body) : undefined);
}

async function text(req) {
  let all = '';
  for await (const chunk of req) all += chunk;
  return all;
}

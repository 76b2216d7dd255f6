// What runs beside the browser: Pinhole itself and cameras. Each is ended by its own id.

import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
export const BINARY = process.env.PINHOLE ?? join(ROOT, 'target/release/pinhole');
const CAMERA = process.env.GST_CAMERA ?? join(ROOT, 'tests/cameras/gst_camera.py');

const running = new Set();

/** Ends whatever a failed case left behind. */
export function endAll() {
  return Promise.all([...running].map((process) => process.end('SIGKILL')));
}

class Process {
  #child;
  #output = '';

  constructor(command, args, options = {}) {
    this.#child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream.on('data', (d) => { this.#output += d; });
    this.exited = new Promise((done) => this.#child.once('exit', done));
    this.#child.once('error', (error) => { this.#output += String(error); });
    running.add(this);
  }

  get output() {
    return this.#output;
  }

  /** Waits for a match of `pattern` in what it prints. */
  async says(pattern, timeoutMs = 15_000) {
    const end = performance.now() + timeoutMs;
    while (performance.now() < end) {
      const match = this.#output.match(pattern);
      if (match) return match;
      if (this.#child.exitCode !== null) break;
      await new Promise((done) => setTimeout(done, 20));
    }
    throw new Error(`no ${pattern} in the output of ${this.#child.spawnfile}:\n${this.#output.slice(-2000)}`);
  }

  signal(name) {
    this.#child.kill(name);
  }

  async end(signal = 'SIGTERM') {
    running.delete(this);
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGCONT'); // a stopped process takes no SIGTERM
    this.#child.kill(signal);
    const hard = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    await this.exited;
    clearTimeout(hard);
  }
}

/** `pinhole demo`. */
export async function startDemo() {
  const demo = new Process(BINARY, ['demo', '--listen', `127.0.0.1:${await freeTcp()}`]);
  const [url] = await demo.says(/http:\/\/\S+token=[^\s"']+/);
  return { process: demo, url };
}

/** `pinhole run` with the given cameras: `[[camera]]` tables as TOML text. */
export async function startPinhole(cameras, ports = null) {
  const { http, media } = ports ?? { http: await freeTcp(), media: await freeUdp() };
  const dir = mkdtempSync(join(tmpdir(), 'pinhole-browser-'));
  const file = join(dir, 'pinhole.toml');
  writeFileSync(file, `[server]\nlisten = "127.0.0.1:${http}"\n[ice]\nport = ${media}\n${cameras}\n`);
  const pinhole = new Process(BINARY, ['run', '--config', file]);
  pinhole.exited.then(() => rmSync(dir, { recursive: true, force: true }));
  const url = `http://127.0.0.1:${http}/`;
  await answers(`${url}healthz`, pinhole);
  return { process: pinhole, url, ports: { http, media } };
}

async function answers(url, pinhole) {
  const end = performance.now() + 10_000;
  while (performance.now() < end) {
    if (await fetch(url).then((r) => r.ok, () => false)) return;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(`Pinhole does not answer:\n${pinhole.output.slice(-2000)}`);
}

/** An RTSP camera by GStreamer: its GOP is `gop` pictures at 25 fps. */
export async function startCamera(port, gop = 100) {
  const args = ['--port', port, '--gop', gop, '--size', '1280x720', '--bitrate', 1500].map(String);
  const camera = new Process('/usr/bin/python3', [CAMERA, ...args]);
  const [base] = await camera.says(/rtsp:\/\/\S+/);
  return { process: camera, url: `${base}/h264` };
}

export function freeTcp() {
  return new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

function freeUdp() {
  return new Promise((done) => {
    const socket = createSocket('udp4').bind(0, '127.0.0.1', () => {
      const { port } = socket.address();
      socket.close(() => done(port));
    });
  });
}

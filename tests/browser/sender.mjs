// A browser tab that sends drawn pictures over WebRTC: the media behind mock.mjs.
//
// In: an offer and a camera's name. Out: an answer; pictures until `freeze` or `end`.

/** @param {import('playwright-core').BrowserContext} context */
export async function openSender(context) {
  const page = await context.newPage();
  await page.goto('about:blank');
  await page.evaluate(install);
  return {
    answer: (offer, name, id) => page.evaluate(([o, n, i]) => window.answer(o, n, i), [offer, name, id]),
    /** Takes a trickled fragment. */
    trickle: (id, body) => page.evaluate(([i, b]) => window.trickle(i, b), [id, body]),
    /** The connection ends, as a server's shutdown does it. */
    end: () => page.evaluate(() => window.connections?.forEach((pc) => pc.close())),
    /** Pictures stop, the connections stay up. */
    freeze: (isFrozen) => page.evaluate((f) => { window.isFrozen = f; }, isFrozen),
    close: () => page.close(),
  };
}

/** Runs in the tab. */
function install() {
  const scenes = new Map();
  window.isFrozen = false;
  window.answer = answer;
  setInterval(() => window.isFrozen || scenes.forEach((scene) => draw(scene)), 50);

  async function answer(offer, name, id) {
    const pc = new RTCPeerConnection();
    const scene = scenes.get(name) ?? makeScene(name);
    await pc.setRemoteDescription({ type: 'offer', sdp: offer });
    const [track] = scene.canvas.captureStream(20).getTracks();
    track.contentHint = 'detail';
    const sender = pc.addTrack(track);
    const gathered = new Promise((done) => {
      pc.onicecandidate = ({ candidate }) => candidate || done();
      setTimeout(done, 2000);
    });
    await pc.setLocalDescription();
    const parameters = sender.getParameters();
    parameters.encodings[0].maxBitrate = 800_000;
    parameters.degradationPreference = 'maintain-resolution';
    await sender.setParameters(parameters).catch(() => {});
    (window.connections ??= new Map()).set(id, pc);
    await gathered;
    return pc.localDescription.sdp;
  }

  window.trickle = async (id, body) => {
    const lines = body.split('\r\n').filter((line) => line.startsWith('a=candidate:'));
    for (const line of lines) await window.connections.get(id)?.addIceCandidate({ candidate: line.slice(2), sdpMLineIndex: 0 });
  };

  function makeScene(name) {
    const canvas = document.createElement('canvas');
    Object.assign(canvas, { width: 960, height: 540 });
    const seed = [...name].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) % 997, 7);
    const scene = { name, canvas, g: canvas.getContext('2d'), hue: (seed * 47) % 360, count: 0 };
    scenes.set(name, scene);
    scene.g.scale(0.75, 0.75);
    draw(scene);
    return scene;
  }

  /** A landscape with something that moves and a clock. */
  function draw(scene) {
    const { g, hue, name } = scene;
    const t = scene.count += 1;
    const sky = g.createLinearGradient(0, 0, 0, 460);
    sky.addColorStop(0, `hsl(${hue} 45% 42%)`);
    sky.addColorStop(1, `hsl(${hue + 40} 55% 78%)`);
    g.fillStyle = sky;
    g.fillRect(0, 0, 1280, 720);
    g.fillStyle = `hsl(${hue + 30} 80% 92%)`;
    g.beginPath(); g.arc(980, 170, 62, 0, 7); g.fill();
    for (const [base, height, lightness] of [[400, 120, 38], [470, 90, 30], [560, 60, 22]]) hills(g, hue, base, height, lightness);
    g.fillStyle = `hsl(${hue + 180} 70% 60%)`;
    g.beginPath(); g.arc((t * 6) % 1400 - 60, 600 - Math.abs(Math.sin(t / 9)) * 130, 34, 0, 7); g.fill();
    g.fillStyle = '#fff';
    g.font = '600 34px system-ui, sans-serif';
    g.fillText(`${name}   ${new Date().toISOString().slice(11, 23)}`, 36, 62);
  }

  function hills(g, hue, base, height, lightness) {
    g.fillStyle = `hsl(${hue + 70} 32% ${lightness}%)`;
    g.beginPath(); g.moveTo(0, 720);
    for (let x = 0; x <= 1280; x += 20) g.lineTo(x, base + Math.sin(x / (90 + lightness * 3) + hue) * height * 0.5 + Math.sin(x / 61 + base) * height * 0.2);
    g.lineTo(1280, 720); g.fill();
  }
}

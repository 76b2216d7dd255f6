// Reads the numbers along the lower edge of Pinhole's test picture (src/source/pattern/marks.rs).

/**
 * The age of each picture shown in the next `ms`, in ms: from its drawing to its presentation.
 * Only right on the machine that draws: both ends read the same clock.
 *
 * @returns {Promise<{ages: number[], missing: number}>} and how many picture numbers were skipped
 */
export function pictureAges(page, name, ms) {
  return page.evaluate(watch, { name, ms });
}

/** Runs in the page. */
function watch({ name, ms }) {
  const video = document.querySelector(`[data-camera="${name}"] video`);
  const canvas = document.createElement('canvas');
  const g = canvas.getContext('2d', { willReadFrequently: true });
  const seen = [];
  const end = performance.now() + ms;

  return new Promise((done) => {
    video.requestVideoFrameCallback(function next(now) {
      const marks = read();
      if (marks) seen.push({ ...marks, age: (Date.now() - marks.time) & 0xffff });
      if (now < end) video.requestVideoFrameCallback(next);
      else done({ ages: seen.map((m) => m.age), missing: gaps() });
    });
  });

  function gaps() {
    return seen.slice(1).reduce((sum, m, i) => sum + (((m.number - seen[i].number) & 0xffff) - 1), 0);
  }

  function read() {
    const { videoWidth: width, videoHeight: height } = video;
    const side = 2 * Math.floor(Math.min(Math.floor(width / 40), Math.floor(height / 12)) / 2);
    if (side < 4) return null;
    canvas.width = side * 40;
    canvas.height = side;
    g.drawImage(video, 0, height - side, side * 40, side, 0, 0, side * 40, side);
    const { data } = g.getImageData(0, 0, canvas.width, side);
    const levels = Array.from({ length: 40 }, (_, block) => mean(data, block, side));
    if (levels[0] < levels[1] + 48) return null;
    const bits = levels.map((level) => (level > (levels[0] + levels[1]) / 2 ? 1 : 0));
    const number = (from, count) => bits.slice(from, from + count).reduce((sum, bit) => sum * 2 + bit, 0);
    const check = [2, 8, 14, 20, 26].reduce((sum, at) => sum ^ number(at + 2, 6), number(2, 2) ^ 0x2a);
    return check === number(34, 6) ? { number: number(2, 16), time: number(18, 16) } : null;
  }

  /** Of the inner half of a block. */
  function mean(data, block, side) {
    const from = Math.floor(side / 4);
    const size = Math.floor(side / 2);
    let sum = 0;
    for (let y = from; y < from + size; y += 1) {
      for (let x = from; x < from + size; x += 1) sum += data[(y * side * 40 + block * side + x) * 4 + 1];
    }
    return sum / (size * size);
  }
}

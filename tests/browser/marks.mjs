// Reads the machine-readable row of Pinhole's test picture (src/source/pattern/marks.rs) out of
// a 2D canvas context. Self-contained, so that a test can pass its text into a page.
//
//   const marks = readMarks(context, canvas.width, canvas.height, video.videoWidth, video.videoHeight);
//   const age = marks && (Date.now() - marks.millis) % 65536; // ms, glass to glass on one machine
//
// null where there are no marks or they cannot be read.
export function readMarks(context, width, height, videoWidth, videoHeight) {
  const side = 2 * Math.floor(Math.min(videoWidth / 40, videoHeight / 12) / 2);
  if (side < 4) return null;
  const block = (side * width) / videoWidth;
  const top = Math.round(height - ((side * height) / videoHeight) * 0.75);
  const rows = Math.max(1, Math.floor((side * height) / videoHeight / 2));
  const { data } = context.getImageData(0, top, width, rows);
  const mean = (n) => {
    let sum = 0;
    let count = 0;
    for (let y = 0; y < rows; y++) {
      for (let x = Math.ceil((n + 0.25) * block); x < (n + 0.75) * block; x++) {
        sum += data[(y * width + x) * 4 + 1];
        count++;
      }
    }
    return sum / count;
  };
  const [white, black] = [mean(0), mean(1)];
  if (!(white >= black + 64)) return null;
  const number = (from, to) => {
    let value = 0;
    for (let n = from; n < to; n++) value = value * 2 + (mean(n) > (white + black) / 2 ? 1 : 0);
    return value;
  };
  const marks = { number: number(2, 18), millis: number(18, 34) };
  const value = marks.number * 65536 + marks.millis;
  let check = 0x2a;
  for (let group = 0; group < 6; group++) check ^= Math.floor(value / 2 ** (6 * group)) & 63;
  return check === number(34, 40) ? marks : null;
}

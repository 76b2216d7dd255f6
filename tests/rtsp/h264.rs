//! As much H.264 as a depacketizer looks at: real parameter sets, slices of filler.

/// PPS 0 for SPS 0: CAVLC, one slice group, no extras (H.264 section 7.3.2.2).
pub const PPS: [u8; 4] = [0x68, 0xce, 0x38, 0x80];

/// SPS 0, constrained baseline, level 3, `width` macroblocks wide and 15 high (section 7.3.2.1.1).
pub fn sps(width: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    for (value, count) in [(66, 8), (0xc0, 8), (30, 8)] {
        bits.put(value, count);
    }
    // Id, frame_num and order count of least size, order type 2, one reference.
    for value in [0, 0, 2, 1] {
        bits.golomb(value);
    }
    bits.put(0, 1); // no gaps
    bits.golomb(width - 1);
    bits.golomb(14);
    bits.put(0b1100, 4); // frames only, direct_8x8; no cropping, no VUI
    bits.put(1, 1); // stop bit
    let mut nal = vec![0x67];
    nal.extend(bits.bytes);
    nal
}

/// `sprop-parameter-sets` of RFC 6184 section 8.1.
pub fn sprop(width: u32) -> String {
    format!("{},{}", base64(&sps(width)), base64(&PPS))
}

/// An IDR slice that begins at the first macroblock.
pub fn idr(len: usize) -> Vec<u8> {
    slice(0x65, 0x88, len)
}

/// The slices of one IDR picture; all but the first begin at a later macroblock.
pub fn idr_slices(n: usize) -> Vec<Vec<u8>> {
    (0..n)
        .map(|n| slice(0x65, if n == 0 { 0x88 } else { 0x2c }, 200))
        .collect()
}

/// A slice that refers to earlier pictures.
pub fn delta(len: usize) -> Vec<u8> {
    slice(0x41, 0x9a, len)
}

fn slice(header: u8, first: u8, len: usize) -> Vec<u8> {
    let mut nal = vec![0xab; len];
    nal[0] = header;
    nal[1] = first;
    nal
}

/// FU-A, 100 bytes each (RFC 6184 section 5.8).
pub fn fragments(nal: &[u8]) -> Vec<Vec<u8>> {
    let chunks: Vec<&[u8]> = nal[1..].chunks(100).collect();
    let last = chunks.len() - 1;
    let fragment = |(n, chunk): (usize, &&[u8])| {
        let start = if n == 0 { 0x80 } else { 0 };
        let end = if n == last { 0x40 } else { 0 };
        let mut payload = vec![nal[0] & 0xe0 | 28, start | end | nal[0] & 0x1f];
        payload.extend(*chunk);
        payload
    };
    chunks.iter().enumerate().map(fragment).collect()
}

/// Annex B: the NAL units of an access unit.
pub fn nals(annex_b: &[u8]) -> Vec<&[u8]> {
    let mut nals = Vec::new();
    let mut rest = annex_b;
    while let Some(tail) = rest.strip_prefix(&[0, 0, 0, 1]) {
        let end = tail
            .windows(4)
            .position(|w| w == [0, 0, 0, 1])
            .unwrap_or(tail.len());
        nals.push(&tail[..end]);
        rest = &tail[end..];
    }
    assert!(rest.is_empty(), "bytes outside of any NAL unit");
    nals
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for n in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = (value >> n & 1) as u8;
            *self.bytes.last_mut().unwrap() |= bit << (7 - self.used % 8);
            self.used += 1;
        }
    }

    /// Exp-Golomb (section 9.1).
    fn golomb(&mut self, value: u32) {
        let code = value + 1;
        let size = 32 - code.leading_zeros();
        self.put(0, size - 1);
        self.put(code, size);
    }
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for n in 0..4 {
            if n <= chunk.len() {
                text.push(SIGNS[(bits >> (18 - 6 * n) & 63) as usize] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}

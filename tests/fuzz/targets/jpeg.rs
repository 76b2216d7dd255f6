//! What a camera may send as MJPEG: any bytes. The first byte chooses among sizes, so that headers
//! that fit are found soon.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinhole::media::pixel::{Colour, PixelFormat};
use pinhole::source::decode::{Decoder, PlaneRef, RawFrame};

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    let (width, height) = [(32, 32), (33, 17), (64, 48), (16, 16)][usize::from(choice % 4)];
    let format = PixelFormat::Mjpeg;
    let planes = [PlaneRef { bytes, stride: 0 }];
    let frame = RawFrame {
        format,
        width,
        height,
        planes: &planes,
    };
    let mut decoder = Decoder::new(format, width, height, Colour::JPEG).expect("in bounds");
    // Twice: a decoder remembers a camera's habits.
    for _ in 0..2 {
        if let Ok(decoded) = decoder.decode(&frame) {
            assert_eq!(decoded.size(), (width as usize & !1, height as usize & !1));
        }
    }
});

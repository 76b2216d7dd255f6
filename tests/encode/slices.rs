//! Pictures that are cut into slices, each coded on a thread of its own.

use super::*;

#[test]
fn pictures_in_two_slices_decode_and_begin_with_one_key_frame() {
    let mut studio = Studio::new(1280, 720, 2_000_000);
    let settings = settings(1280, 720, 2_000_000);
    studio.encoder = Box::new(Software::open_with(&settings, 2).expect("openh264"));
    let mut decoder = Decoder::new().expect("openh264");
    for number in 0..30 {
        if number == 20 {
            studio.encoder.force_key_frame();
        }
        let unit = studio.next_unit();
        assert_eq!(unit.is_key_frame, [0, 20].contains(&number), "{number}");
        let slices = nal_types(&unit.data)
            .into_iter()
            .filter(|kind| [1, 5].contains(kind));
        assert_eq!(slices.count(), 2, "{number}");
        decoder.decode(&unit.data).expect("valid");
    }
}

/// openh264 has one pool of threads for all encoders of a process.
#[test]
fn cameras_that_share_openh264s_threads_all_get_their_pictures() {
    let settings = settings(640, 480, 20_000_000);
    let cameras: Vec<_> = (0..4)
        .map(|camera| {
            std::thread::spawn(move || {
                let slices = 1 + camera % 3;
                let mut encoder = Software::open_with(&settings, slices).expect("openh264");
                let mut noise = Noise::of((640, 480));
                let coded = (0..FPS).filter(|number| {
                    let coded = encoder.encode(&noise.next(*number)).expect("encodes");
                    matches!(coded, Coded::Unit(_))
                });
                coded.count()
            })
        })
        .collect();
    for camera in cameras {
        let pictures = camera.join().expect("no panic");
        assert!(pictures >= FPS as usize / 2, "{pictures}");
    }
}

//! Which of a camera's modes is taken, and why.
//!
//! In: what the camera offers, what is wished, what the machine can encode. Out: one mode with
//! its reason in words.
//! Not here: asking the camera (device), what a mode costs (budget).

use std::cmp::Reverse;

use super::budget::Machine;
use super::sys::FourCc;
use crate::media::pixel::PixelFormat;

/// What comes out of the camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Pictures that we encode.
    Raw(PixelFormat),
    /// Already coded; passed on.
    H264,
}

impl Coding {
    /// `None` for what we cannot use.
    pub fn from_fourcc(fourcc: FourCc) -> Option<Self> {
        match &fourcc.0 {
            b"H264" => Some(Self::H264),
            other => PixelFormat::from_fourcc(*other).map(Self::Raw),
        }
    }

    pub fn fourcc(self) -> FourCc {
        match self {
            Self::H264 => FourCc(*b"H264"),
            Self::Raw(format) => FourCc(format.fourcc()),
        }
    }

    /// Among equal modes: raw pictures first (their key frames and bit rate are ours), what costs
    /// least first among them.
    fn rank(self) -> usize {
        match self {
            Self::Raw(format) => {
                let at = PixelFormat::ALL.iter().position(|known| *known == format);
                at.unwrap_or(PixelFormat::ALL.len())
            }
            Self::H264 => PixelFormat::ALL.len() + 1,
        }
    }
}

/// The rates of one mode.
#[derive(Clone, Debug, PartialEq)]
pub enum Rates {
    /// These times per frame: seconds as numerator and denominator.
    List(Vec<(u32, u32)>),
    /// Any rate up to this one.
    UpTo((u32, u32)),
    /// The driver does not say.
    Unknown,
}

/// One coding at one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    pub coding: Coding,
    pub size: (u32, u32),
    pub rates: Rates,
}

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub size: Option<(u32, u32)>,
    pub fps: Option<u32>,
}

/// The mode that is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub coding: Coding,
    pub size: (u32, u32),
    /// What to ask of the driver; `None` leaves its rate alone.
    pub interval: Option<(u32, u32)>,
    /// Pictures per second that are wanted.
    pub fps: f64,
    /// Whether the camera may send more.
    pub is_limited: bool,
    /// For a person.
    pub why: String,
}

/// Chooses.
///
/// # Errors
/// What the camera offers instead, for a person.
pub fn choose(offers: &[Offer], wish: &Wish, machine: &Machine) -> Result<Choice, String> {
    let (usable, others): (Vec<&Offer>, Vec<&Offer>) =
        offers.iter().partition(|offer| is_usable(offer));
    if let Some(size) = wish.size
        && others.iter().any(|offer| offer.size == size)
        && !usable.iter().any(|offer| offer.size == size)
    {
        let ((width, height), sizes) = (size, sizes_of(&usable));
        return Err(format!(
            "its pictures of {width}x{height} cannot be encoded: the sides may have {MIN_SIDE} to \
             {MAX_SIDE} pixels, the shorter one {MAX_SHORT_SIDE}; it also offers {sizes}"
        ));
    }
    if usable.is_empty() {
        return Err("it offers no picture format that Pinhole knows".to_owned());
    }
    let candidates: Vec<Candidate<'_>> = usable
        .iter()
        .filter(|offer| wish.size.is_none_or(|size| size == offer.size))
        .map(|offer| Candidate::new(offer, wish, machine))
        .collect();
    let best = candidates
        .iter()
        .max_by_key(|candidate| candidate.key(wish));
    let Some(best) = best else {
        let (width, height) = wish.size.unwrap_or_default();
        let sizes = sizes_of(&usable);
        return Err(format!(
            "it has no pictures of {width}x{height}; it offers {sizes}"
        ));
    };
    Ok(best.choice(wish, machine))
}

/// Whether its pictures can be encoded ([`Settings`](crate::source::encode::Settings)), or need
/// not be.
fn is_usable(offer: &Offer) -> bool {
    let (width, height) = offer.size;
    let (long, short) = (width.max(height), width.min(height));
    let is_short_enough = offer.coding == Coding::H264 || short <= MAX_SHORT_SIDE;
    short >= MIN_SIDE && long <= MAX_SIDE && is_short_enough
}

/// One offer at the rate that would be taken of it.
struct Candidate<'a> {
    offer: &'a Offer,
    interval: Option<(u32, u32)>,
    /// Of the camera.
    camera_fps: f64,
    /// Of what is encoded.
    fps: f64,
    is_affordable: bool,
}

impl<'a> Candidate<'a> {
    fn new(offer: &'a Offer, wish: &Wish, machine: &Machine) -> Self {
        let wanted = f64::from(wish.fps.unwrap_or(AUTO_FPS));
        let (interval, camera_fps) = rate_for(&offer.rates, wanted);
        let fps = camera_fps.min(wanted);
        Self {
            offer,
            interval,
            camera_fps,
            fps,
            is_affordable: machine.affords(offer.coding, offer.size, fps),
        }
    }

    /// What counts, in this order: that it can be encoded (where the size is configured, only
    /// among equal pictures), that it moves smoothly, its size (in automatic choice up to
    /// [`AUTO_SIZE`]), its rate, the cost of its format.
    fn key(&self, wish: &Wish) -> impl Ord + use<> {
        let (width, height) = self.offer.size;
        let area = u64::from(width) * u64::from(height);
        let is_free = wish.size.is_none();
        let fits = !is_free || (self.is_affordable && area <= AUTO_SIZE);
        let wanted = f64::from(wish.fps.unwrap_or(SMOOTH_FPS));
        let reaches = self.fps + 0.5 >= wanted;
        let is_smooth = self.fps + 0.5 >= wanted.min(f64::from(SMOOTH_FPS));
        let area_key = match fits {
            true => i128::from(area),
            false => -i128::from(area), // of what is too large, the smallest
        };
        (
            fits,
            reaches,
            is_smooth,
            area_key,
            self.fps.round() as i64, // 29.97 is 30
            self.is_affordable,
            (self.fps * 100.0) as i64,
            Reverse((self.camera_fps * 100.0) as i64),
            Reverse(self.offer.coding.rank()),
        )
    }

    fn choice(&self, wish: &Wish, machine: &Machine) -> Choice {
        let (width, height) = self.offer.size;
        let fourcc = self.offer.coding.fourcc();
        let rate = format!("{:.3}", self.fps);
        let rate = rate.trim_end_matches('0').trim_end_matches('.');
        let reason = match (wish.size, self.is_affordable) {
            (Some(_), true) => "the size is configured",
            (Some(_), false) => "the size is configured; this machine may be too slow for it",
            (None, true) => "the largest smooth mode that this machine can encode",
            (None, false) => "the smallest mode; this machine may be too slow for it",
        };
        let how = machine.told(self.offer.coding, self.offer.size, self.fps);
        Choice {
            coding: self.offer.coding,
            size: self.offer.size,
            interval: self.interval,
            fps: self.fps,
            is_limited: self.offer.rates == Rates::Unknown || self.camera_fps > self.fps * 1.05,
            why: format!("{width}x{height} {fourcc} at {rate} fps: {reason} ({how})"),
        }
    }
}

/// The slowest rate that reaches `wanted`, else the fastest.
fn rate_for(rates: &Rates, wanted: f64) -> (Option<(u32, u32)>, f64) {
    match rates {
        Rates::Unknown => (Some((1, wanted as u32)), wanted),
        Rates::UpTo(fastest) => match fps_of(*fastest) {
            most if most > wanted => (Some((1, wanted as u32)), wanted),
            most => (Some(*fastest), most),
        },
        Rates::List(list) => {
            let known = list.iter().filter(|rate| fps_of(**rate) > 0.0);
            let mut sorted: Vec<_> = known.copied().collect();
            sorted.sort_by(|a, b| fps_of(*a).total_cmp(&fps_of(*b)));
            // 29.97 is 30.
            let reaching = sorted.iter().find(|rate| fps_of(**rate) * 1.01 >= wanted);
            match reaching.or_else(|| sorted.last()) {
                Some(rate) => (Some(*rate), fps_of(*rate)),
                None => (Some((1, wanted as u32)), wanted),
            }
        }
    }
}

/// Pictures per second of a time per frame; 0 for nonsense.
pub fn fps_of((numerator, denominator): (u32, u32)) -> f64 {
    match numerator {
        0 => 0.0,
        _ => f64::from(denominator) / f64::from(numerator),
    }
}

fn sizes_of(offers: &[&Offer]) -> String {
    let mut sizes: Vec<_> = offers.iter().map(|offer| offer.size).collect();
    sizes.sort_by_key(|(width, height)| Reverse(u64::from(*width) * u64::from(*height)));
    sizes.dedup();
    let shown: Vec<_> = sizes
        .iter()
        .take(MAX_SHOWN)
        .map(|(width, height)| format!("{width}x{height}"))
        .collect();
    shown.join(", ")
}

/// Sizes of a driver that takes any between two bounds.
pub fn stepped_sizes(min: (u32, u32), max: (u32, u32), step: (u32, u32)) -> Vec<(u32, u32)> {
    let fits = |side: u32, min: u32, max: u32, step: u32| {
        (min..=max).contains(&side) && (side - min).is_multiple_of(step.max(1))
    };
    let mut sizes: Vec<_> = COMMON_SIZES
        .into_iter()
        .filter(|(width, height)| {
            fits(*width, min.0, max.0, step.0) && fits(*height, min.1, max.1, step.1)
        })
        .collect();
    if !sizes.contains(&max) {
        sizes.insert(0, max);
    }
    sizes
}

/// What is worth offering of a range.
const COMMON_SIZES: [(u32, u32); 12] = [
    (3840, 2160),
    (2560, 1440),
    (1920, 1080),
    (1640, 1232),
    (1296, 972),
    (1280, 720),
    (1024, 768),
    (800, 600),
    (640, 480),
    (640, 360),
    (320, 240),
    (320, 180),
];

/// Pictures per second that are aimed at when none are configured.
const AUTO_FPS: u32 = 30;
/// From here on movement looks smooth: a larger but slower mode is not preferred.
const SMOOTH_FPS: u32 = 24;
/// Pixels of the largest picture that is chosen without being asked for: 1920x1080 and its like.
const AUTO_SIZE: u64 = 1920 * 1200;
/// Of an encodable picture.
const MIN_SIDE: u32 = 16;
const MAX_SIDE: u32 = 3840;
const MAX_SHORT_SIDE: u32 = 2160;
/// Sizes that an error names.
const MAX_SHOWN: usize = 12;

#[cfg(test)]
mod tests {
    use super::super::budget::Encoder;
    use super::*;
    use crate::source::encode::m2m::Limits;
    use crate::source::speed::Speed;

    const fn machine(encode: f64, jpeg: f64) -> Machine {
        Machine {
            speed: Speed {
                encode,
                jpeg,
                processors: 4,
            },
            encoder: Encoder::Software,
        }
    }

    const PC: Machine = machine(350e6, 230e6);
    /// In round figures what a small board does in software.
    const PI: Machine = machine(140e6, 100e6);
    const SMALL: Machine = machine(60e6, 40e6);

    fn small_with_encoder() -> Machine {
        let encoder = Encoder::Hardware {
            card: "chip".to_owned(),
            limits: Limits::default(),
        };
        let jpeg = 55e6; // 17 ms for 720p, 38 for 1080p
        Machine {
            encoder,
            ..machine(60e6, jpeg)
        }
    }

    fn offer(name: &[u8; 4], size: (u32, u32), fps: &[u32]) -> Offer {
        Offer {
            coding: Coding::from_fourcc(FourCc(*name)).expect("known"),
            size,
            rates: Rates::List(fps.iter().map(|fps| (1, *fps)).collect()),
        }
    }

    /// A well-known USB camera on USB 2.
    fn usb_camera() -> Vec<Offer> {
        vec![
            offer(b"YUYV", (640, 480), &[30, 15, 5]),
            offer(b"YUYV", (1280, 720), &[10, 5]),
            offer(b"YUYV", (1920, 1080), &[5]),
            offer(b"MJPG", (640, 480), &[30, 15, 5]),
            offer(b"MJPG", (1280, 720), &[60, 30, 15]),
            offer(b"MJPG", (1920, 1080), &[30, 15]),
        ]
    }

    fn chosen(
        offers: &[Offer],
        size: Option<(u32, u32)>,
        fps: Option<u32>,
        on: &Machine,
    ) -> String {
        match choose(offers, &Wish { size, fps }, on) {
            Ok(choice) => {
                let (width, height) = choice.size;
                let asked = choice.interval.map_or(0.0, fps_of);
                format!(
                    "{} {width}x{height} {asked}/{}",
                    choice.coding.fourcc(),
                    choice.fps
                )
            }
            Err(problem) => problem,
        }
    }

    #[test]
    fn the_largest_smooth_mode_that_the_machine_can_encode_is_taken() {
        let camera = usb_camera();
        for (machine, size, fps, expected) in [
            (&PC, None, None, "MJPG 1920x1080 30/30"),
            (&PI, None, None, "MJPG 1280x720 30/30"),
            (&SMALL, None, None, "YUYV 640x480 30/30"),
            (&small_with_encoder(), None, None, "MJPG 1280x720 30/30"),
            (&PI, None, Some(60), "YUYV 640x480 30/30"),
            (&PC, None, Some(60), "MJPG 1280x720 60/60"),
            (&PI, None, Some(10), "MJPG 1920x1080 15/10"),
            // Configured sizes are taken at their word; of equal formats the cheaper one.
            (&PI, Some((1920, 1080)), None, "MJPG 1920x1080 30/30"),
            (&PI, Some((640, 480)), None, "YUYV 640x480 30/30"),
            (&PI, Some((1280, 720)), Some(5), "YUYV 1280x720 5/5"),
            (&PI, Some((1280, 720)), Some(20), "MJPG 1280x720 30/20"),
        ] {
            let got = chosen(&camera, size, fps, machine);
            assert_eq!(got, expected, "{size:?} {fps:?} {machine:?}");
        }
    }

    #[test]
    fn the_reason_is_told() {
        let why = |size| {
            let wish = Wish { size, fps: None };
            choose(&usb_camera(), &wish, &PI).expect("chosen").why
        };
        assert_eq!(
            why(None),
            "1280x720 MJPG at 30 fps: the largest smooth mode that this machine can encode (an \
             estimated 15.8 of 33.3 ms for a picture, coded in software)"
        );
        assert!(why(Some((1920, 1080))).contains("may be too slow"));
    }

    #[test]
    fn a_size_that_is_not_there_is_answered_with_those_that_are() {
        assert_eq!(
            chosen(&usb_camera(), Some((800, 600)), None, &PC),
            "it has no pictures of 800x600; it offers 1920x1080, 1280x720, 640x480"
        );
        assert_eq!(
            chosen(&[], None, None, &PC),
            "it offers no picture format that Pinhole knows"
        );
    }

    #[test]
    fn coded_pictures_are_passed_on_where_only_they_are_large_and_smooth() {
        let mut camera = usb_camera();
        camera.push(offer(b"H264", (1280, 720), &[30]));
        assert_eq!(chosen(&camera, None, None, &PI), "MJPG 1280x720 30/30");
        camera.push(offer(b"H264", (1920, 1080), &[30]));
        assert_eq!(chosen(&camera, None, None, &PI), "H264 1920x1080 30/30");
    }

    #[test]
    fn at_a_configured_size_coded_pictures_are_taken_where_others_are_too_dear() {
        let mut camera = usb_camera();
        camera.push(offer(b"H264", (1920, 1080), &[30]));
        let full_hd = Some((1920, 1080));
        assert_eq!(chosen(&camera, full_hd, None, &PI), "H264 1920x1080 30/30");
        assert_eq!(chosen(&camera, full_hd, None, &PC), "MJPG 1920x1080 30/30");
        // Dear and smooth is better than cheap and slow.
        camera.pop();
        assert_eq!(chosen(&camera, full_hd, None, &PI), "MJPG 1920x1080 30/30");
    }

    #[test]
    fn pictures_that_no_encoder_takes_are_not_chosen() {
        let camera = [
            offer(b"MJPG", (3264, 2448), &[15]),
            offer(b"MJPG", (640, 480), &[15]),
        ];
        assert_eq!(chosen(&camera, None, None, &PC), "MJPG 640x480 15/15");
        assert_eq!(
            chosen(&camera, Some((3264, 2448)), None, &PC),
            "its pictures of 3264x2448 cannot be encoded: the sides may have 16 to 3840 pixels, \
             the shorter one 2160; it also offers 640x480"
        );
        let coded = [offer(b"H264", (3264, 2448), &[15])];
        assert_eq!(chosen(&coded, None, None, &PC), "H264 3264x2448 15/15");
    }

    #[test]
    fn slow_cameras_are_taken_as_they_are() {
        // vivid's webcam: the larger, the slower.
        let vivid = [
            offer(b"YUYV", (320, 180), &[60]),
            offer(b"YUYV", (640, 360), &[40]),
            offer(b"YUYV", (640, 480), &[25]),
            offer(b"YUYV", (1280, 720), &[12]),
        ];
        assert_eq!(chosen(&vivid, None, None, &PC), "YUYV 640x480 25/25");
        let slow = [offer(b"YUYV", (3840, 2160), &[1])];
        assert_eq!(chosen(&slow, None, None, &PC), "YUYV 3840x2160 1/1");
        let huge = [
            offer(b"YUYV", (3840, 2160), &[30]),
            offer(b"YUYV", (2560, 1440), &[30]),
        ];
        assert_eq!(chosen(&huge, None, None, &PI), "YUYV 2560x1440 30/30");
    }

    #[test]
    fn drivers_that_take_any_size_or_rate_or_say_nothing_are_chosen_from_too() {
        let sizes = stepped_sizes((64, 64), (2592, 1944), (2, 2));
        assert_eq!(sizes[0], (2592, 1944));
        assert!(sizes.contains(&(1280, 720)) && !sizes.contains(&(3840, 2160)));
        assert_eq!(stepped_sizes((32, 32), (100, 100), (0, 0)), [(100, 100)]);
        let any = |rates| {
            [Offer {
                coding: Coding::Raw(PixelFormat::Nv12),
                size: (640, 480),
                rates,
            }]
        };
        let upto = any(Rates::UpTo((1, 90)));
        assert_eq!(chosen(&upto, None, None, &PC), "NV12 640x480 30/30");
        let slow = any(Rates::UpTo((1, 8)));
        assert_eq!(chosen(&slow, None, None, &PC), "NV12 640x480 8/8");
        let unknown = any(Rates::Unknown);
        assert_eq!(chosen(&unknown, None, Some(12), &PC), "NV12 640x480 12/12");
        let nonsense = any(Rates::List(vec![(0, 30), (1, 0)]));
        assert_eq!(chosen(&nonsense, None, None, &PC), "NV12 640x480 30/30");
        let film = any(Rates::List(vec![(1001, 30_000), (1, 60)]));
        assert!(chosen(&film, None, None, &PC).starts_with("NV12 640x480 29.97"));
    }
}

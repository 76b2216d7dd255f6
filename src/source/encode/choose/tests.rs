//! Which encoder codes, with ones that do as they are told.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use bytes::Bytes;

use super::super::m2m::Limits;
use super::super::{Plane, Unit};
use super::*;

/// What happens to each attempt to open hardware, and to each of its pictures.
#[derive(Default)]
struct Script {
    nodes: usize,
    opens: VecDeque<Result<(), &'static str>>,
    /// Attempts that were begun.
    begun: usize,
    /// Attempts take as long as there is somebody at the other end.
    gate: Option<mpsc::Receiver<()>>,
    pictures: VecDeque<Result<(), EncodeError>>,
    orders: Vec<String>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Script>>);

struct FakeEncoder(Fake, &'static str, bool);

impl Makers for Fake {
    fn find(&mut self) -> Vec<Found> {
        let node = |n| Found {
            path: PathBuf::from(format!("/dev/video{n}")),
            driver: "fake".to_owned(),
            card: "chip".to_owned(),
            pixels: Vec::new(),
            limits: Limits::default(),
        };
        (0..self.0.lock().unwrap().nodes).map(node).collect()
    }

    fn hardware(&mut self, found: &Found, _: &Settings) -> Result<Opened, EncodeError> {
        let mut script = self.0.lock().unwrap();
        let (planned, gate) = (script.opens.pop_front(), script.gate.take());
        script.begun += 1;
        drop(script);
        let _ = gate.map(|gate| gate.recv());
        let node = found.path.display().to_string();
        planned.unwrap_or(Ok(())).map_err(|why| match why {
            SILENT => EncodeError::HardwareSilent { node, millis: 1000 },
            why => EncodeError::HardwareUnfit {
                node,
                why: why.to_owned(),
            },
        })?;
        let encoder = Box::new(FakeEncoder(self.clone(), "hardware", false));
        Ok((encoder, vec!["level".to_owned()]))
    }

    fn software(&mut self, _: &Settings) -> Result<Box<dyn Encoder>, EncodeError> {
        Ok(Box::new(FakeEncoder(self.clone(), "software", true)))
    }
}

impl FakeEncoder {
    fn note(&self, what: &str) {
        let order = format!("{} {what}", self.1);
        self.0.0.lock().unwrap().orders.push(order);
    }
}

impl Encoder for FakeEncoder {
    fn encode(&mut self, picture: &Picture<'_>) -> Result<Coded, EncodeError> {
        if self.1 == "hardware" {
            let planned = self.0.0.lock().unwrap().pictures.pop_front();
            planned.unwrap_or(Ok(()))?;
        }
        Ok(Coded::Unit(Unit {
            data: Bytes::from_static(self.1.as_bytes()),
            is_key_frame: std::mem::take(&mut self.2),
            ticks: picture.ticks,
            taken: picture.taken,
        }))
    }

    fn force_key_frame(&mut self) {
        self.2 = true;
    }

    fn set_bitrate(&mut self, bps: u32) -> Result<(), EncodeError> {
        self.note(&format!("{bps} bit/s"));
        Ok(())
    }

    fn set_frame_rate(&mut self, fps: u32) -> Result<(), EncodeError> {
        self.note(&format!("{fps} fps"));
        Ok(())
    }

    fn name(&self) -> &'static str {
        self.1
    }
}

const SILENT: &str = "silent";

const SETTINGS: Settings = Settings {
    width: 16,
    height: 16,
    fps: 30,
    ceiling: 1_000_000,
};

fn fake(nodes: usize, opens: &[Result<(), &'static str>]) -> Fake {
    let fake = Fake::default();
    let mut script = fake.0.lock().unwrap();
    script.nodes = nodes;
    script.opens = opens.iter().copied().collect();
    drop(script);
    fake
}

fn open(fake: &Fake, failures: &Failures, choice: EncoderChoice) -> Chosen<Fake> {
    let opened = Chosen::open(fake.clone(), failures.clone(), &SETTINGS, choice);
    opened.expect("something codes")
}

fn chosen(fake: &Fake, choice: EncoderChoice) -> Result<(&'static str, String), String> {
    let opened = Chosen::open(fake.clone(), Failures::default(), &SETTINGS, choice);
    let mut chosen = opened.map_err(|error| error.chain())?;
    let Some(News::Chosen(said)) = chosen.poll_news() else {
        panic!("it says what it chose");
    };
    Ok((chosen.name(), said))
}

#[test]
fn the_choice_and_its_reason() {
    use EncoderChoice::{Auto, Hardware, Software};
    let bad = Err("too small");
    for (nodes, opens, choice, expected) in [
        (
            0,
            &[][..],
            Auto,
            Ok(("software", "software: no hardware encoder found")),
        ),
        (0, &[], Hardware, Err("no hardware encoder found")),
        (
            1,
            &[],
            Software,
            Ok(("software", "software: as configured")),
        ),
        (
            1,
            &[],
            Auto,
            Ok(("hardware", "hardware: chip on /dev/video0, without level")),
        ),
        (
            1,
            &[bad],
            Auto,
            Ok(("software", "software: /dev/video0: too small")),
        ),
        (1, &[bad], Hardware, Err("/dev/video0: too small")),
        (
            2,
            &[bad],
            Hardware,
            Ok(("hardware", "hardware: chip on /dev/video1, without level")),
        ),
    ] {
        let got = chosen(&fake(nodes, opens), choice);
        let got = got.as_ref().map(|(name, said)| (*name, said.as_str()));
        assert_eq!(got.map_err(String::as_str), expected, "{nodes} {choice:?}");
    }
}

/// Codes a picture `after` the start: who coded it and whether it is a key frame.
fn code(
    chosen: &mut Chosen<Fake>,
    start: Instant,
    after: Duration,
) -> Result<(String, bool), EncodeError> {
    let (y, c) = ([0; 256], [0; 64]);
    let planes = [Plane::new(&y, 16), Plane::new(&c, 8), Plane::new(&c, 8)];
    let picture = Picture::new((16, 16), planes, 7, start + after)?;
    match chosen.encode(&picture)? {
        Coded::Unit(unit) => {
            assert_eq!(unit.ticks, 7);
            Ok((
                String::from_utf8_lossy(&unit.data).into_owned(),
                unit.is_key_frame,
            ))
        }
        Coded::Skipped | Coded::Pending => panic!("a unit"),
    }
}

fn gone() -> EncodeError {
    EncodeError::Hardware {
        node: "/dev/video0".to_owned(),
        doing: "queue a picture",
        source: nix::errno::Errno::ENODEV,
    }
}

#[test]
fn a_picture_that_hardware_drops_is_coded_by_software_as_a_key_frame() {
    let fake = fake(1, &[]);
    let mut chosen = open(&fake, &Failures::default(), EncoderChoice::Auto);
    chosen.set_bitrate(300_000).unwrap();
    chosen.set_frame_rate(15).unwrap();
    fake.0
        .lock()
        .unwrap()
        .pictures
        .extend([Ok(()), Err(gone())]);
    let start = Instant::now();
    let mut next = |after| code(&mut chosen, start, after).unwrap();
    assert_eq!(next(Duration::ZERO), ("hardware".to_owned(), false));
    assert_eq!(
        next(Duration::from_millis(33)),
        ("software".to_owned(), true)
    );
    assert_eq!(
        next(Duration::from_millis(66)),
        ("software".to_owned(), false)
    );
    let orders = fake.0.lock().unwrap().orders.clone();
    assert_eq!(orders[2..], ["software 300000 bit/s", "software 15 fps"]);
    chosen.poll_news();
    let fault = "/dev/video0: queue a picture: ENODEV: No such device".to_owned();
    assert_eq!(chosen.poll_news(), Some(News::Fault(fault)));
    let Some(News::Chosen(said)) = chosen.poll_news() else {
        panic!("it says what codes now");
    };
    assert!(said.ends_with("tried again after 5 min"), "{said}");
}

const MINUTE: Duration = Duration::from_secs(60);

/// Codes pictures of one moment until something is told.
fn until_told(chosen: &mut Chosen<Fake>, start: Instant, after: Duration) -> String {
    loop {
        code(chosen, start, after).unwrap();
        if let Some(News::Chosen(said)) = chosen.poll_news() {
            return said;
        }
        thread::yield_now();
    }
}

fn quiet(chosen: &mut Chosen<Fake>) {
    while chosen.poll_news().is_some() {}
}

fn fails_at_once(fake: &Fake) {
    fake.0.lock().unwrap().pictures.push_back(Err(gone()));
}

#[test]
fn hardware_that_failed_is_tried_again_after_a_while_and_after_longer_ones() {
    let fake = fake(1, &[Ok(()), Err("still hot"), Ok(())]);
    let mut chosen = open(&fake, &Failures::default(), EncoderChoice::Auto);
    fails_at_once(&fake);
    let start = Instant::now();
    let begun = || fake.0.lock().unwrap().begun;
    let mut coder = |minutes| code(&mut chosen, start, MINUTE * minutes).unwrap().0;
    assert_eq!(
        (coder(0), coder(4)),
        ("software".to_owned(), "software".to_owned())
    );
    assert_eq!(begun(), 1);
    quiet(&mut chosen);
    let said = until_told(&mut chosen, start, MINUTE * 5);
    assert_eq!(
        said,
        "software: /dev/video0: still hot, tried again after 10 min"
    );
    assert_eq!(code(&mut chosen, start, MINUTE * 14).unwrap().0, "software");
    assert_eq!(begun(), 2, "not tried meanwhile");
    let said = until_told(&mut chosen, start, MINUTE * 15);
    assert_eq!(said, "hardware: chip on /dev/video0, without level");
    let next = code(&mut chosen, start, MINUTE * 16).unwrap();
    assert_eq!(next, ("hardware".to_owned(), false));
}

#[test]
fn hardware_that_was_not_there_or_did_not_open_is_looked_for_while_the_camera_runs() {
    for (nodes, opens) in [(0, &[][..]), (1, &[Err("in use")])] {
        let fake = fake(nodes, opens);
        let mut chosen = open(&fake, &Failures::default(), EncoderChoice::Auto);
        quiet(&mut chosen);
        let start = Instant::now();
        assert_eq!(code(&mut chosen, start, MINUTE * 4).unwrap().0, "software");
        fake.0.lock().unwrap().nodes = 1;
        let said = until_told(&mut chosen, start, MINUTE * 6);
        assert_eq!(said, "hardware: chip on /dev/video0, without level");
    }
}

#[test]
fn hardware_that_does_not_take_these_settings_is_tried_ever_more_seldom_and_has_not_failed() {
    let bad = Err("too small");
    let fake = fake(1, &[bad, bad, bad]);
    let failures = Failures::default();
    let mut chosen = open(&fake, &failures, EncoderChoice::Auto);
    quiet(&mut chosen);
    let start = Instant::now();
    for (minutes, begun) in [(4, 1), (6, 2), (15, 2), (17, 3), (36, 3)] {
        // Until a trial is over, if there is one.
        loop {
            code(&mut chosen, start, MINUTE * minutes).unwrap();
            if !matches!(chosen.state, State::Trial(..)) {
                break;
            }
            thread::yield_now();
        }
        assert_eq!(fake.0.lock().unwrap().begun, begun, "{minutes}");
        assert_eq!(chosen.poll_news(), None, "nothing new");
    }
    let node = std::path::Path::new("/dev/video0");
    assert_eq!(failures.of(node, start + MINUTE * 18), None);
    let said = until_told(&mut chosen, start, MINUTE * 38);
    assert!(said.starts_with("hardware"), "{said}");
}

#[test]
fn no_picture_waits_for_a_trial_and_the_first_one_after_it_is_a_key_frame() {
    let fake = fake(1, &[]);
    let mut chosen = open(&fake, &Failures::default(), EncoderChoice::Auto);
    fails_at_once(&fake);
    let start = Instant::now();
    code(&mut chosen, start, Duration::ZERO).unwrap();
    quiet(&mut chosen);
    let (works, gate) = mpsc::channel();
    fake.0.lock().unwrap().gate = Some(gate);
    // As soon as the old one was let go.
    while fake.0.lock().unwrap().begun < 2 {
        code(&mut chosen, start, MINUTE * 5).unwrap();
        thread::yield_now();
    }
    // An hour of pictures while it thinks: coded by software, and one trial is enough.
    for minutes in 5..65 {
        let (by, is_key_frame) = code(&mut chosen, start, MINUTE * minutes).unwrap();
        assert_eq!((by.as_str(), is_key_frame), ("software", false));
    }
    drop(works);
    let taken_over = loop {
        let (by, is_key_frame) = code(&mut chosen, start, MINUTE * 65).unwrap();
        if by == "hardware" {
            break is_key_frame;
        }
        thread::yield_now();
    };
    assert!(taken_over);
    assert_eq!(fake.0.lock().unwrap().begun, 2);
}

#[test]
fn hardware_that_failed_is_left_alone_by_other_encoders_too() {
    let (fake, failures) = (fake(1, &[]), Failures::default());
    let mut first = open(&fake, &failures, EncoderChoice::Auto);
    fails_at_once(&fake);
    code(&mut first, Instant::now(), Duration::ZERO).unwrap();
    // A step of overload, a camera that is opened again: whatever was configured.
    for choice in [EncoderChoice::Auto, EncoderChoice::Hardware] {
        let mut next = open(&fake, &failures, choice);
        assert_eq!(next.name(), "software");
        let Some(News::Chosen(said)) = next.poll_news() else {
            panic!("it says what it chose");
        };
        assert_eq!(
            said,
            "software: /dev/video0 failed before (/dev/video0: queue a picture: ENODEV: No \
             such device), tried again after 5 min"
        );
        assert_eq!(fake.0.lock().unwrap().begun, 1, "not tried");
        quiet(&mut next);
        let said = until_told(&mut next, Instant::now(), MINUTE * 6);
        assert!(
            said.starts_with("hardware"),
            "tried when it is time: {said}"
        );
        fake.0.lock().unwrap().begun = 1;
    }
}

#[test]
fn hardware_that_does_not_answer_is_waited_for_once() {
    let (fake, failures) = (fake(1, &[Err(SILENT)]), Failures::default());
    let configured = Chosen::open(
        fake.clone(),
        failures.clone(),
        &SETTINGS,
        EncoderChoice::Hardware,
    );
    assert!(configured.is_err(), "no software where hardware is wanted");
    fake.0.lock().unwrap().opens.push_back(Err(SILENT));
    for _ in 0..3 {
        let chosen = open(&fake, &failures, EncoderChoice::Auto);
        assert_eq!(chosen.name(), "software");
    }
    assert_eq!(fake.0.lock().unwrap().begun, 2);
}

#[test]
fn hardware_that_cannot_be_let_go_is_not_tried_again_and_holds_up_nobody() {
    let fake = fake(1, &[]);
    let mut chosen = open(&fake, &Failures::default(), EncoderChoice::Auto);
    let (end, hangs) = mpsc::channel::<()>();
    chosen.inner = Box::new(Stuck(FakeEncoder(fake.clone(), "hardware", false), hangs));
    fails_at_once(&fake);
    let start = Instant::now();
    for minutes in [0, 5, 50, 500] {
        let (by, _) = code(&mut chosen, start, MINUTE * minutes).unwrap();
        assert_eq!(by, "software");
    }
    let is_tried = !matches!(chosen.state, State::Substitute { .. });
    assert!(!is_tried, "not while it hangs");
    quiet(&mut chosen);
    drop(end);
    let said = until_told(&mut chosen, start, MINUTE * 501);
    assert!(said.starts_with("hardware"), "{said}");
}

/// Its driver hangs when it is to stop.
struct Stuck(FakeEncoder, mpsc::Receiver<()>);

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = self.1.recv();
    }
}

impl Encoder for Stuck {
    fn encode(&mut self, picture: &Picture<'_>) -> Result<Coded, EncodeError> {
        self.0.encode(picture)
    }

    fn force_key_frame(&mut self) {}

    fn set_bitrate(&mut self, _: u32) -> Result<(), EncodeError> {
        Ok(())
    }

    fn set_frame_rate(&mut self, _: u32) -> Result<(), EncodeError> {
        Ok(())
    }

    fn name(&self) -> &'static str {
        "stuck"
    }
}

#[test]
fn a_single_damaged_picture_does_not_cost_the_hardware() {
    let fake = fake(1, &[]);
    let mut chosen = open(&fake, &Failures::default(), EncoderChoice::Auto);
    let damaged = |in_a_row| {
        Err(EncodeError::Damaged {
            node: "/dev/video0".to_owned(),
            in_a_row,
        })
    };
    let plan = [damaged(1), damaged(2), Ok(()), damaged(3)];
    fake.0.lock().unwrap().pictures.extend(plan);
    let start = Instant::now();
    let mut next = || code(&mut chosen, start, Duration::ZERO).map(|unit| unit.0);
    assert!(next().is_err());
    assert!(next().is_err());
    assert_eq!(next().unwrap(), "hardware");
    assert_eq!(next().unwrap(), "software");
}

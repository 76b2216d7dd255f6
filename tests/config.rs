//! The configuration as its users meet it: the sample files hold, and every mistake is told, in
//! the words and at the place that are written here.

#[path = "config/mistakes.rs"]
mod mistakes;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pinhole::config::{
    Camera, Config, ConfigErrors, ControlValue, DeviceName, EncoderChoice, KEYS, LATER_KEYS,
    Latency, MAX_CAMERAS, MAX_TEXT, Pattern, Source, Transport, V4l2,
};

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, "dir/p.toml", &|path| match path.to_str() {
        Some("/token") => Ok("0123456789abcdef\n".to_owned()),
        Some("dir/password") => Ok("pa ss\r\n".to_owned()),
        Some("/empty") => Ok(" \n".to_owned()),
        Some("/short") => Ok("hunter2\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    })
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

fn rtsp(config: &Config) -> &pinhole::config::Rtsp {
    let source = &config.cameras[0].source;
    let Source::Rtsp(rtsp) = source else {
        panic!("{source:?}")
    };
    rtsp
}

fn camera(lines: &str) -> String {
    format!("[[camera]]\nname = \"door\"\n{lines}\n")
}

// ---- sample files ----

fn sample() -> String {
    fs::read_to_string(root().join("config/pinhole.toml")).expect("the sample is there")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// One commented key of the sample.
struct Sampled {
    table: String,
    key: String,
    line: String,
    has_default: bool,
}

fn sampled() -> Vec<Sampled> {
    let (mut table, mut has_default) = (String::new(), true);
    let mut keys = Vec::new();
    for line in sample().lines() {
        let bare = line.strip_prefix('#').unwrap_or(line);
        if bare.starts_with('[') {
            table = bare.trim_matches(['[', ']']).to_owned();
        } else if line.starts_with("# ") {
            // Said at the end of what stands above a key.
            has_default = !line.ends_with("(no default)");
        } else if let Some((key, _)) = bare.split_once(" = ") {
            keys.push(Sampled {
                table: table.clone(),
                key: key.to_owned(),
                line: bare.to_owned(),
                has_default,
            });
        }
    }
    keys
}

#[test]
fn the_sample_file_as_it_is_changes_nothing() {
    assert_eq!(good(&sample()), Config::default());
}

#[test]
fn every_key_that_the_sample_shows_shows_its_default() {
    let (global, of_camera): (Vec<_>, Vec<_>) = sampled()
        .into_iter()
        .filter(|sampled| sampled.has_default)
        .partition(|sampled| sampled.table != "camera");
    for Sampled { table, line, .. } in &global {
        let config = good(&format!("[{table}]\n{line}\n"));
        assert_eq!(config, Config::default(), "{line}");
    }
    for Sampled { key, line, .. } in &of_camera {
        let source = match &**key {
            "size" | "fps" | "bitrate" => "pattern:",
            "encoder" | "controls" => "v4l2:/dev/video0",
            _ => "rtsp://h/p",
        };
        let plain = good(&camera(&format!("source = \"{source}\"")));
        let shown = good(&camera(&format!("source = \"{source}\"\n{line}")));
        assert_eq!(shown, plain, "{line}");
    }
    assert_eq!((global.len(), of_camera.len()), (23, 11));
    let door = good("[[camera]]\nname = \"door\"\nsource = \"pattern:\"");
    let expected = Camera::new("door", Source::Pattern(Pattern::default()));
    assert_eq!(door.cameras, [expected]);
}

#[test]
fn keys_without_a_default_are_shown_with_a_value_that_is_accepted() {
    for Sampled {
        table,
        key,
        line,
        has_default,
    } in sampled()
    {
        let text = match &*key {
            _ if has_default => continue,
            "token_file" => "[access]\ntoken_file = \"/token\"".to_owned(),
            "name" => format!("[[camera]]\n{line}\nsource = \"pattern:\""),
            "source" => camera(&line),
            "password_file" => {
                camera("source = \"rtsp://h/p\"\nusername = \"u\"\npassword_file = \"password\"")
            }
            "password" => camera(&format!(
                "source = \"rtsp://h/p\"\nusername = \"u\"\n{line}"
            )),
            _ if table == "camera" => camera(&format!("source = \"rtsp://h/p\"\n{line}")),
            _ => format!("[{table}]\n{line}"),
        };
        assert_ne!(good(&text), Config::default(), "{key}");
    }
}

#[test]
fn the_sample_shows_every_key_that_is_known_and_no_other() {
    let mut known: Vec<(String, String)> = Vec::new();
    for (table, keys) in KEYS {
        let ready = keys.iter().filter(|key| !LATER_KEYS.contains(key));
        known.extend(ready.map(|key| (table.to_string(), key.to_string())));
    }
    let mut shown: Vec<_> = sampled()
        .into_iter()
        .map(|key| (key.table, key.key))
        .collect();
    known.sort();
    shown.sort();
    assert_eq!(shown, known);
}

#[test]
fn every_known_key_is_really_read() {
    for (table, keys) in KEYS {
        for key in *keys {
            let text = match *table {
                "camera" => format!("[[camera]]\n{key} = 1979-05-27"),
                _ => format!("[{table}]\n{key} = 1979-05-27"),
            };
            let errors = parse(&text).unwrap_err();
            let hit = |key_path: &str| key_path.ends_with(&format!(".{key}"));
            let lines: Vec<_> = errors.mistakes().iter().filter(|m| hit(&m.key)).collect();
            assert!(lines.iter().any(|m| m.line == 2), "{table}.{key}: {errors}");
        }
    }
}

#[test]
fn the_examples_are_right() {
    let mut count = 0;
    for entry in fs::read_dir(root().join("config/examples")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        // The systemd unit's credentials have no directory that could be named beforehand.
        let stored = |file: &Path| {
            assert_eq!(file.parent(), path.parent(), "{}", file.display());
            Ok("0123456789abcdef01234567\n".to_owned())
        };
        let config = Config::parse(&text, path.to_str().unwrap(), &stored)
            .unwrap_or_else(|errors| panic!("{errors}"));
        assert!(!config.cameras.is_empty());
        count += 1;
    }
    assert_eq!(count, 3);
}

/// `DeviceAllow=` looks a group of devices up once, in the modules that are loaded at that moment.
#[test]
fn the_unit_loads_videodev_before_its_devices_are_looked_up() {
    let unit = fs::read_to_string(root().join("systemd/pinhole.service")).unwrap();
    assert!(unit.contains("DeviceAllow=char-video4linux"));
    for key in ["Wants=", "After="] {
        let mut lines = unit.lines().filter(|line| line.starts_with(key));
        assert!(
            lines.any(|line| line.contains("modprobe@videodev.service")),
            "{key}"
        );
    }
}

// ---- what is accepted ----

#[test]
fn a_clip_is_named_from_the_directory_of_the_configuration() {
    let file = |lines: &str| {
        let Source::File(file) = good(&camera(lines)).cameras.remove(0).source else {
            panic!("another source")
        };
        file
    };
    let clip = file("source = \"file:clips/a b.mp4\"");
    assert_eq!(clip.path, Path::new("dir/clips/a b.mp4"));
    assert_eq!(clip.fps, None);
    let clip = file("source = \"file:/srv/clip.h264\"\nfps = 15");
    assert_eq!(clip.path, Path::new("/srv/clip.h264"));
    assert_eq!(clip.fps, Some(15));
}

#[test]
fn a_camera_of_this_machine_has_a_name_or_a_node_a_mode_and_controls() {
    let v4l2 = |lines: &str| {
        let Source::V4l2(v4l2) = good(&camera(lines)).cameras.remove(0).source else {
            panic!("another source")
        };
        v4l2
    };
    let plain = v4l2("source = \"v4l2:/dev/video2\"");
    assert_eq!(plain, V4l2::new(DeviceName::new("/dev/video2")));
    let full = v4l2(
        "source = \"v4l2:usb-046d_C920-video-index0\"\nsize = \"1280x720\"\nfps = 15\n\
         bitrate = \"1M\"\nencoder = \"software\"\n\
         controls = { power_line_frequency = \"50 Hz\", brightness = -5, auto = true }",
    );
    assert_eq!(full.device.as_str(), "usb-046d_C920-video-index0");
    let size = full.size.map(|size| (size.width, size.height));
    assert_eq!((size, full.fps), (Some((1280, 720)), Some(15)));
    assert_eq!(full.bitrate, Some(1_000_000));
    assert_eq!(full.encoder, EncoderChoice::Software);
    let controls = [
        ("power_line_frequency", ControlValue::Word("50 Hz".into())),
        ("brightness", ControlValue::Number(-5)),
        ("auto", ControlValue::Flag(true)),
    ];
    assert_eq!(full.controls, controls.map(|(name, v)| (name.into(), v)));
}

#[test]
fn values_may_be_written_with_units_or_as_integers() {
    let config = good(
        "latency.mode = \"smooth\"\n[ice]\nport = \"9000\"\nmtu = 1_400\ndscp = 0x22\n\
         advertise = [\"203.0.113.7\", \"2001:db8::1\"]\n\
         stun = [\"stun:stun.example\", \"stuns:192.0.2.1:5349\", \"stun:[2001:db8::1]\"]\n[limits]\negress = 20000000\n\
         egress_per_viewer = \"2.5M\"\nqueue = 1048576\nbody = \"32KiB\"\nsetup_timeout = \"2500ms\"\n\
         session_age = \"1.5h\"\n",
    );
    assert_eq!(config.latency, Latency::Smooth);
    assert_eq!(
        (config.ice.port, config.ice.mtu, config.ice.dscp),
        (9000, 1400, 34)
    );
    assert_eq!(config.ice.advertise.len(), 2);
    assert_eq!(config.ice.stun.len(), 3);
    assert_eq!(config.limits.egress, 20_000_000);
    assert_eq!(config.limits.egress_per_viewer, 2_500_000);
    assert_eq!(
        (config.limits.queue, config.limits.body),
        (1 << 20, 32 << 10)
    );
    assert_eq!(config.limits.setup_timeout, Duration::from_millis(2500));
    assert_eq!(config.limits.session_age, Some(Duration::from_secs(5400)));
}

#[test]
fn credentials_leave_the_url_and_are_decoded() {
    let config = good(&camera(
        "source = \"rtsp://ad%40min:p%3A%2f%23%25@[::1]:8554/a/b?c=d\"",
    ));
    let rtsp = rtsp(&config);
    assert_eq!(rtsp.url.as_str(), "rtsp://[::1]:8554/a/b?c=d");
    assert_eq!(rtsp.shown(), "rtsp://[::1]:8554");
    let credentials = rtsp.credentials.as_ref().unwrap();
    assert_eq!(credentials.username, "ad@min");
    assert_eq!(credentials.password.expose(), "p:/#%");
}

#[test]
fn a_password_may_hold_an_at_sign_stand_in_a_file_or_be_empty() {
    let config = good(&camera(
        "source = \"rtsp://u:p@ss@h/p\"\ntransport = \"udp\"",
    ));
    assert_eq!(rtsp(&config).transport, Transport::Udp);
    assert_eq!(
        rtsp(&config)
            .credentials
            .as_ref()
            .unwrap()
            .password
            .expose(),
        "p@ss"
    );
    let config = good(&camera(
        "source = \"rtsp://h/p\"\nusername = \"u\"\npassword_file = \"password\"",
    ));
    assert_eq!(
        rtsp(&config)
            .credentials
            .as_ref()
            .unwrap()
            .password
            .expose(),
        "pa ss"
    );
    for text in [
        "source = \"rtsp://u@h/p\"",
        "source = \"rtsp://h/p\"\nusername = \"u\"",
    ] {
        let config = good(&camera(text));
        assert_eq!(
            rtsp(&config)
                .credentials
                .as_ref()
                .unwrap()
                .password
                .expose(),
            ""
        );
    }
}

#[test]
fn a_token_opens_the_server_to_the_network() {
    let config = good("[server]\nlisten = \"0.0.0.0:80\"\n[access]\ntoken_file = \"/token\"");
    assert_eq!(config.access.token.unwrap().expose(), "0123456789abcdef");
    good("[server]\nlisten = \"[::]:80\"\n[access]\nanonymous = true");
    good("[server]\nlisten = \"[::ffff:127.0.0.1]:80\"");
    let config = good(
        "[server]\nallowed_origins = [\"HTTPS://Panel.Example:443\"]\nhosts = [\"Cam.Local.\"]",
    );
    assert_eq!(config.server.allowed_origins, ["https://panel.example"]);
    assert_eq!(config.server.hosts, ["cam.local"]);
}

// ---- what is told ----

#[test]
fn every_mistake_is_told_with_its_place_and_what_is_accepted() {
    let mut report = String::new();
    for (text, expected) in mistakes::MISTAKES {
        let errors = parse(text).expect_err(text);
        let lines: Vec<_> = errors.mistakes().iter().map(ToString::to_string).collect();
        if lines != *expected {
            report += &format!("{text}\n  told: {lines:?}\n");
        }
    }
    assert!(report.is_empty(), "{report}");
}

#[test]
fn the_report_names_the_file_and_ends_with_a_count() {
    let text = "[sever]\n[[camera]]\nname = \"door\"\ntransprot = \"tcp\"\nsource = \"pattern:\"\n";
    assert_eq!(
        parse(text).unwrap_err().to_string(),
        "dir/p.toml:1:2: unknown key \"sever\"; did you mean \"server\"?\n\
         dir/p.toml:4:1: camera[1] \"door\": unknown key \"transprot\"; did you mean \"transport\"?\n\
         dir/p.toml: 2 mistakes"
    );
    let one = parse("x").unwrap_err().to_string();
    assert!(one.ends_with("\ndir/p.toml: 1 mistake"), "{one}");
}

#[test]
fn too_many_cameras_and_too_long_a_file_are_refused() {
    let mut text = String::new();
    for n in 0..MAX_CAMERAS {
        text += &format!("[[camera]]\nname = \"c{n}\"\nsource = \"pattern:\"\n");
    }
    assert_eq!(good(&text).cameras.len(), MAX_CAMERAS);
    text += "[[camera]]\n";
    let errors = parse(&text).unwrap_err();
    assert_eq!(
        errors.mistakes()[0].to_string(),
        "769:1: camera: found 257 cameras; expected at most 256"
    );
    let errors = parse(&" ".repeat(MAX_TEXT + 1)).unwrap_err();
    assert_eq!(
        errors.mistakes()[0].to_string(),
        "1:1: found a file of 1048577 bytes; expected at most 1MiB"
    );
}

// ---- secrets ----

/// Right and wrong; `hunter2` is the secret.
const SOURCES_WITH_A_SECRET: &[&str] = &[
    "rtsp://u:hunter2@h/p",
    "rtsp://u:hunter2@",
    "rtsp://u:hunter2@:554/",
    "rtsp://u:hun#hunter2@h",
    "rtsp://u:hunter2@h:99999/",
    "rtsp://u:hunter2@h /",
    "rtsp://:hunter2@h/",
    "rtsps://u:hunter2@h/",
    "rtsp://u:hunter2%@h/",
    "rtsp://u:hunter2%0d@h/",
    "http://u:hunter2@h/",
    "u:hunter2@h",
    "rtsp://h/user=u_password=hunter2.sdp",
    "rtsp://h:0/hunter2",
    "rtsp://h/?password=hunter2",
    "rtsp://u:1/hunter2@h/",
    "rtsp:u:hunter2@h",
    "pattern:hunter2",
    "://hunter2@h",
    "RTSP://u:hunter2@h/p",
    "rtsp:///u:hunter2@h",
    "rtsp//u:hunter2@h/p",
];

/// Right and wrong texts that all hold the secret `hunter2`.
fn texts_with_a_secret() -> Vec<String> {
    let mut texts = Vec::new();
    for source in SOURCES_WITH_A_SECRET {
        texts.push(camera(&format!("source = \"{source}\"\nwrong = 1")));
        texts.push(camera(&format!("source = \"{source}\"")));
        // In the wrong place: whatever looks like a URL or a login is known by its signs.
        if !source.contains(['@', '/']) {
            continue;
        }
        texts.push(format!(
            "[[camera]]\nname = \"{source}\"\nsource = [\"{source}\"]\ntransport = \"{source}\""
        ));
        texts.push(format!(
            "\"{source}\" = 1\n[server]\nhosts = [\"{source}\"]"
        ));
    }
    for value in [
        "\"hunter2\"",
        "[\"hunter2\"]",
        "{ hunter2 = 1 }",
        "hunter2",
        "\"hunter2",
        "'hunter2\\",
    ] {
        texts.push(format!("[access]\ntoken = {value}"));
        texts.push(format!("[access]\ntoken = {value}\ntoken = {value}"));
        texts.push(camera(&format!(
            "source = \"rtsp://h\"\nusername = \"u\"\npassword = {value}"
        )));
        texts.push(camera(&format!(
            "source = \"rtsp://h\"\npassword = {value}"
        )));
        texts.push(camera(&format!(
            "source = \"pattern:\"\npassword = {value}"
        )));
    }
    texts.push("[access]\ntoken = \"hunter2 hunter2 hunter2\"".to_owned());
    texts.push("[access]\ntoken_file = \"/short\"".to_owned());
    texts.push("[access]\ntoken = \"hunter2hunter2hunter2\"".to_owned());
    texts
}

#[test]
fn no_secret_is_ever_printed() {
    let mut printed = 0;
    for text in &texts_with_a_secret() {
        let shown = match parse(text) {
            Ok(config) => format!("{config:?} {config:#?}"),
            Err(errors) => format!("{errors} {errors:?} {errors:#?}"),
        };
        assert!(!shown.contains("hunter2"), "{text}\n{shown}");
        printed += shown.len();
    }
    assert!(printed > 1000);
}

// ---- hostile text ----

#[test]
fn no_text_makes_the_parser_panic() {
    let deep = 50_000;
    let mut texts = vec![
        "[".repeat(deep),
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}", "{ a = ".repeat(deep)),
        format!("{}a = 1", "a.".repeat(deep)),
        format!("[{}a]", "a.".repeat(deep)),
        format!("[[{}a]]", "camera.".repeat(70)),
        format!("ice.mtu = {}", "9".repeat(deep)),
        format!("ice.mtu = 0x{}", "f".repeat(deep)),
        format!("ice.mtu = -{}e{}", "9".repeat(400), "9".repeat(400)),
        format!("ice.{} = 1", "é".repeat(deep)),
        "camera = []\ncamera = 1\n[camera]\n[[camera]]".to_owned(),
        "[[camera]]\n[camera.source]\n[[camera.name]]\n[camera.name.x]".to_owned(),
        "camera = [1, {}, [], {name = {}}, {name = \"\\u0000\", source = \"\"}]".to_owned(),
        "\u{feff}[server]\r\nlisten = 1\r".to_owned(),
        "a = \"\"\"".to_owned(),
        "a = '\u{1f600}".to_owned(),
        "\u{202e}\u{0}\u{7f}".to_owned(),
        "ice.advertise = [[[]], {}, 1, nan, -inf]".to_owned(),
        "\n\n\n=".to_owned(),
    ];
    // Every prefix of a real file, and each of its bytes replaced by one that opens something.
    let sample = sample().replace("\n#", "\n").replace("\n ", "\n# ");
    let whole = format!("{}\n{sample}", "# é\u{1f600}");
    let ends = whole.char_indices().map(|(at, _)| at).step_by(7);
    texts.extend(ends.clone().map(|at| whole[..at].to_owned()));
    for (at, byte) in ends.zip(b"\"'[]{}=.#,\\\n\0".iter().cycle()) {
        let mut text = whole[..at].to_owned();
        text.push(char::from(*byte));
        text.push_str(&whole[at..]);
        texts.push(text);
    }
    let mut wrong = 0;
    for text in &texts {
        if let Err(errors) = parse(text) {
            assert!(errors.to_string().len() < 100_000);
            wrong += 1;
        }
    }
    assert!(wrong > texts.len() / 4, "{wrong} of {}", texts.len());
}

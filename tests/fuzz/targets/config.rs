//! Configuration files: any text is read or refused with places and reasons, and what a key file
//! holds never shows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinhole::config::Config;

const SECRET: &str = "s3cr3t-of-a-key-file";

fuzz_target!(|text: &str| {
    let read = |_: &std::path::Path| Ok(format!("{SECRET}\n"));
    let shown = match Config::parse(text, "/etc/pinhole/pinhole.toml", &read) {
        Ok(config) => {
            let mut names: Vec<_> = config.cameras.iter().map(|camera| &camera.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(
                names.len(),
                config.cameras.len(),
                "two cameras share a name"
            );
            assert!((576..=1500).contains(&config.ice.mtu) && config.ice.dscp < 64);
            format!("{config:?}")
        }
        Err(errors) => {
            assert!(errors.count() >= errors.mistakes().len().max(1));
            let lines = text.lines().count();
            for mistake in errors.mistakes() {
                assert!((1..=lines + 1).contains(&mistake.line), "{mistake:?}");
                assert!(mistake.column >= 1);
            }
            errors.to_string()
        }
    };
    assert!(!shown.contains(SECRET) || text.contains(SECRET));
});

//! Arguments, logging, exit codes.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::error;

use pinhole::config::Config;
use pinhole::daemon::{self, demo, devices, logging};

/// Exit code for a configuration or command line that cannot be used (`EX_USAGE`).
const EXIT_CONFIG: u8 = 64;
/// Exit code for a failure to start.
const EXIT_START: u8 = 1;

/// Camera gateway for small boards: cameras in, WebRTC in any browser out.
///
/// Start with `pinhole demo`: it needs no camera and no file, and prints the address to open.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// How much to log: error, warn, info, debug, trace; or by part, `info,pinhole::gateway=debug`.
    #[arg(long, global = true, default_value = "info", env = "PINHOLE_LOG")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the cameras of a configuration file.
    ///
    /// Ends in order on SIGTERM or Ctrl-C (viewers are told, cameras are let go), at once on a
    /// second one.
    Run {
        /// The configuration, TOML.
        #[arg(long, value_name = "FILE", default_value = "/etc/pinhole/pinhole.toml")]
        config: PathBuf,
    },
    /// Show a moving test picture: no camera, no configuration.
    Demo {
        /// Where to serve, such as 0.0.0.0:8080: another address than loopback lets others watch
        /// who have the printed URL. Left out, it is port 8080 of 127.0.0.1 or the next free one.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
    },
    /// List the cameras of this machine: names, modes, controls, and lines for the configuration.
    Devices {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check a configuration and name every mistake in it. Exit code 64 if there is one.
    Check {
        /// The configuration, TOML.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            let code = if error.use_stderr() { EXIT_CONFIG } else { 0 };
            return ExitCode::from(code);
        }
    };
    let outcome = match arguments.command {
        Command::Check { file } => check(&file),
        Command::Devices { json } => list_devices(json),
        Command::Run { config } => run(&config, &arguments.log),
        Command::Demo { listen } => {
            let listen = listen.unwrap_or_else(demo::free_address);
            run_demo(listen, &arguments.log)
        }
    };
    outcome.err().map_or(ExitCode::SUCCESS, ExitCode::from)
}

#[allow(clippy::print_stdout)] // the answer to the command
fn check(file: &Path) -> Result<(), u8> {
    let config = load(file)?;
    let cameras: Vec<&str> = config.cameras.iter().map(|c| c.name.as_str()).collect();
    let cameras = match &cameras[..] {
        [] => "no camera yet".to_owned(),
        [one] => format!("one camera, {one}"),
        many => format!("{} cameras: {}", many.len(), many.join(", ")),
    };
    println!("{}: fine; {cameras}", file.display());
    Ok(())
}

#[allow(clippy::unnecessary_wraps)] // like the other commands
fn list_devices(json: bool) -> Result<(), u8> {
    use std::io::Write;
    // Not `print!`: a reader may close the pipe early (`| head`).
    let _ = std::io::stdout().write_all(devices::report(json).as_bytes());
    Ok(())
}

fn run(file: &Path, log: &str) -> Result<(), u8> {
    let config = load(file)?;
    let log = start_log(log)?;
    serve(config, &log, |_| {})
}

#[allow(clippy::print_stdout)] // the address is what the command is for
fn run_demo(listen: SocketAddr, log: &str) -> Result<(), u8> {
    let log = start_log(log)?;
    let (config, token) = demo::config(listen).map_err(|cause| {
        error!(%cause, "no randomness from the system");
        EXIT_START
    })?;
    serve(config, &log, |address| {
        println!("{}", demo::invitation(address, &token));
    })
}

fn serve(config: Config, log: &logging::Log, ready: impl FnOnce(SocketAddr)) -> Result<(), u8> {
    daemon::run(config, log.lost_lines(), ready).map_err(|error| {
        error!("{}", error.told());
        EXIT_START
    })
}

#[allow(clippy::print_stderr)] // there is no log yet
fn start_log(filter: &str) -> Result<logging::Log, u8> {
    logging::start(filter).map_err(|cause| {
        eprintln!("--log {filter}: {cause}");
        EXIT_CONFIG
    })
}

#[allow(clippy::print_stderr)] // there is no log yet
fn load(file: &Path) -> Result<Config, u8> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|cause| {
        if cause.kind() == ErrorKind::NotFound {
            eprintln!("{name}: there is no such file; `pinhole demo` works without one");
        } else {
            eprintln!("{name}: {cause}");
        }
        EXIT_CONFIG
    })?;
    let read_file = |path: &Path| std::fs::read_to_string(path);
    Config::parse(&text, &name, &read_file).map_err(|errors| {
        eprintln!("{errors}");
        EXIT_CONFIG
    })
}

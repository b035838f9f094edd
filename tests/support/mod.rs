//! What the end-to-end tests stand on: servers, the program as a process, and the lines it carries.

pub(crate) mod admin;
pub(crate) mod agent;
pub(crate) mod clock;
pub(crate) mod failing;
pub(crate) mod kpl;
pub(crate) mod lines;
pub(crate) mod logrotate;
pub(crate) mod peers;
pub(crate) mod power;
pub(crate) mod preload;
pub(crate) mod process;
pub(crate) mod servers;

use std::io::Write;
use std::time::{Duration, Instant};

/// Long enough for a busy machine of two cores; a test that takes it has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// Asks again and again until there is an answer, at most for [`LIMIT`].
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says why a test cannot run here: on standard error, and to `cargo xtask` for its summary.
pub(crate) fn skip(test: &str, why: &str) {
    eprintln!("skipped {test}: {why}");
    if let Some(path) = std::env::var_os("KINSEAL_SKIPPED") {
        let file = std::fs::OpenOptions::new().append(true).open(path);
        let mut file = file.expect("xtask made it");
        writeln!(file, "{test}: {why}").expect("a line fits on the disk");
    }
}

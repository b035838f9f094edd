//! `cargo xtask ci`: everything that has to hold before a change is taken, in one command.
//!
//! It needs Rust, Python 3.11, a C compiler, and logrotate, which apt-get is asked for where it is missing. What is slow
//! to get (crates, Python packages) is kept in the target directory.

mod bench;
mod fuzz;
mod logrotate;
mod peers;
mod report;
mod room;
mod step;
mod suite;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  ci      everything: format, lints, unit, end-to-end and doc tests, benches and load test for a moment
  test    the quick part of it: format, lints, unit tests
  e2e     the end-to-end tests; what follows goes to them, like: cargo xtask e2e interop
  bench   all benches, or those whose names contain what follows; writes one table, benches/RESULTS.md, and says what
          has moved beside the committed one; with valgrind, instructions too
  fuzz    the parsers of bytes from outside under libFuzzer, each for so many seconds (60); needs nightly Rust
          and cargo-fuzz
  peers   make the Python environment that the end-to-end tests use, and print its interpreter";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let ended = match (command.as_str(), rest.as_slice()) {
        ("ci", []) => suite::ci(),
        ("test", []) => suite::quick(),
        ("e2e", filter) => suite::end_to_end(filter),
        ("bench", []) => bench::all(None),
        ("bench", [filter]) => bench::all(Some(filter)),
        ("fuzz", []) => fuzz::all(60),
        ("fuzz", [seconds]) if let Ok(seconds) = seconds.parse() => fuzz::all(seconds),
        ("peers", []) => peers::ensure().map(|python| {
            println!("{}", python.display());
            true
        }),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

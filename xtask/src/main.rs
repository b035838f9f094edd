//! `cargo xtask ci`: everything that has to hold before a change is taken, in one command.
//!
//! It needs Rust, Python 3.11 and a C compiler. What is slow to get (crates, Python packages) is kept in the
//! target directory.

mod peers;
mod report;
mod step;
mod suite;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  ci      everything: format, lints, unit, end-to-end and doc tests, benches and load test for a moment
  test    the quick part of it: format, lints, unit tests
  e2e     the end-to-end tests; what follows goes to them, like: cargo xtask e2e interop
  peers   make the Python environment that the end-to-end tests use, and print its interpreter";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let ended = match (command.as_str(), rest.as_slice()) {
        ("ci", []) => suite::ci(),
        ("test", []) => suite::quick(),
        ("e2e", filter) => suite::end_to_end(filter),
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

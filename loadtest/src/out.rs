//! Standard output. Who reads it may go away (`| head`), and its disk may be full: an error as any other.

use std::fmt::Display;
use std::io::{self, Write as _};

use anyhow::Context as _;
use serde::Serialize;

/// A line, whole.
pub(crate) fn line(text: impl Display) -> anyhow::Result<()> {
    let text = format!("{text}\n");
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.context("cannot write to standard output")
}

/// Where it is one.
pub(crate) fn warn_of_a_debug_build() -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        line("A debug build: the figures below mean nothing (--release).")?;
    }
    Ok(())
}

/// For whoever started this process: one line of it.
pub(crate) fn json(what: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(what)?)
}

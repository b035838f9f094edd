//! A clock that runs ahead at a word, for the program under test.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::time::Duration;

use super::preload::Shim;

#[derive(Debug)]
pub(crate) struct Clock {
    shim: Shim,
    ahead: Duration,
}

impl Clock {
    const AHEAD: &str = "ahead";

    pub(crate) fn new() -> Self {
        let shim = Shim::of(include_str!("clock.c"));
        fs::write(shim.file(Self::AHEAD), [0; 8]).expect("room for it");
        let ahead = Duration::ZERO;
        Self { shim, ahead }
    }

    /// What `command` starts goes by it.
    pub(crate) fn rule(&self, command: &mut Command) {
        self.shim.load(command);
        command.env("CLOCK_AHEAD", self.shim.file(Self::AHEAD));
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.ahead += by;
        let ahead = i64::try_from(self.ahead.as_nanos()).expect("centuries");
        let file = fs::File::options()
            .write(true)
            .open(self.shim.file(Self::AHEAD));
        let file = file.expect("ours");
        // In one piece: it is read meanwhile.
        file.write_all_at(&ahead.to_ne_bytes(), 0).expect("8 bytes");
    }
}

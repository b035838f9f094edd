//! What a source makes of its lines: each record's partition key, of the line as it was read, and its bytes.

use std::ffi::OsString;
use std::path::Path;
use std::time::SystemTime;

use super::frame::Line;
use super::keying::{Keyer, Keying, KeyingError, Keys, PartitionKeyRule};
use super::shape::{Shape, Shaper, Shaping};

/// Of a source.
#[derive(Debug, Clone)]
pub struct Making {
    keying: Keying,
    shaping: Shaping,
}

impl Making {
    /// Reads what both need: a key file, the host's name.
    pub fn new(rule: &PartitionKeyRule, shape: &Shape) -> Result<Self, KeyingError> {
        let host: OsString = gethostname::gethostname();
        Ok(Self {
            keying: Keying::new(rule)?,
            shaping: Shaping::new(shape, host.to_string_lossy().into_owned()),
        })
    }

    /// For what comes from this file or socket.
    pub(super) fn of(&self, origin: &Path) -> Maker {
        Maker {
            keyer: self.keying.of(origin),
            shaper: self.shaping.of(origin),
        }
    }
}

/// Records are their lines.
impl From<Keying> for Making {
    fn from(keying: Keying) -> Self {
        Self {
            keying,
            shaping: Shaping::NONE,
        }
    }
}

/// Makes the records of one file, socket or client.
#[derive(Debug, Clone)]
pub(super) struct Maker {
    keyer: Keyer,
    shaper: Option<Shaper>,
}

impl Maker {
    /// More bytes than this are not to be shaped in a task: 0.2 ms at 100 MB/s, which is a guess at what the patterns
    /// of `LOGTOJSON` come to.
    const LONG: usize = 16 * 1024;

    /// Of a client, as the kernel tells it.
    pub(super) fn sent_by(self, pid: Option<i32>, uid: u32, gid: u32) -> Self {
        Self {
            shaper: self.shaper.map(|shaper| shaper.sent_by(pid, uid, gid)),
            ..self
        }
    }

    pub(super) fn make(&self, lines: Vec<Line>) -> (Keys, Vec<Line>) {
        let keys = self.keyer.keys(&lines);
        (keys, self.shaped(lines))
    }

    /// The same from a task, which is not held up. Not cancel safe: it takes the lines along.
    pub(super) async fn make_in_task(&self, lines: Vec<Line>) -> (Keys, Vec<Line>) {
        let bytes: usize = match &self.shaper {
            None => return self.keyer.keys_in_task(lines).await,
            Some(_) => lines.iter().map(|line| line.bytes.len()).sum(),
        };
        if bytes <= Self::LONG {
            return self.make(lines);
        }
        let maker = self.clone();
        let made = tokio::task::spawn_blocking(move || maker.make(lines));
        made.await.expect("shaping does not panic")
    }

    /// What `records` lines of `bytes` bytes in all may take, with their keys, and also while they are made.
    pub(super) fn worst_bytes(&self, records: usize, bytes: usize) -> usize {
        let keys = self.keyer.worst_bytes(records, bytes);
        let shaper = self.shaper.as_ref();
        keys + shaper.map_or(bytes, |shaper| shaper.worst_bytes(records, bytes))
    }

    fn shaped(&self, lines: Vec<Line>) -> Vec<Line> {
        match &self.shaper {
            None => lines,
            Some(shaper) => shaper.shape(lines, SystemTime::now()),
        }
    }
}

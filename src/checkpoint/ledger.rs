//! What of a file is settled: the contiguous prefix.
//!
//! A reader opens a span for each chunk it hands over, in the order of the file. Chunks are settled in any
//! order; the position moves only over spans that are settled and have no open one before them.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::claim::Id;
use super::store::{Fingerprint, SavedFile, ShortHash};
use crate::delivery::SpanSettled;

/// Spans in the order they were opened, and how far they are settled without a gap. Pure.
///
/// `P` is a place to go on from: an offset, and what a reader needs to know about it.
#[derive(Debug)]
pub struct Ledger<P> {
    /// Everything before it is settled.
    position: P,
    /// From the first span that is not settled; the first one's id is `first`.
    spans: VecDeque<Span<P>>,
    first: u64,
}

#[derive(Debug)]
struct Span<P> {
    end: P,
    settled: bool,
}

impl<P: Copy> Ledger<P> {
    pub fn new(position: P) -> Self {
        Self {
            position,
            spans: VecDeque::new(),
            first: 0,
        }
    }

    /// Adds the span from the last one's end to `end`.
    pub fn open(&mut self, end: P) -> u64 {
        self.spans.push_back(Span {
            end,
            settled: false,
        });
        self.first + self.spans.len() as u64 - 1
    }

    /// Every record of span `id` has its answer. True if that moved the position. Amortised O(1).
    pub fn settled(&mut self, id: u64) -> bool {
        let index = id.checked_sub(self.first).map(|i| i as usize);
        let Some(span) = index.and_then(|i| self.spans.get_mut(i)) else {
            debug_assert!(false, "span {id} was never opened, or settled before");
            return false;
        };
        span.settled = true;
        let before = self.first;
        while self.spans.front().is_some_and(|span| span.settled) {
            let span = self.spans.pop_front().expect("there is a front");
            self.position = span.end;
            self.first += 1;
        }
        self.first != before
    }

    /// The end of the contiguous settled prefix.
    pub fn position(&self) -> P {
        self.position
    }

    /// Nothing is outstanding.
    pub fn is_settled(&self) -> bool {
        self.spans.is_empty()
    }
}

/// One file's content as its reader, the owner loop and the checkpoint see it.
///
/// The owner loop calls it: its lock is only ever held for a few assignments.
#[derive(Debug)]
pub struct FileLedger {
    state: Mutex<State>,
    /// Of a line of it, only the beginning was kept. Asked of all files for each that is opened.
    cut: AtomicBool,
    changes: Arc<AtomicU64>,
}

#[derive(Debug)]
struct State {
    file: TrackedFile,
    ledger: Ledger<Place>,
    read_to: u64,
    closed: bool,
    /// Of a compressed file that was read to its end: its bytes on disk, and whether there should be more.
    packed: Option<(u64, bool)>,
}

/// What is known of a file, but for its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackedFile {
    /// Where it was last seen.
    pub path: PathBuf,
    pub fingerprint: Fingerprint,
    /// Its size when last looked at.
    pub size_seen: u64,
}

/// An offset, and the hash of what is before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    pub tail: ShortHash,
}

/// How far a file has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStatus {
    pub path: PathBuf,
    pub size: u64,
    /// Bytes read, an unfinished line included.
    pub read: u64,
    /// Bytes before this are stored, or given up with their reason.
    pub settled: u64,
}

impl FileLedger {
    /// `changes` is counted up whenever there is something new to save.
    /// `cut`: [`Self::cut`] was said of it before.
    pub(super) fn new(file: TrackedFile, start: Place, cut: bool, changes: Arc<AtomicU64>) -> Self {
        Self {
            state: Mutex::new(State {
                file,
                ledger: Ledger::new(start),
                read_to: start.offset,
                closed: false,
                packed: None,
            }),
            cut: AtomicBool::new(cut),
            changes,
        }
    }

    /// The span from the last one's end to `end`.
    pub fn open(&self, end: Place) -> u64 {
        self.state().ledger.open(end)
    }

    /// What the reader saw when it last looked.
    pub fn seen(&self, size: u64, read_to: u64) {
        let mut state = self.state();
        state.file.size_seen = size;
        state.read_to = read_to;
    }

    /// The file has another name, or its head has grown.
    pub fn describe(&self, path: &Path, fingerprint: Fingerprint) {
        let mut state = self.state();
        if state.file.path != path {
            state.file.path = path.to_owned();
        }
        state.file.fingerprint = fingerprint;
        drop(state);
        self.changed();
    }

    /// The file has another name.
    pub fn renamed(&self, path: &Path) {
        path.clone_into(&mut self.state().file.path);
        self.changed();
    }

    /// The reader will not come back: once it is settled, the file is finished.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed();
    }

    /// All of a compressed file was read that there is to read; it has `packed` bytes on disk, and is `damaged` where there
    /// should be more.
    pub fn unpacked(&self, packed: u64, damaged: bool) {
        self.state().packed = Some((packed, damaged));
        self.changed();
    }

    /// Of a line that is read next, only the beginning is kept: the rest is in the file alone.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.changed();
    }

    /// That was said, and all before `place` is settled, and no more.
    pub(super) fn is_cut_before(&self, place: Place) -> bool {
        self.cut.load(Ordering::Acquire) && self.state().ledger.position() == place
    }

    /// More of it is read, or what was read is not settled. What is left of a damaged file is for another to read.
    pub fn is_under_way(&self) -> bool {
        let state = self.state();
        let is_damaged = state.packed.is_some_and(|(_, damaged)| damaged);
        !((state.closed || is_damaged) && state.ledger.is_settled())
    }

    /// Closed, and nothing is outstanding.
    pub fn is_finished(&self) -> bool {
        let state = self.state();
        state.closed && state.ledger.is_settled()
    }

    pub fn status(&self) -> FileStatus {
        let state = self.state();
        FileStatus {
            path: state.file.path.clone(),
            size: state.file.size_seen,
            read: state.read_to,
            settled: state.ledger.position().offset,
        }
    }

    /// What a restart must know of file `id`, as of now; `updated` in seconds since 1970.
    pub(super) fn saved(&self, id: &Id, updated: u64) -> SavedFile {
        let state = self.state();
        let place = state.ledger.position();
        SavedFile {
            stream: id.stream.clone(),
            path: state.file.path.to_string_lossy().into_owned(),
            device: id.device,
            inode: id.inode,
            fingerprint: state.file.fingerprint,
            offset: place.offset,
            tail_hash: place.tail,
            size_seen: state.file.size_seen,
            updated,
            finished: state.closed && state.ledger.is_settled(),
            packed_bytes: state.packed.map(|(packed, _)| packed),
            damaged: state.packed.is_some_and(|(_, damaged)| damaged),
            cut: self.cut.load(Ordering::Acquire),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }
}

impl SpanSettled for FileLedger {
    fn settled(&self, id: u64) {
        let moved = self.state().ledger.settled(id);
        if moved {
            self.changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn position_waits_for_the_oldest_open_span() {
        let mut ledger = Ledger::new(0);
        let (a, b, c) = (ledger.open(10), ledger.open(20), ledger.open(30));
        assert!(!ledger.settled(b));
        assert_eq!(ledger.position(), 0);
        assert!(ledger.settled(a));
        assert_eq!(ledger.position(), 20);
        assert!(!ledger.is_settled());
        assert!(ledger.settled(c));
        assert_eq!((ledger.position(), ledger.is_settled()), (30, true));
    }

    proptest! {
        #[test]
        fn no_interleaving_passes_an_open_span(
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..200),
        ) {
            let mut ledger = Ledger::new(0u64);
            // The dumb model: every span ever opened, and whether it is settled.
            let mut spans: Vec<(u64, bool)> = Vec::new();
            for (open, which) in steps {
                let outstanding: Vec<usize> =
                    (0..spans.len()).filter(|i| !spans[*i].1).collect();
                if open || outstanding.is_empty() {
                    let end = spans.len() as u64 * 7 + 7;
                    prop_assert_eq!(ledger.open(end), spans.len() as u64);
                    spans.push((end, false));
                } else {
                    let id = outstanding[which.index(outstanding.len())];
                    spans[id].1 = true;
                    ledger.settled(id as u64);
                }
                let prefix = spans.iter().take_while(|span| span.1).last();
                prop_assert_eq!(ledger.position(), prefix.map_or(0, |span| span.0));
                prop_assert_eq!(ledger.is_settled(), spans.iter().all(|span| span.1));
            }
        }
    }
}

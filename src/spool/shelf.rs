//! What writer, reader and keeper of a spool know together: its segments, what is settled, and who waits.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use smallvec::SmallVec;
use tokio::sync::Notify;

use super::cursor::Note;
use super::settled::Marker;
use super::{Disk, DiskFile};
use crate::checkpoint::ledger::Ledger;
use crate::checkpoint::{CheckpointError, Lock};
use crate::delivery::{SpanSettled, Ticket};
use crate::metrics::Counters;

/// Shared by the three; locked for a few assignments only.
pub struct Shelf {
    dir: PathBuf,
    lock: Arc<Lock>,
    state: Mutex<State>,
    /// Held while segments are deleted or restored.
    pub(super) files: Mutex<()>,
    /// The cursor as it is on disk, if it is there; held while that is written.
    pub(super) saved: Mutex<Option<Note>>,
    /// For what the saved cursor says by now.
    markers: Mutex<Vec<Marker>>,
    /// In the ids of its segments.
    pub(super) spool: u32,
    pub(super) counters: Arc<Counters>,
    /// For the reader: there is more to read, or never will be.
    pub(super) grown: Notify,
    /// For the writer: there is more room.
    pub(super) freed: Notify,
    /// For the keeper: the settled prefix has grown, or is to be saved again.
    pub(super) moved: Notify,
}

struct State {
    /// The oldest first.
    segments: VecDeque<Segment>,
    next_ordinal: u64,
    ledger: Ledger<u64>,
    /// Whoever waits for the answer of a record that is on disk.
    parked: HashMap<u64, Waiters>,
    /// The reader has handed over all before it.
    handed: u64,
    /// The writer has appended all before it.
    end: u64,
    reading: bool,
}

/// A file of frames.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// No other has it.
    pub(super) ordinal: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) id: u64,
    /// The number of the first record that was to come into it, and the number behind its last one.
    pub(super) first: u64,
    pub(super) end: u64,
    /// Bytes of whole frames, header included.
    pub(super) len: u64,
    /// More is appended.
    pub(super) open: bool,
    /// Some of it could not be read: it is kept.
    pub(super) damaged: bool,
    /// Somebody cut it while it was in use.
    pub(super) cut: bool,
}

/// What the reader may read.
#[derive(Debug, Clone)]
pub(super) struct Readable {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) id: u64,
    pub(super) ordinal: u64,
    /// Numbers, as of its segment.
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Shelf {
    /// What lies in `segments` ends before `end`, and is to be sent from `settled` on.
    pub(super) fn new(
        dir: PathBuf,
        lock: Arc<Lock>,
        segments: VecDeque<Segment>,
        spool: u32,
        (settled, end): (u64, u64),
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            dir,
            lock,
            state: Mutex::new(State {
                next_ordinal: segments.back().map_or(0, |last| last.ordinal + 1),
                segments,
                ledger: Ledger::new(settled),
                parked: HashMap::new(),
                handed: settled,
                end,
                reading: true,
            }),
            files: Mutex::default(),
            saved: Mutex::default(),
            markers: Mutex::default(),
            spool,
            counters,
            grown: Notify::new(),
            freed: Notify::new(),
            moved: Notify::new(),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Until a cursor is saved that says the same.
    pub(super) fn add_markers(&self, markers: impl IntoIterator<Item = Marker>) {
        let mut all = self.markers.lock().expect("no panic while held");
        all.extend(markers);
    }

    /// A cursor is saved. Blocks.
    pub(super) fn drop_markers(&self, disk: &dyn Disk) {
        let mut markers = self.markers.lock().expect("no panic while held");
        // What cannot be removed now says nothing new to the next run.
        markers.drain(..).for_each(|marker| {
            let _ = disk.remove(&marker.path);
        });
    }

    /// Before a file is made: whoever removed the directory may have started another process that has it now. Blocks.
    pub(super) fn hold(&self) -> io::Result<()> {
        match self.lock.hold() {
            Ok(_) => Ok(()),
            Err(CheckpointError::StateDir { source, .. }) => Err(source),
            Err(CheckpointError::InUse { dir, holder }) => Err(io::Error::other(format!(
                "{} was removed and is in use by {holder}",
                dir.display()
            ))),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.state().segments.iter().map(|s| s.len).sum()
    }

    /// Whether all that was appended has been handed over.
    pub(super) fn is_caught_up(&self) -> bool {
        let state = self.state();
        state.handed == state.end
    }

    /// Whether anything that was appended is not settled.
    pub(super) fn holds_some(&self) -> bool {
        let state = self.state();
        state.ledger.position() < state.end
    }

    /// A segment that has its header and nothing else.
    pub(super) fn begin(
        &self,
        path: PathBuf,
        file: Arc<dyn DiskFile>,
        (id, first, len): (u64, u64, u64),
    ) {
        let mut state = self.state();
        let ordinal = state.next_ordinal;
        state.next_ordinal += 1;
        state.segments.push_back(Segment {
            ordinal,
            path,
            file,
            id,
            first,
            end: first,
            len,
            open: true,
            damaged: false,
            cut: false,
        });
    }

    /// The last segment is so long now, and ends with the record before `end`.
    pub(super) fn published(&self, end: u64, len: u64, parked: Parked) {
        let mut state = self.state();
        let records = end - state.end;
        state.end = end;
        let last = state.segments.back_mut().expect("the one that was begun");
        (last.end, last.len) = (end, len);
        state.parked.extend(parked);
        drop(state);
        self.counters.spool(records);
        self.grown.notify_one();
    }

    /// The last segment is not written any more.
    pub(super) fn close_last(&self) {
        self.state().close_last();
        self.moved.notify_one();
    }

    pub(super) fn writer_ended(&self) {
        self.close_last();
        // Nothing more is read: what is on disk stays there for the next run.
        self.state().reading = false;
        self.grown.notify_one();
    }

    /// What follows `offset` of the segment of that ordinal, once there is something; or the next segment.
    /// `None`: nothing is to be read any more. Cancel safe.
    pub(super) async fn readable(&self, at: Option<(u64, u64)>) -> Option<Readable> {
        loop {
            {
                let state = self.state();
                if !state.reading {
                    return None;
                }
                if let Some(readable) = state.readable(at) {
                    return Some(readable);
                }
            }
            self.grown.notified().await;
        }
    }

    /// A chunk was read that ends before `end`: its span, and whoever waits for its records.
    pub(super) fn read(&self, end: u64, numbers: impl Iterator<Item = u64>) -> (u64, Vec<Waiters>) {
        let mut state = self.state();
        let span = state.ledger.open(end);
        let waiters = numbers.map(|number| state.parked.remove(&number).unwrap_or_default());
        (span, waiters.collect())
    }

    pub(super) fn handed_over(&self, end: u64) {
        self.state().handed = end;
    }

    /// Records that are on disk and cannot be read: nobody waits for them any more, and the cursor passes them.
    pub(super) fn lost(&self, from: u64, end: u64, ordinal: u64) {
        let mut state = self.state();
        let span = state.ledger.open(end);
        state
            .parked
            .retain(|number, _| !(from..end).contains(number));
        // What is missing before its first record was in another.
        let here = |segment: &&mut Segment| segment.ordinal == ordinal && segment.first <= from;
        if let Some(segment) = state.segments.iter_mut().find(here) {
            segment.damaged = true;
        }
        drop(state);
        self.counters.unspool(end - from);
        self.settled(span);
    }

    /// Everything before it is settled.
    pub(super) fn settled_to(&self) -> u64 {
        self.state().ledger.position()
    }

    /// For the next run. `is_synced`: all that was appended would survive a power cut.
    pub(super) fn note(&self, is_synced: bool) -> Note {
        let state = self.state();
        let settled = state.ledger.position();
        Note {
            settled,
            spool: self.spool,
            end: if is_synced { state.end } else { settled },
        }
    }

    /// Somebody cut the segment of that ordinal: it ends there, and what was behind cannot be read any more.
    pub(super) fn cut(&self, ordinal: u64, len: u64) {
        let mut state = self.state();
        let mut segments = state.segments.iter_mut();
        if let Some(segment) = segments.find(|segment| segment.ordinal == ordinal) {
            (segment.len, segment.damaged, segment.cut) = (len, true, true);
        }
        drop(state);
        self.grown.notify_one();
    }

    pub(super) fn all(&self) -> Vec<Segment> {
        self.state().segments.iter().cloned().collect()
    }

    /// Segments that hold what is not settled, the oldest first.
    pub(super) fn waiting(&self) -> Vec<Segment> {
        let state = self.state();
        let settled = state.ledger.position();
        let waits = |segment: &&Segment| segment.end > settled;
        state.segments.iter().filter(waits).cloned().collect()
    }

    /// The segment of that ordinal is in another file now.
    pub(super) fn moved_to(&self, ordinal: u64, path: PathBuf, file: Arc<dyn DiskFile>) {
        let mut state = self.state();
        let mut segments = state.segments.iter_mut();
        if let Some(segment) = segments.find(|segment| segment.ordinal == ordinal) {
            (segment.path, segment.file) = (path, file);
        }
    }

    /// Whoever waits still for a record that is on disk.
    pub(super) fn take_parked(&self) -> HashMap<u64, Waiters> {
        std::mem::take(&mut self.state().parked)
    }

    /// Segments of which everything is settled.
    pub(super) fn take_done(&self) -> VecDeque<Segment> {
        let mut state = self.state();
        let settled = state.ledger.position();
        let mut done = VecDeque::new();
        while (state.segments.front()).is_some_and(|s| !s.open && s.end <= settled) {
            done.extend(state.segments.pop_front());
        }
        done
    }

    /// Those that could not be dropped, in order.
    pub(super) fn put_back(&self, segments: VecDeque<Segment>) {
        let mut state = self.state();
        for segment in segments.into_iter().rev() {
            state.segments.push_front(segment);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }
}

/// Tickets by the number of their record.
pub(super) type Parked = Vec<(u64, Waiters)>;
pub(super) type Waiters = SmallVec<[Ticket; 1]>;

impl State {
    fn close_last(&mut self) {
        if let Some(last) = self.segments.back_mut() {
            last.open = false;
        }
    }

    fn readable(&self, at: Option<(u64, u64)>) -> Option<Readable> {
        let from = at.map_or(0, |(ordinal, _)| ordinal);
        let index = self.segments.partition_point(|s| s.ordinal < from);
        let mut rest = self.segments.range(index..);
        let is_at = |segment: &Segment| at.is_some_and(|(ordinal, _)| segment.ordinal == ordinal);
        rest.find_map(|segment| {
            let offset = match at {
                Some((_, offset)) if is_at(segment) => offset,
                _ => super::frame::HEADER_LEN as u64,
            };
            (offset < segment.len).then(|| Readable {
                path: segment.path.clone(),
                file: Arc::clone(&segment.file),
                id: segment.id,
                ordinal: segment.ordinal,
                first: segment.first,
                end: segment.end,
                offset,
                len: segment.len,
            })
        })
    }
}

impl SpanSettled for Shelf {
    fn settled(&self, id: u64) {
        if self.state().ledger.settled(id) {
            self.moved.notify_one();
        }
    }

    fn answered(&self, records: u32) {
        self.counters.unspool(u64::from(records));
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

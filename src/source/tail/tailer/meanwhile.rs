//! What came up while the thread waited for room: taken over as a scan would have found it then.

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use super::{Tailer, enqueue};
use crate::source::tail::content::Content;
use crate::source::tail::identity::FileId;
use crate::source::tail::newcomers::{self, Newcomer, Newcomers};
use crate::source::tail::reader::Reader;

impl Tailer {
    pub(super) fn has_newcomers(&self) -> bool {
        let newcomers = self.outlet.newcomers.borrow();
        newcomers.as_ref().is_some_and(|held| !held.is_empty())
    }

    /// From now on waits look for what comes up. Files that are open leave less room for it.
    pub(super) fn begin_waits(&self) {
        if let Some(newcomers) = &mut *self.outlet.newcomers.borrow_mut() {
            newcomers.begin(self.open_files.len(), self.watch.listeners());
        }
    }

    /// The scan comes at once after it: it knows what their names are now.
    pub(super) fn take_newcomers(&mut self, now: Instant) {
        let newcomers = self
            .outlet
            .newcomers
            .borrow_mut()
            .as_mut()
            .map(Newcomers::take);
        for newcomer in newcomers.into_iter().flatten() {
            self.next_scan = now;
            match newcomer {
                Newcomer::New(reader) => self.take_over(*reader, now),
                Newcomer::Grown(id, path, file) => self.take_grown(id, path, file, now),
            }
        }
    }

    fn take_over(&mut self, mut reader: Reader, now: Instant) {
        let (id, path) = (reader.id(), reader.path().to_owned());
        reader.look_at_head();
        let mut tailed = self.tailed(reader);
        if !newcomers::leads_to(&path, id) {
            (tailed.gone_since, tailed.unwatched) = (Some(now), true);
        }
        tailed.after = self.take_name(path, id);
        self.insert(id, tailed);
    }

    fn take_grown(&mut self, id: FileId, path: PathBuf, file: File, now: Instant) {
        let Some(tailed) = self.files.get_mut(&id) else {
            return;
        };
        if tailed.reader.is_open() {
            return;
        }
        tailed.reader.reopen(Content::Plain(file));
        if path != tailed.reader.path() {
            tailed.reader.renamed(path.clone());
        }
        if !newcomers::leads_to(&path, id) {
            tailed.gone_since.get_or_insert(now);
            tailed.unwatched = true;
        }
        let after = self.take_name(path, id);
        if let Some(tailed) = self.files.get_mut(&id) {
            tailed.after = after;
        }
        enqueue(&mut self.files, &mut self.queue, id);
        self.hold_to_limit(id);
    }

    /// `path` was the name of `id`; returns whose name it was before, which is finished first.
    fn take_name(&mut self, path: PathBuf, id: FileId) -> Option<FileId> {
        self.names_moved = true;
        let before = self.by_path.insert(path, id)?;
        // The event of its last lines may be yet to come.
        enqueue(&mut self.files, &mut self.queue, before);
        (before != id).then_some(before)
    }
}

//! Which files are held open: no more than a source may, and none that has been quiet for long.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::time::Instant;

use super::{Tailer, enqueue, rotated};
use crate::source::tail::content::Content;
use crate::source::tail::identity::FileId;
use crate::source::tail::outlet::Outlet;
use crate::source::tail::reader::{Reader, TurnError};

/// So many are looked at for one to close: that a file is opened must not cost a look at all the others.
const TRIES: usize = 16;

/// The files that are open, those first that were opened first.
#[derive(Debug)]
pub(super) struct OpenFiles {
    most: usize,
    files: VecDeque<FileId>,
}

impl OpenFiles {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            files: VecDeque::new(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &FileId> {
        self.files.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }
}

impl Tailer {
    /// `id` may have been opened. Where there are too many now, one with nothing to read is closed, or else that one:
    /// it is opened again for its next turn.
    pub(super) fn hold_to_limit(&mut self, id: FileId) {
        let Some(tailed) = self.files.get_mut(&id) else {
            return;
        };
        if tailed.reader.is_open() && !tailed.listed {
            tailed.listed = true;
            self.open_files.files.push_back(id);
            self.show(id);
        }
        let mut tries = TRIES;
        while self.open_files.files.len() > self.open_files.most && tries > 0 {
            tries -= 1;
            let first = self.open_files.files.pop_front().expect("there are some");
            if !self.close(first, false) {
                self.open_files.files.push_back(first);
            }
        }
        if self.open_files.files.len() > self.open_files.most && self.close(id, true) {
            self.open_files.files.retain(|open| *open != id);
        }
    }

    /// Closes what has had nothing to read for long.
    pub(super) fn close_inactive(&mut self, now: Instant) {
        let mut open = std::mem::take(&mut self.open_files.files);
        let after = self.close_inactive;
        open.retain(|id| {
            let tailed = self.files.get(id);
            let is_idle = tailed.is_some_and(|tailed| tailed.reader.is_idle_for(after, now));
            tailed.is_some() && !(is_idle && self.close(*id, false))
        });
        self.open_files.files = open;
    }

    /// False if it has to stay open: it has no name to open it by, or something to read and is not `forced`.
    fn close(&mut self, id: FileId, forced: bool) -> bool {
        let Some(tailed) = self.files.get_mut(&id) else {
            return true;
        };
        // What is packed would be unpacked again up to its place.
        let stays = tailed.gone_since.is_some() || tailed.reader.is_packed();
        if stays || (tailed.queued && !forced) {
            return false;
        }
        // That it cannot be looked at is found out at its next turn.
        let is_closed = tailed.reader.close_file(forced).unwrap_or(false);
        if is_closed {
            tailed.listed = false;
            self.show(id);
        } else {
            enqueue(&mut self.files, &mut self.queue, id);
        }
        is_closed
    }

    /// Files that lost their names while they were closed are looked for in their directories.
    pub(super) fn find_closed(&mut self, now: Instant) {
        let mut lost: HashMap<PathBuf, Vec<FileId>> = HashMap::new();
        for (id, tailed) in &self.files {
            if tailed.gone_since == Some(now)
                && !tailed.reader.is_open()
                && let Some(directory) = tailed.reader.path().parent()
            {
                lost.entry(directory.to_owned()).or_default().push(*id);
            }
        }
        for (directory, mut lost) in lost {
            let looked = rotated::look_in(
                &directory,
                &mut lost,
                |id| *id,
                |id, _, file| {
                    let Some(tailed) = self.files.get_mut(&id) else {
                        return;
                    };
                    if let Ok(file) = file {
                        tailed.reader.reopen(Content::Plain(file));
                        enqueue(&mut self.files, &mut self.queue, id);
                    }
                },
            );
            if let Err(error) = looked {
                tracing::warn!(
                    path = %directory.display(), %error,
                    "files that were closed and have lost their names are not looked for; let this user read their \
                     directory"
                );
            }
        }
    }
}

/// It was deleted while it was closed.
pub(super) fn give_up(reader: &mut Reader, outlet: &Outlet) -> Result<(), TurnError> {
    let unread = reader.close_gone(outlet)?;
    if unread > 0 {
        tracing::warn!(
            path = %reader.path().display(), unread,
            "file was deleted while it was closed, because more files than max_open_files had something to read; what \
             was not read of it is lost. Raise max_open_files"
        );
    }
    Ok(())
}

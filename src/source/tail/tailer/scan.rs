//! Which files a tailer reads: found, known again, lost.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use smallvec::SmallVec;

use super::{Tailed, Tailer, rotated};
use crate::checkpoint::Claim;
use crate::source::tail::StartPosition;
use crate::source::tail::content::Content;
use crate::source::tail::discover::Found;
use crate::source::tail::identity::{self, FileId};
use crate::source::tail::newcomers;
use crate::source::tail::packed::Packing;
use crate::source::tail::reader::Reader;
use crate::source::tail::watch::Watch;

/// All directories are looked through so often, whatever the events say.
const RESCAN: Duration = Duration::from_secs(5);
/// The same where there are no events.
const RESCAN_POLLING: Duration = Duration::from_secs(1);
/// But as a routine it takes at most this share of the time, of all sources together: there may be 10,000 files, and nothing to do. Never further
/// off than [`RESCAN_AT_LAST`]: a look also takes long when the process is stopped meanwhile.
const RESCAN_SHARE: u32 = 200;
const RESCAN_AT_LAST: Duration = Duration::from_secs(30);
/// A look through the directories takes at most this share of the time, however many events ask for one.
const SCAN_SHARE: u32 = 10;

impl Tailer {
    /// Looks through the directories: files that are new, renamed, gone.
    pub(super) fn scan(&mut self, now: Instant) {
        let began = Instant::now();
        let (mut found, mut directories) = (Vec::new(), HashSet::new());
        let mut refused = HashMap::new();
        self.globs.walk(|what| match what {
            Found::File(path, meta) => found.push((path, meta)),
            Found::Directory(path) => {
                directories.insert(path);
            }
            Found::Refused(path, error) => {
                refused.insert(path, error);
            }
        });
        self.scan_wanted = self.watch.watch(&directories);
        self.packed_wait = false;

        let mut new = self.recognise(found, &refused, now);
        // A compressed copy is told by the file that it is of, whichever glob finds it first, and by what that begins with
        // now: it may have been empty when it was last looked at.
        new.sort_by_key(|(path, _)| Packing::of(path).is_some());
        if new
            .last()
            .is_some_and(|(path, _)| Packing::of(path).is_some())
        {
            let readers = self.files.values_mut().map(|tailed| &mut tailed.reader);
            readers.for_each(Reader::look_at_head);
        }
        let mut had_name = if self.names_moved {
            self.find_closed(now);
            self.names_lost()
        } else {
            HashMap::new()
        };
        if self.is_first_look {
            // Before what took their names. What is not found is looked for again below.
            self.find_rotated_away(&new, &mut had_name, now);
        }
        for (path, meta) in new {
            if let Err(error) = self.open(&path, &meta, had_name.get(&path).copied()) {
                refused.insert(path, error);
            }
        }
        if std::mem::take(&mut self.is_first_look) {
            // Among them what was found above and rotated before it could be opened.
            let not_found = self.find_rotated_away(&[], &mut had_name, now);
            // The rest of it may be in one of those that are yet to be unpacked.
            if !self.packed_wait {
                rotated::warn_of(not_found);
            }
            self.remember_first_look();
        }
        self.warn_of(refused);
        if std::mem::take(&mut self.names_moved) {
            self.take_stock();
        }

        let took = began.elapsed();
        let every = if self.watch.is_polling() {
            RESCAN_POLLING
        } else {
            routine(took, self.watch.listeners())
        };
        self.next_scan = now + every;
        self.scan_allowed = now + took * SCAN_SHARE;
    }

    /// Which names lead to which files, and which files have none.
    fn take_stock(&mut self) {
        self.by_path.clear();
        self.gone.clear();
        for (id, tailed) in &self.files {
            if tailed.gone_since.is_some() {
                self.gone.push(*id);
            } else {
                self.by_path.insert(tailed.reader.path().to_owned(), *id);
            }
        }
    }

    /// Brings the names of known files up to date; returns what is not known.
    fn recognise(
        &mut self,
        found: Vec<(PathBuf, Metadata)>,
        refused: &HashMap<PathBuf, io::Error>,
        now: Instant,
    ) -> Vec<(PathBuf, Metadata)> {
        self.look_at_done(&found, refused);
        // Most have one name.
        let mut names: HashMap<FileId, (&Metadata, SmallVec<[&Path; 1]>)> =
            HashMap::with_capacity(found.len());
        for (path, meta) in &found {
            let (_, names) = names
                .entry(FileId::of(meta))
                .or_insert_with(|| (meta, SmallVec::new()));
            names.push(path);
        }
        for (id, tailed) in &mut self.files {
            match names.get(id) {
                Some((meta, names)) => {
                    self.names_moved |= tailed.gone_since.take().is_some();
                    // As bytes: paths are compared part by part, which is most of a scan.
                    let path = tailed.reader.path().as_os_str();
                    if !names.iter().any(|name| name.as_os_str() == path) {
                        tailed.reader.renamed(names[0].to_owned());
                        tailed.unwatched = is_unwatched(&self.watch, names[0]);
                        self.names_moved = true;
                    }
                    if tailed.reader.has_changed(meta) && !tailed.queued {
                        tailed.queued = true;
                        self.queue.push_back(*id);
                    }
                }
                // In a directory that cannot be read it may have its name still.
                None if is_under(tailed.reader.path(), refused) => {}
                None => {
                    // What took its name waits until this one has been looked at: the event of its last lines may
                    // be yet to come.
                    if tailed.gone_since.is_none() && tailed.reader.is_open() {
                        tailed.reader.look_at_head();
                        if !tailed.queued {
                            tailed.queued = true;
                            self.queue.push_back(*id);
                        }
                    }
                    self.names_moved |= tailed.gone_since.is_none();
                    tailed.gone_since.get_or_insert(now);
                    tailed.unwatched = true;
                }
            }
        }
        drop(names);
        let mut new = HashSet::new();
        let is_new = |(_, meta): &(PathBuf, Metadata)| {
            let id = FileId::of(meta);
            !self.files.contains_key(&id) && !self.done.contains_key(&id) && new.insert(id)
        };
        found.into_iter().filter(is_new).collect()
    }

    /// Names that open files had until now.
    fn names_lost(&self) -> HashMap<PathBuf, FileId> {
        let has_lost = |(path, id): &(&PathBuf, &FileId)| {
            let tailed = self.files.get(id);
            tailed.is_some_and(|t| t.gone_since.is_some() || t.reader.path() != *path)
        };
        (self.by_path.iter())
            .filter(has_lost)
            .map(|(path, id)| (path.clone(), *id))
            .collect()
    }

    fn open(&mut self, path: &Path, meta: &Metadata, after: Option<FileId>) -> io::Result<()> {
        let id = FileId::of(meta);
        if self.must_wait_to_unpack(path) {
            return Ok(());
        }
        let Some(claim) = self.claim(id, path) else {
            return Ok(());
        };
        let Some(file) = rotated::unless_gone(Content::open(path))? else {
            return Ok(());
        };
        let opened = file.metadata()?;
        if id != FileId::of(&opened) {
            // Rotated since: the next look has it.
            self.scan_wanted = true;
            return Ok(());
        }
        if file.is_packed() {
            return self.open_packed(path, file, claim, &opened);
        }
        let is_ignored = claim.saved(path).is_none() && self.is_too_old(&opened);
        let offset = if is_ignored {
            identity::line_start(&file, opened.len())?
        } else {
            self.offset_to_start_at(&file, path, &claim, opened.len())?
        };
        let mut reader = Reader::new(path.to_owned(), file, offset, claim, &self.outlet)?;
        if is_ignored {
            reader.close_file(true)?;
        }
        let mut tailed = self.tailed(reader);
        tailed.after = after.filter(|after| *after != id);
        self.insert(id, tailed);
        Ok(())
    }

    /// None where another source of this stream has the file: then it is asked for again at every look.
    pub(super) fn claim(&mut self, id: FileId, path: &Path) -> Option<Claim> {
        match self.checkpoints.claim(id.device, id.inode) {
            Ok(claim) => Some(claim),
            Err(taken) => {
                if !taken.by_itself && self.left_to.insert(Arc::clone(&taken.by)) {
                    tracing::warn!(
                        path = %path.display(), stream = %self.checkpoints.stream(),
                        read_by = &*taken.by, left_alone_by = self.checkpoints.name(),
                        "file matches two sources of one stream; the first to meet such a file reads it. \
                         Exclude it from one of them"
                    );
                }
                None
            }
        }
    }

    pub(super) fn offset_to_start_at(
        &self,
        file: &Content,
        path: &Path,
        claim: &Claim,
        size: u64,
    ) -> io::Result<u64> {
        if let Some(saved) = claim.saved(path) {
            return identity::offset_of(&saved, file, path, size);
        }
        if self.starts_at_end(path) {
            identity::line_start(file, size)
        } else {
            Ok(0)
        }
    }

    pub(super) fn starts_at_end(&self, path: &Path) -> bool {
        let was_there_before =
            self.is_first_look && !self.globs.matches_one_of(path, &self.known_includes);
        self.start_position == StartPosition::End && was_there_before
    }

    pub(super) fn is_too_old(&self, meta: &Metadata) -> bool {
        newcomers::is_too_old(self.ignore_older, meta)
    }

    fn remember_first_look(&mut self) {
        for glob in &self.include {
            self.checkpoints.looked_at(glob);
        }
        self.has_unsaved = true;
    }

    fn warn_of(&mut self, refused: HashMap<PathBuf, io::Error>) {
        for (path, error) in &refused {
            if !self.refused.contains(path) {
                let way_out = match error.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::LOOP) => "its links lead in a circle: mend them",
                    _ => "let this user read it",
                };
                tracing::warn!(
                    path = %path.display(), %error,
                    "cannot be read; {way_out}, or exclude it. It is tried again every few seconds, other files go on"
                );
            }
        }
        self.refused = refused.into_keys().collect();
    }

    pub(super) fn tailed(&self, reader: Reader) -> Tailed {
        Tailed {
            unwatched: is_unwatched(&self.watch, reader.path()),
            reader,
            queued: false,
            listed: false,
            gone_since: None,
            after: None,
            paused_until: None,
        }
    }
}

fn is_under(path: &Path, refused: &HashMap<PathBuf, io::Error>) -> bool {
    path.ancestors().any(|above| refused.contains_key(above))
}

/// No events come for a file behind a link, or in a directory that is not watched.
fn is_unwatched(watch: &Watch, path: &Path) -> bool {
    let is_link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    is_link || !path.parent().is_some_and(|parent| watch.covers(parent))
}

/// How long after a look that took so long the next one comes without being asked for, where so many sources look.
fn routine(took: Duration, sources: u32) -> Duration {
    let in_its_share = took.saturating_mul(RESCAN_SHARE.saturating_mul(sources));
    in_its_share.clamp(RESCAN, RESCAN_AT_LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routine_looks_take_half_a_percent_of_the_time_and_are_never_further_off_than_half_a_minute()
    {
        let millis = Duration::from_millis;
        assert_eq!(routine(millis(1), 1), RESCAN);
        assert_eq!(routine(millis(40), 1), millis(8_000));
        assert_eq!(routine(millis(2), 20), millis(8_000));
        assert_eq!(routine(millis(60_000), 1), RESCAN_AT_LAST);
    }
}

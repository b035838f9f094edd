//! Compressed files: which are read, from where, and when they are done.
//!
//! A rotated file that is compressed is another file with the same content. Whether that was read before is seen from
//! the checkpoint's hashes of it: of its head, and of the bytes before its place.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Tailer, rotated};
use crate::checkpoint::ledger::{Place, TrackedFile};
use crate::checkpoint::{Claim, SavedFile, ShortHash};
use crate::source::tail::content::Content;
use crate::source::tail::identity::{self, FileId, HEAD, Head, Tail};
use crate::source::tail::packed::{PATIENCE, Packing};
use crate::source::tail::reader::{Done, Reader, Seen};

/// Looked through at once for the place where reading has got to.
const STEP: usize = 64 * 1024;

/// What is known of a compressed file's content.
enum Known {
    Nothing,
    /// All before this place of it was read from another file.
    Upto(Box<SavedFile>),
    /// Another file with this content is being read.
    IsRead,
    /// It is being written, and there is too little of it to tell.
    NotYet,
}

impl Tailer {
    /// One compressed file is unpacked at a time: each takes memory that is in no budget.
    pub(super) fn must_wait_to_unpack(&mut self, path: &Path) -> bool {
        let is_packed = Packing::of(path).is_some();
        let waits = is_packed && self.files.values().any(|file| file.reader.is_unpacking());
        self.packed_wait |= waits;
        waits
    }

    pub(super) fn open_packed(
        &mut self,
        path: &Path,
        file: Content,
        claim: Claim,
        meta: &Metadata,
    ) -> io::Result<()> {
        let saved = match claim.saved(path) {
            Some(saved) if is_of(&saved, &file, meta)? => Some(saved),
            // A file that is gone had the inode before.
            _ => None,
        };
        if let Some(saved) = &saved
            && is_over(saved, meta)
        {
            self.leave(path, claim, saved, meta);
            return Ok(());
        }
        let was_damaged = (saved.as_ref()).is_some_and(|s| s.damaged && s.is_all_of(meta.len()));
        let offset = match saved {
            Some(saved) => saved.offset,
            None => match self.known_of(path, &file)? {
                Known::Upto(saved) => {
                    self.checkpoints.finish(&saved);
                    saved.offset
                }
                Known::IsRead | Known::NotYet => {
                    self.packed_wait = true;
                    return Ok(());
                }
                Known::Nothing if self.starts_at_end(path) || self.is_too_old(meta) => {
                    self.leave_out(path, claim, &file, meta)?;
                    return Ok(());
                }
                Known::Nothing => 0,
            },
        };
        let reader = Reader::new(path.to_owned(), file, offset, claim, &self.outlet)?;
        if was_damaged {
            reader.was_damaged(meta.len());
        }
        let tailed = self.tailed(reader);
        self.insert(FileId::of(meta), tailed);
        Ok(())
    }

    /// Nothing of it is read, whatever becomes of it.
    fn leave_out(
        &mut self,
        path: &Path,
        claim: Claim,
        file: &Content,
        meta: &Metadata,
    ) -> io::Result<()> {
        let nothing = Place {
            offset: 0,
            tail: Tail::default().hash(),
        };
        let tracked = TrackedFile {
            path: path.to_owned(),
            fingerprint: Head::read(file)?.fingerprint(),
            size_seen: 0,
        };
        let ledger = claim.track(tracked, nothing);
        ledger.unpacked(meta.len(), false);
        let done = Done {
            _claim: claim,
            ledger,
            path: path.to_owned(),
            seen: None,
        };
        self.done.insert(FileId::of(meta), done);
        self.has_unsaved = true;
        Ok(())
    }

    /// An earlier run has read it.
    fn leave(&mut self, path: &Path, claim: Claim, saved: &SavedFile, meta: &Metadata) {
        let place = Place {
            offset: saved.offset,
            tail: saved.tail_hash,
        };
        let tracked = TrackedFile {
            path: path.to_owned(),
            fingerprint: saved.fingerprint,
            size_seen: saved.size_seen,
        };
        let ledger = claim.track(tracked, place);
        ledger.unpacked(meta.len(), false);
        let done = Done {
            _claim: claim,
            ledger,
            path: path.to_owned(),
            seen: (!is_left_out(saved)).then(|| Seen::of(meta)),
        };
        self.done.insert(FileId::of(meta), done);
    }

    /// A compressed file has been read to its end.
    pub(super) fn put_aside(&mut self, id: FileId) {
        let Some(tailed) = self.files.remove(&id) else {
            return;
        };
        (self.scan_wanted, self.names_moved) = (true, true);
        match tailed.reader.into_done() {
            Ok(done) => {
                self.done.insert(id, done);
            }
            Err(error) => {
                tracing::warn!(%error, "compressed file cannot be looked at; it is tried again")
            }
        }
    }

    /// Forgets those that are gone, and those that have become something else: they are new.
    pub(super) fn look_at_done(
        &mut self,
        found: &[(PathBuf, Metadata)],
        refused: &HashMap<PathBuf, io::Error>,
    ) {
        if self.done.is_empty() {
            return;
        }
        let there: HashMap<FileId, &(PathBuf, Metadata)> = (found.iter())
            .map(|file| (FileId::of(&file.1), file))
            .collect();
        let mut gone = HashSet::new();
        self.done.retain(|id, done| {
            let stays = match there.get(id) {
                Some((path, meta)) => {
                    if *path != done.path {
                        done.path.clone_from(path);
                        done.ledger.renamed(path);
                    }
                    done.seen.is_none_or(|seen| seen == Seen::of(meta))
                }
                None => (done.path.ancestors()).any(|above| refused.contains_key(above)),
            };
            if !stays {
                done.ledger.close();
                gone.insert(*id);
            }
            stays
        });
        let mut live = self.live.lock().expect("no panic while held");
        live.retain(|id, _| !gone.contains(id));
    }

    /// Of `wanted`, which are gone, those whose content is in compressed files of `directory` that no glob asks for.
    pub(super) fn find_packed_copies(
        &mut self,
        directory: &Path,
        wanted: &mut Vec<SavedFile>,
        now: Instant,
    ) {
        let Ok(entries) = fs::read_dir(directory) else {
            return;
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if wanted.is_empty() {
                return;
            }
            if Packing::of(&path).is_none() || self.globs.matches(&path) {
                continue;
            }
            if let Err(error) = self.open_copy(&path, wanted, now) {
                tracing::warn!(
                    path = %path.display(), %error,
                    "it may be the compressed copy of a file that was not read to its end, and cannot be read; let this \
                     user read it and start again"
                );
            }
        }
    }

    fn open_copy(
        &mut self,
        path: &Path,
        wanted: &mut Vec<SavedFile>,
        now: Instant,
    ) -> io::Result<()> {
        let meta = path.symlink_metadata()?;
        let id = FileId::of(&meta);
        if !meta.is_file() || self.files.contains_key(&id) {
            return Ok(());
        }
        let file = Content::open(path)?;
        let Known::Upto(saved) = self.known_of(path, &file)? else {
            return Ok(());
        };
        let Some(index) = wanted
            .iter()
            .position(|w| rotated::id_of(w) == rotated::id_of(&saved))
        else {
            return Ok(());
        };
        let Some(claim) = self.claim(id, path) else {
            return Ok(());
        };
        tracing::info!(
            path = saved.path, now = %path.display(),
            "file was rotated and compressed while nobody read it; finishing it"
        );
        let reader = Reader::new(path.to_owned(), file, saved.offset, claim, &self.outlet)?;
        let mut tailed = self.tailed(reader);
        (tailed.gone_since, tailed.unwatched) = (Some(now), true);
        self.insert(id, tailed);
        self.checkpoints.finish(&wanted.swap_remove(index));
        Ok(())
    }

    /// Which content this is, as far as any was read. Unpacks up to there.
    fn known_of(&self, path: &Path, file: &Content) -> io::Result<Known> {
        let head = file.read_upto(0, HEAD)?;
        let is_written = || -> io::Result<bool> {
            let age = file.metadata()?.modified()?.elapsed();
            Ok(file.is_cut_off() && age.is_ok_and(|age| age < PATIENCE))
        };
        if head.len() < HEAD && is_written()? {
            return Ok(Known::NotYet);
        }
        let mut alike: Vec<(SavedFile, bool)> = self.checkpoints.contents();
        alike.retain(|(saved, is_read)| begins_as(saved, &head, path, *is_read));
        // Of two that are as far, one that is read goes further.
        alike.sort_by_key(|(saved, is_read)| (saved.offset, *is_read));
        let (mut known, mut at, mut tail) = (Known::Nothing, 0, Tail::default());
        for (saved, is_read) in alike {
            while at < saved.offset {
                let bytes = file.read_upto(at, (saved.offset - at).min(STEP as u64) as usize)?;
                if bytes.is_empty() {
                    let goes_on = is_written()?;
                    return Ok(if goes_on { Known::NotYet } else { known });
                }
                tail.pass(&bytes);
                at += bytes.len() as u64;
            }
            if tail.hash() == saved.tail_hash {
                known = match is_read {
                    true => Known::IsRead,
                    false => Known::Upto(Box::new(saved)),
                };
            }
        }
        Ok(known)
    }
}

/// Nothing of it is to be read any more.
fn is_over(saved: &SavedFile, meta: &Metadata) -> bool {
    is_left_out(saved) || is_settled(saved, meta)
}

/// Whether `file` is the saved one. Of one that is over only the beginning is unpacked for that.
fn is_of(saved: &SavedFile, file: &Content, meta: &Metadata) -> io::Result<bool> {
    if !is_over(saved, meta) {
        return identity::is_saved(saved, file, meta.len());
    }
    let len = (saved.fingerprint.len as usize).min(HEAD);
    Ok(ShortHash::of(&file.read_upto(0, len)?) == saved.fingerprint)
}

/// It was read to its end, and all that was read is stored. A damaged one may be whole now, of whatever size.
fn is_settled(saved: &SavedFile, meta: &Metadata) -> bool {
    saved.is_all_of(meta.len()) && saved.offset >= saved.size_seen && !saved.damaged
}

fn is_left_out(saved: &SavedFile) -> bool {
    saved.packed_bytes.is_some() && saved.size_seen == 0 && !saved.damaged
}

/// Whether `head` is the beginning of what was `saved`. A short one is shared by many: then the names must be alike.
fn begins_as(saved: &SavedFile, head: &[u8], path: &Path, is_read: bool) -> bool {
    let len = saved.fingerprint.len as usize;
    let Some(begins) = head.get(..len).filter(|_| len > 0) else {
        return false;
    };
    // What is read now has no more than its head; the copy of a file does not have more than the file.
    if is_read && len < HEAD && head.len() > len {
        return false;
    }
    let is_telling = len == HEAD || stem(path) == stem(Path::new(&saved.path));
    is_telling && ShortHash::of(begins) == saved.fingerprint
}

/// A name without what rotation and compression add to it.
fn stem(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let name = name
        .strip_suffix(".gz")
        .or(name.strip_suffix(".zst"))
        .unwrap_or(name);
    Some(name.trim_end_matches(|c: char| c.is_ascii_digit() || ".-_".contains(c)))
}

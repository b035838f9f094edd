//! Files that lost their names while nobody read them: an earlier run had not finished them.
//!
//! They are looked for by their identity in the directories they were in. A directory may be in the middle of a
//! rotation: a look that met names on the move proves nothing, and is taken again.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Tailer;
use crate::checkpoint::SavedFile;
use crate::source::tail::content::Content;
use crate::source::tail::identity::{self, FileId};
use crate::source::tail::packed::Packing;
use crate::source::tail::reader::Reader;

/// A directory that does not hold still is looked at again for so long. A rotation takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Not in its directory, or why that is not known.
type NotFound = (SavedFile, Option<io::Error>);

impl Tailer {
    /// Opens what is not asked for by its new name (`new` is). Returns what is not there.
    pub(super) fn find_rotated_away(
        &mut self,
        new: &[(PathBuf, Metadata)],
        had_name: &mut HashMap<PathBuf, FileId>,
        now: Instant,
    ) -> Vec<NotFound> {
        let mut wanted: HashMap<PathBuf, Vec<SavedFile>> = HashMap::new();
        let new: HashMap<FileId, &Path> = (new.iter())
            .map(|(path, meta)| (FileId::of(meta), &**path))
            .collect();
        for saved in self.checkpoints.unclaimed() {
            let (old_path, id) = (PathBuf::from(&saved.path), id_of(&saved));
            if !self.globs.matches(&old_path) || self.files.contains_key(&id) {
                continue;
            }
            let is_new = new.get(&id).filter(|path| !has_other_content(&saved, path));
            if let Some(path) = is_new {
                // Only the order is of interest.
                if **path != *old_path {
                    had_name.insert(old_path, id);
                }
            } else if let Some(directory) = old_path.parent() {
                let there = wanted.entry(directory.to_owned()).or_default();
                there.push(saved);
            }
        }
        let (mut not_found, mut replaced) = (Vec::new(), Vec::new());
        for (directory, mut wanted) in wanted {
            let looked = look_in(
                &directory,
                &mut wanted,
                id_of,
                |saved, path, file| match self.open_rotated(&saved, path, file, now) {
                    Ok(true) => {
                        had_name.insert(PathBuf::from(&saved.path), id_of(&saved));
                    }
                    Ok(false) => replaced.push(saved),
                    Err(error) => not_found.push((saved, Some(error))),
                },
            );
            let mut error = looked.err();
            wanted.append(&mut replaced);
            self.find_packed_copies(&directory, &mut wanted, now);
            not_found.extend(wanted.into_iter().map(|saved| (saved, error.take())));
        }
        not_found
    }

    /// False if another source has it, or it has become another file.
    fn open_rotated(
        &mut self,
        saved: &SavedFile,
        now_at: &Path,
        file: io::Result<File>,
        now: Instant,
    ) -> io::Result<bool> {
        let file = Content::of(file?, now_at);
        let id = id_of(saved);
        if !identity::is_saved(saved, &file, file.metadata()?.len())? {
            return Ok(false);
        }
        let Some(claim) = self.claim(id, now_at) else {
            return Ok(false);
        };
        tracing::info!(
            path = saved.path, now = %now_at.display(),
            "file was rotated while nobody read it; finishing it"
        );
        let reader = Reader::new(
            PathBuf::from(&saved.path),
            file,
            saved.offset,
            claim,
            &self.outlet,
        )?;
        let mut tailed = self.tailed(reader);
        (tailed.gone_since, tailed.unwatched) = (Some(now), true);
        self.insert(id, tailed);
        Ok(true)
    }
}

/// The inode has gone to another file, or its content is gone. Of what is packed that would take long to see.
fn has_other_content(saved: &SavedFile, path: &Path) -> bool {
    if Packing::of(path).is_some() {
        return false;
    }
    let looked = Content::open(path).and_then(|file| {
        let size = file.metadata()?.len();
        identity::is_saved(saved, &file, size)
    });
    // One that cannot be read is told of when it is opened.
    !looked.unwrap_or(true)
}

/// Says what is lost.
pub(super) fn warn_of(not_found: Vec<NotFound>) {
    for (saved, error) in not_found {
        match error {
            None if saved.size_seen > saved.offset => tracing::warn!(
                path = saved.path,
                unread = saved.size_seen - saved.offset,
                "file was rotated or deleted while nobody read it, and is not in its directory any more; \
                 what was not read of it is lost, unless it is put back there"
            ),
            None => {}
            Some(error) => tracing::warn!(
                path = saved.path, %error,
                "files that were rotated while nobody read them cannot be finished; let this user read \
                 their directory and start again"
            ),
        }
    }
}

/// Takes those of `wanted` that are in `directory`, and hands them over, opened.
pub(super) fn look_in<T>(
    directory: &Path,
    wanted: &mut Vec<T>,
    id_of: impl Fn(&T) -> FileId,
    mut on: impl FnMut(T, &Path, io::Result<File>),
) -> io::Result<()> {
    let began = Instant::now();
    loop {
        let before = directory.metadata()?.modified()?;
        let mut holds_still = true;
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let Some(meta) = unless_gone(path.symlink_metadata())? else {
                holds_still = false;
                continue;
            };
            let id = FileId::of(&meta);
            let index = wanted.iter().position(|wanted| id_of(wanted) == id);
            // Opening a pipe would block.
            let Some(index) = index.filter(|_| meta.is_file()) else {
                continue;
            };
            match open(&path, id).transpose() {
                Some(opened) => on(wanted.swap_remove(index), &path, opened),
                None => holds_still = false,
            }
        }
        let held_still = holds_still && directory.metadata()?.modified()? == before;
        if wanted.is_empty() || held_still || began.elapsed() > PATIENCE {
            return Ok(());
        }
    }
}

/// None if another has the name by now.
fn open(path: &Path, id: FileId) -> io::Result<Option<File>> {
    let Some(file) = unless_gone(File::open(path))? else {
        return Ok(None);
    };
    let is_it = FileId::of(&file.metadata()?) == id;
    Ok(is_it.then_some(file))
}

pub(super) fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(it) => Ok(Some(it)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

pub(super) fn id_of(saved: &SavedFile) -> FileId {
    FileId {
        device: saved.device,
        inode: saved.inode,
    }
}

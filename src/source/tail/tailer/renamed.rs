//! Files that are renamed before a look can see them: the system's events tell of them.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Tailer;
use super::rotated::unless_gone;
use crate::source::tail::content::Content;
use crate::source::tail::identity::FileId;
use crate::source::tail::reader::Reader;

/// A file's first name is known for so long after it was renamed: the events of a rotation come within milliseconds.
const REMEMBERED: Duration = Duration::from_secs(1);

impl Tailer {
    /// Files that lost a name that is asked for before a look could see them under it: rotated twice between
    /// two looks. The system told both names; of one that is renamed again it may tell in two parts.
    pub(super) fn catch_renamed(&mut self, renames: &[(PathBuf, PathBuf)], now: Instant) {
        if renames.is_empty() {
            return;
        }
        self.renamed.retain(|_, (_, at)| now < *at + REMEMBERED);
        for (from, to) in renames {
            let before = self.renamed.remove(from).map(|(was, _)| was);
            let asked_for = before.filter(|was| self.globs.matches(was));
            let was = asked_for.unwrap_or_else(|| from.clone());
            self.renamed.insert(to.clone(), (was, now));
        }
        // In the order in which they got the names that they have now.
        let mut told = HashSet::new();
        let mut names: Vec<&Path> = renames.iter().rev().map(|(_, to)| &**to).collect();
        names.retain(|is| told.insert(*is));
        for is in names.into_iter().rev() {
            let Some((was, _)) = self.renamed.get(is) else {
                continue;
            };
            if !self.globs.matches(was) || self.globs.matches(is) {
                continue;
            }
            if let Err(error) = self.open_renamed(is, &was.clone(), now) {
                tracing::warn!(
                    path = %is.display(), %error,
                    "file that was just rotated cannot be read; what was not read of it is lost unless it \
                     is given its old name again"
                );
            }
        }
    }

    fn open_renamed(&mut self, is: &Path, was: &Path, now: Instant) -> io::Result<()> {
        let Some(meta) = unless_gone(is.metadata())? else {
            return Ok(());
        };
        let id = FileId::of(&meta);
        if !meta.is_file() || self.files.contains_key(&id) {
            return Ok(());
        }
        let Some(claim) = self.claim(id, is) else {
            return Ok(());
        };
        let Some(file) = unless_gone(Content::open(is))? else {
            return Ok(());
        };
        let opened = file.metadata()?;
        if FileId::of(&opened) != id {
            // Renamed since: the next events say so.
            return Ok(());
        }
        let offset = self.offset_to_start_at(&file, was, &claim, opened.len())?;
        let reader = Reader::new(was.to_owned(), file, offset, claim, &self.outlet)?;
        let mut tailed = self.tailed(reader);
        (tailed.gone_since, tailed.unwatched) = (Some(now), true);
        tailed.after = self.by_path.insert(was.to_owned(), id);
        self.insert(id, tailed);
        Ok(())
    }
}

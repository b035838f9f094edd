//! What is settled is noted for the next run, and deleted.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cursor::Note;
use super::disk::{is_full, put_aside};
use super::settled::Marker;
use super::shelf::{Segment, Shelf};
use super::{Disk, Sync, cursor, restore};
use crate::recurring::{Recurring, Unsaid};

/// Saves the cursor and deletes what is settled.
#[derive(Debug, Clone)]
pub struct Keeper {
    pub(super) shelf: Arc<Shelf>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) sync: Sync,
}

impl Keeper {
    /// The cursor is saved this often, if it has moved: so much is sent again after a crash.
    const EVERY: Duration = Duration::from_secs(1);

    /// Goes on until aborted; somebody calls [`finish`](Self::finish) then. Cancel safe.
    pub async fn run(self) {
        let mut save_at = Instant::now();
        let mut trouble = Recurring::default();
        loop {
            self.shelf.moved.notified().await;
            // Room is given back at once; the cursor is for after a crash.
            let dropped = self.aside(Self::drop_done).await;
            tokio::time::sleep_until(save_at).await;
            save_at = Instant::now() + Self::EVERY;
            let saved = self.aside(Self::save_meanwhile).await;
            match dropped.and(saved) {
                Ok(()) => {
                    if let Some(down_for) = trouble.end(Instant::now()) {
                        tracing::warn!(
                            path = %self.shelf.dir().display(), ?down_for,
                            "what is stored of the spool can be noted again"
                        );
                    }
                }
                Err(error) => {
                    // Not to wait for the next answer.
                    self.shelf.moved.notify_one();
                    if let Some(Unsaid(others)) = trouble.goes_on(Instant::now()) {
                        tracing::error!(
                            path = %self.shelf.dir().display(), %error, others_unsaid = others,
                            "what is stored of the spool cannot be noted, and a restart sends it again; sending goes \
                             on: free space on its disk, and let this user write there"
                        );
                    }
                }
            }
        }
    }

    /// The last word, when nothing is under way any more: whoever waits still is told that it was given up, though the
    /// next run sends it. Blocks.
    pub fn finish(&self) -> io::Result<()> {
        drop(self.shelf.take_parked());
        let dropped = self.drop_done();
        let is_told = self.restore_or_give_up();
        dropped.and(self.save(|| {
            let note = self.shelf.note(self.sync != Sync::Never);
            if !is_told {
                return note;
            }
            // What was told as lost is not to be missed by the next run.
            let settled = restore::behind_gone(&self.shelf);
            Note {
                settled,
                end: settled,
                ..note
            }
        }))
    }

    /// What somebody removed is on disk again, or was not stored and is gone with this process; so is what was cut off.
    /// True if some of it is gone.
    fn restore_or_give_up(&self) -> bool {
        let (shelf, disk) = (&self.shelf, &*self.disk);
        let restored = restore::restore(shelf, disk, self.sync);
        // Some of them have their answer, behind one that has none.
        let waiting = shelf.counters.snapshot().spooled;
        let missing = restore::missing(shelf).min(waiting);
        if missing == 0 {
            return false;
        }
        let why = match restored {
            Ok(()) => "they were cut off".to_owned(),
            Err(error) => format!("they cannot be written again: {error}"),
        };
        tracing::error!(
            path = %shelf.dir().display(), records = missing, why,
            "somebody removed or cut files of the spool, and these records are lost. Stop the agent before its spool is \
             removed"
        );
        shelf.counters.lose(missing);
        shelf.counters.unspool(missing);
        true
    }

    fn save_meanwhile(&self) -> io::Result<()> {
        self.save(|| self.shelf.note(self.sync == Sync::Always))
    }

    /// A full disk has no room for a cursor unless something goes first.
    fn save_and_make_room(&self, done: &mut VecDeque<Segment>) -> io::Result<()> {
        match self.save_meanwhile() {
            Err(error) if is_full(&error) => {
                let Some(at) = done.iter().position(|segment| !segment.damaged) else {
                    return Err(error);
                };
                let (shelf, disk) = (&self.shelf, &*self.disk);
                let marker = Marker::make(disk, shelf.dir(), shelf.spool, &done[at], self.sync)?;
                done.remove(at);
                shelf.add_markers([marker]);
                shelf.freed.notify_one();
                self.save_meanwhile()
            }
            saved => saved,
        }
    }

    fn save(&self, note: impl FnOnce() -> Note) -> io::Result<()> {
        let mut saved = self.shelf.saved.lock().expect("no panic while held");
        let note = note();
        if Some(note) != *saved {
            self.shelf.hold()?;
            cursor::save(&*self.disk, self.shelf.dir(), note)?;
            *saved = Some(note);
        }
        self.shelf.drop_markers(&*self.disk);
        Ok(())
    }

    /// On a thread that may block.
    async fn aside(
        &self,
        work: impl FnOnce(&Self) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let keeper = self.clone();
        let working = tokio::task::spawn_blocking(move || work(&keeper));
        working.await.map_err(io::Error::other)?
    }

    /// Deletes segments of which all is settled; the damaged ones are kept aside. The cursor is saved before, so that what
    /// is gone and was not settled can be told from them.
    fn drop_done(&self) -> io::Result<()> {
        let (shelf, disk) = (&self.shelf, &self.disk);
        let _one_at_a_time = shelf.files.lock().expect("no panic while held");
        let mut done = shelf.take_done();
        if !done.is_empty()
            && let Err(error) = self.save_and_make_room(&mut done)
        {
            shelf.put_back(done);
            return Err(error);
        }
        while let Some(segment) = done.front() {
            let dropped = match segment.damaged {
                true => put_aside(&**disk, &segment.path, "damaged").map(drop),
                false => disk.remove(&segment.path),
            };
            match dropped {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    shelf.put_back(done);
                    return Err(error);
                }
                _ => {
                    done.pop_front();
                    shelf.freed.notify_one();
                }
            }
        }
        Ok(())
    }
}

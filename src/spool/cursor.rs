//! Where a spool is to be read on: `cursor.json`, replaced as a whole.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Disk, SpoolError, disk::put_aside as put_file_aside};

const NAME: &str = "cursor.json";
const UNFINISHED: &str = "cursor.json.new";
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    version: u32,
    /// User records that are settled, of all that the spool has ever taken.
    settled: u64,
    /// CRC-32 of it, 8 bytes, the highest first: a wrong one would pass over what was never sent.
    crc32: u32,
    /// Not of an older program.
    spool: Option<SavedSpool>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedSpool {
    id: u32,
    end: u64,
    /// CRC-32 of `settled`, `id` and `end`, the highest byte first.
    crc32: u32,
}

/// What is known of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    /// User records that are settled.
    pub(super) settled: u64,
    /// Whose segments these are.
    pub(super) spool: u32,
    /// So many it had taken, at least, and they were synced.
    pub(super) end: u64,
}

impl Note {
    fn checksum(self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.settled.to_be_bytes());
        hasher.update(&self.spool.to_be_bytes());
        hasher.update(&self.end.to_be_bytes());
        hasher.finalize()
    }
}

fn checksum(settled: u64) -> u32 {
    crc32fast::hash(&settled.to_be_bytes())
}

/// What is on disk.
#[derive(Debug)]
pub(super) enum Cursor {
    /// None was ever saved, or somebody removed it.
    Missing,
    Noted(Note),
    /// By an older program.
    Settled(u64),
    Damaged {
        why: String,
    },
}

pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Result<Cursor, SpoolError> {
    let path = dir.join(NAME);
    let bytes = match disk.open(&path).and_then(|file| file.read(0, 4096)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Cursor::Missing),
        Err(e) if e.kind() == io::ErrorKind::IsADirectory => {
            return Ok(Cursor::Damaged { why: e.to_string() });
        }
        Err(source) => return Err(SpoolError::Unusable { dir: path, source }),
    };
    let saved: Saved = match serde_json::from_slice(&bytes) {
        Ok(saved) => saved,
        Err(e) => return Ok(Cursor::Damaged { why: e.to_string() }),
    };
    if saved.version != VERSION {
        return Err(SpoolError::Cursor {
            path,
            found: saved.version,
        });
    }
    let (is_right, cursor) = match saved.spool {
        None => (true, Cursor::Settled(saved.settled)),
        Some(SavedSpool { id, end, crc32 }) => {
            let note = Note {
                settled: saved.settled,
                spool: id,
                end,
            };
            (crc32 == note.checksum(), Cursor::Noted(note))
        }
    };
    Ok(match is_right && saved.crc32 == checksum(saved.settled) {
        true => cursor,
        false => Cursor::Damaged {
            why: "its checksum is wrong".to_owned(),
        },
    })
}

/// Whether there is one.
pub(super) fn is_there(disk: &dyn Disk, dir: &Path) -> bool {
    let opened = disk.open(&dir.join(NAME));
    !opened.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Under its other name nobody takes it for a cursor.
pub(super) fn put_aside(disk: &dyn Disk, dir: &Path, why: &str) -> io::Result<()> {
    let path = dir.join(NAME);
    let aside = put_file_aside(disk, &path, "damaged")?;
    tracing::error!(
        path = %aside.display(), why,
        "the spool's cursor is damaged and kept under this name: what is in the spool is sent from its oldest record on, \
         some of it for the second time"
    );
    Ok(())
}

/// Once this returns it survives a power cut.
pub(super) fn save(disk: &dyn Disk, dir: &Path, note: Note) -> io::Result<()> {
    let saved = Saved {
        version: VERSION,
        settled: note.settled,
        crc32: checksum(note.settled),
        spool: Some(SavedSpool {
            id: note.spool,
            end: note.end,
            crc32: note.checksum(),
        }),
    };
    let (path, unfinished) = (dir.join(NAME), dir.join(UNFINISHED));
    match disk.remove(&unfinished) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = match disk.create(&unfinished) {
        // Somebody removed the folder.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            disk.create_dir(dir)?;
            disk.create(&unfinished)?
        }
        created => created?,
    };
    file.append(&serde_json::to_vec(&saved).map_err(io::Error::other)?)?;
    file.sync()?;
    disk.rename(&unfinished, &path)?;
    disk.sync_dir(dir)
}

//! Where a spool is to be read on: `cursor.json`, replaced as a whole.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Disk, SpoolError};

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
}

fn checksum(settled: u64) -> u32 {
    crc32fast::hash(&settled.to_be_bytes())
}

/// What is on disk.
#[derive(Debug)]
pub(super) enum Cursor {
    /// 0 where none was ever saved.
    At(u64),
    Damaged {
        why: String,
    },
}

pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Result<Cursor, SpoolError> {
    let path = dir.join(NAME);
    let bytes = match disk.open(&path).and_then(|file| file.read(0, 4096)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Cursor::At(0)),
        Err(source) => return Err(SpoolError::Unusable { dir: path, source }),
    };
    match serde_json::from_slice(&bytes) {
        Ok(Saved {
            version: VERSION,
            settled,
            crc32,
        }) if crc32 == checksum(settled) => Ok(Cursor::At(settled)),
        Ok(Saved {
            version: VERSION, ..
        }) => Ok(Cursor::Damaged {
            why: "its checksum is wrong".to_owned(),
        }),
        Ok(Saved { version, .. }) => Err(SpoolError::Cursor {
            path,
            found: version,
        }),
        Err(e) => Ok(Cursor::Damaged { why: e.to_string() }),
    }
}

/// Under its other name nobody takes it for a cursor.
pub(super) fn put_aside(disk: &dyn Disk, dir: &Path, why: &str) -> io::Result<()> {
    let path = dir.join(NAME);
    let aside = path.with_extension("damaged");
    disk.rename(&path, &aside)?;
    tracing::error!(
        path = %aside.display(), why,
        "the spool's cursor is damaged and kept under this name: what is in the spool is sent from its oldest record on, \
         some of it for the second time"
    );
    Ok(())
}

/// Once this returns it survives a power cut.
pub(super) fn save(disk: &dyn Disk, dir: &Path, settled: u64) -> io::Result<()> {
    let saved = Saved {
        version: VERSION,
        settled,
        crc32: checksum(settled),
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

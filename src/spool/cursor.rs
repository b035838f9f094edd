//! Where a spool is to be read on: `cursor.json`, replaced as a whole.

use std::io;
use std::path::{Path, PathBuf};

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

/// 0 where none was ever saved.
pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Result<u64, SpoolError> {
    let path = dir.join(NAME);
    let bytes = match disk.read(&path, 0, 4096) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(source) => return Err(SpoolError::Unusable { dir: path, source }),
    };
    let damaged = |path: PathBuf, why: String| SpoolError::Cursor { path, why };
    match serde_json::from_slice(&bytes) {
        Ok(Saved {
            version: VERSION,
            settled,
            crc32,
        }) if crc32 == checksum(settled) => Ok(settled),
        Ok(Saved {
            version: VERSION, ..
        }) => Err(damaged(path, "its checksum is wrong".to_owned())),
        Ok(Saved { version, .. }) => Err(damaged(path, format!("version {version}"))),
        Err(e) => Err(damaged(path, e.to_string())),
    }
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
    let mut file = match disk.create(&unfinished) {
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

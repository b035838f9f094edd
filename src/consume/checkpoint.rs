//! How far a stream has been read, kept in a file over a restart.
//!
//! JSON, written anew and renamed into place, so that it is whole at every moment. Promises: what it says was handed out
//! was, before it said so; so a restart goes on there, and repeats what was handed out since it was last saved. Where records went
//! to a file, its length is noted too: cut back to that, it has each record once.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Progress;
use crate::durable::lock_soon;
use crate::record::StreamName;
use crate::shard::ShardId;

/// A stream's, in its file.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    /// Held as long as this lives: beside the file, which is another one each time it is saved.
    _lock: File,
    stream: StreamName,
    pub places: BTreeMap<ShardId, Progress>,
    /// Bytes of the file that records go to.
    pub written: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    #[error("checkpoint {path}: {source}; {way_out}", path = path.display(), way_out = way_out(source))]
    Io { path: PathBuf, source: io::Error },
    #[error("checkpoint {path} is no file, and is written anew each second: name a file", path = path.display())]
    NoFile { path: PathBuf },
    #[error(
        "checkpoint {path} is in use by another process; two of them would lose records and print others twice: end that one, \
         or give this one a file of its own",
        path = path.display()
    )]
    InUse { path: PathBuf },
    #[error(
        "checkpoint {path} is damaged ({source}): how far the stream was read is not known; move it away to begin where --from says",
        path = path.display()
    )]
    Damaged {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("checkpoint {path} is of stream {found}, not {asked}; give each stream a file of its own", path = path.display())]
    OfAnother {
        path: PathBuf,
        found: String,
        asked: StreamName,
    },
}

fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there",
        _ => "let this user read and write it, and its folder",
    }
}

/// As it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    stream: String,
    shards: BTreeMap<String, WrittenPlace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output_bytes: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenPlace {
    /// Milliseconds since 1970.
    Since(u64),
    UpTo(String),
    Ended,
}

impl Checkpoint {
    /// What is in the file; nothing, where there is none yet. It is this process's until this is dropped: refused while
    /// it is another's.
    pub fn load(path: &Path, stream: &StreamName) -> Result<Self, CheckpointError> {
        let path = path.to_owned();
        if fs::metadata(&path).is_ok_and(|about| !about.is_file()) {
            return Err(CheckpointError::NoFile { path });
        }
        let lock = match lock(&beside(&path, ".lock")) {
            Ok(lock) => lock,
            Err(TryLockError::WouldBlock) => return Err(CheckpointError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(CheckpointError::Io { path, source }),
        };
        let mut checkpoint = Self {
            path: path.clone(),
            _lock: lock,
            stream: stream.clone(),
            places: BTreeMap::new(),
            written: None,
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(checkpoint),
            Err(source) => return Err(CheckpointError::Io { path, source }),
        };
        let written: Written = match serde_json::from_slice(&text) {
            Ok(written) => written,
            Err(source) => return Err(CheckpointError::Damaged { path, source }),
        };
        if written.stream != stream.to_string() {
            return Err(CheckpointError::OfAnother {
                path,
                found: written.stream,
                asked: stream.clone(),
            });
        }
        let places = written.shards.into_iter();
        let places = places.map(|(shard, place)| (ShardId::new(&shard), Progress::from(place)));
        checkpoint.places = places.collect();
        checkpoint.written = written.output_bytes;
        Ok(checkpoint)
    }

    /// Durable once this returns. Blocks.
    pub fn save(&self) -> Result<(), CheckpointError> {
        let written = Written {
            stream: self.stream.to_string(),
            shards: (self.places.iter())
                .map(|(shard, progress)| (shard.to_string(), progress.into()))
                .collect(),
            output_bytes: self.written,
        };
        let mut text = serde_json::to_vec_pretty(&written).expect("strings and numbers");
        text.push(b'\n');
        self.replace(&text).map_err(|source| CheckpointError::Io {
            path: self.path.clone(),
            source,
        })
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let new = beside(&self.path, ".new");
        let mut file = File::create(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(ending);
    name.into()
}

fn lock(path: &Path) -> Result<File, TryLockError> {
    let mut options = File::options();
    let file = options.create(true).write(true).truncate(false).open(path);
    let file = file.map_err(TryLockError::Error)?;
    lock_soon(&file)?;
    Ok(file)
}

impl From<WrittenPlace> for Progress {
    fn from(place: WrittenPlace) -> Self {
        match place {
            WrittenPlace::Since(millis) => Self::Since(UNIX_EPOCH + Duration::from_millis(millis)),
            WrittenPlace::UpTo(sequence) => Self::UpTo(sequence.into()),
            WrittenPlace::Ended => Self::Ended,
        }
    }
}

impl From<&Progress> for WrittenPlace {
    fn from(progress: &Progress) -> Self {
        let millis = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        };
        match progress {
            Progress::Since(time) => Self::Since(millis(*time)),
            Progress::UpTo(sequence) => Self::UpTo(sequence.to_string()),
            Progress::Ended => Self::Ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_what_is_loaded_and_no_file_is_a_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.json");
        let stream = StreamName::new("shop-logs").unwrap();
        let mut checkpoint = Checkpoint::load(&path, &stream).unwrap();
        assert!(checkpoint.places.is_empty() && checkpoint.written.is_none());
        let since = UNIX_EPOCH + Duration::from_millis(1_764_460_800_123);
        let places = [
            Progress::Since(since),
            Progress::UpTo("495".into()),
            Progress::Ended,
        ];
        for (n, progress) in places.into_iter().enumerate() {
            let shard = ShardId::new(&format!("shardId-{n}"));
            checkpoint.places.insert(shard, progress);
        }
        checkpoint.written = Some(77);
        checkpoint.save().unwrap();
        let error = Checkpoint::load(&path, &stream).unwrap_err();
        assert!(matches!(error, CheckpointError::InUse { .. }), "{error}");
        let places = std::mem::take(&mut checkpoint.places);
        drop(checkpoint);
        let loaded = Checkpoint::load(&path, &stream).unwrap();
        assert_eq!(loaded.places, places);
        assert_eq!(loaded.written, Some(77));
        drop(loaded);
        let other = StreamName::new("other").unwrap();
        let error = Checkpoint::load(&path, &other).unwrap_err();
        assert!(error.to_string().contains("of stream shop-logs"), "{error}");
        fs::write(&path, "{\"stream\": ").unwrap();
        let error = Checkpoint::load(&path, &stream).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}

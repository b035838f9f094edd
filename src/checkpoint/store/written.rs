//! The checkpoint as it is on disk: JSON on many lines, and its checksum on the last.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{CheckpointError, Saved};

pub(super) const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    rest: T,
}

/// What every version has; the sum is not of an older program, or of a person.
#[derive(Deserialize)]
struct Outside {
    version: u32,
    crc32: Option<String>,
}

const END: &[u8] = b"\n}";

/// As it is on disk.
pub fn encode(saved: &Saved) -> io::Result<Vec<u8>> {
    let versioned = Versioned {
        version: VERSION,
        rest: saved,
    };
    let mut bytes = serde_json::to_vec_pretty(&versioned).map_err(io::Error::other)?;
    debug_assert!(bytes.ends_with(END));
    bytes.truncate(bytes.len() - END.len());
    let sum = sum_of(&bytes);
    bytes.extend_from_slice(last_line(&sum).as_bytes());
    Ok(bytes)
}

fn sum_of(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}

fn last_line(sum: &str) -> String {
    format!(",\n  \"crc32\": \"{sum}\"\n}}\n")
}

pub(super) fn parse(bytes: &[u8], path: PathBuf) -> Result<Saved, CheckpointError> {
    // The version first: what another version means by the rest is not known here.
    let parsed = match serde_json::from_slice(bytes) {
        Ok(Outside { version, .. }) if version != VERSION => {
            return Err(CheckpointError::Version {
                path,
                found: version,
            });
        }
        Ok(Outside { crc32, .. }) => check(bytes, crc32.as_deref()).and_then(|()| {
            let saved = serde_json::from_slice::<Versioned<Saved>>(bytes);
            saved.map_err(|e| e.to_string())
        }),
        Err(e) => Err(e.to_string()),
    };
    match parsed {
        Ok(versioned) => Ok(versioned.rest),
        Err(why) => Err(CheckpointError::Damaged { path, why }),
    }
}

fn check(bytes: &[u8], sum: Option<&str>) -> Result<(), String> {
    let Some(sum) = sum else { return Ok(()) };
    match bytes.strip_suffix(last_line(sum).as_bytes()) {
        Some(before) if sum_of(before) == sum => Ok(()),
        _ => Err(
            "it is not what was written, by its checksum (if a person changed it, the line of \
                  its crc32 has to go)"
                .to_owned(),
        ),
    }
}

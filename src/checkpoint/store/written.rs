//! The checkpoint as it is on disk: JSON on many lines, its checksum on the first of them.

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

/// As it is on disk.
pub fn encode(saved: &Saved) -> io::Result<Vec<u8>> {
    let versioned = Versioned {
        version: VERSION,
        rest: saved,
    };
    let text = serde_json::to_string_pretty(&versioned).map_err(io::Error::other)?;
    let rest = text.strip_prefix(BEGIN).expect("a map of many lines");
    Ok([&first_lines(&sum_of(rest.as_bytes())), rest, "\n"]
        .concat()
        .into_bytes())
}

const BEGIN: &str = "{\n";

/// Of all behind its line, but for white space at the end.
fn sum_of(rest: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(rest.trim_ascii_end()))
}

/// The sum has a line of its own, which can go without another's comma.
fn first_lines(sum: &str) -> String {
    format!("{BEGIN}  \"crc32\": \"{sum}\",\n")
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
    match bytes.strip_prefix(first_lines(sum).as_bytes()) {
        Some(rest) if sum_of(rest) == sum => Ok(()),
        _ => Err(
            "it is not what was written, by its checksum (if a person or a program changed it, its line \"crc32\" has \
             to go)"
                .to_owned(),
        ),
    }
}

//! A `[[source]]` that is a Unix socket.

use super::WHEN_FULL;
use crate::agent::SourceKind;
use crate::config::table::Table;
use crate::config::words;
use crate::source::framing::Framing;
use crate::source::{WhenFull, unix};

/// All that a socket may have.
pub(super) const KEYS: &[&str] = &["path", "framing"];

const FRAMING: [(&str, Framing); 3] = [
    ("newline", Framing::Newline),
    ("length_prefixed", Framing::LengthPrefixed),
    ("octet_counted", Framing::OctetCounted),
];

pub(super) fn read_stream(t: &mut Table<'_>) -> Option<SourceKind> {
    let allowed = "the absolute path of a socket, like \"/run/kinseal/shop.sock\", up to 107 bytes";
    let path = t.parsed("path", allowed, |text| match words::absolute_path(text) {
        // `sun_path` in Linux's <sys/un.h>, without the final NUL.
        Ok(path) if text.len() <= 107 => Ok(path),
        _ => Err(allowed.into()),
    });
    if path.is_absent() {
        t.file().missing(t.place(), "path", allowed);
    }
    let framing = t.choice("framing", &FRAMING);
    let when_full = t.choice("when_full", &WHEN_FULL);
    Some(SourceKind::Unix(unix::Settings {
        path: path.given()?,
        framing: framing.or_default(Framing::default())?,
        when_full: when_full.or_default(WhenFull::default())?,
    }))
}

//! A `[[source]]` that is a Unix socket.

use super::WHEN_FULL;
use crate::agent::SourceKind;
use crate::config::table::Table;
use crate::config::words;
use crate::config::written::Written;
use crate::source::WhenFull;
use crate::source::framing::Framing;
use crate::source::unix::{self, Address};

/// All that a socket may have.
pub(super) const KEYS: &[&str] = &["path", "framing"];

const FRAMING: [(&str, Framing); 3] = [
    ("newline", Framing::Newline),
    ("length_prefixed", Framing::LengthPrefixed),
    ("octet_counted", Framing::OctetCounted),
];

pub(super) fn read_stream(t: &mut Table<'_>) -> Option<SourceKind> {
    let path = read_address(t);
    let framing = t.choice("framing", &FRAMING);
    let when_full = t.choice("when_full", &WHEN_FULL);
    Some(SourceKind::Unix(unix::Settings {
        path: path.given()?,
        framing: framing.or_default(Framing::default())?,
        when_full: when_full.or_default(WhenFull::default())?,
    }))
}

fn read_address(t: &mut Table<'_>) -> Written<Address> {
    // `sun_path` in Linux's <sys/un.h>, without the NUL at the end of a path or before an abstract name.
    const LONGEST: usize = 107;
    let allowed = "the absolute path of a socket, like \"/run/kinseal/shop.sock\", or a name without a file, like \
                   \"@shop\", up to 107 bytes";
    let address = t.parsed("path", allowed, |text| {
        let address = match text.strip_prefix('@') {
            Some(name) if !name.is_empty() && !name.contains('\0') => {
                Some(Address::Abstract(name.to_owned()))
            }
            _ => words::absolute_path(text).ok().map(Address::File),
        };
        let address = address.filter(|_| text.len() <= LONGEST);
        address.ok_or_else(|| allowed.into())
    });
    if address.is_absent() {
        t.file().missing(t.place(), "path", allowed);
    }
    address
}

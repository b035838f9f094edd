//! A `[[source]]` that is a Unix socket.

use std::sync::Arc;

use super::{WHEN_FULL, lines};
use crate::agent::SourceKind;
use crate::config::entry::Entry;
use crate::config::table::Table;
use crate::config::words;
use crate::config::written::Written;
use crate::source::WhenFull;
use crate::source::framing::Framing;
use crate::source::unix::{self, Access, Account, Ack, Address, Allow};

/// All that a socket may have.
pub(super) const KEYS: &[&str] = &[
    "path",
    "mode",
    "owner",
    "group",
    "allow",
    "max_connections",
    "framing",
    "ack",
];

const FRAMING: [(&str, Protocol); 4] = [
    ("newline", Protocol::Framed(Framing::Newline)),
    ("length_prefixed", Protocol::Framed(Framing::LengthPrefixed)),
    ("octet_counted", Protocol::Framed(Framing::OctetCounted)),
    ("kpl", Protocol::Kpl),
];

const ACK: [(&str, Ack); 2] = [("stored", Ack::Stored), ("spooled", Ack::Spooled)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Framed(Framing),
    Kpl,
}

pub(super) fn read_stream(t: &mut Table<'_>) -> Option<SourceKind> {
    let path = read_address(t);
    let access = read_access(t, path.as_given());
    let allow = t.table("allow", read_allow);
    let max_connections = t.integer("max_connections", 1..=100_000);
    let framing = t.choice("framing", &FRAMING);
    let ack = t.choice("ack", &ACK);
    let multiline = lines::read_multiline(t);
    let is_lines = |protocol: &Protocol| *protocol == Protocol::Framed(Framing::Newline);
    if let (Some(protocol), Some(place)) = (framing.as_given(), multiline.place())
        && !is_lines(protocol)
    {
        let text = "found beside framing, by which a record may hold newlines; allowed: with framing = \"newline\"";
        t.file().mistake(place, text);
        return None;
    }
    let when_full = t.choice("when_full", &WHEN_FULL);
    let is_kpl = framing.as_given() == Some(&Protocol::Kpl);
    if let (Some(place), false) = (ack.place(), is_kpl) {
        let text =
            "found without framing = \"kpl\", which alone has answers; allowed: together with it";
        t.file().mistake(place, text);
    }
    if let (Written::Given(WhenFull::DropNewest, place), true) = (&when_full, is_kpl) {
        let text = "found \"drop_newest\" beside framing = \"kpl\", whose clients are told of each record; allowed: \
                    \"block\"";
        t.file().mistake(place, text);
    }
    if let (Written::Given(Ack::Spooled, place), true) = (&ack, is_kpl) {
        t.file().spooled_answers.borrow_mut().push(place.clone());
    }
    let ack = ack.or_default(Ack::default())?;
    let (framing, acknowledged) = match framing.or_default(Protocol::Framed(Framing::default()))? {
        Protocol::Framed(framing) => (framing, None),
        Protocol::Kpl => (Framing::default(), Some(ack)),
    };
    Some(SourceKind::Unix(unix::Settings {
        path: path.given()?,
        access: access.or_default(None)?,
        allow: match allow {
            Written::Absent => None,
            Written::Given(allow, _) => Some(allow?),
            Written::Mistaken => return None,
        },
        max_connections: max_connections.or_default(unix::MAX_CONNECTIONS as u64)? as usize,
        framing,
        acknowledged,
        multiline: multiline.or_default(None)?.map(Arc::new),
        when_full: when_full.or_default(WhenFull::default())?,
    }))
}

pub(super) fn read_datagram(t: &mut Table<'_>) -> Option<SourceKind> {
    let path = read_address(t);
    let access = read_access(t, path.as_given());
    let when_full = t.choice("when_full", &WHEN_FULL);
    Some(SourceKind::UnixDatagram(unix::DatagramSettings {
        path: path.given()?,
        access: access.or_default(None)?,
        when_full: when_full.or_default(WhenFull::default())?,
    }))
}

fn read_address(t: &mut Table<'_>) -> Written<Address> {
    // `sun_path` in Linux's <sys/un.h>, without the NUL at the end of a path or before an abstract name.
    const LONGEST: usize = 107;
    let allowed = "the absolute path of a socket, like \"/run/kinseal/shop.sock\", or a name without a file, like \
                   \"@shop\", up to 107 bytes; or \"systemd:NAME\"";
    let address = t.parsed("path", allowed, |text| {
        if let Some(name) = text.strip_prefix(Address::HANDED_OVER) {
            // As sd_listen_fds_with_names(3) has it.
            let is_name = !name.is_empty() && name.len() <= 255 && !name.contains(':');
            let name = is_name.then(|| Address::HandedOver(name.to_owned()));
            return name.ok_or_else(|| allowed.into());
        }
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

/// Of the file. What the umask leaves lets hardly any group write, hence no owner and no group without a mode.
fn read_access(t: &mut Table<'_>, address: Option<&Address>) -> Written<Option<Access>> {
    const MODE: &str = "an octal mode in quotes, like \"0660\", up to \"0777\"";
    let mode = t.parsed("mode", MODE, |text| {
        let is_octal = matches!(text.len(), 3 | 4) && text.bytes().all(|b| b.is_ascii_digit());
        let mode = u32::from_str_radix(text, 8).ok();
        let mode = mode.filter(|mode| is_octal && *mode <= 0o777);
        mode.ok_or_else(|| MODE.into())
    });
    let owner = t.with("owner", |entry| read_account(&entry, USER));
    let group = t.with("group", |entry| read_account(&entry, GROUP));

    let has_no_file = address.is_some_and(|address| address.file().is_none());
    let mut wrong = false;
    for (place, needs_mode) in [
        (mode.place(), false),
        (owner.place(), true),
        (group.place(), true),
    ] {
        let text = match place {
            Some(_) if has_no_file => {
                "found for a name without a file of the agent's; allowed: for the path of a file"
            }
            Some(_) if needs_mode && mode.is_absent() => {
                "found without mode; allowed: together with it, like mode = \"0660\""
            }
            _ => continue,
        };
        wrong = true;
        t.file().mistake(place.expect("matched above"), text);
    }
    let access = || {
        let mode = mode.clone().given()?;
        let owner = owner.map(Some).or_default(None)?;
        let group = group.map(Some).or_default(None)?;
        Some(Access { mode, owner, group })
    };
    if wrong {
        return Written::Mistaken;
    }
    match (&mode, access()) {
        (Written::Absent, _) => Written::Absent,
        (Written::Given(_, place), Some(access)) => Written::Given(Some(access), place.clone()),
        _ => Written::Mistaken,
    }
}

fn read_allow(t: &mut Table<'_>) -> Option<Allow> {
    let mut accounts = |key, allowed: &str| {
        let list = format!("a list, each {allowed}");
        t.with(key, |entry| {
            entry.list_of(&list, |entry| read_account(entry, allowed))
        })
    };
    let uids = accounts("uids", USER).or_default(Vec::new())?;
    let gids = accounts("gids", GROUP).or_default(Vec::new())?;
    if uids.is_empty() && gids.is_empty() {
        let text = "found a list of nobody; allowed: { uids = […], gids = […] }, of which one has an entry";
        t.file().mistake(t.place(), text);
        return None;
    }
    Some(Allow { uids, gids })
}

const USER: &str = "a user's name or number, like \"kinseal\" or 1000";
const GROUP: &str = "a group's name or number, like \"adm\" or 1000";

fn read_account(entry: &Entry<'_>, allowed: &str) -> Written<Account> {
    // The last number means "as it is" to chown.
    let id = |id: u32| (id != u32::MAX).then_some(Account::Id(id));
    entry.scalar(
        allowed,
        |value| u32::try_from(value.as_integer()?).ok().and_then(id),
        |text| match text.parse() {
            Ok(number) => id(number).ok_or_else(|| allowed.into()),
            Err(_) if text.is_empty() || text.contains(['\0', ':', '\n']) => Err(allowed.into()),
            // Too large a number, or a negative one, is no name.
            Err(_) if text.parse::<i128>().is_ok() => Err(allowed.into()),
            Err(_) => Ok(Account::Name(text.to_owned())),
        },
    )
}

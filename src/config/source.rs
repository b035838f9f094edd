//! `[[source]]`: where records come from, and which stream they go to.

mod data_processing;
mod lines;
mod shape;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use self::lines::LineFormat;
use super::table::Table;
use super::written::{Place, Written};
use super::{PartitionKeyRule, Source, SourceKind, words};
use crate::record::{PartitionKey, StreamName};
use crate::source::frame::MAX_LINE;
use crate::source::keying::{Field as KeyField, Form, JsonPointer, KeyPattern};
use crate::source::shape::Field;
use crate::source::tail::StartPosition;
use crate::source::{WhenFull, stdin, tail, unix};

/// One `[[source]]`.
pub(super) struct Part {
    pub(super) stream: Written<StreamName>,
    /// `None` where a mistake has been noted.
    pub(super) source: Option<Source>,
    /// What only one source may read, if this is such a thing.
    exclusive: Option<String>,
    place: Place,
}

#[derive(Clone, Copy)]
enum Kind {
    File,
    Unix,
    UnixDatagram,
    Stdin,
}

impl Kind {
    fn is_file(self) -> bool {
        matches!(self, Self::File)
    }

    /// What an envelope may tell of its records.
    fn fields(self) -> &'static [Field] {
        use Field::{File, Host, Offset, Peer, Timestamp};
        match self {
            Self::File => &[Timestamp, Host, File, Offset],
            Self::Unix => &[Timestamp, Host, Peer],
            Self::UnixDatagram | Self::Stdin => &[Timestamp, Host],
        }
    }
}

const KINDS: [(&str, Kind); 4] = [
    ("file", Kind::File),
    ("unix", Kind::Unix),
    ("unix_datagram", Kind::UnixDatagram),
    ("stdin", Kind::Stdin),
];
const WHEN_FULL: [(&str, WhenFull); 2] = [
    ("block", WhenFull::Block),
    ("drop_newest", WhenFull::DropNewest),
];
const GLOBS: &str = "a list of absolute globs, like [\"/var/log/shop/*.log\"]";
const PARTITION_KEY: &str = "\"random\", \"hash\", \"file\", \"host\", { constant = \"…\" }, \
     { json_pointer = \"/order/id\" } or { regex = \"user=(?<key>…)\" }";
const FIELD: &str = "json_pointer or regex";

pub(super) fn read_all(root: &mut Table<'_>) -> Vec<Part> {
    let sources = match root.tables("source", read) {
        Written::Given(sources, place) if sources.is_empty() => {
            root.file().mistake(
                &place,
                "found an empty list; allowed: one [[source]] or more",
            );
            sources
        }
        Written::Given(sources, _) => sources,
        Written::Absent => {
            let allowed = "one [[source]] or more, each with type, stream, and what its type needs";
            root.file().missing(root.place(), "source", allowed);
            Vec::new()
        }
        Written::Mistaken => Vec::new(),
    };
    check_exclusive(root, &sources);
    if !root.has("spool") {
        // What is never in a spool can have no answer on being there.
        for place in root.file().spooled_answers.borrow().iter() {
            let text = "found \"spooled\" without a table [spool]; allowed: together with one, or \"stored\"";
            root.file().mistake(place, text);
        }
    }
    sources
}

fn read(t: &mut Table<'_>) -> Part {
    let kind = t.choice("type", &KINDS);
    let stream = t.parsed("stream", "the name or ARN of a stream", |text| {
        StreamName::new(text).map_err(|_| {
            "a stream's name of 1 to 128 letters, digits, '_', '.' or '-', or its ARN, like \
             \"arn:aws:kinesis:eu-west-1:111122223333:stream/NAME\""
                .into()
        })
    });
    let partition_key = read_partition_key(t);
    // Of no known type: any type's words may be right.
    let format = lines::read_format(t, !matches!(kind.as_given(), Some(kind) if !kind.is_file()));
    let source_kind = match &kind {
        Written::Given(Kind::File, _) => read_file(t, &format),
        Written::Given(Kind::Unix, _) => socket::read_stream(t),
        Written::Given(Kind::UnixDatagram, _) => socket::read_datagram(t),
        Written::Given(Kind::Stdin, _) => read_stdin(t),
        Written::Absent | Written::Mistaken => {
            // Of no known type: any type's keys may be right.
            t.allow(&[
                "include",
                "exclude",
                "start_position",
                "ignore_older",
                "close_inactive",
                "rotate_wait",
                "max_open_files",
                "max_line_bytes",
                "multiline",
            ]);
            t.allow(&["skip_header_lines", "partial_timeout"]);
            t.allow(&["when_full"]);
            t.allow(socket::KEYS);
            None
        }
    };
    let fields = kind.as_given().map_or(&[][..], |kind| kind.fields());
    let shape = shape::read(t, fields, &format);
    if kind.is_absent() {
        t.file().missing(
            t.place(),
            "type",
            "\"file\" or \"unix\" or \"unix_datagram\" or \"stdin\"",
        );
    }
    if stream.is_absent() {
        t.file().missing(
            t.place(),
            "stream",
            "the name or ARN of the stream that the records go to",
        );
    }
    let exclusive = match &source_kind {
        // Several may have one name: each source gets another, or the start fails.
        Some(
            SourceKind::Unix(unix::Settings { path, .. })
            | SourceKind::UnixDatagram(unix::DatagramSettings { path, .. }),
        ) if matches!(path, unix::Address::HandedOver(_)) => None,
        Some(SourceKind::Stdin(_)) => Some("standard input".into()),
        Some(SourceKind::Unix(unix)) => Some(format!("the socket {}", unix.path)),
        Some(SourceKind::UnixDatagram(unix)) => Some(format!("the socket {}", unix.path)),
        Some(SourceKind::File(_)) | None => None,
    };
    let source = || {
        Some(Source {
            kind: source_kind?,
            stream: stream.clone().given()?,
            partition_key: partition_key.or_default(PartitionKeyRule::Random)?,
            shape: shape?,
        })
    };
    Part {
        source: source(),
        exclusive,
        place: t.place().clone(),
        stream,
    }
}

fn read_file(t: &mut Table<'_>, format: &Written<LineFormat>) -> Option<SourceKind> {
    let include = t.list("include", GLOBS, words::absolute_glob);
    match &include {
        Written::Absent => t.file().missing(t.place(), "include", GLOBS),
        Written::Given(globs, place) if globs.is_empty() => {
            t.file()
                .mistake(place, format!("found an empty list; allowed: {GLOBS}"));
        }
        Written::Given(..) | Written::Mistaken => {}
    }
    let exclude = t.list("exclude", GLOBS, words::absolute_glob);
    let words = [
        ("beginning", StartPosition::Beginning),
        ("end", StartPosition::End),
    ];
    let start_position = t.choice("start_position", &words);
    let times = Duration::from_secs(1)..=Duration::from_secs(10 * 365 * 86_400);
    let ignore_older = t.duration_or_none("ignore_older", times.clone());
    let close_inactive = t.duration("close_inactive", times);
    let rotate_wait = t.duration("rotate_wait", Duration::ZERO..=Duration::from_secs(86_400));
    let max_open_files = t.integer("max_open_files", 1..=1_000_000);
    let max_line_bytes = t.bytes("max_line_bytes", 1..=MAX_LINE as u64);
    let rules = lines::read_rules(t, format);
    if let Some(place) = t.choice("when_full", &WHEN_FULL).place() {
        let text = "found for a file; allowed: with a socket or type = \"stdin\"; a file can wait, and \
                    nothing of it is dropped";
        t.file().mistake(place, text);
    }
    let default = tail::Settings::default();
    let longest = max_line_bytes.map(|bytes| Some(bytes as usize));
    let most_open = max_open_files.map(|files| files as usize);
    Some(SourceKind::File(tail::Settings {
        include: include.given()?,
        exclude: exclude.or_default(default.exclude)?,
        start_position: start_position.or_default(default.start_position)?,
        ignore_older: ignore_older.or_default(default.ignore_older)?,
        close_inactive: close_inactive.or_default(default.close_inactive)?,
        rotate_wait: rotate_wait.or_default(default.rotate_wait)?,
        max_line_bytes: longest.or_default(None)?,
        max_open_files: most_open.or_default(default.max_open_files)?,
        rules: rules?,
    }))
}

fn read_stdin(t: &mut Table<'_>) -> Option<SourceKind> {
    let multiline = lines::read_multiline(t);
    let when_full = t.choice("when_full", &WHEN_FULL);
    Some(SourceKind::Stdin(stdin::Settings {
        multiline: multiline.or_default(None)?.map(Arc::new),
        when_full: when_full.or_default(WhenFull::default())?,
    }))
}

fn read_partition_key(t: &mut Table<'_>) -> Written<PartitionKeyRule> {
    let word = |text: &str| match text {
        "random" => Ok(PartitionKeyRule::Random),
        "hash" => Ok(PartitionKeyRule::Hash),
        "file" => Ok(PartitionKeyRule::File),
        "host" => Ok(PartitionKeyRule::Host),
        _ => Err(PARTITION_KEY.into()),
    };
    t.string_or_table("partition_key", PARTITION_KEY, word, read_key_table)
}

/// What a record's key is taken from: one of these.
fn read_key_table(t: &mut Table<'_>) -> Written<PartitionKeyRule> {
    let constant = t.parsed("constant", "a string of 1 to 256 characters", |text| {
        PartitionKey::new(text).map_err(|_| "a string of 1 to 256 characters".into())
    });
    let field = read_field(t);
    let hash_key = t.table("explicit_hash_key", |t| {
        let field = read_field(t);
        expect_field(t, &field);
        field
    });
    let key_file = t.parsed(
        "hmac_key_file",
        "the absolute path of a file",
        words::absolute_path,
    );
    let hash_key = match hash_key {
        // Without a field: noted in its own table.
        Written::Given(Written::Absent, _) | Written::Mistaken => Written::Mistaken,
        Written::Given(field, _) => field.map(|field| (field, Form::HashKey)),
        Written::Absent => Written::Absent,
    };

    if let (Some(place), true) = (key_file.place(), field.is_absent()) {
        let text = format!("found without a field; allowed: together with {FIELD}");
        t.file().mistake(place, text);
        return Written::Mistaken;
    }
    let given = [
        !constant.is_absent(),
        !field.is_absent(),
        !hash_key.is_absent(),
    ];
    match given.iter().filter(|given| **given).count() {
        0 => {
            expect_field(t, &field);
            Written::Mistaken
        }
        1 => {
            let form = match key_file {
                Written::Absent => Form::Value,
                Written::Given(key_file, _) => Form::Hmac { key_file },
                Written::Mistaken => return Written::Mistaken,
            };
            let field = field.map(|field| (field, form)).or(hash_key);
            let field = field.map(|(field, form)| PartitionKeyRule::Field(field, form));
            constant.map(PartitionKeyRule::Constant).or(field)
        }
        _ => {
            let text = "found several sources of one key; allowed: one of constant, json_pointer, regex and \
                        explicit_hash_key";
            t.file().mistake(t.place(), text);
            Written::Mistaken
        }
    }
}

/// One of the two, or none.
fn read_field(t: &mut Table<'_>) -> Written<KeyField> {
    let pointer = t.parsed("json_pointer", "a JSON pointer", |text| {
        let allowed =
            "a JSON pointer like \"/order/id\", with ~ in a name written ~0 and / written ~1";
        let pointer = JsonPointer::new(text).map_err(|_| allowed)?;
        Ok(KeyField::JsonPointer(pointer))
    });
    let regex = t.parsed("regex", "a regular expression", |text| {
        let allowed = "a regular expression with a group named key, like \"user=(?<key>\\\\S+)\"";
        let pattern = KeyPattern::new(text).map_err(|error| format!("{allowed}; {error}"))?;
        Ok(KeyField::Regex(pattern))
    });
    if let (false, Some(place)) = (pointer.is_absent(), regex.place()) {
        let text = format!("found beside json_pointer; allowed: {FIELD}");
        t.file().mistake(place, text);
        return Written::Mistaken;
    }
    pointer.or(regex)
}

fn expect_field(t: &Table<'_>, field: &Written<KeyField>) {
    if field.is_absent() {
        let allowed = "a JSON pointer like \"/order/id\", or regex, with a group named key";
        t.file().missing(t.place(), "json_pointer", allowed);
    }
}

fn check_exclusive(root: &Table<'_>, sources: &[Part]) {
    for (i, part) in sources.iter().enumerate() {
        let Some(what) = &part.exclusive else {
            continue;
        };
        if let Some(first) = sources[..i]
            .iter()
            .find(|other| other.exclusive.as_ref() == Some(what))
        {
            let text = format!(
                "found {what} again, as on line {}; allowed: one source",
                first.place.line
            );
            root.file().mistake(&part.place, text);
        }
    }
}

#[cfg(test)]
mod tests;

//! `[[source]]`: where records come from, and which stream they go to.

use super::table::Table;
use super::written::{Place, Written};
use super::{PartitionKeyRule, Source, SourceKind, words};
use crate::record::{PartitionKey, StreamName};
use crate::source::tail::StartPosition;
use crate::source::{tail, unix};

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
    Stdin,
}

const KINDS: [(&str, Kind); 3] = [
    ("file", Kind::File),
    ("unix", Kind::Unix),
    ("stdin", Kind::Stdin),
];
const GLOBS: &str = "a list of absolute globs, like [\"/var/log/shop/*.log\"]";
const PARTITION_KEY: &str = "\"random\" or { constant = \"…\" }";

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
    let source_kind = match &kind {
        Written::Given(Kind::File, _) => read_file(t),
        Written::Given(Kind::Unix, _) => read_unix(t),
        Written::Given(Kind::Stdin, _) => Some(SourceKind::Stdin),
        Written::Absent | Written::Mistaken => {
            // Of no known type: any type's keys may be right.
            t.allow(&["include", "exclude", "start_position", "path"]);
            None
        }
    };
    if kind.is_absent() {
        t.file()
            .missing(t.place(), "type", "\"file\" or \"unix\" or \"stdin\"");
    }
    if stream.is_absent() {
        t.file().missing(
            t.place(),
            "stream",
            "the name or ARN of the stream that the records go to",
        );
    }
    let exclusive = match &source_kind {
        Some(SourceKind::Stdin) => Some("standard input".into()),
        Some(SourceKind::Unix(unix)) => Some(format!("the socket {:?}", unix.path)),
        Some(SourceKind::File(_)) | None => None,
    };
    let source = || {
        Some(Source {
            kind: source_kind?,
            stream: stream.clone().given()?,
            partition_key: partition_key.or_default(PartitionKeyRule::Random)?,
        })
    };
    Part {
        source: source(),
        exclusive,
        place: t.place().clone(),
        stream,
    }
}

fn read_file(t: &mut Table<'_>) -> Option<SourceKind> {
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
    Some(SourceKind::File(tail::Settings {
        include: include.given()?,
        exclude: exclude.or_default(Vec::new())?,
        start_position: start_position.or_default(StartPosition::End)?,
    }))
}

fn read_unix(t: &mut Table<'_>) -> Option<SourceKind> {
    let allowed = "the absolute path of a socket, like \"/run/kinseal/shop.sock\", up to 107 bytes";
    let path = t.parsed("path", allowed, |text| match words::absolute_path(text) {
        // `sun_path` in Linux's <sys/un.h>, without the final NUL.
        Ok(path) if text.len() <= 107 => Ok(path),
        _ => Err(allowed.into()),
    });
    if path.is_absent() {
        t.file().missing(t.place(), "path", allowed);
    }
    Some(SourceKind::Unix(unix::Settings {
        path: path.given()?,
    }))
}

fn read_partition_key(t: &mut Table<'_>) -> Written<PartitionKeyRule> {
    let random = |text: &str| match text {
        "random" => Ok(PartitionKeyRule::Random),
        _ => Err(format!("{PARTITION_KEY}, the two that this version knows")),
    };
    t.string_or_table("partition_key", PARTITION_KEY, random, |t| {
        let constant = t.parsed("constant", "a string of 1 to 256 characters", |text| {
            PartitionKey::new(text).map_err(|_| "a string of 1 to 256 characters".into())
        });
        if constant.is_absent() {
            t.file()
                .missing(t.place(), "constant", "a string of 1 to 256 characters");
            return Written::Mistaken;
        }
        constant.map(PartitionKeyRule::Constant)
    })
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

//! What becomes of a source's lines: `data_processing`, `labels`, `envelope`.

use super::data_processing;
use super::lines::LineFormat;
use crate::config::entry::Entry;
use crate::config::table::Table;
use crate::config::written::Written;
use crate::source::shape::{Envelope, Field, Shape};

const FIELDS: [(&str, Field); 5] = [
    ("timestamp", Field::Timestamp),
    ("host", Field::Host),
    ("file", Field::File),
    ("offset", Field::Offset),
    ("peer", Field::Peer),
];
const ENVELOPE: &str = "true, false, or a table of fields, message_key and parse_json";
/// They are around every record, and memory is kept free for that.
pub(super) const MOST_AROUND: usize = 4096;

/// `None` where a mistake has been noted. `fields`: what is known of records of this source's type.
pub(super) fn read(
    t: &mut Table<'_>,
    fields: &[Field],
    format: &Written<LineFormat>,
) -> Option<Shape> {
    let transforms = data_processing::read(t);
    let labels = read_labels(t);
    let envelope = t.with("envelope", |entry| read_envelope(&entry, fields));
    if let (Some(place), Written::Absent | Written::Given(None, _)) = (labels.place(), &envelope) {
        let text = "found without an envelope to be in; allowed: together with envelope = true";
        t.file().mistake(place, text);
        return None;
    }
    let labels = labels.or_default(Vec::new());
    let is_json = matches!(format.as_given(), Some(LineFormat::Json));
    let envelope = envelope.or_default(None)?.map(|envelope| {
        Some(Envelope {
            labels: labels.clone()?,
            nest_json: envelope.nest_json || is_json,
            ..envelope
        })
    });
    labels.as_ref()?;
    Some(Shape {
        transforms: transforms?,
        envelope: envelope.flatten(),
    })
}

fn read_labels(t: &mut Table<'_>) -> Written<Vec<(String, String)>> {
    let what = "a string, like labels.service = \"shop\"";
    let named = |name: &str| match name {
        "" => Err("a name".into()),
        name => Ok(name.to_owned()),
    };
    let labels = t.map("labels", what, named, |value| Ok(value.to_owned()));
    let Written::Given(pairs, place) = &labels else {
        return labels;
    };
    let bytes: usize = pairs
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > MOST_AROUND {
        let text = format!("found {bytes} bytes; allowed: up to {MOST_AROUND} in all");
        t.file().mistake(place, text);
        return Written::Mistaken;
    }
    labels
}

fn read_envelope(entry: &Entry<'_>, fields: &[Field]) -> Written<Option<Envelope>> {
    let whole = || Envelope {
        fields: known(fields).map(|(_, field)| field).collect(),
        labels: Vec::new(),
        message_key: Envelope::MESSAGE_KEY.to_owned(),
        nest_json: false,
    };
    let Some(table) = entry.table() else {
        let is_wanted = entry.scalar(
            ENVELOPE,
            |value| value.as_bool(),
            |text| text.parse().map_err(|_| ENVELOPE.to_owned()),
        );
        return is_wanted.map(|is_wanted| is_wanted.then(whole));
    };
    let read = Table::read(entry.file, entry.place.clone(), table, |t| {
        read_parts(t, whole(), fields)
    });
    match read {
        Some(envelope) => Written::Given(Some(envelope), entry.place.clone()),
        None => Written::Mistaken,
    }
}

fn read_parts(t: &mut Table<'_>, whole: Envelope, allowed: &[Field]) -> Option<Envelope> {
    // The peer only where it is asked for.
    let words = FIELDS
        .iter()
        .filter(|(_, field)| allowed.contains(field))
        .map(|(word, _)| format!("{word:?}"));
    let words = words.collect::<Vec<_>>().join(", ");
    let what = format!("a list of what is known of these records: {words}");
    let fields = t.list("fields", &what, |text| {
        let field = FIELDS.iter().find(|(word, _)| *word == text);
        let field = field.map(|(_, field)| *field);
        field
            .filter(|field| allowed.contains(field))
            .ok_or_else(|| what.clone())
    });
    let name = "a name that no other field of an envelope has";
    let message_key = t.parsed("message_key", name, |text| {
        if text.is_empty() || Envelope::TAKEN.contains(&text) {
            return Err(name.into());
        }
        Ok(text.to_owned())
    });
    let parse_json = t.boolean("parse_json");
    Some(Envelope {
        fields: fields.or_default(whole.fields)?,
        message_key: message_key.or_default(whole.message_key)?,
        nest_json: parse_json.or_default(false)?,
        ..whole
    })
}

/// What an envelope has if nothing more is said.
fn known(fields: &[Field]) -> impl Iterator<Item = (&'static str, Field)> {
    let known = FIELDS.into_iter();
    known.filter(|(_, field)| *field != Field::Peer && fields.contains(field))
}

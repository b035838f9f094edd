//! `[[source.data_processing]]`: the Kinesis Agent's `dataProcessingOptions`, in this file's spelling.

use serde_json::value::RawValue;
use toml_edit::{Item, TableLike, Value};

use crate::config::entry::{Entry, Found};
use crate::config::environment::interpolate;
use crate::config::table::Table;
use crate::config::written::Written;
use crate::source::shape::transform::{
    AddMetadata, CsvToJson, Fields, LogFormat, LogToJson, SingleLine, Transform,
};

#[derive(Clone, Copy)]
enum OptionName {
    SingleLine,
    CsvToJson,
    LogToJson,
    AddMetadata,
}

const OPTIONS: [(&str, OptionName); 4] = [
    ("SINGLELINE", OptionName::SingleLine),
    ("CSVTOJSON", OptionName::CsvToJson),
    ("LOGTOJSON", OptionName::LogToJson),
    ("ADDMETADATA", OptionName::AddMetadata),
];
const FORMATS: [(&str, LogFormat); 5] = [
    ("COMMONAPACHELOG", LogFormat::CommonApacheLog),
    ("COMBINEDAPACHELOG", LogFormat::CombinedApacheLog),
    ("APACHEERRORLOG", LogFormat::ApacheErrorLog),
    ("SYSLOG", LogFormat::Syslog),
    ("RFC3339SYSLOG", LogFormat::Rfc3339Syslog),
];
const NAMES: &str = "a list of names, one at least and none twice";
const METADATA: &str = "a table, or any other value that JSON has";
/// Each may double a line, and memory is kept free for that.
const MOST: usize = 4;

/// `None` where a mistake has been noted.
pub(super) fn read(t: &mut Table<'_>) -> Option<Vec<Transform>> {
    let transforms = t.tables("data_processing", read_one);
    if let Written::Given(transforms, place) = &transforms
        && transforms.len() > MOST
    {
        let text = format!("found {}; allowed: up to {MOST}", transforms.len());
        t.file().mistake(place, text);
        return None;
    }
    transforms.or_default(Vec::new())?.into_iter().collect()
}

fn read_one(t: &mut Table<'_>) -> Option<Transform> {
    let option = t.choice("option_name", &OPTIONS);
    if option.is_absent() {
        let allowed = "\"SINGLELINE\" or \"CSVTOJSON\" or \"LOGTOJSON\" or \"ADDMETADATA\"";
        t.file().missing(t.place(), "option_name", allowed);
    }
    match option {
        Written::Given(OptionName::SingleLine, _) => read_single(t).map(Transform::SingleLine),
        Written::Given(OptionName::CsvToJson, _) => read_csv(t).map(Transform::CsvToJson),
        Written::Given(OptionName::LogToJson, _) => read_log(t).map(Transform::LogToJson),
        Written::Given(OptionName::AddMetadata, _) => read_metadata(t).map(Transform::AddMetadata),
        Written::Absent | Written::Mistaken => {
            t.allow(&[
                "parse_options",
                "custom_field_names",
                "delimiter",
                "log_format",
            ]);
            t.allow(&["match_pattern", "timestamp", "metadata"]);
            None
        }
    }
}

fn read_single(t: &mut Table<'_>) -> Option<SingleLine> {
    let allowed = "a list of \"NO_TRIM\" and \"ESCAPE_NEW_LINE\"";
    let options = t.list("parse_options", allowed, |text| match text {
        "NO_TRIM" | "ESCAPE_NEW_LINE" => Ok(text.to_owned()),
        _ => Err(allowed.into()),
    });
    let options = options.or_default(Vec::new())?;
    let has = |option| options.iter().any(|given| given == option);
    Some(SingleLine {
        trims: !has("NO_TRIM"),
        escapes: has("ESCAPE_NEW_LINE"),
    })
}

fn read_csv(t: &mut Table<'_>) -> Option<CsvToJson> {
    let names = read_names(t);
    if names.is_absent() {
        t.file().missing(t.place(), "custom_field_names", NAMES);
    }
    let delimiter = t.parsed("delimiter", "a regular expression", |text| {
        Ok(text.to_owned())
    });
    let place = delimiter.place().unwrap_or(t.place()).clone();
    let delimiter = delimiter.or_default(CsvToJson::DELIMITER.to_owned())?;
    match CsvToJson::new(names.given()?, &delimiter) {
        Ok(csv) => Some(csv),
        Err(error) => {
            let text = format!("found {delimiter:?}; allowed: a regular expression; {error}");
            t.file().mistake(&place, text);
            None
        }
    }
}

fn read_log(t: &mut Table<'_>) -> Option<LogToJson> {
    let format = t.choice("log_format", &FORMATS);
    if format.is_absent() {
        let words = FORMATS.map(|(word, _)| format!("{word:?}"));
        t.file()
            .missing(t.place(), "log_format", words.join(" or "));
    }
    let pattern = t.parsed("match_pattern", "a regular expression", |text| {
        Ok(text.to_owned())
    });
    let names = read_names(t);
    if names.is_absent() && pattern.place().is_some() {
        let allowed = format!("{NAMES}: one for each group of match_pattern");
        t.file().missing(t.place(), "custom_field_names", &allowed);
        return None;
    }
    let place = pattern.place().or(names.place()).unwrap_or(t.place());
    let place = place.clone();
    let pattern = pattern.map(Some).or_default(None)?;
    let names = names.map(Some).or_default(None)?;
    let format = format.given()?;
    let log = match (pattern, names) {
        (Some(pattern), Some(names)) => LogToJson::matching(format, &pattern, names),
        (_, Some(names)) => LogToJson::named(format, names),
        (_, None) => return Some(LogToJson::new(format)),
    };
    match log {
        Ok(log) => Some(log),
        Err(error) => {
            let allowed = "a regular expression with a name for each of its groups";
            t.file().mistake(
                &place,
                format!("found what cannot match; allowed: {allowed}; {error}"),
            );
            None
        }
    }
}

fn read_metadata(t: &mut Table<'_>) -> Option<AddMetadata> {
    let timestamp = t.boolean("timestamp");
    let metadata = t.with("metadata", |entry| {
        let mut json = String::new();
        let written = match entry.item {
            Found::Item(item) => write_item(&entry, item, &mut json),
            Found::Element(value) => write_value(&entry, value, &mut json),
        };
        if !written {
            return Written::Mistaken;
        }
        if json.len() > super::shape::MOST_AROUND {
            let allowed = format!("{METADATA}, up to {} bytes", super::shape::MOST_AROUND);
            return entry.refuse(&allowed);
        }
        let json = RawValue::from_string(json).expect("written as JSON");
        Written::Given(json, entry.place.clone())
    });
    // As the Kinesis Agent writes it where none is given.
    let none = || RawValue::from_string("null".into()).expect("JSON");
    let metadata = metadata.or_default(none())?;
    Some(AddMetadata::new(&metadata, timestamp.or_default(false)?))
}

fn read_names(t: &mut Table<'_>) -> Written<Fields> {
    t.with("custom_field_names", |entry| {
        let names = entry.list(NAMES, |name| Ok(name.to_owned()));
        entry.check(names, |names| {
            Fields::new(&names).map_err(|error| format!("{NAMES}; {error}"))
        })
    })
}

/// False where a mistake has been noted.
fn write_item(entry: &Entry<'_>, item: &Item, json: &mut String) -> bool {
    match item {
        Item::Value(value) => write_value(entry, value, json),
        Item::Table(table) => write_table(entry, table, json),
        Item::ArrayOfTables(tables) => {
            let tables = tables.iter();
            write_all(tables, '[', ']', json, |table, json| {
                write_table(entry, table, json)
            })
        }
        Item::None => noted(entry),
    }
}

fn write_table(entry: &Entry<'_>, table: &dyn TableLike, json: &mut String) -> bool {
    write_all(table.iter(), '{', '}', json, |(name, item), json| {
        json.push_str(&quoted(name));
        json.push(':');
        write_item(entry, item, json)
    })
}

fn write_value(entry: &Entry<'_>, value: &Value, json: &mut String) -> bool {
    match value {
        Value::String(text) => match interpolate(text.value(), entry.file.env) {
            Ok(text) => json.push_str(&quoted(&text)),
            Err(error) => {
                entry.file.mistake(&entry.place, format!("found {error}"));
                return false;
            }
        },
        Value::Integer(number) => json.push_str(&number.value().to_string()),
        Value::Float(number) if number.value().is_finite() => {
            json.push_str(&serde_json::json!(number.value()).to_string());
        }
        // JSON has no infinity.
        Value::Float(_) => return noted(entry),
        Value::Boolean(truth) => json.push_str(&truth.value().to_string()),
        Value::Datetime(time) => json.push_str(&quoted(&time.value().to_string())),
        Value::Array(array) => {
            let elements = array.iter();
            return write_all(elements, '[', ']', json, |element, json| {
                write_value(entry, element, json)
            });
        }
        Value::InlineTable(table) => return write_table(entry, table, json),
    }
    true
}

fn write_all<T>(
    all: impl Iterator<Item = T>,
    open: char,
    close: char,
    json: &mut String,
    write: impl Fn(T, &mut String) -> bool,
) -> bool {
    json.push(open);
    for (i, one) in all.enumerate() {
        if i > 0 {
            json.push(',');
        }
        if !write(one, json) {
            return false;
        }
    }
    json.push(close);
    true
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn noted(entry: &Entry<'_>) -> bool {
    let _: Written<()> = entry.refuse(METADATA);
    false
}

//! What a file source makes of its lines: `skip_header_lines`, `format`, `[source.multiline]`,
//! `partial_timeout`.

use std::sync::Arc;
use std::time::Duration;

use crate::config::table::Table;
use crate::config::written::Written;
use crate::source::join::{Format, Join, Language, LinePattern, LineRules, Multiline, Rule};
use crate::source::tail;

const PRESETS: [(&str, Language); 3] = [
    ("java", Language::Java),
    ("python", Language::Python),
    ("go", Language::Go),
];
const FORMATS: [(&str, LineFormat); 4] = [
    ("lines", LineFormat::Lines),
    ("json", LineFormat::Json),
    ("cri", LineFormat::Container(Format::Cri)),
    ("docker", LineFormat::Container(Format::Docker)),
];
const RULES: &str = "one of start_pattern, continue_pattern and preset";

/// `format`.
#[derive(Clone, Copy)]
pub(super) enum LineFormat {
    Lines,
    /// Each is an object.
    Json,
    Container(Format),
}

/// Only files hold the logs of containers.
pub(super) fn read_format(t: &mut Table<'_>, is_file: bool) -> Written<LineFormat> {
    let formats = if is_file { &FORMATS[..] } else { &FORMATS[..2] };
    t.choice("format", formats)
}

/// `None` where a mistake has been noted.
pub(super) fn read_rules(t: &mut Table<'_>, format: &Written<LineFormat>) -> Option<LineRules> {
    // More is no header.
    let skip_header_lines = t.integer("skip_header_lines", 0..=10_000);
    let timeouts = Duration::from_millis(100)..=Duration::from_secs(86_400);
    let partial_timeout = t.duration_or_none("partial_timeout", timeouts);
    let multiline = read_multiline(t);
    let format = match format.clone().or_default(LineFormat::Lines)? {
        LineFormat::Container(format) => Some(format),
        LineFormat::Lines | LineFormat::Json => None,
    };
    let join = match (format, multiline.or_default(None)?) {
        (None, None) => Join::Nothing,
        (None, Some(multiline)) => Join::Lines(Arc::new(multiline)),
        (Some(format), None) => Join::Parts(format),
        (Some(format), Some(multiline)) => Join::PartsAndLines(format, Arc::new(multiline)),
    };
    Some(LineRules {
        skip_header_lines: skip_header_lines.or_default(0)?,
        join,
        partial_timeout: partial_timeout.or_default(None)?,
    })
}

pub(super) fn read_multiline(t: &mut Table<'_>) -> Written<Option<Multiline>> {
    let multiline = t.table("multiline", |t| {
        let start = read_pattern(t, "start_pattern").map(Rule::Start);
        let continues = read_pattern(t, "continue_pattern").map(Rule::Continue);
        let preset = t.choice("preset", &PRESETS).map(Rule::Stack);
        // A writer's own pauses are shorter; a record waits so long for what does not come.
        let timeouts = Duration::from_millis(10)..=Duration::from_secs(3_600);
        let timeout = t.duration("timeout", timeouts);
        let max_lines = t.integer("max_lines", 1..=1_000_000);
        // More could not be kept between two reads.
        let max_bytes = t.bytes("max_bytes", 1024..=tail::UNFINISHED_KEPT as u64);
        Some(Multiline {
            rule: one_rule(t, [start, continues, preset])?,
            timeout: timeout.or_default(Multiline::TIMEOUT)?,
            max_lines: max_lines
                .map(|lines| Some(lines as usize))
                .or_default(None)?,
            max_bytes: max_bytes.or_default(Multiline::MAX_BYTES as u64)? as usize,
        })
    });
    match multiline {
        Written::Given(Some(multiline), place) => Written::Given(Some(multiline), place),
        Written::Absent => Written::Absent,
        Written::Given(None, _) | Written::Mistaken => Written::Mistaken,
    }
}

fn read_pattern(t: &mut Table<'_>, key: &'static str) -> Written<LinePattern> {
    t.parsed(key, "a regular expression", |text| {
        let allowed = "a regular expression, like '^\\d{4}-'";
        LinePattern::new(text).map_err(|error| format!("{allowed}; {error}"))
    })
}

/// `None` where a mistake has been noted.
fn one_rule(t: &Table<'_>, rules: [Written<Rule>; 3]) -> Option<Rule> {
    let mut given = rules.into_iter().filter(|rule| !rule.is_absent());
    let Some(rule) = given.next() else {
        t.file().missing(t.place(), "start_pattern", RULES);
        return None;
    };
    if let Some(second) = given.next() {
        let place = second.place().unwrap_or(t.place());
        let text = format!("found beside another rule; allowed: {RULES}");
        t.file().mistake(place, text);
        return None;
    }
    rule.given()
}

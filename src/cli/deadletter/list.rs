//! `kinseal deadletter list`: totals first, then letter by letter. Reads only, so an agent may be at work.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Selection, Totals, Unreadable, at, plural};
use crate::cli::form::{one_line, stdout, unless_closed};
use crate::deadletter::Line;
use crate::metrics::report::Bytes;

/// List what could not be stored: totals for each stream and reason, then each record
///
/// Shows when, stream, keys, attempts, bytes and reason; payloads only lie in the files. May be used while the
/// agent runs.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListArgs {
    #[command(flatten)]
    selection: Selection,
    /// A JSON object on each line: the totals, and then the records
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  kinseal deadletter list --config /etc/kinseal/agent.toml
  kinseal deadletter list --state-dir ./state --stream shop-logs --reason TooLarge --json";

pub(super) fn run(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let settings = args.selection.state.settings()?;
    let dir = args.selection.state.existing_dir(settings.as_ref())?;
    let (totals, unreadable) = args.selection.totals(&dir)?;
    let mut text = if args.json {
        totals_as_json(&totals, &unreadable)
    } else {
        totals_as_text(&totals, &unreadable)
    };
    if !args.json && text.is_empty() {
        text.push_str("no such dead letters\n");
    }
    // A reader may have enough of it at any line: no error then.
    let mut out = stdout()?;
    if !unless_closed(out.write_all(text.as_bytes()))? {
        return Ok(ExitCode::SUCCESS);
    }
    let mut open = true;
    args.selection.each(&dir, |line| {
        if open {
            let text = if args.json {
                as_json(line)
            } else {
                as_text(line)
            };
            open = unless_closed(writeln!(out, "{text}"))?;
        }
        Ok(())
    })?;
    if open {
        unless_closed(out.flush())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn totals_as_text(totals: &Totals, unreadable: &[Unreadable]) -> String {
    let mut text = String::new();
    for ((stream, kind), total) in &totals.0 {
        let records = plural(total.records, "record");
        let in_blocks = match total.records == total.letters {
            true => String::new(),
            false => format!(" in {}", plural(total.letters, "letter")),
        };
        text.push_str(&one_line(&format!(
            "{stream}: {kind}: {records}{in_blocks}, {}, {} to {}",
            Bytes(total.bytes),
            at(total.oldest_ms),
            at(total.newest_ms)
        )));
        text.push('\n');
    }
    for Unreadable { path, lines } in unreadable {
        text.push_str(&format!(
            "{}: {} cannot be read: cut short by a crash, then its record was not settled; or changed by hand\n",
            path.display(),
            plural(*lines, "line")
        ));
    }
    text
}

fn totals_as_json(totals: &Totals, unreadable: &[Unreadable]) -> String {
    let mut text = String::new();
    for ((stream, kind), total) in &totals.0 {
        let total = json!({"total": {
            "stream": stream, "kind": kind, "records": total.records, "letters": total.letters,
            "bytes": total.bytes, "oldest_ms": total.oldest_ms, "newest_ms": total.newest_ms,
        }});
        text.push_str(&format!("{total}\n"));
    }
    for Unreadable { path, lines } in unreadable {
        let file = path.display().to_string();
        let unreadable = json!({"unreadable": {"file": file, "lines": lines}});
        text.push_str(&format!("{unreadable}\n"));
    }
    text
}

/// Keys and reasons may be a stranger's.
fn as_text(line: &Line<'_>) -> String {
    let key = match (&line.partition_key, &line.explicit_hash_key) {
        (None, _) => "no key".to_owned(),
        (Some(key), None) => format!("key {key:?}"),
        (Some(key), Some(hash)) => format!("key {key:?} at {hash}"),
    };
    let records = match line.records {
        1 => String::new(),
        n => format!("{}, ", plural(n, "record")),
    };
    one_line(&format!(
        "{}  {}  {key}  {}  {records}{}  {}",
        at(line.time_ms),
        line.stream,
        plural(line.attempts.into(), "attempt"),
        plural(line.bytes() as u64, "byte"),
        line.reason
    ))
}

fn as_json(line: &Line<'_>) -> String {
    json!({"letter": {
        "time_ms": line.time_ms, "stream": line.stream, "partition_key": line.partition_key,
        "explicit_hash_key": line.explicit_hash_key, "attempts": line.attempts, "records": line.records,
        "bytes": line.bytes(), "kind": line.kind, "reason": line.reason,
    }})
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line<'static> {
        Line {
            time_ms: 1_709_210_096_000,
            stream: "shop".into(),
            kind: "TooLarge".into(),
            reason: "too large\u{1b}[2J".into(),
            attempts: 1,
            records: 3,
            partition_key: Some("a\nb".into()),
            explicit_hash_key: Some("7".into()),
            data_base64: "c2VjcmV0".into(),
        }
    }

    #[test]
    fn a_letter_is_one_line_whatever_is_in_it_and_shows_no_payload() {
        assert_eq!(
            as_text(&line()),
            "2024-02-29T12:34:56.000Z  shop  key \"a\\nb\" at 7  1 attempt  3 records, 6 bytes  \
             too large\\u{1b}[2J"
        );
        for text in [as_text(&line()), as_json(&line())] {
            assert!(!text.contains("c2VjcmV0") && !text.contains("secret"));
            assert_eq!(text.lines().count(), 1);
        }
    }

    #[test]
    fn totals_are_by_stream_and_kind() {
        let mut totals = Totals::default();
        for (kind, time_ms) in [("TooLarge", 2000), ("Expired", 0), ("TooLarge", 1000)] {
            totals.add(&Line {
                kind: kind.into(),
                time_ms,
                ..line()
            });
        }
        assert_eq!(
            totals_as_text(&totals, &[]),
            "shop: Expired: 3 records in 1 letter, 6 B, 1970-01-01T00:00:00.000Z to 1970-01-01T00:00:00.000Z\n\
             shop: TooLarge: 6 records in 2 letters, 12 B, 1970-01-01T00:00:01.000Z to \
             1970-01-01T00:00:02.000Z\n"
        );
    }
}

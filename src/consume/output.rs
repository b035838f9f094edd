//! Records → lines, and what could not be read → standard error, and a file of dead letters where one is asked for.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::ConsumedBatch;
use super::letters::LetterFile;
use super::unpack::{Place, Unreadable, UserRecord};
use crate::hex::to_hex;

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The record's bytes, and a line's end.
    Lines,
    /// The record's bytes, and nothing between them.
    Bytes,
    /// A JSON object on a line: the record, and all that is known of it.
    Json,
    /// Shard, sequence number, partition key and the bytes as text, tabs between them.
    Raw(Encoding),
}

/// Bytes as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Base64,
    Hex,
}

/// Writes batches, buffered until [`Self::flush`].
#[derive(Debug)]
pub struct Printer<W: Write, E: Write> {
    form: Form,
    out: BufWriter<W>,
    err: E,
    dead_letters: Option<LetterFile>,
    printed: u64,
    unreadable: u64,
    /// Records that may be printed yet.
    left: u64,
    /// Whether the last Kinesis record is printed to its end, though no more may be.
    wholly: bool,
    /// Whether a terminal reads it, which would do as records say.
    for_terminal: bool,
}

/// Where something could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrintError {
    #[error("output: {0}")]
    Output(#[from] io::Error),
    #[error("the file of dead letters: {0}")]
    DeadLetters(io::Error),
}

impl<W: Write, E: Write> Printer<W, E> {
    pub fn new(form: Form, out: W, err: E) -> Self {
        Self {
            form,
            out: BufWriter::with_capacity(64 << 10, out),
            err,
            dead_letters: None,
            printed: 0,
            unreadable: 0,
            left: u64::MAX,
            wholly: false,
            for_terminal: false,
        }
    }

    /// Of lines for a terminal, control characters are shown as `\x1b`, so that no record moves its cursor or changes its title.
    #[must_use]
    pub fn for_terminal(self, for_terminal: bool) -> Self {
        Self {
            for_terminal,
            ..self
        }
    }

    /// What could not be read is kept there too, as it lay in the stream: JSON Lines.
    #[must_use]
    pub fn keeping(self, dead_letters: Option<LetterFile>) -> Self {
        Self {
            dead_letters,
            ..self
        }
    }

    /// Prints so many records at most.
    #[must_use]
    pub fn limited(self, limit: Option<u64>) -> Self {
        let left = limit.unwrap_or(u64::MAX);
        Self { left, ..self }
    }

    /// But of a Kinesis record that was begun, all: a checkpoint stands between two.
    #[must_use]
    pub fn wholly(self, wholly: bool) -> Self {
        Self { wholly, ..self }
    }

    /// Returns the sequence number up to which all is printed, where that is not all of the batch: no more may be.
    ///
    /// # Errors
    /// The first that could not be written, and where.
    pub fn print(&mut self, batch: &ConsumedBatch) -> Result<Printed, PrintError> {
        let mut whole = None;
        let mut at: Option<&Arc<str>> = None;
        for record in &batch.records {
            let place = match record {
                Ok(record) => &record.place,
                Err(unreadable) => &unreadable.place,
            };
            let goes_on = at.is_some_and(|at| *at == place.sequence);
            if !goes_on {
                whole = at;
            }
            at = Some(&place.sequence);
            if self.left == 0 && !(self.wholly && goes_on) {
                return Ok(Printed::UpTo(whole.map(Arc::clone)));
            }
            match record {
                Ok(record) => {
                    self.line(record, batch.behind)?;
                    self.printed += 1;
                    self.left = self.left.saturating_sub(1);
                }
                Err(unreadable) => self.complain(unreadable)?,
            }
        }
        Ok(Printed::All)
    }

    /// To where it goes; what a file has then survives a power cut only once that file is synced.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The dead letters' file too.
    pub fn sync(&mut self) -> io::Result<()> {
        self.dead_letters.as_ref().map_or(Ok(()), LetterFile::sync)
    }

    pub fn out(&self) -> &W {
        self.out.get_ref()
    }

    pub fn out_mut(&mut self) -> &mut W {
        self.out.get_mut()
    }

    /// Whether no more may be printed.
    pub fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Whether what could not be read is kept.
    pub fn keeps(&self) -> bool {
        self.dead_letters.is_some()
    }

    /// Records so far.
    pub fn printed(&self) -> u64 {
        self.printed
    }

    /// Records so far that could not be read.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    fn line(&mut self, record: &UserRecord, behind: Duration) -> io::Result<()> {
        match self.form {
            Form::Lines if self.for_terminal => self.out.write_all(&harmless(&record.data))?,
            Form::Lines => self.out.write_all(&record.data)?,
            Form::Bytes => return self.out.write_all(&record.data),
            Form::Json => {
                let object = json_of(record, behind);
                serde_json::to_writer(&mut self.out, &object)?;
            }
            Form::Raw(encoding) => {
                let (place, data) = (&record.place, &record.data);
                // Escaped: a key may hold a tab or a line's end.
                let key = record.partition_key.escape_debug();
                write!(self.out, "{}\t{}\t{key}\t", place.shard, place.sequence)?;
                let text = match encoding {
                    Encoding::Base64 => base64_simd::STANDARD.encode_to_string(data),
                    Encoding::Hex => to_hex(data),
                };
                self.out.write_all(text.as_bytes())?;
            }
        }
        self.out.write_all(b"\n")
    }

    /// Behind what was read before it, where both go to one terminal.
    fn complain(&mut self, unreadable: &Unreadable) -> Result<(), PrintError> {
        self.unreadable += 1;
        self.out.flush()?;
        let (place, reason) = (&unreadable.place, &unreadable.reason);
        if let Some(letters) = &mut self.dead_letters {
            letters.keep(unreadable).map_err(PrintError::DeadLetters)?;
        }
        // Standard error may be closed: the exit code tells it too.
        let _ = writeln!(
            self.err,
            "kinseal: {} sequence {} sub-sequence {}: {reason}",
            place.shard, place.sequence, place.sub_sequence
        );
        Ok(())
    }
}

/// Control characters as text, but for tabs and line ends; UTF-8 stays as it is, of which those of C1 are two bytes.
fn harmless(data: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(data.len());
    let mut rest = data;
    while let Some((&byte, behind)) = rest.split_first() {
        match (byte, behind.first()) {
            (0xc2, Some(0x80..=0x9f)) => {
                shown.extend_from_slice(format!("\\u{{{:x}}}", behind[0]).as_bytes());
                rest = &behind[1..];
                continue;
            }
            (b'\t' | b'\n', _) => shown.push(byte),
            (0..0x20 | 0x7f, _) => shown.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            _ => shown.push(byte),
        }
        rest = behind;
    }
    shown
}

/// How much of a batch was printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Printed {
    All,
    /// And not all of it, for no more may be; `None`: not one Kinesis record of it whole.
    UpTo(Option<Arc<str>>),
}

fn json_of(record: &UserRecord, behind: Duration) -> Value {
    let mut object = at(&record.place, &record.partition_key);
    object["arrived"] = record
        .arrived
        .map_or(Value::Null, |time| time_of(time).into());
    let behind = u64::try_from(behind.as_millis()).unwrap_or(u64::MAX);
    object["millis_behind_latest"] = behind.into();
    if let Some(sealed) = &record.sealed {
        object["encryption"] = json!({
            "key": &*sealed.wrapping_key,
            "suite": sealed.suite.to_string(),
            "context": &*sealed.context,
        });
    }
    // A reader knows by the name which it is.
    match str::from_utf8(&record.data) {
        Ok(text) => object["data"] = text.into(),
        Err(_) => object["data_base64"] = base64(&record.data).into(),
    }
    object
}

/// A line of JSON: the record as it lay in the stream, where, and why it could not be read.
pub fn dead_letter(unreadable: &Unreadable) -> Vec<u8> {
    let mut object = at(&unreadable.place, &unreadable.partition_key);
    object["time"] = time_of(SystemTime::now()).into();
    object["reason"] = unreadable.reason.to_string().into();
    object["data_base64"] = base64(&unreadable.data).into();
    (object.to_string() + "\n").into_bytes()
}

fn at(place: &Place, partition_key: &str) -> Value {
    json!({
        "shard": place.shard.as_str(),
        "sequence": &*place.sequence,
        "sub_sequence": place.sub_sequence,
        "in_block": place.in_block,
        "partition_key": partition_key,
    })
}

fn time_of(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn base64(data: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(data)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::consume::unpack::{Place, Reason};
    use crate::shard::ShardId;

    fn place(sequence: &str, sub_sequence: u64) -> Place {
        Place {
            shard: ShardId::new("shardId-000000000001"),
            sequence: sequence.into(),
            sub_sequence,
            in_block: None,
        }
    }

    fn record(key: &str, data: &'static str) -> UserRecord {
        UserRecord {
            place: place("49", 0),
            partition_key: key.into(),
            data: Bytes::from(data),
            arrived: None,
            sealed: None,
        }
    }

    fn print(form: Form, records: Vec<Result<UserRecord, Unreadable>>) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut printer = Printer::new(form, &mut out, &mut err);
        let batch = ConsumedBatch::for_test(ShardId::new("shardId-000000000001"), records);
        printer.print(&batch).unwrap();
        printer.flush().unwrap();
        drop(printer);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(out), text(err))
    }

    #[test]
    fn a_line_is_the_record_and_nothing_else() {
        let records = vec![Ok(record("k", "one")), Ok(record("k", "two"))];
        let (out, err) = print(Form::Lines, records);
        assert_eq!((out.as_str(), err.as_str()), ("one\ntwo\n", ""));
    }

    #[test]
    fn on_a_terminal_no_record_says_what_it_is_to_do() {
        let data = Bytes::from("a\tb\u{1b}[2J\u{7}\u{9b}31m\r ä\u{7f}");
        let mut out = Vec::new();
        let mut printer = Printer::new(Form::Lines, &mut out, Vec::new()).for_terminal(true);
        let known = UserRecord {
            data,
            ..record("k", "")
        };
        let batch = ConsumedBatch::for_test(ShardId::new("shardId-000000000001"), vec![Ok(known)]);
        printer.print(&batch).unwrap();
        printer.flush().unwrap();
        drop(printer);
        let expected = "a\tb\\x1b[2J\\x07\\u{9b}31m\\x0d ä\\x7f\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_raw_line_says_where_the_bytes_lie() {
        for (encoding, text) in [(Encoding::Base64, "AXg="), (Encoding::Hex, "0178")] {
            let (out, _) = print(Form::Raw(encoding), vec![Ok(record("a\tb\n", "\u{1}x"))]);
            let expected = format!("shardId-000000000001\t49\ta\\tb\\n\t{text}\n");
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_json_line_has_the_record_and_all_that_is_known_of_it() {
        let arrived = SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_460_800_123);
        let known = UserRecord {
            arrived: Some(arrived),
            ..record("k", "a \"line\"\n")
        };
        let (out, _) = print(Form::Json, vec![Ok(known)]);
        let line: Value = serde_json::from_str(&out).unwrap();
        let expected = json!({
            "shard": "shardId-000000000001", "sequence": "49", "sub_sequence": 0, "in_block": null,
            "partition_key": "k", "arrived": "2025-11-30T00:00:00.123Z", "millis_behind_latest": 0,
            "data": "a \"line\"\n",
        });
        assert_eq!(line, expected);
        let mut odd = record("k", "");
        odd.data = Bytes::from_static(b"\xff\x00");
        let (out, _) = print(Form::Json, vec![Ok(odd)]);
        let line: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (&line["data"], &line["data_base64"]),
            (&Value::Null, &"/wA=".into())
        );
    }

    #[test]
    fn what_is_printed_up_to_a_limit_is_told_by_the_last_whole_kinesis_record() {
        let member = |sequence: &str, sub_sequence| {
            Ok(UserRecord {
                place: place(sequence, sub_sequence),
                ..record("k", "x")
            })
        };
        let records = vec![
            member("1", 0),
            member("2", 0),
            member("2", 1),
            member("3", 0),
        ];
        let batch = ConsumedBatch::for_test(ShardId::new("shardId-000000000001"), records);
        for (limit, expected) in [
            (0, Printed::UpTo(None)),
            (1, Printed::UpTo(Some("1".into()))),
            (2, Printed::UpTo(Some("1".into()))),
            (3, Printed::UpTo(Some("2".into()))),
            (4, Printed::All),
        ] {
            let printer = Printer::new(Form::Lines, Vec::new(), Vec::new());
            let mut printer = printer.limited(Some(limit));
            assert_eq!(printer.print(&batch).unwrap(), expected, "{limit}");
            assert_eq!(printer.printed(), limit.min(4));
        }
        for (limit, expected, printed) in [
            (0, Printed::UpTo(None), 0),
            (1, Printed::UpTo(Some("1".into())), 1),
            (2, Printed::UpTo(Some("2".into())), 3),
            (3, Printed::UpTo(Some("2".into())), 3),
            (4, Printed::All, 4),
        ] {
            let printer = Printer::new(Form::Lines, Vec::new(), Vec::new());
            let mut printer = printer.limited(Some(limit)).wholly(true);
            assert_eq!(printer.print(&batch).unwrap(), expected, "{limit}");
            assert_eq!(printer.printed(), printed, "{limit}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_told_with_its_place_and_the_rest_goes_on() {
        let unreadable = Unreadable {
            place: place("49", 3),
            partition_key: "k".into(),
            data: Bytes::from("x"),
            reason: Box::new(Reason::Plaintext),
        };
        let records = vec![
            Ok(record("k", "one")),
            Err(unreadable),
            Ok(record("k", "two")),
        ];
        let (out, err) = print(Form::Lines, records);
        assert_eq!(out, "one\ntwo\n");
        assert_eq!(
            err,
            "kinseal: shardId-000000000001 sequence 49 sub-sequence 3: not encrypted, and refused \
             because keys are given: --allow-plaintext lets such records pass\n"
        );
    }
}

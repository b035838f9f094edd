//! Records → lines, and what could not be read → standard error.

use std::io::{self, BufWriter, Write};

use super::ConsumedBatch;
use super::unpack::{Unreadable, UserRecord};

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The record's bytes.
    Lines,
    /// Shard, sequence number, partition key and the bytes in base64, tabs between them.
    Raw,
}

/// Writes batches, buffered until [`Self::flush`].
#[derive(Debug)]
pub struct Printer<W: Write, E: Write> {
    form: Form,
    out: BufWriter<W>,
    err: E,
    unreadable: u64,
}

impl<W: Write, E: Write> Printer<W, E> {
    pub fn new(form: Form, out: W, err: E) -> Self {
        Self {
            form,
            out: BufWriter::with_capacity(64 << 10, out),
            err,
            unreadable: 0,
        }
    }

    pub fn print(&mut self, batch: &ConsumedBatch) -> io::Result<()> {
        for record in &batch.records {
            match record {
                Ok(record) => self.line(record)?,
                Err(unreadable) => self.complain(unreadable)?,
            }
        }
        Ok(())
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Records so far that could not be read.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    fn line(&mut self, record: &UserRecord) -> io::Result<()> {
        match self.form {
            Form::Lines => self.out.write_all(&record.data)?,
            Form::Raw => {
                let (place, data) = (&record.place, &record.data);
                // Escaped: a key may hold a tab or a line's end.
                let key = record.partition_key.escape_debug();
                write!(self.out, "{}\t{}\t{key}\t", place.shard, place.sequence)?;
                let base64 = base64_simd::STANDARD.encode_to_string(data);
                self.out.write_all(base64.as_bytes())?;
            }
        }
        self.out.write_all(b"\n")
    }

    /// Behind what was read before it, where both go to one terminal.
    fn complain(&mut self, unreadable: &Unreadable) -> io::Result<()> {
        self.unreadable += 1;
        self.out.flush()?;
        let (place, reason) = (&unreadable.place, &unreadable.reason);
        // Standard error may be closed: the exit code tells it too.
        let _ = writeln!(
            self.err,
            "kinseal: {} sequence {} sub-sequence {}: {reason}",
            place.shard, place.sequence, place.sub_sequence
        );
        Ok(())
    }
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
    fn a_raw_line_says_where_the_bytes_lie() {
        let (out, _) = print(Form::Raw, vec![Ok(record("a\tb\n", "\u{1}x"))]);
        assert_eq!(out, "shardId-000000000001\t49\ta\\tb\\n\tAXg=\n");
    }

    #[test]
    fn what_can_not_be_read_is_told_with_its_place_and_the_rest_goes_on() {
        let unreadable = Unreadable {
            place: place("49", 3),
            partition_key: "k".into(),
            data: Bytes::from("x"),
            reason: Reason::Plaintext,
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

//! A client of the acknowledged socket: a frame of the KPL's for each line, whose number is the frame's id, and one answer
//! for each frame. It runs in the process that makes the lines, so that the agent's CPU is the agent's.

use std::io::{self, ErrorKind, Read, Write};

use anyhow::Context;
use bytes::Bytes;
use kinseal::daemon::message::{Answer, LONGEST, PutRecord, PutRecordResult};

use crate::answers::Answers;
use crate::scenario::Keys;

/// Puts lines into frames.
#[derive(Debug)]
pub(crate) struct Frames<W> {
    out: W,
    stream: String,
    keys: Keys,
    next: u64,
    frames: Vec<u8>,
}

impl<W: Write> Frames<W> {
    pub(crate) fn new(stream: &str, keys: Keys, out: W) -> Self {
        Self {
            out,
            stream: stream.to_owned(),
            keys,
            next: 0,
            frames: Vec::new(),
        }
    }

    /// Whole lines, each with its newline, which is not sent.
    pub(crate) fn send(&mut self, lines: &[u8]) -> io::Result<()> {
        self.frames.clear();
        for line in lines.split_inclusive(|b| *b == b'\n') {
            let data = line.strip_suffix(b"\n").unwrap_or(line);
            let record = PutRecord {
                stream_name: self.stream.clone(),
                partition_key: self.keys.of(self.next),
                data: Bytes::copy_from_slice(data),
                ..PutRecord::default()
            };
            record.encode(self.next, &mut self.frames);
            self.next += 1;
        }
        self.out.write_all(&self.frames)
    }
}

/// Counts answers until the agent hangs up, so that one too many is seen too. `told` hears when each line has one.
pub(crate) fn answers(
    mut frames: impl Read,
    lines: u64,
    mut told: impl FnMut() -> io::Result<()>,
) -> anyhow::Result<Answers> {
    let mut answered = vec![false; usize::try_from(lines)?];
    let mut answers = Answers::default();
    let mut body = Vec::new();
    loop {
        let mut len = [0; 4];
        match frames.read_exact(&mut len) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(answers),
            read => read.context("the agent's answers")?,
        }
        let len = u32::from_be_bytes(len) as usize;
        anyhow::ensure!(len <= LONGEST, "the agent sent a frame of {len} bytes");
        body.resize(len, 0);
        frames
            .read_exact(&mut body)
            .context("the agent hung up within an answer")?;
        let answer = Answer::decode(&body).context("the agent sent no message")?;
        let asked = answer.to.and_then(|id| usize::try_from(id).ok());
        let asked = asked.and_then(|id| answered.get_mut(id));
        match (asked, answer.result) {
            (Some(is_answered), Some(result)) if !*is_answered => {
                *is_answered = true;
                match result.success {
                    true => answers.stored += 1,
                    false => answers.refuse(|| why(&result)),
                }
            }
            _ => answers.unasked += 1,
        }
        if answers.stored + answers.refused == lines {
            told().context("the agent is gone")?;
        }
    }
}

fn why(result: &PutRecordResult) -> String {
    let last = result.attempts.last().cloned().unwrap_or_default();
    let words = [last.error_code, last.error_message].map(Option::unwrap_or_default);
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use kinseal::daemon::message::{Attempt, Request};

    use super::*;

    #[test]
    fn each_line_is_a_frame_of_its_own_that_the_agent_reads() {
        let mut out = Vec::new();
        let mut frames = Frames::new("s", Keys::Default, &mut out);
        frames.send(b"one\ntwo\n").unwrap();
        frames.send(b"three\n").unwrap();
        let mut rest = Bytes::from(out);
        for (number, line) in ["one", "two", "three"].into_iter().enumerate() {
            let len = u32::from_be_bytes(rest.split_to(4)[..].try_into().unwrap());
            let expected = PutRecord {
                stream_name: "s".into(),
                data: line.into(),
                ..PutRecord::default()
            };
            let request = Request::decode(rest.split_to(len as usize));
            let (id, record) = (number as u64, expected);
            assert_eq!(request, Ok(Request::PutRecord { id, record }));
        }
        assert!(rest.is_empty());
    }

    fn result(success: bool) -> PutRecordResult {
        let attempt = Attempt {
            success,
            error_code: (!success).then(|| "Expired".into()),
            error_message: (!success).then(|| "too old".into()),
            ..Attempt::default()
        };
        PutRecordResult {
            attempts: vec![attempt],
            success,
            ..PutRecordResult::default()
        }
    }

    #[test]
    fn an_answer_counts_once_and_only_for_a_line_that_was_put() {
        let mut frames = Vec::new();
        for (to, success) in [(2, true), (0, false), (2, true), (7, true)] {
            result(success).encode(to, &mut frames);
        }
        let expected = Answers {
            stored: 1,
            refused: 1,
            unasked: 2,
            first_refusal: Some("Expired: too old".into()),
        };
        assert_eq!(answers(&frames[..], 3, || Ok(())).unwrap(), expected);
    }

    #[test]
    fn it_is_told_when_the_last_line_has_its_answer() {
        for lines in 1..4 {
            let mut frames = Vec::new();
            (0..2).for_each(|to| result(true).encode(to, &mut frames));
            let mut times = 0;
            let told = || {
                times += 1;
                Ok(())
            };
            answers(&frames[..], lines, told).unwrap();
            assert_eq!(times > 0, lines <= 2, "{lines}");
        }
    }

    #[test]
    fn half_an_answer_is_an_error() {
        let mut frames = Vec::new();
        result(true).encode(0, &mut frames);
        for len in 1..frames.len() {
            let answers = answers(&frames[..len], 1, || Ok(()));
            // Of a length alone nothing is known yet.
            assert_eq!(answers.is_ok(), len < 4, "{len}");
        }
    }
}

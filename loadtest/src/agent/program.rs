//! A program that puts its lines by the library: as fast as there is room for them, or each when it is due.
//!
//! A thread makes the lines; its CPU time is told apart, since it is the program's own work. Two tasks are what the library asks
//! of a program: one puts each line, the other waits for each receipt.

use std::io;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use kinseal::agent::Settings;
use kinseal::delivery::{Delivery, Receipt};
use kinseal::metrics::{Counts, Histograms};
use kinseal::producer::{Builder, Producer};
use kinseal::record::{PartitionKey, Record};
use kinseal::seal::{KeyChoice, Scope};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::door::Ended;
use crate::answers::Answers;
use crate::lines::{Due, Lines};
use crate::scenario::{Case, Keys};

pub(super) struct Program {
    producer: Arc<Producer>,
    pub(super) due: Due,
    /// Its result: bytes of what was put, newlines included.
    putting: JoinHandle<anyhow::Result<u64>>,
    answering: JoinHandle<Answers>,
    answers: Option<Answers>,
    /// The maker of lines lives until this is dropped, and its CPU time is known as long as it lives.
    _maker: blocking::Sender<()>,
}

/// Whole lines, and where each one's newline is.
struct Piece {
    bytes: Bytes,
    newlines: Vec<usize>,
}

/// Pieces made ahead.
const AHEAD: usize = 4;

impl Program {
    /// The name of the thread that makes the lines.
    pub(super) const MAKER: &str = "lines";

    pub(super) async fn start(settings: &Settings, case: Case) -> anyhow::Result<Self> {
        let producer = Arc::new(builder(settings)?.build().await?);
        let lines = Lines::of(&case)?;
        let due = Due::from_now_on(case.pace);
        let keys = case.keys.clone();
        let (pieces, made) = mpsc::channel(AHEAD);
        let (maker, until) = blocking::channel();
        thread::Builder::new()
            .name(Self::MAKER.to_owned())
            .spawn(move || make(lines, case.lines, due, pieces, &until))?;
        let (receipts, owed) = mpsc::unbounded_channel();
        Ok(Self {
            putting: tokio::spawn(put(Arc::clone(&producer), keys, made, receipts)),
            answering: tokio::spawn(hear(owed)),
            answers: None,
            producer,
            due,
            _maker: maker,
        })
    }

    pub(super) fn counts(&self) -> Counts {
        self.producer.counts()
    }

    pub(super) async fn histograms(&self) -> Histograms {
        self.producer.histograms().await
    }

    /// Resolves when each line that was put has its answer.
    pub(super) async fn all_answered(&mut self) -> anyhow::Result<()> {
        if self.answers.is_none() {
            self.answers = Some((&mut self.answering).await?);
        }
        Ok(())
    }

    pub(super) async fn close(mut self, grace: Duration) -> anyhow::Result<Ended> {
        let putting = tokio::time::timeout(grace, &mut self.putting).await;
        self.putting.abort();
        let made_bytes = putting.context("lines wait for room in the library")???;
        let answered = tokio::time::timeout(grace, self.all_answered()).await;
        self.answering.abort();
        answered.context("receipts are not answered")??;
        let counts = self.producer.counts();
        let producer = Arc::into_inner(self.producer).context("a task still puts lines")?;
        Ok(Ended {
            counts,
            histograms: producer.close(grace).await,
            answers: self.answers,
            made_bytes,
        })
    }
}

/// As the configuration file says it.
fn builder(settings: &Settings) -> anyhow::Result<Builder> {
    let [stream] = &settings.streams[..] else {
        bail!("the configuration has {} streams", settings.streams.len());
    };
    let builder = Producer::builder(stream.name.to_string())
        .aws(settings.aws.clone())
        .memory_limit(settings.memory_limit)
        .aggregation(stream.aggregation.clone())
        .batch(stream.batch.clone())
        .delivery(stream.delivery.clone())
        .cache(stream.encryption.cache.clone())
        .message(stream.encryption.message);
    let under = |builder: Builder, key: &KeyChoice| match key {
        KeyChoice::Kms(keys) => builder.kms_keys(keys),
        KeyChoice::WrappingKeyFile(path) => builder.wrapping_key_file(path),
    };
    let builder = match &stream.encryption.scope {
        Scope::Off => builder.plaintext(),
        Scope::Record(key) => under(builder, key),
        Scope::Block(key, block) => under(builder, key).blocks(block.clone()),
    };
    let context = stream.encryption.context.iter();
    Ok(context.fold(builder, |builder, (key, value)| builder.context(key, value)))
}

/// Hands over all lines, and waits for the end.
fn make(
    mut lines: Lines,
    count: u64,
    due: Due,
    pieces: mpsc::Sender<Piece>,
    until: &blocking::Receiver<()>,
) {
    let taken = |lines: &[u8]| {
        let newlines = lines.iter().enumerate().filter(|(_, b)| **b == b'\n');
        let piece = Piece {
            newlines: newlines.map(|(at, _)| at).collect(),
            bytes: Bytes::copy_from_slice(lines),
        };
        pieces.blocking_send(piece).map_err(io::Error::other)
    };
    // Where nobody takes them, putting has failed, and says so.
    let _ = lines.hand_over(taken, count, due);
    drop(pieces);
    let _ = until.recv();
}

async fn put(
    producer: Arc<Producer>,
    keys: Keys,
    mut made: mpsc::Receiver<Piece>,
    receipts: mpsc::UnboundedSender<Receipt>,
) -> anyhow::Result<u64> {
    let (mut bytes, mut number) = (0, 0);
    while let Some(piece) = made.recv().await {
        bytes += piece.bytes.len() as u64;
        let mut begin = 0;
        for end in piece.newlines {
            let line = piece.bytes.slice(begin..end);
            begin = end + 1;
            let record = match keys.of(number) {
                None => Record::new(line),
                Some(key) => Record::with_key(line, PartitionKey::new(key)?),
            };
            number += 1;
            let receipt = producer.put(record).await?;
            let sent = receipts.send(receipt);
            sent.map_err(|_| anyhow!("nobody waits for receipts"))?;
        }
    }
    Ok(bytes)
}

/// In the order of the lines: what comes earlier waits in its receipt.
async fn hear(mut owed: mpsc::UnboundedReceiver<Receipt>) -> Answers {
    let mut answers = Answers::default();
    while let Some(receipt) = owed.recv().await {
        match receipt.await {
            Delivery::Stored { .. } => answers.stored += 1,
            Delivery::Failed { reason, .. } => answers.refuse(|| reason.to_string()),
            other => answers.refuse(|| format!("{other:?}")),
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use kinseal::config;

    use super::*;

    #[test]
    fn what_a_configuration_says_is_what_the_library_is_told() {
        let text = |encryption: &str| {
            format!("[[source]]\ntype = \"stdin\"\nstream = \"s\"\n[encryption]\n{encryption}")
        };
        for (encryption, told) in [
            ("scope = \"off\"", "Some(Off)"),
            (
                "scope = \"record\"\nkms_key = \"alias/k\"\ncontext = { app = \"a\" }",
                "Some(Record(Kms([\"alias/k\"])))",
            ),
            (
                "scope = \"block\"\nkms_key = \"alias/k\"\ncontext = { app = \"a\" }",
                "Some(Block(Kms([\"alias/k\"]), ",
            ),
        ] {
            let settings = config::parse("c", &text(encryption), &config::System).unwrap();
            let builder = format!("{:?}", builder(&settings).unwrap());
            assert!(builder.contains(told), "{builder}");
            assert_eq!(
                builder.contains("{\"app\": \"a\"}"),
                encryption.contains("app"),
                "{builder}"
            );
        }
    }
}

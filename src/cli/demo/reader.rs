//! The consumer's side of one way: everything that comes back is compared and counted.

use std::sync::{Arc, Mutex};

use anyhow::Context;
use bytes::Bytes;

use super::account::{Account, Totals};
use super::progress::Gauges;
use super::way::Way;
use crate::consume::{ConsumedBatch, Consumer, Place, SealedInfo, UserRecord};
use crate::shutdown::Stop;

pub(super) struct Reader<'m, M> {
    way: Way,
    /// `None`: it has ended, and has said why.
    consumer: Option<Consumer>,
    /// Nobody says it: the consumer ends by being dropped.
    _stop: Stop,
    account: Account,
    gauges: Arc<Gauges>,
    /// User records and Kinesis records so far.
    read: u64,
    entries: u64,
    sample: Option<Sample>,
    meddle: &'m Mutex<M>,
}

/// One record, as it was written and as it lay in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) plaintext: Bytes,
    pub(super) message: Bytes,
    pub(super) place: Place,
    /// Records in the same aggregate.
    pub(super) members: usize,
}

impl<'m, M: FnMut(Way, &mut ConsumedBatch) + Send> Reader<'m, M> {
    pub(super) fn new(
        way: Way,
        (consumer, stop): (Consumer, Stop),
        account: Account,
        gauges: Arc<Gauges>,
        meddle: &'m Mutex<M>,
    ) -> Self {
        Self {
            way,
            consumer: Some(consumer),
            _stop: stop,
            account,
            gauges,
            read: 0,
            entries: 0,
            sample: None,
            meddle,
        }
    }

    pub(super) fn way(&self) -> Way {
        self.way
    }

    /// Kinesis records so far.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Goes on reading until `other` is done.
    pub(super) async fn read_while<T: Send>(
        &mut self,
        other: impl Future<Output = T> + Send,
    ) -> anyhow::Result<T> {
        tokio::pin!(other);
        loop {
            tokio::select! {
                done = &mut other => return Ok(done),
                batch = self.next() => self.take(batch?),
            }
        }
    }

    /// Cancel safe.
    pub(super) async fn next(&mut self) -> anyhow::Result<ConsumedBatch> {
        const ENDED: &str = "reading the stream back ended early";
        let batch = self.consumer.as_mut().context(ENDED)?.next().await;
        if let Some(consumer) = self.consumer.take_if(|_| batch.is_none()) {
            consumer.finish().await.context(ENDED)?;
        }
        batch.context(ENDED)
    }

    pub(super) fn take(&mut self, mut batch: ConsumedBatch) {
        let places = batch.records.iter().map(|record| match record {
            Ok(record) => &record.place,
            Err(unreadable) => &unreadable.place,
        });
        // A batch holds whole Kinesis records, one after the other.
        let mut last = None;
        for place in places {
            if last.replace(&place.sequence) != Some(&place.sequence) {
                self.entries += 1;
            }
        }
        if self.sample.is_none() {
            self.sample = Sample::of(&batch);
        }
        (self.meddle.lock().expect("no meddler panics"))(self.way, &mut batch);
        batch.records.iter().for_each(|r| self.account.take(r));
        self.read += batch.records.len() as u64;
        self.gauges.set_read_back(self.way, self.read);
    }

    /// The balance, for the first `written` records.
    pub(super) fn close(self, written: u64) -> (Totals, Option<Sample>) {
        (self.account.close(written), self.sample)
    }
}

impl Sample {
    fn of(batch: &ConsumedBatch) -> Option<Self> {
        let readable = || batch.records.iter().flatten();
        let (record, sealed) = readable().find_map(|record| Some((record, sealed(record)?)))?;
        let together = |other: &&UserRecord| other.place.sequence == record.place.sequence;
        Some(Self {
            // Copies: what was read together would otherwise stay in memory until the end.
            plaintext: Bytes::copy_from_slice(&record.data),
            message: Bytes::copy_from_slice(&sealed.message),
            place: record.place.clone(),
            members: readable().filter(together).count(),
        })
    }
}

fn sealed(record: &UserRecord) -> Option<&SealedInfo> {
    record.sealed.as_ref()
}

//! What is known of a stream by its description: who distributes its records, and how large one may be.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::Facts;
use crate::aggregate::reducer::Routes;
use crate::batch::{self, Limits, RecordLimit};
use crate::record::StreamName;
use crate::shard::{Description, Distribution, ListShardsError};
use crate::source::Costs;

#[derive(Debug)]
pub(super) struct Described {
    pub(super) stream: StreamName,
    pub(super) batch: batch::Settings,
    /// Bytes of the largest record that memory has room for.
    pub(super) affordable: usize,
    /// `None` until the first answer.
    pub(super) latest: Option<Description>,
    pub(super) at: Arc<Mutex<Instant>>,
    /// Denied, and said so.
    pub(super) is_denied: bool,
    /// Where nobody may ask: by where records are stored.
    pub(super) seems_auto: bool,
}

impl Described {
    /// An answer: a description, or that there will be none.
    pub(super) fn take(&mut self, answer: Result<Description, ListShardsError>) {
        *self.at.lock().expect("no panic while held") = Instant::now();
        let stream = &self.stream;
        match answer {
            Ok(description) => {
                if description.max_record_bytes
                    != self.latest.and_then(|described| described.max_record_bytes)
                {
                    self.say_limits(&description);
                }
                let was_by_key = self.distributes_by_key();
                match description.distribution {
                    Distribution::Auto if was_by_key => tracing::warn!(
                        %stream,
                        "the stream's RecordDistributionStrategy is AUTO: keys are ignored, so nothing is aggregated, \
                         and explicit hash keys are left out"
                    ),
                    Distribution::ByKey if !was_by_key => tracing::warn!(
                        %stream,
                        "the stream's RecordDistributionStrategy is USER_PARTITION_KEY again: keys count"
                    ),
                    _ => {}
                }
                self.latest = Some(description);
                self.is_denied = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_denied, true) {
                    tracing::warn!(
                        %stream, %error,
                        "kinesis:DescribeStreamSummary is denied: assuming that records are distributed by key, and, where \
                         batch.max_record_bytes is not set, that one may have 1 MiB"
                    );
                }
            }
        }
    }

    /// With these routes.
    pub(super) fn facts(&self, routes: Routes) -> Facts {
        Facts {
            routes,
            limits: self.limits(),
            is_described: self.latest.is_some(),
        }
    }

    fn limits(&self) -> Limits {
        let of_the_stream = self.latest.and_then(|d| d.max_record_bytes);
        (self.batch).limits(
            of_the_stream.unwrap_or(Limits::LEAST_OF_A_STREAM),
            self.affordable,
        )
    }

    fn say_limits(&self, description: &Description) {
        let (RecordLimit::OfTheStream | RecordLimit::OfTheStreamAlone, Some(taken)) =
            (self.batch.max_record_bytes, description.max_record_bytes)
        else {
            return;
        };
        let (stream, limit) = (&self.stream, self.batch.limits(taken, self.affordable));
        let limit = limit.max_record_bytes;
        if limit < taken && self.batch.max_bytes == Some(limit) {
            tracing::warn!(
                %stream, taken, limit,
                "the stream takes larger records than batch.max_bytes allows: larger ones become dead letters; raise it"
            );
        } else if limit < taken {
            let copies = Costs::COPIES_OF_A_RECORD;
            tracing::warn!(
                %stream, taken, limit,
                "the stream takes larger records than memory_limit has room for: larger ones become dead letters; \
                 raise it until the stream's share of it is {copies} times the largest record"
            );
        } else {
            tracing::info!(%stream, limit, "the stream says how large a record may be");
        }
    }

    pub(super) fn at(&self) -> Instant {
        *self.at.lock().expect("no panic while held")
    }

    /// Without permission to ask, assumes what nearly all streams do, until the evidence is against it.
    pub(super) fn distributes_by_key(&self) -> bool {
        match self.latest {
            Some(description) => description.distribution == Distribution::ByKey,
            None => !self.seems_auto,
        }
    }

    /// The listing has been the same for as long as doubts wait, and records go on being stored elsewhere than it says.
    /// Where nobody may ask why, they go unaggregated, which is right wherever they land; else each aggregate that
    /// lands elsewhere would be sent again for ever.
    pub(super) fn assume_auto(&mut self) {
        if self.latest.is_none() && !std::mem::replace(&mut self.seems_auto, true) {
            tracing::warn!(
                stream = %self.stream,
                "records are stored on other shards than the listing says, and kinesis:DescribeStreamSummary, which would say \
                 why, is denied: taken for a stream whose RecordDistributionStrategy is AUTO. Nothing is aggregated from now \
                 on; allow it for this identity"
            );
        }
    }
}

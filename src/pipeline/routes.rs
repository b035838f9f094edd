//! Keeps the shard map: a listing at the start, and another whenever the owner has seen evidence that the
//! old one is wrong. Meanwhile the old one goes on serving.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Notify, watch as value};
use tokio::task::JoinHandle;

use crate::aggregate::reducer::Routes;
use crate::record::StreamName;
use crate::retry::{self, Backoff};
use crate::shard::{Distribution, ListShards, ListShardsError, ShardMap};

/// Asks for a new listing.
#[derive(Debug, Clone)]
pub(super) struct Refresh(Arc<Notify>);

impl Refresh {
    /// Any number of times before the next listing makes one listing.
    pub(super) fn request(&self) {
        self.0.notify_one();
    }
}

/// Between two listings at least: evidence comes entry by entry.
const PAUSE: Duration = Duration::from_secs(1);

/// The latest routes, `None` until the first listing.
pub(super) fn watch(
    shards: Arc<dyn ListShards>,
    stream: StreamName,
) -> (Refresh, value::Receiver<Option<Routes>>, JoinHandle<()>) {
    let (tx, rx) = value::channel(None);
    let refresh = Refresh(Arc::default());
    let requested = Arc::clone(&refresh.0);
    let task = tokio::spawn(async move {
        let by_key = tokio::select! {
            by_key = distributes_by_key(&*shards, &stream) => by_key,
            () = tx.closed() => return,
        };
        loop {
            tokio::select! {
                routes = list(&*shards, &stream, by_key) => { tx.send_replace(Some(routes)); }
                () = tx.closed() => return,
            }
            tokio::select! {
                () = async { tokio::time::sleep(PAUSE).await; requested.notified().await } => {}
                () = tx.closed() => return,
            }
        }
    });
    (refresh, rx, task)
}

/// Without permission to ask, assumes what nearly all streams are.
async fn distributes_by_key(shards: &dyn ListShards, stream: &StreamName) -> bool {
    match until_answered(stream, "DescribeStreamSummary", || {
        shards.distribution(stream)
    })
    .await
    {
        Ok(Distribution::ByKey) => true,
        Ok(Distribution::Auto) => {
            tracing::warn!(
                %stream,
                "the stream's RecordDistributionStrategy is AUTO: keys are ignored, so nothing is aggregated"
            );
            false
        }
        Err(error) => {
            tracing::warn!(
                %stream, %error,
                "kinesis:DescribeStreamSummary is denied: assuming that records are distributed by key"
            );
            true
        }
    }
}

async fn list(shards: &dyn ListShards, stream: &StreamName, by_key: bool) -> Routes {
    if !by_key {
        return Routes::Unpredictable;
    }
    let listed = until_answered(stream, "ListShards", || async {
        let listed = shards.list_shards(stream).await?;
        let count = listed.len();
        ShardMap::new(listed).ok_or_else(|| ListShardsError {
            code: "IncompleteListing".to_owned(),
            message: format!("the {count} open shards listed do not cover the hash key range once"),
        })
    });
    match listed.await {
        Ok(map) => {
            tracing::debug!(%stream, shards = map.shards().len(), "shard map");
            Routes::Known(Arc::new(map))
        }
        Err(error) => {
            tracing::warn!(
                %stream, %error,
                "kinesis:ListShards is denied: nothing is aggregated, blocks hold records without a key only, and shards are \
                 given more than they take; allow it for this identity"
            );
            Routes::Unpredictable
        }
    }
}

/// Tries until there is an answer or it is denied; alarms at the first failure.
async fn until_answered<T, F>(
    stream: &StreamName,
    operation: &str,
    call: impl Fn() -> F,
) -> Result<T, ListShardsError>
where
    F: Future<Output = Result<T, ListShardsError>>,
{
    let mut backoff = Backoff::new(
        retry::Settings::default(),
        StdRng::from_rng(&mut rand::rng()),
    );
    let mut attempts = 0;
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.is_denied() => return Err(error),
            Err(error) => {
                attempts += 1;
                if attempts == 1 {
                    tracing::warn!(%stream, %error, "{operation} failed; trying until it succeeds");
                }
            }
        }
        tokio::time::sleep(backoff.delay(attempts)).await;
    }
}

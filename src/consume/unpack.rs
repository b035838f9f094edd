//! Kinesis records → user records: de-aggregate, open.
//!
//! The order is kept. The work is in three steps, because rayon threads must not wait and tokio's must not
//! compute: the pool takes aggregates apart and finds which data keys they need, tokio has these unwrapped
//! (one call for each key, from the opener's cache mostly), the pool opens.
//!
//! Promises: every user record comes out, opened or with the reason why not; an outage of KMS is waited
//! for, never taken for a record's fault (unless the caller would rather not wait). Refuses: records that are not encrypted, where keys were given
//! and plaintext is not allowed by name: a writer who drops encryption must not pass unseen.

mod opening;
mod part;
mod record;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rayon::prelude::*;
use tokio::sync::oneshot;

use self::opening::{Key, NeededKeys, TOGETHER, open_together};
use self::part::{Part, take_apart};
pub use self::record::{Place, Reason, SealedInfo, Unreadable, UserRecord};
use super::shards::{ListedShard, StoredRecord};
use crate::retry::{self, Backoff};
use crate::seal::key::KeyError;
use crate::seal::open::{OpenError, Opener};

/// What happens to records that are not encrypted, where keys are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plaintext {
    Refused,
    Allowed,
}

/// Unpacks pages on a pool of its own. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Unpacker {
    form: Form,
    pool: Arc<rayon::ThreadPool>,
    kms_is_out: Arc<AtomicBool>,
    waits: bool,
    strays: Option<Arc<AtomicU64>>,
}

#[derive(Debug, Clone)]
enum Form {
    AsStored,
    Users,
    Opened(Arc<Opener>, Plaintext),
}

/// Calls to KMS that one page has under way at once. Guess: a page of many writers should not wait for them
/// one by one, and KMS's request quota is shared with everyone in the account.
const UNWRAPS_AT_ONCE: usize = 8;

impl Unpacker {
    /// Takes nothing apart and opens nothing.
    pub fn as_stored(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        Self::new(Form::AsStored, threads)
    }

    /// De-aggregates. What is sealed is told as such.
    pub fn without_keys(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        Self::new(Form::Users, threads)
    }

    /// De-aggregates, and opens what is sealed.
    pub fn opening(
        opener: Arc<Opener>,
        plaintext: Plaintext,
        threads: usize,
    ) -> Result<Self, rayon::ThreadPoolBuildError> {
        Self::new(Form::Opened(opener, plaintext), threads)
    }

    fn new(form: Form, threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|n| format!("open-{n}"))
            .build()?;
        Ok(Self {
            form,
            pool: Arc::new(pool),
            kms_is_out: Arc::default(),
            waits: true,
            strays: None,
        })
    }

    /// An outage of KMS is a record's answer, like any other refusal: for someone who can ask again.
    #[must_use]
    pub fn without_waiting(mut self) -> Self {
        self.waits = false;
        self
    }

    /// An aggregate with a record that does not belong on its shard is left out as a whole, as the KCL does: its writer has
    /// sent it again for the right shard. Records in a block are its message's, and stay.
    #[must_use]
    pub fn dropping_strays(mut self) -> Self {
        self.strays = Some(Arc::default());
        self
    }

    /// User records that were left out so.
    pub fn strays(&self) -> u64 {
        let strays = self.strays.as_ref();
        strays.map_or(0, |strays| strays.load(Ordering::Relaxed))
    }

    /// What opens, if anything does: it counts how its data keys did.
    pub fn opener(&self) -> Option<&Arc<Opener>> {
        match &self.form {
            Form::AsStored | Form::Users => None,
            Form::Opened(opener, _) => Some(opener),
        }
    }

    /// All user records of a page, in its order. Cancel safe: what was begun is thrown away.
    pub async fn unpack(
        &self,
        shard: &ListedShard,
        page: Vec<StoredRecord>,
    ) -> Vec<Result<UserRecord, Unreadable>> {
        let strays = self.strays.clone().zip(shard.range);
        let shard = shard.id.clone();
        match &self.form {
            Form::AsStored => {
                let parts = page.into_iter().map(|record| Part::whole(&shard, record));
                parts.map(|part| Ok(part.plain())).collect()
            }
            Form::Users => {
                self.on_pool(move || {
                    let parts = take_apart(&shard, page, strays).into_par_iter();
                    parts.map(Part::without_keys).collect()
                })
                .await
            }
            Form::Opened(opener, plaintext) => {
                let (opener, plaintext) = (Arc::clone(opener), *plaintext);
                let take_apart = move || take_apart(&shard, page, strays);
                self.open_all(opener, plaintext, take_apart).await
            }
        }
    }

    async fn open_all(
        &self,
        opener: Arc<Opener>,
        plaintext: Plaintext,
        take_apart: impl FnOnce() -> Vec<Part> + Send + 'static,
    ) -> Vec<Result<UserRecord, Unreadable>> {
        let find_keys = Arc::clone(&opener);
        let (parts, needed) = self
            .on_pool(move || {
                let parts = take_apart();
                let needed = NeededKeys::of(&parts, &find_keys);
                (parts, needed)
            })
            .await;
        let asked: Vec<_> = needed
            .first_users
            .iter()
            .map(|&user| self.key(&opener, parts[user].sealed()).boxed())
            .collect();
        let keys: Vec<_> = stream::iter(asked)
            .buffered(UNWRAPS_AT_ONCE)
            .collect()
            .await;
        self.on_pool(move || {
            let parts = parts.into_par_iter().zip(needed.by_part);
            parts
                .chunks(TOGETHER)
                .flat_map_iter(|together| open_together(together, &keys, &opener, plaintext))
                .collect()
        })
        .await
    }

    /// Waits for as long as KMS can not be asked, unless told not to.
    async fn key(&self, opener: &Opener, sealed: Bytes) -> Result<Key, OpenError> {
        let message = opener.parse(&sealed)?;
        let context = Arc::new(message.context());
        let rng = StdRng::from_rng(&mut rand::rng());
        let mut backoff = Backoff::new(retry::Settings::default(), rng);
        let mut failures = 0;
        loop {
            let answer = opener.data_key(&message).await;
            match &answer {
                Err(error) if self.waits && heals(error) => {
                    // Once for all shards and keys.
                    if !self.kms_is_out.swap(true, Ordering::Relaxed) {
                        tracing::error!(%error, "records can not be opened now: waiting");
                    }
                    failures += 1;
                    tokio::time::sleep(backoff.delay(failures)).await;
                }
                answered => {
                    if answered.is_ok() && self.kms_is_out.swap(false, Ordering::Relaxed) {
                        tracing::info!("records can be opened again");
                    }
                    return answer.map(|data_key| Key { data_key, context });
                }
            }
        }
    }

    async fn on_pool<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (reply, done) = oneshot::channel();
        self.pool.spawn(move || {
            // Nobody waits where reading was stopped.
            let _ = reply.send(work());
        });
        done.await.expect("a job that panics ends the process")
    }
}

/// Renewed credentials heal it too; and those that expired while reading were right once.
fn heals(error: &OpenError) -> bool {
    error.is_outage()
        || matches!(error, OpenError::Key(error) if matches!(**error, KeyError::Credentials { .. }))
}

#[cfg(test)]
mod tests;

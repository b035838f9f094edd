//! Questions that are asked until they are answered or denied.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use crate::metrics::{Counters, Trouble};
use crate::record::StreamName;
use crate::recurring::{Recurring, Unsaid};
use crate::retry::{self, Backoff, refuses_credentials};
use crate::shard::ListShardsError;

/// How a stream's description and its shards are waited for.
#[derive(Debug, Clone)]
pub(in crate::pipeline) struct Waiting {
    /// How long before records go on without; `None`: as long as it takes.
    pub(in crate::pipeline) unlisted_after: Option<Duration>,
    pub(in crate::pipeline) undescribed_after: Option<Duration>,
    /// Whose trouble it is, and whose records wait.
    pub(in crate::pipeline) counters: Arc<Counters>,
    /// Asks on although no record waits.
    pub(in crate::pipeline) when_idle: bool,
}

/// Tries after which nobody asks on for no record's sake.
const IDLE_AFTER: u32 = 5;
/// Between two looks whether there is one.
const IDLE_LOOK: Duration = Duration::from_secs(1);

impl Waiting {
    /// Whether a service takes the credentials, as its answer says.
    fn hear(&self, error: Option<&ListShardsError>) {
        let troubles = &self.counters.troubles;
        match error {
            Some(error) if refuses_credentials(&error.code) => {
                troubles.begin(Trouble::RefusedCredentials);
            }
            Some(_) => {}
            None => troubles.end(Trouble::RefusedCredentials),
        }
    }

    /// Until there is a record to ask for.
    async fn until_wanted(&self, attempts: u32) {
        let is_idle = || !self.when_idle && self.counters.snapshot().pending == 0;
        while attempts >= IDLE_AFTER && is_idle() {
            tokio::time::sleep(IDLE_LOOK).await;
        }
    }
}

/// Tries until there is an answer or it is denied.
pub(super) async fn until_answered<T, F>(
    stream: &StreamName,
    operation: &str,
    failing: &mut Recurring,
    waiting: &Waiting,
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
            Err(error) if !error.is_denied() => {
                attempts += 1;
                waiting.hear(Some(&error));
                if let Some(Unsaid(others)) = failing.goes_on(Instant::now()) {
                    tracing::warn!(
                        %stream, %error, attempts, others_unsaid = others,
                        "{operation} failed; trying until it succeeds"
                    );
                }
            }
            answer => {
                waiting.hear(None);
                if let Some(down_for) = failing.end(Instant::now()) {
                    tracing::info!(%stream, ?down_for, "{operation} is answered again");
                }
                return answer;
            }
        }
        tokio::time::sleep(backoff.delay(attempts)).await;
        waiting.until_wanted(attempts).await;
    }
}

//! What can be asked of a daemon from outside.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::metrics::Metrics;
use super::streams::Watched;
use crate::admin::{Admin, Listen, Subject};
use crate::metrics::prometheus::Exposition;
use crate::pipeline::View;
use crate::recurring::Recurring;
use crate::shutdown::Shutdown;

/// A daemon as it is seen.
pub(super) struct Seen {
    pub(super) watched: Watched,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: Shutdown,
}

impl Subject for Seen {
    fn views(&self) -> Vec<View> {
        self.watched.views()
    }

    fn unready(&self) -> Option<&'static str> {
        self.shutdown
            .is_stopped()
            .then_some("stopping: nothing more is read")
    }

    fn expose(&self, text: &mut Exposition) {
        self.metrics.expose(text);
    }
}

/// Between tries to listen.
const PAUSE: Duration = Duration::from_secs(10);

/// Answers, once it can listen. The address may be another daemon's that reads the same file: records matter more.
pub(super) async fn answer(listen: Listen, seen: Seen) {
    let subject = Arc::new(seen);
    let mut trouble = Recurring::default();
    loop {
        match Admin::bind(&listen).await {
            Ok(admin) => admin.serve(Arc::<Seen>::clone(&subject)).await,
            Err(error) => {
                if trouble.goes_on(Instant::now()).is_some() {
                    tracing::error!("{error}; records go on, and it is tried again");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

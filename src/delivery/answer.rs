//! What a record's caller is told, and how it waits for that.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::FailReason;

/// The one answer a record gets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// Acknowledged by the service. All members of an aggregate share its sequence number.
    Stored {
        shard: Arc<str>,
        sequence: Arc<str>,
        /// Calls made for it, the successful one included.
        attempts: u32,
    },
    /// On disk in the spool, from where it is sent: the answer for those who asked for no more. Never a producer's.
    Spooled,
    /// It will not be stored: the reason, and the calls made before that was known.
    Failed { reason: FailReason, attempts: u32 },
}

impl Delivery {
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored { .. })
    }
}

/// Resolves to the record's one [`Delivery`]. Dropping it does not cancel the record.
#[derive(Debug)]
pub struct Receipt(pub(super) oneshot::Receiver<Delivery>);

impl Receipt {
    /// Waits for the answer. Cancel safe: the answer stays in the channel until it is taken.
    pub async fn delivery(&mut self) -> Delivery {
        (&mut self.0).await.unwrap_or(Delivery::Failed {
            reason: FailReason::Abandoned,
            attempts: 0,
        })
    }
}

impl Future for Receipt {
    type Output = Delivery;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Delivery> {
        std::pin::Pin::new(&mut self.0).poll(cx).map(|answer| {
            answer.unwrap_or(Delivery::Failed {
                reason: FailReason::Abandoned,
                attempts: 0,
            })
        })
    }
}

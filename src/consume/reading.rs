//! The two ways to read a shard, side by side: asked for, or pushed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fanout::SubscribeStream;
use super::reader::ShardReader;
use super::shards::{ListStream, Page, Position, ReadStream};
use super::subscriber::{Known, ShardSubscriber};
use crate::send::CallError;
use crate::shard::ShardId;

/// In which way shards are read.
#[derive(Debug, Clone)]
pub(super) enum Reading {
    /// Asked for page by page.
    Polled(Arc<dyn ReadStream>),
    /// Pushed, event by event.
    Pushed(Arc<dyn SubscribeStream>, Known),
}

impl Reading {
    pub(super) fn pushed(stream: Arc<dyn SubscribeStream>) -> Self {
        Self::Pushed(stream, Known::default())
    }

    pub(super) fn stream(&self) -> &dyn ListStream {
        match self {
            Self::Polled(stream) => &**stream,
            Self::Pushed(stream, _) => &**stream,
        }
    }

    pub(super) fn from(&self, shard: ShardId, from: Position) -> Reader {
        match self {
            Self::Polled(stream) => {
                Reader::Polled(ShardReader::new(Arc::clone(stream), shard, from))
            }
            Self::Pushed(stream, known) => Reader::Pushed(ShardSubscriber::new(
                Arc::clone(stream),
                known.clone(),
                shard,
                from,
            )),
        }
    }
}

/// One shard's.
#[derive(Debug)]
pub(super) enum Reader {
    Polled(ShardReader),
    Pushed(ShardSubscriber),
}

impl Reader {
    pub(super) async fn page(
        &mut self,
        memory: &Arc<Semaphore>,
    ) -> Result<(Page, OwnedSemaphorePermit), CallError> {
        match self {
            Self::Polled(reader) => reader.page(memory).await,
            Self::Pushed(subscriber) => subscriber.page(memory).await,
        }
    }

    /// At the tip, before it is looked at again.
    pub(super) async fn rest(&mut self, idle: Duration) {
        match self {
            Self::Polled(_) => tokio::time::sleep(idle).await,
            // It is told of what comes.
            Self::Pushed(_) => {}
        }
    }
}

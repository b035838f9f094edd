//! `--fan-out`: who subscribes, from its registration to its end.

use std::sync::Arc;

use anyhow::Context;

use crate::aws::{self, Clients};
use crate::cli::print_error;
use crate::consume::fanout::{FanOutError, Registered};
use crate::consume::{FanOutStream, KinesisStream, SubscribeStream};

/// A consumer that is registered.
pub(super) struct FanOut {
    stream: Arc<FanOutStream>,
    consumer: Registered,
    deregister: bool,
}

impl FanOut {
    /// Registered when this returns. Dropping it before may leave one in the making.
    pub(super) async fn begin(
        stream: KinesisStream,
        clients: &Clients,
        name: &str,
        deregister: bool,
    ) -> anyhow::Result<Self> {
        let subscribing = aws::unshared(&clients.kinesis)?;
        let consumer = FanOutStream::register(&stream, name).await?;
        Ok(Self {
            stream: Arc::new(FanOutStream::new(stream, subscribing, consumer.clone())),
            consumer,
            deregister,
        })
    }

    pub(super) fn stream(&self) -> Arc<dyn SubscribeStream> {
        Arc::clone(&self.stream) as Arc<dyn SubscribeStream>
    }

    /// Deregisters it, or says that it stays where it was this run that made it.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        let Registered { name, arn, is_new } = self.consumer;
        if self.deregister {
            let gone: Result<(), FanOutError> = self.stream.deregister().await;
            gone.with_context(|| format!("--deregister: consumer {arn} stays, and costs money"))?;
        } else if is_new {
            print_error(&format!(
                "kinseal: consumer {name} was registered and stays, for the next run; it costs money by the hour and shard \
                 until it is gone: aws kinesis deregister-stream-consumer --consumer-arn {arn}"
            ));
        }
        Ok(())
    }
}

/// Of 1 to 128 letters, digits and these, as the service takes it.
pub(super) fn consumer_name(text: &str) -> Result<String, String> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if (1..=128).contains(&text.len()) && text.bytes().all(is_allowed) {
        return Ok(text.to_owned());
    }
    Err("allowed: a name of 1 to 128 letters, digits, '_', '.' or '-'".into())
}

//! A client in each Region that keys lie in, and what every call has in common.

use std::collections::HashMap;

use aws_sdk_kms::Client;
use aws_sdk_kms::config::Region;
use tokio::time::Instant;

use super::name::KeyName;
use crate::metrics::KeyCalls;
use crate::seal::message::EncryptionContext;

/// A key as its user names it, and a client in its Region.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: KeyName,
    pub(super) client: Client,
}

impl Key {
    /// Each with `home`, or with its like in the Region that the key's name says. Credentials stay, and so does
    /// an endpoint that was configured: then all calls go there, signed for the key's Region.
    pub(super) fn all<S: Into<String>>(
        home: &Client,
        names: impl IntoIterator<Item = S>,
    ) -> Vec<Self> {
        let mut elsewhere: HashMap<String, Client> = HashMap::new();
        let with_client = |name: S| {
            let name = KeyName::of(name.into());
            let client = match name.region() {
                Some(region) if Some(region) != region_of(home) => elsewhere
                    .entry(region.to_owned())
                    .or_insert_with(|| in_region(home, region))
                    .clone(),
                _ => home.clone(),
            };
            Self { name, client }
        };
        names.into_iter().map(with_client).collect()
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_str()
    }
}

pub(super) fn region_of(client: &Client) -> Option<&str> {
    client.config().region().map(Region::as_ref)
}

fn in_region(home: &Client, region: &str) -> Client {
    let config = home.config().to_builder();
    Client::from_conf(config.region(Region::new(region.to_owned())).build())
}

/// One call, timed.
pub(super) async fn timed<T, E>(
    calls: &KeyCalls,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let started = Instant::now();
    let answer = call.await;
    calls.record(started.elapsed(), answer.is_err());
    answer
}

/// The whole context goes with each call; an empty one is none.
pub(super) fn as_argument(context: &EncryptionContext) -> Option<HashMap<String, String>> {
    let pairs = context.iter().map(|(k, v)| (k.clone(), v.clone()));
    (!context.is_empty()).then(|| pairs.collect())
}

//! Several keys, and keys of several Regions, against the stand-in.

use std::sync::Arc;

use super::*;
use crate::fake::{Action, Fake, Faults, Rule};
use crate::seal::key;
use crate::seal::message::{Message, MessageIds, ReadLimits};
use crate::seal::open::{OpenError, OpenSettings, Opened, Opener};

async fn stand_in() -> (Fake, Client) {
    let fake = Fake::start().await.expect("a port");
    let client = client(&fake.kms_url());
    (fake, client)
}

async fn sealed(client: &Client, keys: &[&str]) -> Vec<u8> {
    let keys = KmsKeys::new(client.clone(), keys.iter().copied()).expect("a key");
    let writer = key::writer(&keys, &context(), Default::default())
        .await
        .expect("generated");
    let mut message = Vec::new();
    writer.seal(MessageIds::new().draw(), b"a sale", &mut message);
    message
}

async fn opened(client: &Client, keys: &[&str], message: &[u8]) -> Result<Opened, OpenError> {
    let keys = KmsUnwrap::new(client.clone(), keys.iter().copied());
    let opener = Opener::new(vec![Arc::new(keys)], context(), OpenSettings::default());
    opener.expect("short context").open(message).await
}

fn wrapping_keys(message: &[u8]) -> Vec<String> {
    let message = Message::parse(message, &ReadLimits::default()).expect("a message");
    let keys = message.encrypted_data_keys();
    keys.map(|edk| edk.to_owned().wrapping_key()).collect()
}

#[tokio::test]
async fn each_of_several_keys_alone_opens() {
    let (fake, client) = stand_in().await;
    let (a, b, c) = (fake.create_key(), fake.create_key(), fake.create_key());
    fake.create_alias("alias/b", &b).expect("new");
    let message = sealed(&client, &[&a, "alias/b", &c]).await;
    assert_eq!(wrapping_keys(&message), [a.as_str(), &b, &c]);
    assert_eq!(fake.counters().kms_calls("GenerateDataKey"), 1);
    assert_eq!(fake.counters().kms_calls("Encrypt"), 2);
    for key in [a.as_str(), &b, "alias/b", &c] {
        let opened = opened(&client, &[key], &message).await;
        assert_eq!(opened.expect("opens").plaintext, "a sale", "{key}");
    }
}

#[tokio::test]
async fn with_one_key_gone_another_opens() {
    let (fake, client) = stand_in().await;
    let keys = [fake.create_key(), fake.create_key()];
    let [a, b] = [keys[0].as_str(), keys[1].as_str()];
    let message = sealed(&client, &[a, b]).await;
    for (gone, left) in [(a, b), (b, a)] {
        fake.enable_key(gone, false).expect("there");
        assert!(opened(&client, &[a, b], &message).await.is_ok());
        assert!(opened(&client, &[left], &message).await.is_ok());
        let refused = opened(&client, &[gone], &message).await;
        let words = refused.expect_err("disabled").to_string();
        assert!(
            words.contains(gone) && words.contains("enable it"),
            "{words}"
        );
        fake.enable_key(gone, true).expect("there");
    }
}

#[tokio::test]
async fn there_is_no_data_key_that_a_named_key_can_not_open() {
    let (fake, client) = stand_in().await;
    let (a, b) = (fake.create_key(), fake.create_key());
    let keys = KmsKeys::new(client, [&a, &b]).expect("two keys");
    fake.enable_key(&b, false).expect("there");
    let refused = keys.generate(&context(), 32).await.expect_err("disabled");
    assert!(matches!(&refused, KeyError::Disabled { key, .. } if *key == b));

    fake.enable_key(&b, true).expect("there");
    let denied = Action::access_denied();
    fake.set_faults(Faults::seeded(1).rule(Rule::new(denied).on("Encrypt")));
    let refused = keys.generate(&context(), 32).await.expect_err("denied");
    let words = refused.to_string();
    assert!(
        words.contains(&b) && words.contains("kms:Encrypt"),
        "{words}"
    );

    let calls = GenerateDataKey::calls(&keys).expect("it calls");
    assert_eq!((calls.made(), calls.failed()), (4, 2));
    assert_eq!(calls.latency().count(), 4);
}

#[tokio::test]
async fn an_answer_that_can_not_be_read_is_an_outage() {
    let (fake, client) = stand_in().await;
    let key = fake.create_key();
    let spoilt = Rule::new(Action::Malformed).on("GenerateDataKey").times(1);
    fake.set_faults(Faults::seeded(1).rule(spoilt));
    let keys = KmsKeys::new(client, [&key]).expect("a key");
    let error = keys.generate(&context(), 32).await.expect_err("spoilt");
    assert!(error.is_outage() && !error.refuses_the_key(), "{error}");
    let words = error.to_string();
    for word in [key.as_str(), "could not be understood", "HTTP status 200"] {
        assert!(words.contains(word), "{words}");
    }
    assert!(keys.generate(&context(), 32).await.is_ok());
}

#[tokio::test]
async fn a_replica_opens_what_its_primary_wrapped() {
    let (fake, client) = stand_in().await;
    let primary = fake.create_multi_region_key();
    let replica = fake
        .replicate_key(&primary, "us-east-1")
        .expect("a primary");
    let message = sealed(&client, &[&primary]).await;
    // The client is at home in the primary's Region, where the replica's ARN means nothing.
    fake.enable_key(&primary, false).expect("there");
    let opened_there = opened(&client, &[&replica], &message).await.expect("opens");
    assert_eq!(opened_there.plaintext, "a sale");
    assert_eq!(*opened_there.wrapping_key, *primary, "as the message says");
    assert!(opened(&client, &[&primary], &message).await.is_err());
    assert!(
        opened(&client, &[&primary, &replica], &message)
            .await
            .is_ok()
    );
    assert!(
        opened(&client, &[&replica, &primary], &message)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_reader_at_home_elsewhere_names_its_replica_by_id_or_alias() {
    let (fake, home) = stand_in().await;
    let primary = fake.create_multi_region_key();
    let replica = fake
        .replicate_key(&primary, "us-east-1")
        .expect("a primary");
    let message = sealed(&home, &[&primary]).await;
    fake.enable_key(&primary, false).expect("there");

    let config = home.config().to_builder();
    let there = Client::from_conf(config.region(Region::new("us-east-1")).build());
    let alias = there.create_alias().alias_name("alias/shop");
    alias.target_key_id(&replica).send().await.expect("new");
    let id = replica.rsplit('/').next().expect("an id");
    for name in [id, "alias/shop", replica.as_str()] {
        assert!(opened(&there, &[name], &message).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn keys_of_two_regions_wrap_each_in_its_own() {
    let (fake, client) = stand_in().await;
    let primary = fake.create_multi_region_key();
    let replica = fake
        .replicate_key(&primary, "us-east-1")
        .expect("a primary");
    for keys in [[&primary, &replica], [&replica, &primary]] {
        let keys = keys.map(String::as_str);
        let message = sealed(&client, &keys).await;
        assert_eq!(wrapping_keys(&message), keys);
    }
}

#[tokio::test]
async fn a_single_region_key_is_asked_under_its_own_arn_only() {
    let (fake, client) = stand_in().await;
    let key = fake.create_key();
    let message = sealed(&client, &[&key]).await;
    let elsewhere = key.replace("eu-west-1", "us-east-1");
    let refused = opened(&client, &[&elsewhere], &message).await;
    assert!(
        matches!(refused, Err(OpenError::NoKey { .. })),
        "{refused:?}"
    );
    assert_eq!(fake.counters().kms_calls("Decrypt"), 0);
}

#[tokio::test]
async fn a_readers_cache_counts_hits_misses_and_calls() {
    let (fake, client) = stand_in().await;
    let keys = [fake.create_key(), fake.create_key()];
    let [a, b] = [keys[0].as_str(), keys[1].as_str()];
    let message = sealed(&client, &[a, b]).await;
    fake.enable_key(a, false).expect("there");
    let keys = KmsUnwrap::new(client, [a, b]);
    let opener = Opener::new(vec![Arc::new(keys)], context(), OpenSettings::default())
        .expect("short context");
    for _ in 0..3 {
        opener.open(&message).await.expect("opens");
    }
    let counts = opener.counts();
    assert_eq!((counts.hits, counts.misses), (2, 1));
    assert_eq!((counts.calls, counts.calls_failed), (2, 1));
    assert_eq!(opener.call_latency().count(), 2);
}

#[test]
fn a_client_elsewhere_keeps_the_credentials_and_the_endpoint() {
    let home = client("http://127.0.0.1:1");
    let replica = ARN.replace("eu-west-1", "us-east-1");
    let keys = super::super::client::Key::all(&home, [ARN, &replica, "alias/shop"]);
    let regions = keys.iter().map(|key| {
        let config = key.client.config();
        config.region().map(|region| region.as_ref().to_owned())
    });
    let expected = ["eu-west-1", "us-east-1", "eu-west-1"].map(|r| Some(r.to_owned()));
    assert_eq!(regions.collect::<Vec<_>>(), expected);
}

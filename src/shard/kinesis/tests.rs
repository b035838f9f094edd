//! Listings through the SDK, from the stand-in.

use std::sync::Mutex;

use aws_credential_types::Credentials;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Config, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use serde_json::Value;

use super::*;
use crate::fake::{self, Action, ApiError, Fake, Faults, Rule};
use crate::shard::ShardMap;

async fn stream_of(shards: usize) -> (Fake, KinesisShards) {
    let fake = Fake::start().await.expect("a port");
    fake.create_stream("s", shards).expect("new");
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(fake::DEFAULT_REGION))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(fake.kinesis_url());
    let client = Client::from_conf(config.build());
    (fake, KinesisShards::new(client))
}

fn name() -> StreamName {
    StreamName::new("s").unwrap()
}

#[tokio::test]
async fn pages_are_joined_and_an_error_on_a_later_one_fails_the_listing() {
    // Three pages of 1,000 at most.
    let (fake, shards) = stream_of(2500).await;
    let error = ApiError::new("LimitExceededException", "Rate exceeded");
    let second = Rule::new(Action::Error(error))
        .on("ListShards")
        .after(1)
        .times(1);
    fake.set_faults(Faults::seeded(1).rule(second));
    let error = shards.list_shards(&name()).await.unwrap_err();
    assert_eq!(error.code, "LimitExceededException");
    // The next one begins anew, with the first page.
    let listed = shards.list_shards(&name()).await.unwrap();
    assert_eq!(listed.len(), 2500);
    assert!(ShardMap::new(listed).is_some());
}

#[tokio::test]
async fn closed_shards_are_not_listed_so_that_their_children_make_the_map() {
    let (fake, shards) = stream_of(3).await;
    fake.split("s", "shardId-000000000001").expect("open");
    fake.merge("s", "shardId-000000000003", "shardId-000000000004")
        .expect("open");
    let listed = shards.list_shards(&name()).await.unwrap();
    let mut ids: Vec<_> = listed.iter().map(|shard| shard.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        [
            "shardId-000000000000",
            "shardId-000000000002",
            "shardId-000000000005"
        ]
    );
    assert!(ShardMap::new(listed).is_some());
}

#[tokio::test]
async fn a_stream_is_listed_and_described_by_name_and_by_arn() {
    let (fake, shards) = stream_of(2).await;
    fake.set_max_record_kib("s", 2048).expect("a size");
    let arn = format!(
        "arn:aws:kinesis:{}:{}:stream/s",
        fake::DEFAULT_REGION,
        fake::DEFAULT_ACCOUNT
    );
    for stream in [name(), StreamName::new(&arn).unwrap()] {
        assert_eq!(shards.list_shards(&stream).await.unwrap().len(), 2);
        let description = shards.describe(&stream).await.unwrap();
        assert_eq!(
            description,
            Description {
                distribution: Distribution::ByKey,
                max_record_bytes: Some(2 << 20),
            }
        );
    }
    fake.set_distribution("s", fake::Distribution::Auto)
        .expect("there");
    let description = shards.describe(&name()).await.unwrap();
    assert_eq!(description.distribution, Distribution::Auto);
}

/// Answers each listing with a page that is not the last, and the next one with no shards.
#[derive(Debug, Clone, Default)]
struct Pages(Arc<Mutex<Vec<(String, Value)>>>);

impl HttpConnector for Pages {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let asked: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let page = match asked.get("NextToken") {
            None => r#"{"Shards":[],"NextToken":"next"}"#,
            Some(_) => r#"{"Shards":[]}"#,
        };
        let uri = request.uri().to_owned();
        self.0.lock().unwrap().push((uri, asked));
        let answer = HttpResponse::new(200.try_into().unwrap(), SdkBody::from(page));
        HttpConnectorFuture::ready(Ok(answer))
    }
}

/// On the first page alone: a token stands for the stream. The host stays the one that is configured.
#[tokio::test]
async fn a_stream_is_listed_by_its_id_too_once_it_is_told() {
    let pages = Pages::default();
    let connector = SharedHttpConnector::new(pages.clone());
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .http_client(http_client_fn(move |_, _| connector.clone()));
    let id = StreamId::default();
    let shards = KinesisShards::new(Client::from_conf(config.build())).with_id(id.clone());
    shards.list_shards(&name()).await.unwrap();
    id.set("af4lwng4k01746835071-xyz");
    shards.list_shards(&name()).await.unwrap();
    let asked = std::mem::take(&mut *pages.0.lock().unwrap());
    let ids: Vec<_> = asked
        .iter()
        .map(|(_, asked)| asked["StreamId"].as_str())
        .collect();
    assert_eq!(ids, [None, None, Some("af4lwng4k01746835071-xyz"), None]);
    assert_eq!(asked[2].1["StreamName"], "s");
    let hosts = asked.iter().map(|(uri, _)| &**uri);
    assert!(
        hosts.eq(["https://kinesis.eu-west-1.amazonaws.com/"; 4]),
        "{asked:?}"
    );
}

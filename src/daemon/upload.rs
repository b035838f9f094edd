//! The KPL's metrics to CloudWatch, as its own daemon uploads them but for the size of a call: the service has come to take
//! a thousand values at once, and each call is paid for.

use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::{BehaviorVersion, IdentityCache, Region};
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit, StatisticSet};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::timeout::TimeoutConfig;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::clients::{PipeCredentials, https};
use super::configuration::{Configuration, Level};
use super::metrics::{Clock, Datum, Metrics, Unit};
use crate::recurring::Recurring;
use crate::send::kinesis::call_error;

/// Of a call: 1,000 values and 1 MB, says the service; a value takes some hundreds of bytes.
const MOST_VALUES: usize = 1000;

/// Who uploads.
#[derive(Debug)]
pub(super) struct Upload {
    client: Client,
    configuration: Configuration,
    metrics: Arc<Metrics>,
    clock: Clock,
    trouble: Recurring,
}

impl Upload {
    /// `None` where nothing is to be uploaded.
    pub(super) fn new(
        configuration: &Configuration,
        region: &str,
        url: Option<String>,
        http: SharedHttpClient,
        credentials: &PipeCredentials,
        metrics: Arc<Metrics>,
    ) -> Option<Self> {
        if configuration.metrics_level == Level::None {
            return None;
        }
        let time_outs = TimeoutConfig::builder()
            .connect_timeout(configuration.connect_timeout)
            .operation_attempt_timeout(configuration.request_timeout)
            .build();
        let builder = aws_sdk_cloudwatch::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .credentials_provider(credentials.provider())
            .identity_cache(IdentityCache::no_cache())
            .http_client(http)
            .timeout_config(time_outs);
        let url = url.or_else(|| configuration.cloudwatch_endpoint.as_ref().map(https));
        let builder = match url {
            Some(url) => builder.endpoint_url(url),
            None => builder,
        };
        Some(Self {
            client: Client::from_conf(builder.build()),
            configuration: configuration.clone(),
            metrics,
            clock: Clock(Instant::now()),
            trouble: Recurring::default(),
        })
    }

    /// Until it is dropped. What is not uploaded then is gone, as with the KPL's own.
    pub(super) async fn run(mut self) {
        let delay = self.configuration.metrics_upload_delay;
        let mut ticks = interval_at(Instant::now() + delay, delay);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut from = 0;
        loop {
            ticks.tick().await;
            // The second that is now goes on.
            let to = self.clock.seconds(Instant::now()).saturating_sub(1);
            if to > from {
                self.upload(from, to).await;
                from = to;
            }
        }
    }

    async fn upload(&mut self, from: u64, to: u64) {
        let Configuration {
            metrics_level,
            metrics_granularity,
            metrics_namespace,
            ..
        } = &self.configuration;
        let data =
            self.metrics
                .between(from, to, *metrics_level, *metrics_granularity, &self.clock);
        let at = SystemTime::now();
        let mut size = 0;
        let fits = |first: &Datum, next: &Datum| {
            size += size_of_datum(first);
            let fits = size + size_of_datum(next) <= MOST_BYTES;
            size = if fits { size } else { 0 };
            fits
        };
        for batch in data
            .chunk_by(fits)
            .flat_map(|fitting| fitting.chunks(MOST_VALUES))
        {
            let call = self.client.put_metric_data().namespace(metrics_namespace);
            let values = batch.iter().map(|datum| value(datum, at)).collect();
            match call.set_metric_data(Some(values)).send().await {
                Ok(_) => {
                    if let Some(failed_for) = self.trouble.end(Instant::now()) {
                        tracing::warn!(?failed_for, "metrics are uploaded again");
                    }
                }
                Err(error) => {
                    let error = call_error(&error);
                    if self.trouble.goes_on(Instant::now()).is_some() {
                        tracing::error!(%error, values = batch.len(), "metrics are not uploaded, and gone");
                    }
                }
            }
        }
    }
}

/// A request's body may be 1 MB; the rest is for what is around the values.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html>
const MOST_BYTES: usize = 900_000;

/// About, and rather more.
fn size_of_datum(datum: &Datum) -> usize {
    let dimensions = datum.dimensions.iter();
    let dimensions = dimensions.map(|(name, value)| name.len() + value.len() + 32);
    256 + dimensions.sum::<usize>()
}

fn value(datum: &Datum, at: SystemTime) -> MetricDatum {
    let stat = datum.stat;
    let statistics = StatisticSet::builder()
        .sample_count(stat.count)
        .sum(stat.sum)
        .minimum(stat.min)
        .maximum(stat.max)
        .build();
    let named = datum
        .dimensions
        .iter()
        .filter(|(_, value)| !value.trim().is_empty());
    let dimensions =
        named.map(|(name, value)| Dimension::builder().name(&**name).value(&**value).build());
    MetricDatum::builder()
        .metric_name(datum.name.as_str())
        .set_dimensions(Some(dimensions.collect()))
        .statistic_values(statistics)
        .unit(match datum.name.unit() {
            Unit::Count => StandardUnit::Count,
            Unit::Bytes => StandardUnit::Bytes,
            Unit::Milliseconds => StandardUnit::Milliseconds,
        })
        .timestamp(DateTime::from(at))
        .build()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
    use aws_smithy_types::body::SdkBody;
    use serde_json::Value;

    use super::*;
    use crate::cbor::to_json;
    use crate::daemon::configuration::{AdditionalDimension, Granularity};
    use crate::daemon::message::Credentials;
    use crate::daemon::metrics::{Name, Of, Stat};

    /// Takes everything.
    #[derive(Debug, Clone, Default)]
    struct CloudWatch(Arc<Mutex<Vec<Value>>>);

    impl HttpConnector for CloudWatch {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            assert!(
                request.uri().ends_with("/operation/PutMetricData"),
                "{}",
                request.uri()
            );
            let body = request.body().bytes().expect("it is in memory");
            let body = to_json(body).expect("CBOR");
            let body = serde_json::from_slice(&body).expect("JSON");
            self.0.lock().unwrap().push(body);
            let status = 200.try_into().expect("it is one");
            // An empty map.
            let mut response = HttpResponse::new(status, SdkBody::from(&b"\xa0"[..]));
            response
                .headers_mut()
                .insert("smithy-protocol", "rpc-v2-cbor");
            response
                .headers_mut()
                .insert("content-type", "application/cbor");
            HttpConnectorFuture::ready(Ok(response))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_value_is_uploaded_once_under_its_names_and_none_of_the_second_that_is_now() {
        let cloudwatch = CloudWatch::default();
        let connector = SharedHttpConnector::new(cloudwatch.clone());
        let http = http_client_fn(move |_, _| connector.clone());
        let credentials = PipeCredentials::new(Some(Credentials {
            akid: "a".into(),
            secret_key: "s".into(),
            token: None,
        }));
        let configuration = Configuration {
            metrics_upload_delay: Duration::from_secs(10),
            metrics_granularity: Granularity::Stream,
            metrics_namespace: "Shop".into(),
            ..Configuration::default()
        };
        let blank = AdditionalDimension {
            key: "Host".into(),
            value: String::new(),
            granularity: Granularity::Global,
        };
        let metrics = Arc::new(Metrics::new(vec![blank]));
        let upload = Upload::new(
            &configuration,
            "eu-west-1",
            None,
            http,
            &credentials,
            Arc::clone(&metrics),
        );
        let uploading = tokio::spawn(upload.expect("the level is detailed").run());
        let of = Of {
            stream: Some("s"),
            shard: Some("shardId-000000000000"),
            ..Of::default()
        };
        // 100 values, one each 0.37 s.
        for n in 0..100 {
            metrics.put(
                Name::UserRecordsDataPut,
                of,
                Stat::one(f64::from(n)),
                Instant::now(),
            );
            tokio::time::sleep(Duration::from_millis(370)).await;
        }
        tokio::time::sleep(Duration::from_secs(21)).await;
        uploading.abort();
        let calls = cloudwatch.0.lock().unwrap().clone();
        assert!((4..=6).contains(&calls.len()), "{}", calls.len());
        let (mut count, mut sum) = (0.0, 0.0);
        for call in &calls {
            assert_eq!(call["Namespace"], "Shop");
            for datum in call["MetricData"].as_array().expect("values") {
                assert_eq!(datum["MetricName"], "UserRecordsDataPut");
                assert_eq!(datum["Unit"], "Bytes");
                let dimensions = datum["Dimensions"].as_array();
                // A dimension without a value is none, and shards are finer than was asked for.
                let names = dimensions.map_or(0, Vec::len);
                assert!(names <= 1, "{datum}");
                if names == 1 {
                    assert_eq!(datum["Dimensions"][0]["Name"], "StreamName");
                    let values = &datum["StatisticValues"];
                    let number = |key: &str| values[key].as_f64().expect("a number");
                    assert!(number("Minimum") <= number("Maximum"));
                    count += number("SampleCount");
                    sum += number("Sum");
                }
            }
        }
        assert_eq!((count, sum), (100.0, 4950.0));
    }
}

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
        for batch in data.chunks(MOST_VALUES) {
            let call = self.client.put_metric_data().namespace(metrics_namespace);
            let values = batch.iter().map(|datum| value(datum, at)).collect();
            match call.set_metric_data(Some(values)).send().await {
                Ok(_) => {
                    if let Some(failed_for) = self.trouble.end(Instant::now()) {
                        tracing::warn!(?failed_for, "metrics are uploaded again");
                    }
                }
                Err(error) => {
                    let error = aws_smithy_types::error::display::DisplayErrorContext(error);
                    if self.trouble.goes_on(Instant::now()).is_some() {
                        tracing::error!(%error, values = batch.len(), "metrics are not uploaded, and gone");
                    }
                }
            }
        }
    }
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

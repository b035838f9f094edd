//! What each stream of the daemon is set up with.

use crate::aggregate::ContainerKey;
use crate::batch::RecordLimit;
use crate::daemon::configuration::Configuration;
use crate::pipeline::StreamSettings;
use crate::record::StreamName;
use crate::{aggregate, batch, seal, send};

/// A stream's settings but for its name.
#[derive(Debug, Clone)]
pub struct Template {
    pub encryption: seal::Settings,
    pub aggregation: aggregate::Settings,
    pub batch: batch::Settings,
    pub delivery: send::Settings,
    /// Whether the client wants to know of the streams' strategies.
    pub tells_strategies: bool,
}

impl Template {
    /// A record of 1 MiB with its key.
    const LARGEST_AGGREGATE: usize = batch::Limits::LEAST_OF_A_STREAM - 1024;

    /// As the KPL's client configures it; encrypted, and over a disk, as somebody else says.
    pub fn new(configuration: &Configuration, encryption: seal::Settings, spooled: bool) -> Self {
        Self::tell_what_is_less(configuration);
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let collected =
            size(configuration.collection_max_size).min(batch::Limits::MOST_OF_A_REQUEST);
        Self {
            tells_strategies: configuration.is_newest,
            encryption,
            aggregation: aggregate::Settings {
                enabled: configuration.aggregation_enabled,
                // No stream takes less; some take no more.
                max_size: size(configuration.aggregation_max_size).min(Self::LARGEST_AGGREGATE),
                max_count: size(configuration.aggregation_max_count),
                // What waited for all of its time to live would be over when it is due.
                linger: (configuration.record_max_buffered_time).min(configuration.record_ttl / 2),
                container_key: ContainerKey::Kpl,
            },
            batch: batch::Settings {
                max_records: size(configuration.collection_max_count),
                max_bytes: Some(collected),
                max_record_bytes: RecordLimit::OfTheStreamAlone,
            },
            delivery: send::Settings {
                rate_limit: u32::try_from(configuration.rate_limit)
                    .unwrap_or(u32::MAX)
                    .min(send::Settings::MOST_RATE_LIMIT),
                max_in_flight: size(configuration.max_connections),
                request_timeout: configuration.request_timeout,
                connect_timeout: configuration.connect_timeout,
                // What is on disk is there for as long as it takes; what is not sealed is not on disk.
                record_ttl: (!spooled).then_some(configuration.record_ttl),
                unsealed_ttl: Some(configuration.record_ttl),
                fail_if_throttled: configuration.fail_if_throttled && !spooled,
                ..send::Settings::default()
            },
        }
    }

    /// What is asked for and cannot be had.
    fn tell_what_is_less(configuration: &Configuration) {
        let asked = configuration.aggregation_max_size;
        if asked > Self::LARGEST_AGGREGATE as u64 {
            let most = Self::LARGEST_AGGREGATE;
            tracing::warn!(
                asked,
                most,
                "aggregationMaxSize is more than every stream takes: it is this"
            );
        }
        let (asked, most) = (
            configuration.collection_max_size,
            batch::Limits::MOST_OF_A_REQUEST,
        );
        if asked > most as u64 {
            tracing::warn!(
                asked,
                most,
                "collectionMaxSize is more than a request may hold: it is this"
            );
        }
        let (asked, most) = (configuration.rate_limit, send::Settings::MOST_RATE_LIMIT);
        if asked > u64::from(most) {
            tracing::warn!(
                asked,
                most,
                "rateLimit is more than has any effect: it is this"
            );
        }
    }

    pub(super) fn of(&self, name: StreamName) -> StreamSettings {
        StreamSettings {
            name,
            encryption: self.encryption.clone(),
            aggregation: self.aggregation.clone(),
            batch: self.batch.clone(),
            delivery: self.delivery.clone(),
        }
    }
}

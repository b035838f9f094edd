//! What an agent has done, as a person reads it.

use std::fmt;

use crate::metrics::report::{Account, Calls, Keys, Latencies, Unkeyed, Volume};
use crate::metrics::{Counts, Histograms, KeyInUse};
use crate::pipeline::Pipeline;
use crate::record::StreamName;

/// What was done, per stream.
#[derive(Debug, Clone)]
pub struct Report {
    pub streams: Vec<StreamReport>,
}

#[derive(Debug, Clone)]
pub struct StreamReport {
    pub stream: StreamName,
    pub counts: Counts,
    /// None where nothing is encrypted.
    pub key_in_use: Option<KeyInUse>,
    pub histograms: Histograms,
}

/// What a person reads when the agent ends.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for StreamReport {
            stream,
            counts,
            key_in_use,
            histograms,
        } in &self.streams
        {
            writeln!(f, "{stream}: {}", Account(counts))?;
            writeln!(f, "{stream}: {}", Calls(counts))?;
            writeln!(f, "{stream}: {}", Volume(counts))?;
            if let Some(unkeyed) = Unkeyed::of(counts) {
                writeln!(f, "{stream}: {unkeyed}")?;
            }
            if let Some(keys) = Keys::of(counts, key_in_use.as_ref()) {
                writeln!(f, "{stream}: {keys}")?;
            }
            write!(f, "{}", Latencies(histograms))?;
        }
        Ok(())
    }
}

impl StreamReport {
    pub(super) async fn of(pipeline: &Pipeline) -> Self {
        Self {
            histograms: pipeline.histograms().await,
            stream: pipeline.stream().clone(),
            counts: pipeline.meter().counts(),
            key_in_use: pipeline.meter().key_in_use(),
        }
    }

    pub(super) fn log(&self) {
        let (counts, stream) = (&self.counts, &self.stream);
        tracing::info!(%stream, "{}", Account(counts));
        tracing::info!(%stream, "{}; {}", Calls(counts), Volume(counts));
        if let Some(unkeyed) = Unkeyed::of(counts) {
            tracing::info!(%stream, "{unkeyed}");
        }
        if let Some(keys) = Keys::of(counts, self.key_in_use.as_ref()) {
            tracing::info!(%stream, "{keys}");
        }
        for line in Latencies(&self.histograms).to_string().lines() {
            tracing::info!(%stream, "{line}");
        }
    }
}

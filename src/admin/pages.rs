//! Each page, as a text.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::Subject;
use crate::metrics::prometheus::{self, Exposition, Kind};
use crate::metrics::{Counts, Figures, Histograms, Latency, Trouble};

pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) text: String,
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

impl Page {
    pub(super) async fn metrics(subject: &dyn Subject) -> Self {
        let all = figures(subject).await;
        let mut text = Exposition::default();
        text.family("kinseal_build_info", Kind::Gauge, "Which program this is.");
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        text.sample("kinseal_build_info", &labels, 1);
        prometheus::streams(&all, &mut text);
        subject.expose(&mut text);
        Self {
            status: StatusCode::OK,
            kind: prometheus::CONTENT_TYPE,
            text: text.into_text(),
        }
    }

    pub(super) fn health(subject: &dyn Subject) -> Self {
        Self::ok_or(&subject.ailments())
    }

    pub(super) fn readiness(subject: &dyn Subject) -> Self {
        let mut why = subject.ailments();
        why.extend(subject.unready().map(str::to_owned));
        for view in subject.views() {
            let all = view.ailments().into_iter();
            why.extend(all.map(|ailment| format!("{}: {ailment}", view.stream())));
        }
        Self::ok_or(&why)
    }

    pub(super) async fn status(subject: &dyn Subject) -> Self {
        let all = figures(subject).await;
        let status = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "ailments": subject.ailments(),
            "streams": all.iter().map(status_of).collect::<Vec<_>>(),
        });
        Self {
            status: StatusCode::OK,
            kind: JSON,
            text: format!("{status:#}\n"),
        }
    }

    pub(super) fn not_found() -> Self {
        Self::plain(
            StatusCode::NOT_FOUND,
            "there are /metrics, /healthz, /readyz and /status\n",
        )
    }

    pub(super) fn read_only() -> Self {
        Self::plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "there is nothing here but to read\n",
        )
    }

    fn ok_or(why: &[String]) -> Self {
        match why {
            [] => Self::plain(StatusCode::OK, "ok\n"),
            why => Self::plain(StatusCode::SERVICE_UNAVAILABLE, &(why.join("\n") + "\n")),
        }
    }

    fn plain(status: StatusCode, text: &str) -> Self {
        Self {
            status,
            kind: TEXT,
            text: text.to_owned(),
        }
    }
}

/// One stream's after the other's: of many streams, all latencies at once would be megabytes more.
async fn figures(subject: &dyn Subject) -> Vec<Figures> {
    let mut all = Vec::new();
    for view in subject.views() {
        all.push(view.figures().await);
    }
    all
}

fn status_of(figures: &Figures) -> Value {
    let troubles: Vec<_> = figures.troubles.iter().map(|t| Trouble::name(*t)).collect();
    let key = figures.key_in_use.map(|key| {
        json!({
            "age_seconds": key.age.as_secs_f64(),
            "messages": key.messages,
            "bytes": key.bytes,
        })
    });
    json!({
        "stream": figures.stream,
        "ready": figures.is_well(),
        "described": figures.is_known,
        "troubles": troubles,
        "records": records(&figures.counts),
        "bytes": {
            "plain": figures.counts.plain_bytes,
            "sealed": figures.counts.sealed_bytes,
            "stored": figures.counts.bytes_stored,
        },
        "kinesis_records": {
            "stored": figures.counts.entries_stored,
            "throttled": figures.counts.entries_throttled,
            "retried": figures.counts.entries_retried,
            "misplaced": figures.counts.entries_misplaced,
        },
        "put_records_calls": {
            "made": figures.counts.calls,
            "failed": figures.counts.calls_failed,
            "unknown": figures.counts.calls_unknown,
        },
        "kms_calls": {
            "made": figures.counts.keys.calls,
            "failed": figures.counts.keys.calls_failed,
        },
        "data_key": key,
        "memory": {
            "limit_bytes": figures.memory_limit,
            "in_use_bytes": figures.memory_in_use,
        },
        "latency_seconds": latencies(&figures.histograms),
    })
}

fn records(counts: &Counts) -> Value {
    json!({
        "accepted": counts.accepted,
        "stored": counts.stored,
        "dead_lettered": counts.dead_lettered,
        "failed": counts.failed,
        "dropped": counts.dropped,
        "abandoned": counts.abandoned,
        "pending": counts.pending,
        "spooled": counts.spooled,
    })
}

fn latencies(histograms: &Histograms) -> Value {
    let each = (histograms.timed()).map(|(stage, latency)| (stage, of(latency)));
    Value::Object(each.collect::<Map<_, _>>())
}

fn of(latency: &Latency) -> Value {
    let seconds = |duration: Duration| duration.as_secs_f64();
    json!({
        "p50": seconds(latency.quantile(0.5)),
        "p99": seconds(latency.quantile(0.99)),
        "p99.9": seconds(latency.quantile(0.999)),
        "max": seconds(latency.max()),
        "count": latency.count(),
    })
}

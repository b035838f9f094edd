//! A pipeline as it is seen from elsewhere, also after its end.

use tokio::sync::{mpsc, oneshot, watch};

use super::routes::Facts;
use super::{Control, Meter, Pipeline};
use crate::delivery::MemoryBudget;
use crate::metrics::{Figures, Histograms};
use crate::record::StreamName;

/// Looks at a pipeline, and does not keep it running. Cheap to clone.
#[derive(Debug, Clone)]
pub struct View {
    stream: StreamName,
    meter: Meter,
    budget: MemoryBudget,
    facts: watch::Receiver<Option<Facts>>,
    control: mpsc::UnboundedSender<Control>,
}

impl Pipeline {
    pub fn view(&self) -> View {
        View {
            stream: self.stream.clone(),
            meter: self.meter.clone(),
            budget: self.intake.budget().clone(),
            facts: self.facts.clone(),
            control: self.control.clone(),
        }
    }
}

impl View {
    /// What there is to be told now. Its latencies are asked of the owner; it has none once that has ended.
    pub async fn figures(&self) -> Figures {
        Figures {
            stream: self.stream.to_string(),
            counts: self.meter.counts(),
            histograms: self.histograms().await,
            key_in_use: self.meter.key_in_use(),
            troubles: self.meter.troubles(),
            is_known: self.facts.borrow().is_some(),
            memory_limit: self.budget.limit(),
            memory_in_use: self.budget.in_use(),
        }
    }

    /// What is in the way of its records, as far as is known.
    pub fn ailments(&self) -> Vec<&'static str> {
        let mut all: Vec<_> = (self.meter.troubles().iter())
            .map(|trouble| trouble.name())
            .collect();
        if self.facts.borrow().is_none() {
            all.push("undescribed");
        }
        all
    }

    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    async fn histograms(&self) -> Histograms {
        self.meter.complete(asked(&self.control).await)
    }
}

/// The owner's latencies; none where it has ended.
pub(super) async fn asked(control: &mpsc::UnboundedSender<Control>) -> Histograms {
    let (tx, rx) = oneshot::channel();
    match control.send(Control::Snapshot(tx)) {
        Ok(()) => rx.await.unwrap_or_default(),
        Err(_) => Histograms::default(),
    }
}

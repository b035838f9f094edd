//! What can be asked of an agent from outside.

use crate::admin::Subject;
use crate::checkpoint::Checkpoints;
use crate::pipeline::{Pipeline, View};
use crate::shutdown::Shutdown;

/// An agent as it is seen.
#[derive(Debug)]
pub(super) struct Seen {
    views: Vec<View>,
    checkpoints: Checkpoints,
    /// Its sources'.
    shutdown: Shutdown,
}

impl Seen {
    pub(super) fn new(
        pipelines: &[Pipeline],
        checkpoints: &Checkpoints,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            views: pipelines.iter().map(Pipeline::view).collect(),
            checkpoints: checkpoints.clone(),
            shutdown,
        }
    }
}

impl Subject for Seen {
    fn views(&self) -> Vec<View> {
        self.views.clone()
    }

    fn ailments(&self) -> Vec<String> {
        let stands_still = self.checkpoints.stands_still();
        let said = stands_still.then(|| {
            "the checkpoint cannot be written, and stands still: records are sent on, and after a crash more of them again"
                .to_owned()
        });
        said.into_iter().collect()
    }

    fn unready(&self) -> Option<&'static str> {
        self.shutdown
            .is_stopped()
            .then_some("stopping: nothing more is read")
    }
}

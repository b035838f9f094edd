//! Where an agent's state lies, for commands that look at it from outside.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::config::{self, Settings};
use crate::statedir;

#[derive(Debug, Args)]
pub(super) struct StateArgs {
    /// The agent's configuration: says where its state is
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the state is, if not where the configuration says [default: /var/lib/kinseal, or for an
    /// ordinary user ~/.local/state/kinseal]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl StateArgs {
    pub(super) fn settings(&self) -> anyhow::Result<Option<Settings>> {
        let load = |path: &PathBuf| config::load(path, &config::System);
        Ok(self.config.as_ref().map(load).transpose()?)
    }

    /// One that is there: a mistyped name must not pass for "nothing was lost".
    pub(super) fn existing_dir(&self, settings: Option<&Settings>) -> anyhow::Result<PathBuf> {
        let dir = match (&self.state_dir, settings) {
            (Some(dir), _) => dir.clone(),
            (None, Some(settings)) => settings.state_dir.clone(),
            (None, None) => statedir::default_dir(),
        };
        if !dir.is_dir() {
            bail!(
                "state directory {}: no such directory; give the agent's --config or --state-dir",
                dir.display()
            );
        }
        Ok(dir)
    }
}

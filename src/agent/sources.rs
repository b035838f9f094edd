//! Starts each source as what it is.

use tokio::task::JoinSet;

use super::{AgentError, Source, SourceKind};
use crate::checkpoint::Checkpoints;
use crate::shutdown::Shutdown;
use crate::source::making::Making;
use crate::source::tail::{self, Tail};
use crate::source::unix::Desk;
use crate::source::{Intake, stdin, unix};

/// Where a source's records go, and who answers for them.
pub(super) struct Way {
    pub(super) making: Making,
    pub(super) intake: Intake,
    pub(super) desk: Desk,
}

pub(super) fn start_source(
    sources: &mut JoinSet<Result<(), AgentError>>,
    source: &Source,
    way: Way,
    checkpoints: &Checkpoints,
    notifier: &tail::Notifier,
    shutdown: &Shutdown,
) -> Result<(), AgentError> {
    let Way {
        making,
        intake,
        desk,
    } = way;
    let shutdown = shutdown.clone();
    match &source.kind {
        SourceKind::File(settings) => {
            let stream = &source.stream;
            let tail = Tail::spawn(
                settings,
                notifier,
                stream,
                checkpoints,
                intake,
                making,
                shutdown,
            )?;
            sources.spawn(async move {
                tail.finished()
                    .await
                    .map_err(|_| AgentError::PipelineStopped)
            });
        }
        SourceKind::Unix(settings) => {
            let listener = unix::Listener::bind(settings)?;
            let listener = match settings.acknowledged {
                Some(ack) => listener.acknowledging(ack, desk),
                None => listener,
            };
            sources.spawn(async move {
                listener.run(intake, &making, shutdown).await;
                Ok(())
            });
        }
        SourceKind::UnixDatagram(settings) => {
            let socket = unix::DatagramSocket::bind(settings)?;
            let path = settings.path.clone();
            sources.spawn(async move {
                let ended = socket.run(intake, &making, shutdown).await;
                ended.map_err(|source| AgentError::SocketBroke { path, source })
            });
        }
        SourceKind::Stdin(settings) => {
            let settings = settings.clone();
            sources.spawn(async move {
                stdin::run(&settings, intake, &making, shutdown)
                    .await
                    .map_err(AgentError::Stdin)
            });
        }
    }
    Ok(())
}

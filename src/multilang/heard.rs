//! What the daemon says.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// For records that are being opened when the daemon hangs up. A guess: enough for a call to KMS that is answered; in an outage
/// it would be waited for as long as that lasts, by a process that nobody wants any more.
const ONCE_HUNG_UP: Duration = Duration::from_secs(2);

/// The daemon's lines. They are read ahead while one is worked on, or its end would not be seen; it sends no more than
/// answers then, since it waits for the processor.
pub(super) struct Heard<R> {
    from: R,
    ahead: VecDeque<Vec<u8>>,
    /// As far as it was read.
    line: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin> Heard<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            ahead: VecDeque::new(),
            line: Vec::new(),
        }
    }

    /// With its end. `None` at the end of the pipe.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.ahead.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.read().await,
        }
    }

    /// Returns [`ONCE_HUNG_UP`] after the end of the pipe. Cancel safe.
    pub(super) async fn hung_up(&mut self) -> io::Result<()> {
        while let Some(line) = self.read().await? {
            self.ahead.push_back(line);
        }
        tokio::time::sleep(ONCE_HUNG_UP).await;
        Ok(())
    }

    /// Cancel safe: what was read of a line stays.
    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.from.read_until(b'\n', &mut self.line).await?;
        let line = std::mem::take(&mut self.line);
        Ok((!line.is_empty()).then_some(line))
    }
}

//! Through a segment, a block of frames at a time.

use std::io;

use bytes::Bytes;

use super::DiskFile;
use super::frame::{Found, Frame, frame_at, next_frame};

/// Read at once. A frame may be longer, and is then read alone.
const BLOCK: u64 = 256 << 10;

/// A place in a segment.
#[derive(Debug)]
pub(super) struct Walk {
    id: u64,
    offset: u64,
}

impl Walk {
    /// In the segment of this id.
    pub(super) fn new(id: u64, offset: u64) -> Self {
        Self { id, offset }
    }

    /// Behind the last frame that was read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// There is nothing to read before it.
    pub(super) fn go_to(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The next whole frames before `len`, where the segment ends for now; `None`: there are no more. Damage is read
    /// over: the numbers of the frames tell what is missing. After an error it stands where it stood. Blocks.
    pub(super) fn next(
        &mut self,
        file: &dyn DiskFile,
        len: u64,
    ) -> io::Result<Option<Vec<Frame<Bytes>>>> {
        let mut want = BLOCK;
        loop {
            let left = len.saturating_sub(self.offset);
            let bytes: Bytes = file.read(self.offset, as_len(want.min(left)))?.into();
            let (frames, read, stop) = self.frames(&bytes);
            if !frames.is_empty() {
                self.offset += read;
                return Ok(Some(frames));
            }
            match stop {
                Found::Short(needed) if needed as u64 <= left && want < needed as u64 => {
                    want = needed as u64;
                }
                _ => match self.whole_frame_after_damage(file, left)? {
                    Some(offset) => self.offset = offset,
                    None => return Ok(None),
                },
            }
        }
    }

    fn frames(&self, bytes: &Bytes) -> (Vec<Frame<Bytes>>, u64, Found) {
        let (mut frames, mut at) = (Vec::new(), 0);
        loop {
            match frame_at(&bytes.slice(at..), self.id) {
                Found::Frame(frame, size) => {
                    frames.push(frame);
                    at += size;
                }
                stop => return (frames, at as u64, stop),
            }
        }
    }

    /// A segment is small enough to be looked through as one.
    fn whole_frame_after_damage(&self, file: &dyn DiskFile, left: u64) -> io::Result<Option<u64>> {
        let rest: Bytes = file.read(self.offset, as_len(left))?.into();
        let found = next_frame(&rest, 1, self.id);
        Ok(found.map(|at| self.offset + at as u64))
    }
}

fn as_len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

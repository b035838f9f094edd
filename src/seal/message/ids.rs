//! Message ids: random, and each used once.
//!
//! The random generator is AWS-LC's, which notices a fork by itself. What is kept here, a batch drawn ahead, is
//! copied into the child like all else, and both would use it up. So a batch belongs to the process that drew
//! it, and another one throws it away.
//!
//! What nobody can see is a running virtual machine that is copied. Then a batch is in both copies; it lives
//! for one job, some milliseconds, and has no more ids than the job needs.

use std::borrow::Borrow;
use std::{fmt, process};

use aws_lc_rs::rand;

/// The id of one version 2 message. It is the salt of the message's key: the same id under the same data
/// key would repeat every IV, so an id can not be copied, and writing a message consumes it.
pub struct MessageId([u8; Self::LEN]);

impl MessageId {
    const LEN: usize = 32;

    pub(super) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Any id, for tests that need the same bytes twice.
    #[cfg(test)]
    pub(crate) fn fixed(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }
}

// What keys are derived with.
impl Borrow<[u8; Self::LEN]> for MessageId {
    fn borrow(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageId(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Draws ids from the system's random generator, many at a time: one call for 32 bytes costs 336 ns, an id
/// from a batch 7 ns. One generator per job; it is not shared between threads.
pub struct MessageIds {
    batch: Box<[u8]>,
    used: usize,
    /// Who drew the batch.
    process: u32,
}

impl MessageIds {
    /// Draws 256 ids at a time.
    pub fn new() -> Self {
        Self::for_messages(Self::MAX_BATCH)
    }

    /// Draws no more than a job of this many messages needs at once. Never runs out.
    pub fn for_messages(count: usize) -> Self {
        let batch = vec![0; count.clamp(1, Self::MAX_BATCH) * MessageId::LEN].into_boxed_slice();
        Self {
            used: batch.len(),
            batch,
            process: process::id(),
        }
    }

    /// 8 KiB.
    const MAX_BATCH: usize = 256;

    pub fn draw(&mut self) -> MessageId {
        self.keep_only_what_is_ours(process::id());
        self.next()
    }

    /// Appends this many. Asks once which process this is, a system call of some 50 ns, which is as much as
    /// drawing eight: draw for a group of messages at once, right before they are written.
    pub fn draw_many(&mut self, count: usize, ids: &mut Vec<MessageId>) {
        self.keep_only_what_is_ours(process::id());
        ids.extend((0..count).map(|_| self.next()));
    }

    /// Process ids come round again, so in theory a child's child could be taken for the one that drew, while
    /// that one is gone; all ids would have to be given out within the life of a batch.
    fn keep_only_what_is_ours(&mut self, process: u32) {
        if self.process != process {
            self.process = process;
            self.used = self.batch.len();
        }
    }

    fn next(&mut self) -> MessageId {
        if self.used == self.batch.len() {
            rand::fill(&mut self.batch).expect("the system's random generator does not fail");
            self.used = 0;
        }
        let id = self.batch[self.used..].first_chunk();
        let id = id.expect("a batch is whole ids");
        self.used += MessageId::LEN;
        MessageId(*id)
    }
}

impl Default for MessageIds {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MessageIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The ids to come are nobody's business.
        f.debug_struct("MessageIds").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_do_not_repeat_across_batches() {
        for mut ids in [MessageIds::new(), MessageIds::for_messages(3)] {
            let mut drawn: Vec<_> = (0..500).map(|_| ids.draw()).collect();
            ids.draw_many(500, &mut drawn);
            let drawn: HashSet<_> = drawn.iter().map(|id| id.0).collect();
            assert_eq!(drawn.len(), 1000);
            assert!(!drawn.contains(&[0; 32]));
        }
    }

    #[test]
    fn a_batch_is_drawn_once_for_its_ids() {
        let mut ids = MessageIds::for_messages(8);
        let first = ids.draw();
        let batch = ids.batch.clone();
        let mut rest = Vec::new();
        ids.draw_many(7, &mut rest);
        assert_eq!(batch, ids.batch);
        let drawn: Vec<u8> = [first].iter().chain(&rest).flat_map(|id| id.0).collect();
        assert_eq!(drawn, *batch);
    }

    /// As a fork leaves it, but for the process's own id. To fork here takes `unsafe`, and a child of a test
    /// binary's many threads may not even allocate; that `process::id` tells child from parent is POSIX's word.
    fn copied_by_fork(ids: &MessageIds, into: u32) -> MessageIds {
        let mut copy = MessageIds {
            batch: ids.batch.clone(),
            used: ids.used,
            process: ids.process,
        };
        copy.keep_only_what_is_ours(into);
        copy
    }

    #[test]
    fn no_id_of_a_batch_is_drawn_in_two_processes() {
        let mut parent = MessageIds::new();
        let before = parent.draw();
        let mut child = copied_by_fork(&parent, parent.process + 1);
        let mut grandchild = copied_by_fork(&child, parent.process + 2);
        let mut drawn = HashSet::from([before.0]);
        for _ in 0..MessageIds::MAX_BATCH * 2 {
            for ids in [&mut parent, &mut child, &mut grandchild] {
                assert!(drawn.insert(ids.next().0), "drawn twice");
            }
        }
    }

    /// That the test above would see it.
    #[test]
    fn the_same_process_goes_on_with_its_batch() {
        let mut ids = MessageIds::new();
        ids.draw();
        let mut copy = copied_by_fork(&ids, ids.process);
        assert_eq!(copy.next().0, ids.next().0);
    }
}

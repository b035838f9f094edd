//! Where plaintexts go: memory that is used again. New memory is zeroed before it may be written to, and for a block of 50 KiB
//! that takes a tenth as long as opening it.

use std::sync::LazyLock;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

/// Together 8 MiB at most.
const KEPT: usize = 64;
const LARGEST: usize = 128 << 10;
/// A smaller one is zeroed in less time than it takes to ask for one that was used.
const SMALLEST: usize = 16 << 10;

type Memory = Box<[u8]>;

static USED: LazyLock<(Sender<Memory>, Receiver<Memory>)> = LazyLock::new(|| bounded(KEPT));

/// Room for one plaintext, with what happens to lie there.
pub(super) struct Room {
    memory: Memory,
    len: usize,
}

impl Room {
    pub(super) fn of(len: usize) -> Self {
        let used = match worth_keeping(len) {
            true => USED.1.try_recv().ok(),
            false => None,
        };
        let used = used.filter(|used| used.len() >= len);
        Self {
            memory: used.unwrap_or_else(|| vec![0; len].into()),
            len,
        }
    }

    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }

    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if worth_keeping(self.memory.len()) {
            // Where as many as are kept lie there already, this one is freed.
            let _ = USED.0.try_send(std::mem::take(&mut self.memory));
        }
    }
}

fn worth_keeping(len: usize) -> bool {
    (SMALLEST..=LARGEST).contains(&len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_as_long_as_was_asked_whatever_was_in_it_before() {
        for len in [
            0,
            1,
            SMALLEST,
            50 << 10,
            20 << 10,
            LARGEST,
            LARGEST + 1,
            SMALLEST,
        ] {
            let mut room = Room::of(len);
            assert_eq!(room.as_mut().len(), len);
            room.as_mut().fill(0xee);
            assert_eq!(room.into_bytes(), vec![0xee; len]);
        }
    }

    #[test]
    fn what_somebody_holds_is_nobody_elses_room() {
        let held: Vec<_> = (0..2 * KEPT)
            .map(|at| {
                let mut room = Room::of(SMALLEST);
                room.as_mut().fill(at as u8);
                room.into_bytes()
            })
            .collect();
        let sound = |(at, bytes): (usize, &Bytes)| bytes.iter().all(|&byte| byte == at as u8);
        assert!(held.iter().enumerate().all(sound));
    }
}

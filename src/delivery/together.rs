//! Answers of many records at once, those of a chunk as one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use super::Ticket;

/// Tickets of sources whose records have been stored, and who wait to be told: of each chunk one.
///
/// What telling a chunk costs is shared by cores, and where a stream has thousands of shards, neighbours in an aggregate
/// come from as many chunks as they are; the aggregates of one call come from the same few.
#[derive(Debug, Default)]
pub struct Together(HashMap<usize, Ticket, BuildHasherDefault<OfAddress>>);

/// Room for so many chunks is kept.
const MANY: usize = 1000;

impl Together {
    /// Takes the ticket in, or gives back that of a caller, who is told more than a source: where the record lies.
    pub fn take(&mut self, ticket: Ticket) -> Result<(), Ticket> {
        if ticket.has_caller() {
            return Err(ticket);
        }
        match self.0.entry(ticket.chunk()) {
            Entry::Vacant(place) => {
                place.insert(ticket);
            }
            Entry::Occupied(mut place) => {
                place.get_mut().absorb(ticket).expect("of one chunk");
            }
        }
        Ok(())
    }

    /// Gives them their answer, after a look at each.
    pub fn settle(&mut self, mut look: impl FnMut(&Ticket)) {
        let told = self.0.len();
        if told == 0 {
            return;
        }
        for (_, ticket) in self.0.drain() {
            look(&ticket);
            ticket.settle_of_source();
        }
        if told < self.0.capacity() / 8 {
            self.0.shrink_to(MANY);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Addresses differ in the middle; a table asks for the low bits of a hash and for the highest.
#[derive(Debug, Default)]
struct OfAddress(u64);

impl Hasher for OfAddress {
    fn write_usize(&mut self, address: usize) {
        // Fibonacci hashing: 2^64 divided by the golden ratio.
        self.0 = (address as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(32);
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("addresses alone are hashed");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;

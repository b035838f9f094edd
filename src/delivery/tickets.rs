//! The tickets of a block.

use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;

use super::{Delivery, FailReason, Ticket};

/// The tickets of what travels as one: a record's own, or those of all records in a block. Never empty.
#[derive(Debug)]
pub struct Tickets(SmallVec<[Ticket; 1]>);

impl Tickets {
    pub fn one(ticket: Ticket) -> Self {
        Self(smallvec![ticket])
    }

    /// Neighbours mostly come from one chunk, and become one ticket for both.
    pub fn join(&mut self, ticket: Ticket) {
        let last = self.0.last_mut().expect("never empty");
        if let Err(ticket) = last.absorb(ticket) {
            self.0.push(ticket);
        }
    }

    /// Records they stand for.
    pub fn records(&self) -> u64 {
        self.0.iter().map(|t| u64::from(t.records())).sum()
    }

    /// Whether a caller waits for [`Delivery::Spooled`].
    pub fn wait_for_the_spool(&self) -> bool {
        self.0.iter().any(Ticket::is_answered_when_spooled)
    }

    /// When the first of the records was read.
    pub fn born(&self) -> Instant {
        let born = self.0.iter().map(Ticket::born).min();
        born.expect("never empty")
    }

    /// Why they are not to be stored, if one of them is not.
    pub fn doom(&self) -> Option<&FailReason> {
        self.0.iter().find_map(Ticket::doom)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Ticket> {
        self.0.iter()
    }

    pub fn settle(self, delivery: &Delivery) {
        for ticket in self.0 {
            ticket.settle(delivery);
        }
    }

    /// Those whose callers are told of a failure, and the rest, which need a dead letter.
    pub fn part(self) -> (SmallVec<[Ticket; 1]>, Option<Self>) {
        let (callers, rest): (SmallVec<_>, SmallVec<_>) =
            self.0.into_iter().partition(Ticket::has_caller);
        (callers, (!rest.is_empty()).then_some(Self(rest)))
    }
}

impl IntoIterator for Tickets {
    type Item = Ticket;
    type IntoIter = smallvec::IntoIter<[Ticket; 1]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

//! The promise made for each record, and its one answer.
//!
//! An accepted record holds a [`Ticket`]. A ticket is settled exactly once, by value; one that is dropped
//! instead was abandoned, and whoever waits is told so: a source's span then never counts as settled, so a
//! checkpoint cannot pass it.
//!
//! Tickets of one chunk share a group, which holds the chunk's [`MemoryPermit`]. It is given back as the records
//! have their answers: one that waits for its shard for hours does not hold what a thousand others took.

mod answer;
mod budget;
mod journal;
mod reason;
mod ticket;
mod tickets;
mod together;

pub use answer::{Delivery, Receipt};
pub use budget::{MemoryBudget, MemoryPermit};
pub use journal::{CallRefused, RecordSettled, SettledRecord, Tried};
pub use reason::FailReason;
pub use ticket::{SpanSettled, Ticket};
pub use tickets::Tickets;
pub use together::Together;

//! How far each source has been stored, kept over a restart.
//!
//! [`ledger`] knows, per file, which spans are still outstanding, and so how far the contiguous settled
//! prefix reaches. [`store`] puts that on disk. [`Checkpoints`] joins the two: sources register the files they
//! read, and somebody calls [`Checkpoints::save_if_moved`] every second and at the end.
//!
//! A file may go to several streams; each has its own entry, which no other stream's answers move. For one
//! stream it is read by one source at a time: the one that has [claimed](SourceCheckpoints::claim) it.
//!
//! Promises: a saved offset never passes a record without its answer; a checkpoint that cannot be written
//! stops moving and is tried again, and sending goes on; one that cannot be read is an error, never a silent
//! start from the beginning or the end; one state directory has one writer.

pub mod ledger;
pub mod store;

mod claim;
mod tracked;

pub use claim::{Claim, SourceCheckpoints, Taken};
pub use ledger::FileLedger;
pub use store::{CheckpointError, Fingerprint, Lock, RealDisk, Saved, SavedFile, ShortHash, Store};
pub use tracked::Checkpoints;

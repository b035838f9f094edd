//! kinseal puts records on Amazon Kinesis Data Streams: encrypted on this host under AWS KMS, aggregated,
//! batched, retried, and accounted for one by one.
//!
//! ```text
//!  source ──► seal ──► aggregate ──► limit ──► collect ──► send ──► judge ──► settle
//!  tail,      rayon    per shard     tokens    ≤500 rec.   tokio    per       ticket → checkpoint,
//!  unix,      pool,    KPL wire      per       ≤5 MiB      N in     entry     receipt, histogram
//!  stdin      data-key format        shard                 flight     │
//!             cache       ▲                                           │ retry at t / re-aggregate
//!                         └───────────────────────────────────────────┘
//! ```
//!
//! A library user starts at [`producer::Producer`]; the agent is [`agent::Agent`]; the KPL's Java client starts
//! [`daemon`]; the way back is [`consume`].
//!
//! # Without the producer
//! A program that calls the Streams API itself seals and opens records one by one, as in the AWS blog post "Encrypt and
//! Decrypt Amazon Kinesis Records Using AWS KMS". What its `KinesisEncryptionUtils` does is done here by
//!
//! | there | here |
//! |---|---|
//! | `toEncryptedString` | [`Sealer::seal_to_string`](seal::sealer::Sealer::seal_to_string), or `seal` for a quarter less |
//! | `toEncryptedByteStream` | the string's bytes: it is ASCII |
//! | `calculateSizeOfObject`, which warns above 1 MB | [`Limits::check`](batch::Limits::check), of the message and its partition key, which is an error |
//! | `decryptByteStream` with its key ARN and context | [`Opener`](seal::open::Opener), which takes both, and refuses what is not theirs |
//! | the consumers' loops | [`consume`], which polls; [without polling](consume#without-polling), as in a Lambda, its [`Unpacker`](consume::Unpacker) |
//!
//! There each record costs a call to KMS on either side; here one does for all under a data key.
//! `examples/ticker_producer.rs` and `examples/ticker_consumer.rs` are the post's applications.
//!
//! # Layout
//! Each group may use those above it:
//!
//! - words: [`record`] and its checked parts, [`delivery`] (tickets, memory), [`retry`] (verdicts),
//!   [`metrics`], [`shutdown`], `recurring` (what the log says of trouble), `secretfile` (how keys are read), `hex`,
//!   `near` (the cache), `statedir`, `readat` and `durable` (files that outlive a power cut);
//! - codecs without I/O: [`seal::message`] (AWS Encryption SDK; the crate `hkdf-lanes` derives its keys), [`aggregate::format`] (KPL),
//!   [`source::frame`] (lines), [`daemon::message`] (the KPL's daemon), `cbor`;
//! - stages: [`source`], [`seal`], [`aggregate`], [`shard`], [`batch`], [`send`], [`checkpoint`], [`spool`],
//!   [`deadletter`];
//! - assembly: [`pipeline`] (the one owner loop of a stream), [`producer`], [`consume`], [`aws`] (clients);
//! - doors: [`agent`], [`daemon`], [`multilang`] (before a record processor of the KCL's), and what the first two are asked from outside: [`admin`];
//! - shell: [`config`], [`cli`];
//! - beside: `fake`, the stand-ins for Kinesis and KMS, which use words and codecs only.
//!
//! # Features
//! - `fake` (default): the stand-ins, and with them `kinseal demo` and `kinseal local`.

// About in the order of a record's journey; the blank lines keep rustfmt from sorting it away.
pub mod record;

pub mod delivery;

pub mod source;

pub mod seal;

pub mod aggregate;

pub mod shard;

pub mod batch;

pub mod send;

pub mod retry;

pub mod checkpoint;

pub mod spool;

pub mod deadletter;

pub mod pipeline;

pub mod producer;

pub mod consume;

pub mod aws;

pub mod admin;

pub mod agent;

pub mod daemon;

pub mod multilang;

pub mod config;

pub mod cli;

pub mod metrics;

pub mod shutdown;

mod cbor;
mod durable;
mod hex;
mod near;
mod readat;
mod recurring;
mod secretfile;
mod statedir;

#[cfg(feature = "fake")]
pub mod fake;

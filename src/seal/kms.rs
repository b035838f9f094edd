//! Data keys from AWS KMS: the one place that speaks to it.
//!
//! [`KmsKeys`] asks `GenerateDataKey` of its first key and `Encrypt` of the others, and needs these
//! permissions only; [`KmsUnwrap`] asks `Decrypt` and needs that one only. No `DescribeKey`: what a key is
//! called is compared with the ARN in the message, and for an alias KMS compares. A key that is named by ARN is
//! asked for in its own Region.
//!
//! Promises: the whole encryption context goes with each call, so KMS binds the data key to it; each named key
//! opens what is written, or nothing is; the answer's key and length are checked; each call is counted and
//! timed; retries and time-outs are the client's, this adds none. Refuses: data keys wrapped by a key that was
//! not named, replicas of a named multi-Region key apart.
//!
//! Source: AWS KMS API reference, `GenerateDataKey`, `Encrypt`, `Decrypt` and "Common errors"; AWS Encryption
//! SDK specification, `framework/aws-kms/`.

mod client;
mod error;
mod generate;
mod name;
mod unwrap;

pub use generate::KmsKeys;
pub use unwrap::KmsUnwrap;

#[cfg(test)]
mod tests;

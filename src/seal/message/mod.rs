//! The AWS Encryption SDK message format, both ways.
//!
//! Owns the bytes between a plaintext and a message: algorithm suites, header, key derivation and
//! commitment, body, signature. Pure: no clock, no I/O, no tokio. Where a data key comes from is
//! [`crate::seal::key`]'s business; here it is bytes.
//!
//! [`Writer`] writes 0x0478 unless told otherwise (AES-256-GCM, HKDF-SHA512, key commitment, no signature),
//! which every current AWS Encryption SDK reads under its default policy; 0x0578, which signs; and for old
//! readers 0x0114, 0x0178 and, signed, 0x0378. [`Message`] reads all eleven suites.
//!
//! Promises: a message id is used once ([`MessageId`] is consumed), [`Writer::sealed_len`] is exact, and
//! no plaintext is released before commitment, header tag, all frames and the signature have been checked.
//! Refuses: duplicate context keys, bytes after the message, frames out of sequence, more encrypted data
//! keys than the reader's limit, a signature key in an unsigned message.
//!
//! Source: the public AWS Encryption SDK specification, `data-format/*.md`, `client-apis/*.md` and
//! `framework/algorithm-suites.md`. All integers are big-endian.
//!
//! ```text
//! v1 header: 01 | 80 | suite(2) | message id(16) | AAD | EDKs | content type(1) | 0(4) | iv length=0c | frame length(4)
//!            iv(12) | tag(16)
//! v2 header: 02 | suite(2) | message id(32) | AAD | EDKs | content type(1) | frame length(4) | commitment(32)
//!            tag(16)
//! AAD:       length(2) | pair count(2) | { key length(2) key, value length(2) value }*     length 0 when empty
//! EDKs:      count(2) | { provider length(2) provider, info length(2) info, length(2) ciphertext }*
//! frame:     sequence(4) | iv(12) | ciphertext(frame length) | tag(16)
//! final:     ffffffff | sequence(4) | iv(12) | length(4) | ciphertext(length) | tag(16)
//! unframed:  iv(12) | length(8) | ciphertext | tag(16)
//! footer:    length(2) | DER ECDSA signature over header and body                           signing suites
//! ```

mod aead;
mod body;
mod context;
mod cursor;
mod derive;
mod edk;
mod encoding;
mod header;
mod ids;
mod reader;
mod room;
mod secret;
mod signature;
mod suite;
mod writer;

#[cfg(test)]
mod nonces;
#[cfg(test)]
mod tests;

pub use aead::Backend;
pub(crate) use aead::{Aead, Cipher, IV_LEN, Iv, TAG_LEN};
pub use context::{ContextError, EncryptionContext};
pub(crate) use context::{check_length, serialize_pairs};
pub use edk::EncryptedDataKey;
pub use encoding::{Encoding, message_in};
pub use header::{Content, EncryptedDataKeyRef, looks_sealed};
pub use hkdf_lanes::Lanes;
pub use ids::{MessageId, MessageIds};
pub use reader::{Message, ReadError, ReadLimits};
pub use secret::SecretKeyBytes;
pub use suite::{CommitmentPolicy, NoSuite, Signature, Suite, Version};
pub use writer::{Binding, Settings, WriteError, Writer};

//! Many records in one message: how a block is packed before it is sealed.
//!
//! ```text
//! block = AggregatedRecord (protobuf, as in the KPL's format, without magic and MD5)   packing "kpl"
//!       | one zstd frame of that                                                       packing "kpl+zstd"
//! ```
//!
//! GCM authenticates the bytes, so a checksum would only cost. That a message is a block, and how it is
//! packed, stands in its authenticated encryption context under [`CONTEXT_KEY`], and is never guessed from
//! the bytes. The pair is constant for a stream, because it is part of the data key's identity: a block that
//! does not compress is a zstd frame all the same.
//!
//! Refused on reading: an unknown packing, a frame that does not tell its size or tells more than
//! [`MAX_UNPACKED`], and whatever is no such protobuf.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use zstd::bulk::Compressor;

use super::message::EncryptionContext;
use crate::aggregate::format::{Layout, UserRecord, records_of};

/// The context pair that says a message is a block.
pub const CONTEXT_KEY: &str = "kinseal-block";

/// Pairs that begin so are this program's own word on how a message is packed, and nobody else's.
pub const CONTEXT_PREFIX: &str = "kinseal-";

/// The first name in a context that is this program's own.
pub fn reserved_key(context: &EncryptionContext) -> Option<&str> {
    let mut names = context.keys().map(String::as_str);
    names.find(|name| name.starts_with(CONTEXT_PREFIX))
}

/// What is said of such a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserved<'a>(pub(crate) &'a str);

impl fmt::Display for Reserved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.0;
        write!(
            f,
            "encryption context key \"{key}\" is reserved: keys that begin with \"{CONTEXT_PREFIX}\" say how a \
             message is packed; choose another name"
        )
    }
}

/// Readers refuse blocks that unpack to more: a small message must not claim much memory. Above the largest
/// record that the service takes.
pub const MAX_UNPACKED: usize = 32 << 20;

/// `scope = "block"`, the `[encryption.block]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of records and their keys in a block, before compression.
    pub max_size: usize,
    /// How long a record may wait for its block to fill; `None`: as long as `aggregation.linger`.
    pub linger: Option<Duration>,
    pub packing: Packing,
}

impl Default for Settings {
    /// 48 KiB: a sealed block fits an aggregate's place, and the overhead of a message is under 1 %. Not
    /// compressed, since lengths then tell something of the contents.
    fn default() -> Self {
        Self {
            max_size: 48 << 10,
            linger: None,
            packing: Packing::Kpl,
        }
    }
}

impl Settings {
    /// As few bytes as possible: compressed, and with a linger in which a block fills where lines come
    /// slowly. Only for records in which nobody else puts text beside a secret, since lengths tell.
    pub fn compact() -> Self {
        Self {
            linger: Some(Duration::from_secs(5)),
            packing: Packing::KplZstd { level: 1 },
            ..Self::default()
        }
    }

    /// The context pair that says so to readers.
    pub fn context_pair(&self) -> (&'static str, &'static str) {
        (CONTEXT_KEY, self.packing.context_value())
    }

    /// A frame that holds a whole block, also one that did not compress: a multiple of 128, as other
    /// writers want it. A lone record larger than a block takes several.
    pub fn frame_length(&self) -> u32 {
        let incompressible = zstd::zstd_safe::compress_bound(self.max_size);
        u32::try_from(incompressible.next_multiple_of(128)).unwrap_or(1 << 30)
    }
}

/// How the records of a block lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Kpl,
    /// Compressed before it is encrypted, at this level of zstd's.
    KplZstd {
        level: i32,
    },
}

impl Packing {
    /// The value of the context pair. The level is the writer's own business.
    pub fn context_value(self) -> &'static str {
        match self {
            Self::Kpl => "kpl",
            Self::KplZstd { .. } => "kpl+zstd",
        }
    }

    /// The members' block, ready to be sealed.
    pub fn pack<'a>(self, layout: &Layout, data: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        match self {
            Self::Kpl => {
                let mut packed = Vec::new();
                layout.encode_bare(data, &mut packed);
                packed
            }
            Self::KplZstd { level } => COMPRESSOR.with_borrow_mut(|compressor| {
                compressor.packed.clear();
                layout.encode_bare(data, &mut compressor.packed);
                compressor.compress(level).to_vec()
            }),
        }
    }
}

thread_local! {
    /// One for each thread of the pool, not one for each block.
    static COMPRESSOR: RefCell<BlockCompressor> = RefCell::default();
}

/// A compressor's tables are some hundred KiB, and what it reads and writes is several times what is kept.
#[derive(Default)]
struct BlockCompressor {
    zstd: Option<(i32, Compressor<'static>)>,
    packed: Vec<u8>,
    compressed: Vec<u8>,
}

impl BlockCompressor {
    /// What is packed, compressed.
    fn compress(&mut self, level: i32) -> &[u8] {
        if self.zstd.as_ref().is_none_or(|(l, _)| *l != level) {
            let compressor = Compressor::new(level).expect("the configuration checked the level");
            self.zstd = Some((level, compressor));
        }
        let (_, zstd) = self.zstd.as_mut().expect("set just now");
        self.compressed.clear();
        self.compressed
            .reserve(zstd::zstd_safe::compress_bound(self.packed.len()));
        zstd.compress_to_buffer(&self.packed[..], &mut self.compressed)
            .expect("the buffer is as large as zstd asks for");
        &self.compressed
    }
}

/// The records of an opened block; `packing` is the context pair's value.
pub fn unpack(packing: &str, block: &[u8]) -> Result<Vec<UserRecord>, BlockError> {
    let packed = match packing {
        "kpl" => Bytes::copy_from_slice(block),
        "kpl+zstd" => decompress(block)?.into(),
        other => return Err(BlockError::Packing(other.to_owned())),
    };
    records_of(packed).ok_or(BlockError::Records)
}

fn decompress(block: &[u8]) -> Result<Vec<u8>, BlockError> {
    let size = match zstd::zstd_safe::get_frame_content_size(block) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX),
        Ok(None) | Err(_) => return Err(BlockError::Compression),
    };
    if size > MAX_UNPACKED {
        return Err(BlockError::TooLarge { size });
    }
    zstd::bulk::decompress(block, size).map_err(|_| BlockError::Compression)
}

/// Why an opened block cannot be unpacked. Its bytes are authentic, so its writer made it so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    #[error("a block packed as {0:?}, which this version does not know: read it with a newer one")]
    Packing(String),
    #[error("a block whose compressed bytes are damaged, or no zstd frame with a size")]
    Compression,
    #[error("a block that unpacks to {size} bytes; at most {MAX_UNPACKED} are read")]
    TooLarge { size: usize },
    #[error(
        "a block whose records cannot be told apart: damaged by whoever wrote it, or more than 131,072 of them"
    )]
    Records,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::PartitionKey;
    use proptest::prelude::*;

    fn layout(members: &[Vec<u8>]) -> Layout {
        let key = PartitionKey::new("k").unwrap();
        let mut layout = Layout::new();
        for data in members {
            layout.add(&key, None, data.len());
        }
        layout
    }

    fn slices(members: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
        members.iter().map(Vec::as_slice)
    }

    const PACKINGS: [Packing; 2] = [Packing::Kpl, Packing::KplZstd { level: 1 }];

    #[test]
    fn log_lines_shrink_and_random_bytes_stay_readable() {
        let lines: Vec<Vec<u8>> = (0..500)
            .map(|n| format!("2026-11-23 GET /shop/item/{n} 200 HTTP/1.1").into_bytes())
            .collect();
        let random: Vec<Vec<u8>> = (0..50)
            .map(|_| rand::random::<[u8; 32]>().to_vec())
            .collect();
        let zstd = Packing::KplZstd { level: 1 };
        let sealed_lines = zstd.pack(&layout(&lines), slices(&lines));
        assert!(sealed_lines.len() * 5 < lines.iter().map(Vec::len).sum());
        let packed = zstd.pack(&layout(&random), slices(&random));
        assert_eq!(unpack("kpl+zstd", &packed).unwrap().len(), 50);
    }

    #[test]
    fn a_frame_that_claims_much_memory_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; MAX_UNPACKED + 1], 1).unwrap();
        assert!(bomb.len() < 10_000);
        let size = MAX_UNPACKED + 1;
        assert_eq!(
            unpack("kpl+zstd", &bomb),
            Err(BlockError::TooLarge { size })
        );
    }

    #[test]
    fn an_unknown_packing_is_named() {
        let error = unpack("kpl+lz9", b"").unwrap_err();
        assert!(error.to_string().contains("kpl+lz9"));
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out(
            members in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..80)
        ) {
            for packing in PACKINGS {
                let block = packing.pack(&layout(&members), slices(&members));
                let records = unpack(packing.context_value(), &block).unwrap();
                let data: Vec<_> = records.iter().map(|r| r.data.to_vec()).collect();
                prop_assert_eq!(&data, &members);
            }
        }

        #[test]
        fn any_bytes_are_unpacked_or_refused(block in proptest::collection::vec(any::<u8>(), 0..300)) {
            for packing in PACKINGS {
                let _ = unpack(packing.context_value(), &block);
            }
        }
    }
}

//! A file's bytes by their offset: as they lie there, or unpacked.

use std::cell::RefCell;
use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::time::Instant;

use super::packed::{End, Packing, Unpacker};
use crate::readat::{append_upto, read_upto};

/// An open file.
#[derive(Debug)]
pub(super) enum Content {
    Plain(File),
    Packed(RefCell<Unpacker>),
}

impl Content {
    /// What `file` is by its name.
    pub(super) fn of(file: File, path: &Path) -> Self {
        match Packing::of(path) {
            None => Self::Plain(file),
            Some(packing) => Self::Packed(RefCell::new(Unpacker::new(file, packing))),
        }
    }

    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::of(File::open(path)?, path))
    }

    pub(super) fn is_packed(&self) -> bool {
        matches!(self, Self::Packed(_))
    }

    /// Of the file, packed or not.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        match self {
            Self::Plain(file) => file.metadata(),
            Self::Packed(packed) => packed.borrow().metadata(),
        }
    }

    /// Bytes that are there; of a packed file that has not been read to its end, `more` than `read_to`.
    pub(super) fn size(&self, read_to: u64, more: u64) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len()),
            Self::Packed(packed) => packed.borrow_mut().size(read_to, more),
        }
    }

    /// All that can be read of it; what is packed is unpacked for that.
    pub(super) fn whole_size(&self) -> io::Result<u64> {
        const STEP: usize = 1 << 20;
        if let Self::Plain(file) = self {
            return Ok(file.metadata()?.len());
        }
        let mut size = 0;
        loop {
            let read = self.read_upto(size, STEP)?.len();
            size += read as u64;
            if read < STEP {
                return Ok(size);
            }
        }
    }

    /// How it has ended, if there will be no more of it.
    pub(super) fn end(&self, path: &Path, now: Instant) -> Option<End> {
        match self {
            Self::Plain(_) => None,
            Self::Packed(packed) => packed.borrow_mut().end(path, now),
        }
    }

    /// When its end was last met, it was that of what was packed.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Packed(packed) => packed.borrow().is_whole(),
        }
    }

    /// There is more to unpack of it now.
    pub(super) fn is_unpacking(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Packed(packed) => packed.borrow().is_unpacking(),
        }
    }

    /// Its end was met, and is missing.
    pub(super) fn is_cut_off(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Packed(packed) => packed.borrow().is_cut_off(),
        }
    }

    /// What is there of `len` bytes from `offset` on; less at its end.
    pub(super) fn read_upto(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain(file) => read_upto(file, offset, len),
            Self::Packed(packed) => packed.borrow_mut().read_upto(offset, len),
        }
    }

    /// Appends the same to `to`. What it appended counts also if it fails.
    pub(super) fn append_upto(
        &self,
        to: &mut Vec<u8>,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        match self {
            Self::Plain(file) => append_upto(file, to, offset, len),
            Self::Packed(packed) => packed.borrow_mut().read_into(to, offset, len),
        }
    }
}

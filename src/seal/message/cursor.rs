//! Bytes taken from the front, by name, so that a short message says what it lacks.

use super::reader::ReadError;

#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn take(&mut self, len: usize, part: &'static str) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(ReadError::Truncated { part })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        part: &'static str,
    ) -> Result<&'a [u8; N], ReadError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(ReadError::Truncated { part })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self, part: &'static str) -> Result<u8, ReadError> {
        self.array::<1>(part).map(|bytes| bytes[0])
    }

    pub(super) fn u16(&mut self, part: &'static str) -> Result<u16, ReadError> {
        self.array(part).map(|bytes| u16::from_be_bytes(*bytes))
    }

    pub(super) fn u32(&mut self, part: &'static str) -> Result<u32, ReadError> {
        self.array(part).map(|bytes| u32::from_be_bytes(*bytes))
    }

    pub(super) fn u64(&mut self, part: &'static str) -> Result<u64, ReadError> {
        self.array(part).map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// Two bytes of length, then as many.
    pub(super) fn field(&mut self, part: &'static str) -> Result<&'a [u8], ReadError> {
        let len = self.u16(part)?;
        self.take(len.into(), part)
    }

    pub(super) fn text(&mut self, part: &'static str) -> Result<&'a str, ReadError> {
        std::str::from_utf8(self.field(part)?).map_err(|_| ReadError::Malformed {
            part,
            reason: "is not UTF-8",
        })
    }

    /// What was taken since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> &'a [u8] {
        &earlier.rest[..earlier.rest.len() - self.rest.len()]
    }
}

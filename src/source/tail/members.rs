//! A gzip file: members one after the other ([RFC 1952] section 2.2), and zeros behind them, as what writes whole blocks
//! leaves there. `gzip -d` passes over those too.
//!
//! [RFC 1952]: https://www.rfc-editor.org/rfc/rfc1952

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// What its members unpack to.
pub(super) struct Members<R> {
    /// `None`: after an error, or behind the last one.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(packed: R) -> Self {
        Self {
            member: Some(GzDecoder::new(packed)),
        }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while !to.is_empty()
            && let Some(member) = &mut self.member
        {
            let read = member.read(to)?;
            if read > 0 {
                return Ok(read);
            }
            let ended = self.member.take();
            let mut packed = ended.expect("it was read from").into_inner();
            if skip_zeros(&mut packed)? {
                self.member = Some(GzDecoder::new(packed));
            }
        }
        Ok(0)
    }
}

/// False at the end of all.
fn skip_zeros(packed: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let there = packed.fill_buf()?;
        if there.is_empty() {
            return Ok(false);
        }
        match there.iter().position(|byte| *byte != 0) {
            Some(zeros) => {
                packed.consume(zeros);
                return Ok(true);
            }
            None => {
                let zeros = there.len();
                packed.consume(zeros);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn member(text: &[u8]) -> Vec<u8> {
        let mut gz = GzEncoder::new(Vec::new(), Compression::default());
        gz.write_all(text).unwrap();
        gz.finish().unwrap()
    }

    fn unpacked(packed: &[u8], buffer: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let packed = io::BufReader::with_capacity(buffer, packed);
        Members::new(packed).read_to_end(&mut all)?;
        Ok(all)
    }

    #[test]
    fn members_are_one_and_zeros_behind_them_are_nothing() {
        let zeros = [0; 70_000];
        let parts: [&[u8]; 6] = [
            &member(b"one\n"),
            &member(b""),
            &member(b"two\n"),
            &zeros,
            &member(b"three\n"),
            &zeros,
        ];
        for buffer in [1, 7, 65_536] {
            let all = unpacked(&parts.concat(), buffer).unwrap();
            assert_eq!(all, b"one\ntwo\nthree\n");
        }
    }

    #[test]
    fn other_bytes_behind_a_member_are_damage_and_half_a_member_is_too_few() {
        let packed = [member(b"one\n"), b"garbage that is no member".to_vec()].concat();
        let error = unpacked(&packed, 64).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let packed = [member(b"one\n"), member(b"two\n")].concat();
        for missing in 1..member(b"two\n").len() {
            let error = unpacked(&packed[..packed.len() - missing], 64).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{missing}");
        }
    }
}

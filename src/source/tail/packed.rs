//! Compressed files: gzip and zstd, as rotation leaves them.
//!
//! Offsets are in what is unpacked. It is read once from its beginning to its end; a place before what was read last is
//! reached by unpacking again from the beginning. What it takes of memory does not depend on the file: 8 MiB for a
//! window of zstd, some KiB for gzip.
//!
//! A file whose last bytes are missing may be on its way to disk: it waits, and goes on when it has grown. One
//! that does not grow for [`PATIENCE`], or that is damaged, ends where it cannot be read any further: not at the end of
//! what was packed.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;

/// A compressed file that lacks its end and has not grown for so long is cut off. A guess: a compressor writes every
/// few MiB at the latest, which take it less than a second.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// The longest window of zstd, as a power of two: up to what `zstd -19` writes. `--ultra` and `--long` take up to 2 GiB.
const WINDOW_LOG: u32 = 23;
/// Unpacked at once to pass over it.
const SKIP: usize = 64 * 1024;

/// How a file is compressed, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension().and_then(OsStr::to_str)? {
            "gz" => Some(Self::Gzip),
            "zst" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// See the module.
pub(super) struct Unpacker {
    file: File,
    packing: Packing,
    /// None before it is first read, and after an error.
    stream: Option<Box<dyn Read + Send>>,
    /// Where `stream` is.
    at: u64,
    /// No byte behind this has been seen.
    furthest: u64,
    state: State,
    /// What there was of the file when its end was met.
    packed: u64,
}

/// How a file has ended that there will be no more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All of it was read.
    Whole,
    /// It cannot be unpacked any further.
    Damaged,
}

/// How the last read ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Reading,
    /// All of it was read.
    Whole,
    /// Its end is missing; seen so at a turn since when.
    CutOff(Option<Instant>),
    /// Cannot be unpacked further, and why; nothing once that is said.
    Damaged(String),
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker")
            .field("packing", &self.packing)
            .field("furthest", &self.furthest)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Unpacker {
    pub(super) fn new(file: File, packing: Packing) -> Self {
        Self {
            file,
            packing,
            stream: None,
            at: 0,
            furthest: 0,
            state: State::Reading,
            packed: 0,
        }
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// How many bytes there are unpacked; `more` than `read_to` while it has not been read to its end.
    pub(super) fn size(&mut self, read_to: u64, more: u64) -> io::Result<u64> {
        if self.state != State::Reading && self.file.metadata()?.len() != self.packed {
            self.state = State::Reading;
        }
        Ok(match self.state {
            State::Reading => self.furthest.max(read_to + more),
            _ => self.furthest,
        })
    }

    pub(super) fn is_unpacking(&self) -> bool {
        self.state == State::Reading
    }

    /// The last read met an end that is not that of what was packed.
    pub(super) fn is_cut_off(&self) -> bool {
        matches!(self.state, State::CutOff(_))
    }

    /// All that there was of it when it was last read.
    pub(super) fn is_whole(&self) -> bool {
        self.state == State::Whole
    }

    /// There will be no more of it; that it is damaged is said once.
    pub(super) fn end(&mut self, path: &Path, now: Instant) -> Option<End> {
        let why = match &mut self.state {
            State::Reading => return None,
            State::Whole => return Some(End::Whole),
            // Just made.
            State::CutOff(_) if self.packed == 0 => return None,
            State::CutOff(since) => {
                if now < *since.get_or_insert(now) + PATIENCE {
                    return None;
                }
                format!("it ends too early, after {} bytes", self.packed)
            }
            State::Damaged(why) => std::mem::take(why),
        };
        if !why.is_empty() {
            tracing::error!(
                path = %path.display(), unpacked = self.furthest, why,
                "compressed file is damaged: what can be unpacked of it is sent, up to its last whole line, and nothing \
                 behind that. Put a whole copy in its place, and the rest is read"
            );
        }
        self.state = State::Damaged(String::new());
        Some(End::Damaged)
    }

    /// What is there of `len` bytes from `offset` on.
    pub(super) fn read_upto(&mut self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(&mut bytes, offset, len)?;
        Ok(bytes)
    }

    /// Appends what is there of `len` bytes from `offset` on. That it is damaged is no error but an end.
    pub(super) fn read_into(
        &mut self,
        to: &mut Vec<u8>,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        if offset < self.at || self.stream.is_none() {
            self.stream = Some(self.begin()?);
            self.at = 0;
        }
        let mut passed = Vec::new();
        while self.at < offset {
            passed.clear();
            let skip = (offset - self.at).min(SKIP as u64) as usize;
            if self.unpack(&mut passed, skip)? < skip {
                return Ok(0);
            }
        }
        self.unpack(to, len)
    }

    fn begin(&self) -> io::Result<Box<dyn Read + Send>> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        let file = BufReader::with_capacity(SKIP, file);
        Ok(match self.packing {
            Packing::Gzip => Box::new(MultiGzDecoder::new(file)),
            Packing::Zstd => {
                let mut zstd = zstd::stream::read::Decoder::with_buffer(file)?;
                zstd.window_log_max(WINDOW_LOG)?;
                Box::new(zstd)
            }
        })
    }

    fn unpack(&mut self, to: &mut Vec<u8>, len: usize) -> io::Result<usize> {
        // Before it is read: what comes while its end is met has not been seen.
        let packed = self.file.metadata()?.len();
        let stream = self.stream.as_mut().expect("begun");
        let before = to.len();
        let mut outcome = stream.take(len as u64).read_to_end(to);
        if outcome.as_ref().is_err_and(is_of_the_decoder) {
            let read = to.len() - before;
            if let Err(error) = self.one_by_one(self.at + read as u64, len - read, to) {
                outcome = Err(error);
            }
        }
        let read = to.len() - before;
        self.at += read as u64;
        self.furthest = self.furthest.max(self.at);
        match outcome {
            Ok(_) if read == len => return Ok(read),
            Ok(_) => self.state = State::Whole,
            Err(error) if error.raw_os_error().is_some() => return Err(error),
            Err(error) => self.state = self.judged(&error),
        }
        // Whatever comes behind is read from the beginning again.
        self.stream = None;
        self.packed = packed;
        if self.packed == 0 {
            self.state = State::CutOff(None);
        }
        Ok(read)
    }

    /// Appends what can be unpacked from `offset` on, up to `len` bytes. A decoder that meets damage throws away what it has
    /// made for the same read: so each byte is read alone, and how much there is does not depend on who asked for what.
    fn one_by_one(&self, offset: u64, len: usize, to: &mut Vec<u8>) -> io::Result<()> {
        let mut stream = self.begin()?;
        let passed = io::copy(&mut (&mut stream).take(offset), &mut io::sink());
        if passed.is_ok_and(|passed| passed == offset) {
            let mut byte = [0];
            for _ in 0..len {
                match stream.read(&mut byte) {
                    Ok(1) => to.push(byte[0]),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// What a decoder's error says of the file.
    fn judged(&self, error: &io::Error) -> State {
        match (error.kind(), &self.state) {
            (io::ErrorKind::UnexpectedEof, State::CutOff(since)) => State::CutOff(*since),
            (io::ErrorKind::UnexpectedEof, _) => State::CutOff(None),
            _ => State::Damaged(error.to_string()),
        }
    }
}

/// What it has read is not what was packed; neither the disk's, nor for want of more.
fn is_of_the_decoder(error: &io::Error) -> bool {
    error.raw_os_error().is_none() && error.kind() != io::ErrorKind::UnexpectedEof
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Lines, compressed, with a byte changed behind the middle.
    fn damaged(packing: Packing, at: usize) -> File {
        let text: String = (0..100_000).map(|n| format!("gz-{n:07}\n")).collect();
        let mut packed = match packing {
            Packing::Gzip => {
                let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                gz.write_all(text.as_bytes()).unwrap();
                gz.finish().unwrap()
            }
            Packing::Zstd => zstd::encode_all(text.as_bytes(), 1).unwrap(),
        };
        let middle = packed.len() / 2;
        packed[middle + at] ^= 0xff;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&packed).unwrap();
        file
    }

    /// How far it can be read, in reads of `step`.
    fn end(file: &File, packing: Packing, step: usize) -> u64 {
        let mut unpacker = Unpacker::new(file.try_clone().unwrap(), packing);
        let mut at = 0;
        while unpacker.is_unpacking() {
            at += unpacker.read_upto(at, step).unwrap().len() as u64;
        }
        at
    }

    #[test]
    fn what_can_be_unpacked_of_a_damaged_file_does_not_depend_on_how_it_is_read() {
        for packing in [Packing::Gzip, Packing::Zstd] {
            for at in (0..400).step_by(20) {
                let file = damaged(packing, at);
                let ends = [1_000, 98_304, 262_144, 300_000].map(|step| end(&file, packing, step));
                assert_eq!(ends, [ends[0]; 4], "{packing:?} {at}");
            }
        }
    }
}

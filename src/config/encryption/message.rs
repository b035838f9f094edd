//! How messages are written: suite, frames, encoding, and whose cipher.

use crate::config::table::Table;
use crate::config::written::Written;
use crate::seal::message::{Backend, Encoding, Lanes, Settings, Suite, Version};

/// The keys as written.
#[derive(Clone, Default)]
pub(in crate::config) struct Message {
    pub(super) suite: Written<Suite>,
    pub(super) frame_length: Written<u32>,
    pub(super) encoding: Written<Encoding>,
    backend: Written<Backend>,
    lanes: Written<Lanes>,
    pub(super) compatibility: Written<Compatibility>,
}

/// Whose reader is to understand the messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Compatibility {
    /// Every current AWS Encryption SDK.
    None,
    /// The consumers of <https://github.com/cheefoo/kinesisencryption>: the first Encryption SDK for Java,
    /// which knows version 1 only, reads strings in base64, and compares one context pair.
    KinesisEncryption,
}

/// What `compatibility = "kinesisencryption"` writes unless another suite of version 1 is given. Its own
/// producer signs (0378); its reader takes any, and a signature costs more than all else together.
const UNSIGNED_V1: u16 = 0x0178;

impl Message {
    pub(super) fn read(t: &mut Table<'_>) -> Self {
        let suites = shown(Suite::written());
        Self {
            suite: t.parsed("suite", &suites, |text| match text.parse::<Suite>() {
                Ok(suite) if suite.is_written() => Ok(suite),
                Ok(_) => Err(format!("{suites}; this one is read, not written")),
                Err(_) => Err(suites.clone()),
            }),
            frame_length: read_frame_length(t),
            encoding: t.choice(
                "encoding",
                &[("binary", Encoding::Binary), ("base64", Encoding::Base64)],
            ),
            backend: t.choice(
                "backend",
                &[
                    ("auto", Backend::Auto),
                    ("aes-gcm", Backend::AesGcm),
                    ("aws-lc", Backend::AwsLc),
                ],
            ),
            lanes: t.choice(
                "lanes",
                &[
                    ("auto", Lanes::Auto),
                    ("avx512", Lanes::Avx512),
                    ("avx2", Lanes::Avx2),
                    ("none", Lanes::Scalar),
                ],
            ),
            compatibility: t.choice(
                "compatibility",
                &[
                    ("none", Compatibility::None),
                    ("kinesisencryption", Compatibility::KinesisEncryption),
                ],
            ),
        }
    }

    pub(super) fn over(self, base: &Self) -> Self {
        Self {
            suite: self.suite.or(base.suite.clone()),
            frame_length: self.frame_length.or(base.frame_length.clone()),
            encoding: self.encoding.or(base.encoding.clone()),
            backend: self.backend.or(base.backend.clone()),
            lanes: self.lanes.or(base.lanes.clone()),
            compatibility: self.compatibility.or(base.compatibility.clone()),
        }
    }

    pub(super) fn resolve(self) -> Option<Settings> {
        let mut default = Settings::default();
        if self.compatibility.or_default(Compatibility::None)? == Compatibility::KinesisEncryption {
            default.suite = Suite::from_id(UNSIGNED_V1).expect("a suite of the table");
            default.encoding = Encoding::Base64;
        }
        Some(Settings {
            suite: self.suite.or_default(default.suite)?,
            frame_length: self.frame_length.or_default(default.frame_length)?,
            encoding: self.encoding.or_default(default.encoding)?,
            backend: self.backend.or_default(default.backend)?,
            lanes: self.lanes.or_default(default.lanes)?,
        })
    }
}

fn read_frame_length(t: &mut Table<'_>) -> Written<u32> {
    // Up to the largest record.
    let bytes = t.bytes("frame_length", 128..=10 << 20);
    match bytes {
        Written::Given(bytes, place) if !bytes.is_multiple_of(128) => {
            let text = format!(
                "found {bytes}; allowed: a multiple of 128 bytes, which other AWS Encryption SDKs insist on"
            );
            t.file().mistake(&place, text);
            Written::Mistaken
        }
        bytes => bytes.map(|bytes| u32::try_from(bytes).expect("at most 10 MiB")),
    }
}

/// The suites of version 1 that are written, in words.
pub(super) fn version_1() -> String {
    shown(Suite::written().filter(|suite| suite.version() == Version::V1))
}

fn shown(suites: impl Iterator<Item = Suite>) -> String {
    let suites: Vec<String> = suites.map(|suite| format!("\"{suite}\"")).collect();
    suites.join(" or ")
}

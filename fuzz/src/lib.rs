//! What a stranger's bytes are put through: each parser of bytes from outside, with the laws that hold for any
//! input. The fuzz targets run these on a nightly compiler, the tests in `tests/hostile` on the stable one.
//!
//! A function here returns whatever it could make of its input, or nothing; it panics where a law is broken.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures_util::FutureExt;
use kinseal::aggregate::format::{deaggregate, records_of};
use kinseal::daemon::message::Request;
use kinseal::seal::block;
use kinseal::seal::key::UnwrapDataKey;
use kinseal::seal::message::{EncryptionContext, Message, ReadLimits};
use kinseal::seal::open::{OpenSettings, Opener};
use kinseal::seal::rawkey::WrappingKey;
use serde::Deserialize;

/// As a reader does that holds the keys of all vectors: parse, unwrap, open, and where it is a block, unpack.
/// And as one that has a data key already, so that a message whose encrypted data key is spoilt goes on.
pub fn message(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes, &ReadLimits::default()) else {
        let opened = OPENER.open(bytes).now_or_never();
        assert!(opened.expect(NO_WAITING).is_err(), "opened, and not parsed");
        return;
    };
    assert!(message.plaintext_len() <= bytes.len());
    assert!(message.encrypted_data_keys().count() <= ReadLimits::default().max_encrypted_data_keys);
    let key = &[0x42; 32][..message.suite().key_len()];
    let forged = message.open(key, &EncryptionContext::new());
    assert!(forged.is_err(), "opened with a key that nobody used");

    if let Ok(opened) = OPENER.open(bytes).now_or_never().expect(NO_WAITING) {
        assert_eq!(opened.plaintext.len(), message.plaintext_len());
        assert_eq!(opened.context, message.context());
        if let Some(packing) = opened.context.get(block::CONTEXT_KEY) {
            let _ = block::unpack(packing, &opened.plaintext);
        }
    }
}

/// Opened bytes of a block, as any writer may have packed them.
pub fn block(bytes: &[u8]) {
    for packing in ["kpl", "kpl+zstd", "kpl+lz9"] {
        if let Ok(records) = block::unpack(packing, bytes) {
            let size: usize = records.iter().map(|record| record.data.len()).sum();
            assert!(!records.is_empty() && size <= block::MAX_UNPACKED.max(bytes.len()));
        }
    }
}

/// A Kinesis record that may be an aggregate. The bytes after the magic are tried without their checksum too:
/// no mutation finds an MD5.
pub fn aggregate(bytes: &[u8]) {
    let data = Bytes::copy_from_slice(bytes);
    let checked = deaggregate(&data);
    let bare = records_of(data);
    for records in [checked, bare].into_iter().flatten() {
        let size: usize = records.iter().map(|record| record.data.len()).sum();
        assert!(!records.is_empty() && size <= bytes.len());
        for record in &records {
            let _ = record.hash_key();
        }
    }
}

/// What a client of the acknowledged socket sends, without the length in front.
pub fn request(bytes: &[u8]) {
    if let Ok(Request::PutRecord { record, .. }) = Request::decode(Bytes::copy_from_slice(bytes)) {
        let key = record.partition_key.map_or(0, |key| key.len());
        assert!(record.data.len() + record.stream_name.len() + key <= bytes.len());
    }
}

/// A wrapping key's file. No refusal shows 8 digits in a row that could be the key's.
pub fn keyfile(bytes: &[u8]) {
    let (loaded, path) = FILE.with(|file| {
        fs::write(file.path(), bytes).expect("room for it");
        (
            WrappingKey::load(file.path()),
            file.path().display().to_string(),
        )
    });
    let Err(refused) = loaded else {
        return;
    };
    let said = refused.to_string().replace(&path, "").to_lowercase();
    let key = KEY.to_lowercase();
    let shown = (0..=key.len() - 8).find(|at| said.contains(&key[*at..at + 8]));
    assert_eq!(shown, None, "{said}");
}

thread_local! {
    /// Made once: to make one takes longer than all else.
    static FILE: tempfile::NamedTempFile =
        tempfile::NamedTempFile::new().expect("a temporary directory");
}

/// What key files of the corpus hold.
pub const KEY: &str = "9f3ab5d2c8e17460a1b2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef0";

const NO_WAITING: &str = "raw keys unwrap at once";

/// Where `tests/vectors` lies. This file is compiled in `fuzz` and, for the tests, in the folder above.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    match env!("CARGO_PKG_NAME") {
        "kinseal-fuzz" => here.parent().expect("fuzz lies in the workspace"),
        _ => here,
    }
}

static OPENER: LazyLock<Opener> = LazyLock::new(opener);

/// With the keys of all vectors.
fn opener() -> Opener {
    #[derive(Deserialize)]
    struct Manifest {
        keys: BTreeMap<String, Key>,
        tests: Vec<Vector>,
    }
    #[derive(Deserialize)]
    struct Key {
        hex: String,
    }
    #[derive(Deserialize)]
    struct Vector {
        key: String,
        namespace: String,
        key_name: String,
    }
    let text = fs::read(root().join("tests/vectors/manifest.json")).expect("the manifest is there");
    let manifest: Manifest = serde_json::from_slice(&text).expect("the manifest parses");
    let names: BTreeMap<_, _> = manifest
        .tests
        .iter()
        .map(|vector| ((&vector.namespace, &vector.key_name), &vector.key))
        .collect();
    let keys = names.into_iter().map(|((namespace, name), key)| {
        let bytes = from_hex(&manifest.keys[key].hex);
        let key = WrappingKey::new(namespace, name, &bytes).expect("a key of a vector");
        Arc::new(key) as Arc<dyn UnwrapDataKey>
    });
    // One key in the cache: what is kept of one input must not be counted as the next one's.
    let settings = OpenSettings {
        max_keys: 1,
        ..OpenSettings::default()
    };
    Opener::new(keys.collect(), EncryptionContext::new(), settings).expect("no pairs are required")
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hexadecimal") as u8;
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

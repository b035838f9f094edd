//! Under one key, no IV twice: what AES-GCM's secrecy hangs on.
//!
//! IVs are sequence numbers, so it is the messages' keys that must differ, and these come from the data key and
//! the message id. All writers here have one data key, as if a process was started again with it.

use std::collections::HashSet;
use std::thread;

use super::body::Blocks;
use super::cursor::Cursor;
use super::header::Header;
use super::*;

const DATA_KEY: [u8; 32] = [0x42; 32];

const THREADS: usize = 4;
const JOBS: usize = 5;

fn writer(suite: Suite, backend: Backend) -> Writer {
    let edk = EncryptedDataKey {
        provider: "aws-kms".into(),
        info: "arn:aws:kms:eu-west-1:111122223333:key/1".into(),
        ciphertext: vec![5; 184].into(),
    };
    let binding = Binding::new(suite, &EncryptionContext::new()).expect("written");
    let key = SecretKeyBytes::new(DATA_KEY[..binding.key_len()].to_owned());
    let settings = Settings {
        suite,
        frame_length: 128,
        backend,
        ..Settings::default()
    };
    Writer::new(binding, &key, &[edk], settings).expect("valid")
}

/// From no frame that is full to five.
fn plaintexts() -> impl Iterator<Item = &'static [u8]> {
    static TEXT: [u8; 600] = [b'x'; 600];
    (0..60).map(|n| &TEXT[..n * 10])
}

/// As the pool does it, and as a block is sealed.
fn job(writer: &Writer) -> Vec<Vec<u8>> {
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    writer.seal_all(
        &mut MessageIds::for_messages(7),
        plaintexts(),
        &mut out,
        &mut ends,
    );
    let mut starts = std::iter::once(0).chain(ends.iter().copied());
    let together = ends
        .iter()
        .map(|end| out[starts.next().expect("one more")..*end].to_vec());
    let mut messages: Vec<_> = together.collect();
    messages.extend(plaintexts().take(9).map(|plaintext| {
        let mut message = Vec::new();
        writer.seal(MessageIds::for_messages(1).draw(), plaintext, &mut message);
        message
    }));
    messages
}

/// Each key and IV that AES-GCM saw for this message.
fn used(message: &[u8]) -> Vec<(Vec<u8>, Iv)> {
    let mut cursor = Cursor::new(message);
    let header = Header::parse(&mut cursor, &ReadLimits::default()).expect("well-formed");
    let suite = header.suite;
    let key = match suite.version() {
        Version::V1 => {
            derive::uncommitted(suite, &DATA_KEY[..suite.key_len()], header.message_id).to_vec()
        }
        Version::V2 => {
            let id = header.message_id.try_into().expect("32 bytes");
            hkdf_lanes::committed(suite.id(), &DATA_KEY, id)
                .key
                .to_vec()
        }
    };
    let mut used = vec![(key.clone(), header.iv)];
    let mut blocks = Blocks::new(cursor, suite.version(), header.content);
    while let Some(block) = blocks.read().expect("well-formed") {
        used.push((key.clone(), *block.iv));
    }
    used
}

#[test]
fn no_key_meets_an_iv_twice_across_threads_jobs_and_writers() {
    for suite in (0..=u16::MAX)
        .filter_map(Suite::from_id)
        .filter(Suite::is_written)
    {
        let run = |backend| {
            move || {
                let writer = writer(suite, backend);
                (0..JOBS).flat_map(|_| job(&writer)).collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..THREADS)
            .map(|n| thread::spawn(run([Backend::AesGcm, Backend::AwsLc][n % 2])))
            .collect();
        let (mut ids, mut pairs) = (HashSet::new(), HashSet::new());
        for message in threads
            .into_iter()
            .flat_map(|t| t.join().expect("no panic"))
        {
            let parsed = Message::parse(&message, &ReadLimits::default()).expect("well-formed");
            assert!(
                ids.insert(parsed.message_id().to_vec()),
                "{suite}: an id twice"
            );
            for pair in used(&message) {
                assert!(pairs.insert(pair), "{suite}: a key and IV twice");
            }
        }
        assert_eq!(ids.len(), THREADS * JOBS * (60 + 9));
        assert!(
            pairs.len() > 3 * ids.len(),
            "some messages have several frames"
        );
    }
}

//! What sealing a record costs, beside its floor. One core, one message after the other.
//!
//! - `seal`: one AWS Encryption SDK message (suite 0x0478) for each record, under a cached data key, as the
//!   agent writes it: id, key derivation, header and its tag, frames of 4 KiB;
//! - `floor`: what no message format goes below: AES-256-GCM over the same bytes, with the key set up for each
//!   message, and nothing else;
//! - `open`: the way back, with the data key at hand.

use std::hint::black_box;
use std::time::Duration;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};

use kinseal::seal::EncryptionContext;
use kinseal::seal::message::{
    EncryptedDataKey, Message, MessageIds, PlaintextKey, ReadLimits, Writer,
};

const SIZES: [usize; 4] = [200, 1 << 10, 10 << 10, 50 << 10];
const KEY: [u8; 32] = [7; 32];

fn seal(c: &mut Criterion) {
    let writer = writer();
    per_size(c, "seal", |group, plaintext| {
        let mut ids = MessageIds::new();
        let mut out = Vec::with_capacity(writer.sealed_len(plaintext.len()));
        group.bench_function(size(plaintext), |b| {
            b.iter(|| {
                out.clear();
                writer.seal(ids.draw(), black_box(plaintext), &mut out);
                black_box(out.len())
            });
        });
    });
}

fn floor(c: &mut Criterion) {
    per_size(c, "floor", |group, plaintext| {
        let mut out = plaintext.to_vec();
        group.bench_function(size(plaintext), |b| {
            b.iter(|| {
                out.copy_from_slice(black_box(plaintext));
                let cipher = Aes256Gcm::new(black_box(&KEY).into());
                let nonce = [0; 12];
                cipher
                    .encrypt_inout_detached(&nonce.into(), &[], InOutBuf::from(&mut out[..]))
                    .expect("short enough")
            });
        });
    });
}

fn open(c: &mut Criterion) {
    let (writer, context) = (writer(), context());
    per_size(c, "open", |group, plaintext| {
        let mut message = Vec::new();
        writer.seal(MessageIds::new().draw(), plaintext, &mut message);
        group.bench_function(size(plaintext), |b| {
            b.iter(|| {
                Message::parse(black_box(&message), &ReadLimits::default())
                    .and_then(|message| message.open(&KEY, &context))
                    .expect("its own message opens")
            });
        });
    });
}

fn per_size(
    c: &mut Criterion,
    name: &str,
    mut bench: impl FnMut(&mut BenchmarkGroup<'_, WallTime>, &[u8]),
) {
    let mut group = c.benchmark_group(name);
    for len in SIZES {
        group.throughput(Throughput::ElementsAndBytes {
            elements: 1,
            bytes: len as u64,
        });
        bench(&mut group, &vec![0x5a; len]);
    }
    group.finish();
}

fn size(plaintext: &[u8]) -> BenchmarkId {
    BenchmarkId::from_parameter(format!("{} B", plaintext.len()))
}

/// Encrypted data key and context as long as they are with KMS.
fn writer() -> Writer {
    let edk = EncryptedDataKey {
        provider: EncryptedDataKey::KMS.to_owned(),
        info: vec![b'a'; 75].into(),
        ciphertext: vec![0; 184].into(),
    };
    let key = PlaintextKey::from_slice(&KEY).expect("32 bytes");
    Writer::new(key, &[edk], &context(), 4096).expect("valid parts")
}

fn context() -> EncryptionContext {
    [("app", "shop"), ("host", "web-1.example")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
}

/// Twelve benchmarks in half a minute: steady to a few percent, which is what the machine gives anyway.
fn moment() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
}

criterion_group! { name = benches; config = moment(); targets = seal, floor, open }
criterion_main!(benches);

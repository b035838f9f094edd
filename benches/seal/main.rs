//! What sealing a record costs, beside its rival and its floor. One core.
//!
//! - `straightforward`: one AWS Encryption SDK message (suite 0x0478) for each record, under a cached data key,
//!   written plainly on the `hkdf` and `aes-gcm` crates: the rival;
//! - `one by one`: the same messages as the agent writes them, with either backend of the cipher;
//! - `eight together`: the same for eight records at once, whose keys are derived side by side where the
//!   processor has AVX-512. Times are for all eight;
//! - `block`: 50 KiB in one frame instead of thirteen;
//! - `floor`: what no message format goes below: AES-256-GCM over the same bytes, with the key set up for each
//!   message, and nothing else;
//! - `open`: the way back, with the data key at hand.

use std::hint::black_box;
use std::time::Duration;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use hkdf::Hkdf;
use sha2::Sha512;

use kinseal::seal::EncryptionContext;
use kinseal::seal::message::{
    Backend, Binding, EncryptedDataKey, Message, MessageIds, ReadLimits, SecretKeyBytes, Settings,
    Writer,
};

const SIZES: [usize; 5] = [50, 200, 1 << 10, 10 << 10, 50 << 10];
const KEY: [u8; 32] = [7; 32];
const FRAME: usize = 4096;
const BACKENDS: [(&str, Backend); 2] = [("aes-gcm", Backend::AesGcm), ("aws-lc", Backend::AwsLc)];

const TOGETHER: usize = 8;

fn straightforward(c: &mut Criterion) {
    let middle = middle();
    let mut checked = Vec::new();
    plain_seal(&middle, b"checked", &mut checked);
    Message::parse(&checked, &ReadLimits::default())
        .and_then(|message| message.open(&KEY, &context()))
        .expect("the rival writes the same messages");

    per_size(c, "straightforward", 1, |group, plaintext| {
        let mut out = Vec::with_capacity(plaintext.len() + 1000);
        group.bench_function(size(plaintext), |b| {
            b.iter(|| {
                out.clear();
                plain_seal(&middle, black_box(plaintext), &mut out);
                black_box(out.len())
            });
        });
    });
}

fn one_by_one(c: &mut Criterion) {
    for (name, backend) in BACKENDS {
        let writer = writer(FRAME, backend);
        per_size(c, &format!("one by one, {name}"), 1, |group, plaintext| {
            bench_one(group, &writer, plaintext);
        });
    }
}

fn together(c: &mut Criterion) {
    for (name, backend) in BACKENDS {
        let writer = writer(FRAME, backend);
        let name = format!("eight together, {name}");
        per_size(c, &name, TOGETHER, |group, plaintext| {
            bench_together(group, &writer, plaintext);
        });
    }
}

fn block(c: &mut Criterion) {
    const BLOCK: usize = 50 << 10;
    for (name, backend) in BACKENDS {
        let writer = writer(BLOCK, backend);
        let name = |together| format!("block, {together}, {name}");
        let mut group = named_group(c, &name("one by one"), 1, BLOCK);
        bench_one(&mut group, &writer, &[0x5a; BLOCK]);
        drop(group);
        let mut group = named_group(c, &name("eight together"), TOGETHER, BLOCK);
        bench_together(&mut group, &writer, &[0x5a; BLOCK]);
    }
}

fn bench_one(group: &mut BenchmarkGroup<'_, WallTime>, writer: &Writer, plaintext: &[u8]) {
    let mut ids = MessageIds::new();
    let mut out = Vec::with_capacity(writer.sealed_len(plaintext.len()));
    group.bench_function(size(plaintext), |b| {
        b.iter(|| {
            out.clear();
            writer.seal(ids.draw(), black_box(plaintext), &mut out);
            black_box(out.len())
        });
    });
}

fn bench_together(group: &mut BenchmarkGroup<'_, WallTime>, writer: &Writer, plaintext: &[u8]) {
    let mut ids = MessageIds::new();
    let mut out = Vec::with_capacity(TOGETHER * writer.sealed_len(plaintext.len()));
    let mut ends = Vec::with_capacity(TOGETHER);
    group.bench_function(size(plaintext), |b| {
        b.iter(|| {
            out.clear();
            ends.clear();
            let plaintexts = [black_box(plaintext); TOGETHER];
            writer.seal_all(&mut ids, plaintexts, &mut out, &mut ends);
            black_box(out.len())
        });
    });
}

fn floor(c: &mut Criterion) {
    per_size(c, "floor, aes-gcm", 1, |group, plaintext| {
        let mut out = plaintext.to_vec();
        group.bench_function(size(plaintext), |b| {
            b.iter(|| {
                out.copy_from_slice(black_box(plaintext));
                let cipher = Aes256Gcm::new(black_box(&KEY).into());
                encrypt(&cipher, &[0; 12], &[], &mut out)
            });
        });
    });
    per_size(c, "floor, aws-lc", 1, |group, plaintext| {
        let mut out = plaintext.to_vec();
        group.bench_function(size(plaintext), |b| {
            b.iter(|| {
                out.copy_from_slice(black_box(plaintext));
                let key = UnboundKey::new(&AES_256_GCM, black_box(&KEY)).expect("32 bytes");
                LessSafeKey::new(key)
                    .seal_in_place_separate_tag(
                        Nonce::assume_unique_for_key([0; 12]),
                        Aad::empty(),
                        &mut out,
                    )
                    .expect("short enough")
            });
        });
    });
}

fn open(c: &mut Criterion) {
    let (writer, context) = (writer(FRAME, Backend::Auto), context());
    per_size(c, "open", 1, |group, plaintext| {
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
    records: usize,
    mut bench: impl FnMut(&mut BenchmarkGroup<'_, WallTime>, &[u8]),
) {
    for len in SIZES {
        let mut group = named_group(c, name, records, len);
        bench(&mut group, &vec![0x5a; len]);
    }
}

fn named_group<'a>(
    c: &'a mut Criterion,
    name: &str,
    records: usize,
    len: usize,
) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::ElementsAndBytes {
        elements: records as u64,
        bytes: (records * len) as u64,
    });
    group
}

fn size(plaintext: &[u8]) -> BenchmarkId {
    BenchmarkId::from_parameter(format!("{} B", plaintext.len()))
}

/// Encrypted data key and context as long as they are with KMS.
fn writer(frame: usize, backend: Backend) -> Writer {
    let settings = Settings {
        frame_length: frame as u32,
        backend,
        ..Settings::default()
    };
    let edk = EncryptedDataKey {
        provider: EncryptedDataKey::KMS.to_owned(),
        info: vec![b'a'; 75].into(),
        ciphertext: vec![0; 184].into(),
    };
    let binding = Binding::new(settings.suite, &context()).expect("a context");
    let key = SecretKeyBytes::new(KEY.to_vec());
    Writer::new(binding, &key, &[edk], settings).expect("valid parts")
}

/// The specification, read aloud.
fn plain_seal(middle: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let mut id = [0; 32];
    rand::fill(&mut id).expect("random bytes");
    let hkdf = Hkdf::<Sha512>::new(Some(&id), &KEY);
    let (mut key, mut commitment) = ([0; 32], [0; 32]);
    hkdf.expand_multi_info(&[b"\x04\x78", b"DERIVEKEY"], &mut key)
        .expect("short enough");
    hkdf.expand(b"COMMITKEY", &mut commitment)
        .expect("short enough");
    let cipher = Aes256Gcm::new(&key.into());

    out.extend_from_slice(&[2, 4, 0x78]);
    out.extend_from_slice(&id);
    out.extend_from_slice(middle);
    out.extend_from_slice(&commitment);
    let tag = encrypt(&cipher, &[0; 12], &out[start..], &mut []);
    out.extend_from_slice(&tag);

    let frames = plaintext.len().div_ceil(FRAME);
    for (frame, sequence) in plaintext.chunks(FRAME).zip(1u32..) {
        let mut iv = [0; 12];
        iv[8..].copy_from_slice(&sequence.to_be_bytes());
        let is_final = sequence as usize == frames;
        let label: &[u8] = if is_final {
            b"AWSKMSEncryptionClient Final Frame"
        } else {
            b"AWSKMSEncryptionClient Frame"
        };
        let len = (frame.len() as u64).to_be_bytes();
        let aad = [&id, label, &sequence.to_be_bytes(), &len].concat();
        if is_final {
            out.extend_from_slice(&[0xff; 4]);
        }
        out.extend_from_slice(&sequence.to_be_bytes());
        out.extend_from_slice(&iv);
        if is_final {
            out.extend_from_slice(&len[4..]);
        }
        let body = out.len();
        out.extend_from_slice(frame);
        let tag = encrypt(&cipher, &iv, &aad, &mut out[body..]);
        out.extend_from_slice(&tag);
    }
}

fn encrypt(cipher: &Aes256Gcm, iv: &[u8; 12], aad: &[u8], in_out: &mut [u8]) -> [u8; 16] {
    cipher
        .encrypt_inout_detached(iv.into(), aad, InOutBuf::from(in_out))
        .expect("short enough")
        .into()
}

/// Of the header: from the message id to the commitment, as the agent's writer has it.
fn middle() -> Vec<u8> {
    let mut message = Vec::new();
    writer(FRAME, Backend::Auto).seal(MessageIds::new().draw(), b"", &mut message);
    let body = 4 + 4 + 12 + 4 + 16;
    message[3 + 32..message.len() - body - 16 - 32].to_vec()
}

fn context() -> EncryptionContext {
    [("app", "shop"), ("host", "web-1.example")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
}

/// Forty-four benchmarks in a good minute: steady to a few percent, which is what the machine gives anyway.
fn moment() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
}

criterion_group! { name = benches; config = moment(); targets = straightforward, one_by_one, together, block, floor, open }
criterion_main!(benches);

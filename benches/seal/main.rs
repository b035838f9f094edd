//! What sealing a record costs, beside its rival and its floor. One core. A group is a direction and a backend of the cipher.
//!
//! - `straightforward`: one AWS Encryption SDK message (suite 0x0478) for each record, under a cached data key,
//!   written plainly on the `hkdf` and `aes-gcm` crates: the rival;
//! - `one by one`: the same messages as the agent writes them;
//! - `eight together`: the same for eight records at once, whose keys are derived side by side, with AVX-512,
//!   with AVX2, or not. Times are for all eight;
//! - `one frame`: 50 KiB in one frame instead of thirteen, as blocks are;
//! - `floor`: what no message format goes below: AES-256-GCM over the same bytes, with the key set up for each
//!   message, and nothing else;
//! - `suite`: eight records together in each suite that is written;
//! - `open`, `one by one`: the way back, with the data key at hand; `64 together`: as many messages under one data key, as
//!   a reader has them, whose keys are derived side by side. Times are for all of them;
//! - `8 blocks`: log lines packed, compressed and sealed; their floor is zstd alone on the same packed blocks;
//! - `16384 records`: one thread, and two that share the same work.

mod blocks;
mod rival;

use std::hint::black_box;
use std::time::Duration;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};

use kinseal::seal::EncryptionContext;
use kinseal::seal::message::{
    Backend, Binding, EncryptedDataKey, Lanes, Message, MessageIds, ReadLimits, SecretKeyBytes,
    Settings, Suite, Writer,
};

const SIZES: [usize; 4] = [200, 1 << 10, 10 << 10, 50 << 10];
const KEY: [u8; 32] = [7; 32];
const FRAME: usize = 4096;
const BACKENDS: [(&str, Backend); 2] = [("aes-gcm", Backend::AesGcm), ("aws-lc", Backend::AwsLc)];

const TOGETHER: usize = 8;

fn straightforward(c: &mut Criterion) {
    let middle = rival::middle();
    let mut checked = Vec::new();
    rival::seal(&middle, b"checked", &mut checked);
    Message::parse(&checked, &ReadLimits::default())
        .and_then(|message| message.open(&KEY, &context()))
        .expect("the rival writes the same messages");

    per_size(c, "seal, aes-gcm", 1, |group, plaintext| {
        let mut out = Vec::with_capacity(plaintext.len() + 1000);
        group.bench_function(sized("straightforward", plaintext), |b| {
            b.iter(|| {
                out.clear();
                rival::seal(&middle, black_box(plaintext), &mut out);
                black_box(out.len())
            });
        });
    });
}

fn one_by_one(c: &mut Criterion) {
    for (name, backend) in BACKENDS {
        let writer = writer(FRAME, with(backend, Lanes::Scalar));
        per_size(c, &format!("seal, {name}"), 1, |group, plaintext| {
            bench_one(group, &writer, plaintext);
        });
    }
}

fn together(c: &mut Criterion) {
    for (group, lanes, settings) in ways() {
        let writer = writer(FRAME, settings);
        let name = format!("eight together, {lanes}");
        per_size(c, group, TOGETHER, |group, plaintext| {
            bench_together(group, &name, &writer, plaintext);
        });
    }
}

fn one_frame(c: &mut Criterion) {
    const BLOCK: usize = 50 << 10;
    for (group, lanes, settings) in ways() {
        let writer = writer(BLOCK, settings);
        let name = format!("one frame, eight together, {lanes}");
        let mut group = named_group(c, group, TOGETHER, BLOCK);
        bench_together(&mut group, &name, &writer, &[0x5a; BLOCK]);
    }
    // The AEAD alone, to as many places: `floor` goes over one that is in the nearest cache, and copies it there.
    let mut out = vec![0; TOGETHER * (BLOCK + 16)];
    let mut group = named_group(c, "seal, aws-lc", TOGETHER, BLOCK);
    group.bench_function(sized("floor of eight blocks", &[0; BLOCK]), |b| {
        b.iter(|| {
            for place in out.chunks_exact_mut(BLOCK + 16) {
                let (sealed, tag) = place.split_at_mut(BLOCK);
                let plaintext = black_box(&[0x5a; BLOCK]);
                aws_lc()
                    .seal_out_of_place_scatter(iv(), Aad::empty(), plaintext, sealed, &[], tag)
                    .expect("short enough");
            }
        });
    });
}

/// The group, and every way to derive that this processor has, and `aes-gcm` with the best of them.
fn ways() -> Vec<(&'static str, &'static str, Settings)> {
    let lanes = [
        ("AVX-512", Lanes::Avx512),
        ("AVX2", Lanes::Avx2),
        ("no lanes", Lanes::Scalar),
    ];
    let mut ways: Vec<_> = lanes
        .into_iter()
        .filter(|(_, lanes)| lanes.is_available())
        .map(|(name, lanes)| ("seal, aws-lc", name, with(Backend::AwsLc, lanes)))
        .collect();
    ways.push((
        "seal, aes-gcm",
        "best lanes",
        with(Backend::AesGcm, Lanes::Auto),
    ));
    ways
}

fn with(backend: Backend, lanes: Lanes) -> Settings {
    Settings {
        backend,
        lanes,
        ..Settings::default()
    }
}

fn suites(c: &mut Criterion) {
    for suite in Suite::written() {
        let settings = Settings {
            suite,
            backend: Backend::AwsLc,
            ..Settings::default()
        };
        let name = format!("suite {suite}, eight together");
        let mut group = named_group(c, "seal, aws-lc", TOGETHER, 200);
        bench_together(&mut group, &name, &writer(FRAME, settings), &[0x5a; 200]);
    }
}

fn bench_one(group: &mut BenchmarkGroup<'_, WallTime>, writer: &Writer, plaintext: &[u8]) {
    let mut ids = MessageIds::new();
    let mut out = Vec::with_capacity(writer.sealed_len(plaintext.len()));
    group.bench_function(sized("one by one", plaintext), |b| {
        b.iter(|| {
            out.clear();
            writer.seal(ids.draw(), black_box(plaintext), &mut out);
            black_box(out.len())
        });
    });
}

fn bench_together(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    writer: &Writer,
    plaintext: &[u8],
) {
    let mut ids = MessageIds::new();
    let mut out = Vec::with_capacity(TOGETHER * writer.sealed_len(plaintext.len()));
    let mut ends = Vec::with_capacity(TOGETHER);
    group.bench_function(sized(name, plaintext), |b| {
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
    per_size(c, "seal, aes-gcm", 1, |group, plaintext| {
        let mut out = plaintext.to_vec();
        group.bench_function(sized("floor", plaintext), |b| {
            b.iter(|| {
                out.copy_from_slice(black_box(plaintext));
                let cipher = Aes256Gcm::new(black_box(&KEY).into());
                rival::encrypt(&cipher, &[0; 12], &[], &mut out)
            });
        });
    });
    per_size(c, "seal, aws-lc", 1, |group, plaintext| {
        let mut out = plaintext.to_vec();
        group.bench_function(sized("floor", plaintext), |b| {
            b.iter(|| {
                out.copy_from_slice(black_box(plaintext));
                aws_lc()
                    .seal_in_place_separate_tag(iv(), Aad::empty(), &mut out)
                    .expect("short enough")
            });
        });
    });
}

fn floor_to_open(c: &mut Criterion) {
    per_size(c, "open, aes-gcm", 1, |group, plaintext| {
        let (sealed, tag) = sealed_alone(plaintext);
        let mut out = sealed.clone();
        group.bench_function(sized("floor", plaintext), |b| {
            b.iter(|| {
                out.copy_from_slice(black_box(&sealed));
                let cipher = Aes256Gcm::new(black_box(&KEY).into());
                let out = InOutBuf::from(&mut out[..]);
                cipher.decrypt_inout_detached(&[0; 12].into(), &[], out, &tag.into())
            });
        });
    });
    per_size(c, "open, aws-lc", 1, |group, plaintext| {
        let (sealed, tag) = sealed_alone(plaintext);
        let mut out = sealed.clone();
        group.bench_function(sized("floor", plaintext), |b| {
            b.iter(|| {
                out.copy_from_slice(black_box(&sealed));
                let opened =
                    aws_lc().open_in_place_separate_tag(iv(), Aad::empty(), &tag, &mut out);
                opened.expect("its own").len()
            });
        });
    });
}

fn aws_lc() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, black_box(&KEY)).expect("32 bytes"))
}

fn iv() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn open(c: &mut Criterion) {
    let (writer, context) = (writer(FRAME, Settings::default()), context());
    per_size(c, "open, aws-lc", 1, |group, plaintext| {
        let mut message = Vec::new();
        writer.seal(MessageIds::new().draw(), plaintext, &mut message);
        group.bench_function(sized("one by one", plaintext), |b| {
            b.iter(|| {
                Message::parse(black_box(&message), &ReadLimits::default())
                    .and_then(|message| message.open(&KEY, &context))
                    .expect("its own message opens")
            });
        });
    });
}

fn open_together(c: &mut Criterion) {
    const MANY: usize = 64;
    let (writer, context) = (writer(FRAME, Settings::default()), context());
    per_size(c, "open, aws-lc", MANY, |group, plaintext| {
        let sealed: Vec<Vec<u8>> = (0..MANY)
            .map(|_| {
                let mut message = Vec::new();
                writer.seal(MessageIds::new().draw(), plaintext, &mut message);
                message
            })
            .collect();
        group.bench_function(sized("64 together", plaintext), |b| {
            b.iter(|| {
                let parse = |message| Message::parse(message, &ReadLimits::default());
                let messages: Result<Vec<_>, _> =
                    black_box(&sealed).iter().map(|m| parse(m)).collect();
                let messages = messages.expect("well-formed");
                let opened = Message::open_all(&messages, &KEY, &context);
                assert!(opened.iter().all(Result::is_ok), "its own messages open");
                opened
            });
        });
    });
}

/// As blocks are: one frame each. What is opened lies in memory of its own, whose price depends on the allocator: it is told what the
/// program tells it.
fn open_one_frame(c: &mut Criterion) {
    const BLOCK: usize = 50 << 10;
    kinseal::cli::heap::give_back_large_buffers();
    let (writer, context) = (writer(BLOCK, Settings::default()), context());
    let mut ids = MessageIds::new();
    let seal = |_| {
        let mut message = Vec::new();
        writer.seal(ids.draw(), &[0x5a; BLOCK], &mut message);
        message
    };
    let sealed: Vec<Vec<u8>> = (0..TOGETHER).map(seal).collect();
    let mut group = named_group(c, "open, aws-lc", TOGETHER, BLOCK);
    group.bench_function(sized("one frame, eight together", &[0; BLOCK]), |b| {
        b.iter(|| {
            let parse = |message| Message::parse(message, &ReadLimits::default());
            let messages: Result<Vec<_>, _> = black_box(&sealed).iter().map(|m| parse(m)).collect();
            let opened = Message::open_all(&messages.expect("sound"), &KEY, &context);
            assert!(opened.iter().all(Result::is_ok), "its own messages open");
            opened
        });
    });
    // The AEAD alone, from as many blocks to as many places that are there: `floor` goes over one that is in the nearest cache,
    // and copies it there.
    let mut places: Vec<_> = (0..TOGETHER)
        .map(|_| (sealed_alone(&[0x5a; BLOCK]), vec![0; BLOCK]))
        .collect();
    group.bench_function(sized("floor of eight blocks", &[0; BLOCK]), |b| {
        b.iter(|| {
            for ((sealed, tag), out) in black_box(&mut places) {
                aws_lc()
                    .open_separate_gather(iv(), Aad::empty(), sealed, tag, out)
                    .expect("its own");
            }
        });
    });
}

/// By AWS-LC alone, with its tag.
fn sealed_alone(plaintext: &[u8]) -> (Vec<u8>, [u8; 16]) {
    let mut sealed = plaintext.to_vec();
    let tag = aws_lc().seal_in_place_separate_tag(iv(), Aad::empty(), &mut sealed);
    let tag = tag.expect("short").as_ref().try_into().expect("16 bytes");
    (sealed, tag)
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

fn sized(name: &str, plaintext: &[u8]) -> BenchmarkId {
    BenchmarkId::new(name, format!("{} B", plaintext.len()))
}

/// Encrypted data key and context as long as they are with KMS.
fn writer(frame: usize, settings: Settings) -> Writer {
    let settings = Settings {
        frame_length: u32::try_from(frame).expect("a frame length"),
        ..settings
    };
    let edk = EncryptedDataKey {
        provider: EncryptedDataKey::KMS.to_owned(),
        info: vec![b'a'; 75].into(),
        ciphertext: vec![0; 184].into(),
    };
    let binding = Binding::new(settings.suite, &context()).expect("a context");
    let key = SecretKeyBytes::new(KEY[..settings.suite.key_len()].to_vec());
    Writer::new(binding, &key, &[edk], settings).expect("valid parts")
}

fn context() -> EncryptionContext {
    [("app", "shop"), ("host", "web-1.example")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
}

/// Some sixty benchmarks in two minutes: steady to a few percent, which is what the machine gives anyway.
fn moment() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(400))
        .measurement_time(Duration::from_millis(900))
        .sample_size(30)
}

criterion_group! {
    name = benches;
    config = moment();
    targets = straightforward, one_by_one, together, one_frame, floor, floor_to_open, suites, open,
        open_together, blocks::packed, blocks::threads, open_one_frame
}
criterion_main!(benches);

//! How many instructions the inner loops take: what clocks on a shared machine are too noisy to tell. `cargo xtask bench`
//! runs this under callgrind, twice for each loop with different counts; what they differ by is the loop's alone.
//!
//! Callgrind has no AVX-512, so sealing takes its way without lanes here, and checksums AVX2's.
//!
//! `instructions` runs each loop once; `instructions --list` names them; `instructions NAME COUNT` runs one so often.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use kinseal::aggregate::AggregatedRecord;
use kinseal::aggregate::reducer::{Reducer, Routes};
use kinseal::batch::{Batch, Limits};
use kinseal::delivery::{MemoryBudget, SpanSettled, Ticket};
use kinseal::record::{RecordKey, StreamName};
use kinseal::seal::message::{
    Backend, Binding, EncryptedDataKey, Lanes, Message, MessageIds, ReadLimits, SecretKeyBytes,
    Writer,
};
use kinseal::seal::offload::{Sealing, seal_chunk};
use kinseal::seal::{self, EncryptionContext, SealedRecord, message};
use kinseal::send::body::{self, Body, Protocol};
use kinseal::source::frame::{Framer, MAX_LINE};
use kinseal::source::{Accepted, Chunk};

const KEY: [u8; 32] = [7; 32];
const LINE: usize = 200;
/// Records that go through a loop together.
const TOGETHER: usize = 256;

/// Its name, of how many elements, and what runs it once.
type Loop = (&'static str, usize, fn());

const LOOPS: [Loop; 6] = [
    ("a line of 200 B, framed", TOGETHER, frame),
    ("a record of 200 B, sealed", TOGETHER, seal_records),
    ("a record of 200 B, opened", 1, open),
    ("a block of 50 KiB, sealed", 1, seal_block),
    ("a record of 200 B, aggregated", TOGETHER, aggregate),
    ("a KiB of a request's body", 50 << 10 >> 10, request),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["--list"] => {
            for (name, elements, _) in LOOPS {
                println!("{elements} {name}");
            }
        }
        [name, count] => {
            let found = LOOPS.iter().find(|(known, _, _)| *known == name);
            let (Some((_, _, run)), Ok(count)) = (found, count.parse::<u32>()) else {
                eprintln!("usage: instructions [--list | NAME COUNT]");
                return ExitCode::from(64);
            };
            (0..count).for_each(|_| run());
        }
        // As the tests of all benches call it.
        _ => LOOPS.iter().for_each(|(_, _, run)| run()),
    }
    ExitCode::SUCCESS
}

fn frame() {
    let mut block = [b'x'; TOGETHER * LINE];
    (block.iter_mut().skip(LINE - 1).step_by(LINE)).for_each(|byte| *byte = b'\n');
    let mut framer = Framer::new(0, MAX_LINE);
    framer.fill(block.len(), |held| held.extend_from_slice(&block));
    while let Some(line) = framer.next_line() {
        black_box(line);
    }
}

fn seal_records() {
    let plaintexts = [[0x5a; LINE]; TOGETHER];
    let mut ids = MessageIds::for_messages(TOGETHER);
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    let plaintexts = plaintexts.iter().map(|plaintext| &plaintext[..]);
    FRAMES.seal_all(&mut ids, plaintexts, &mut out, &mut ends);
    black_box(out);
}

fn seal_block() {
    const BLOCK: usize = 50 << 10;
    let mut ids = MessageIds::for_messages(1);
    let block = vec![0x5a; BLOCK];
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    ONE_FRAME.seal_all(&mut ids, std::iter::once(&block[..]), &mut out, &mut ends);
    black_box(out);
}

fn open() {
    let mut ids = MessageIds::for_messages(1);
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    let plaintext = std::iter::once(&[0x5a; LINE][..]);
    FRAMES.seal_all(&mut ids, plaintext, &mut out, &mut ends);
    let opened = Message::parse(&out, &ReadLimits::default())
        .and_then(|message| message.open(&KEY, &context()));
    black_box(opened.expect("just sealed"));
}

fn aggregate() {
    black_box(entries(TOGETHER, LINE, Some(50 << 10)));
}

fn request() {
    let mut batch = Batch::new(Limits::default());
    for entry in entries(1, 50 << 10, None) {
        batch.push(entry).expect("within the limits");
    }
    let stream = StreamName::new("shop-logs").expect("a name");
    match body::put_records(Protocol::Json, &stream, None, batch.entries()) {
        Body::Whole(bytes) => drop(black_box(bytes)),
        Body::Long(long) => drop(black_box(long)),
    }
}

/// Made once: what that takes is in both counts.
static FRAMES: LazyLock<Writer> = LazyLock::new(|| writer(4096));
static ONE_FRAME: LazyLock<Writer> = LazyLock::new(|| writer(50 << 10));

fn writer(frame_length: u32) -> Writer {
    let settings = message::Settings {
        backend: Backend::AwsLc,
        lanes: Lanes::Scalar,
        frame_length,
        ..message::Settings::default()
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

fn context() -> EncryptionContext {
    [("app".to_owned(), "shop".to_owned())].into()
}

/// Aggregates of so many plain records of one length; `max_size`: without it, each goes alone.
fn entries(records: usize, len: usize, max_size: Option<usize>) -> Vec<AggregatedRecord> {
    let now = Instant::now();
    let mut reducer = Reducer::new(max_size, Routes::Unpredictable).for_any_shard();
    let mut closed = Vec::new();
    for record in plain(records, len) {
        reducer.push(record, now, now, &mut closed);
    }
    reducer.flush(now, &mut closed);
    AggregatedRecord::each(closed)
}

fn plain(records: usize, len: usize) -> Vec<SealedRecord> {
    let memory = MemoryBudget::new(1 << 20).try_reserve(1).expect("free");
    let now = Instant::now();
    let mut ticket = Ticket::for_span(records as u32 + 1, now, memory, Arc::new(Nobody), 0);
    let data = Bytes::from(vec![0x5a; len]);
    let records = (0..records).map(|_| Accepted {
        data: data.clone(),
        key: RecordKey::Any,
        ticket: ticket.take_one(),
    });
    let chunk = Chunk {
        records: records.collect(),
        read_took: Duration::ZERO,
    };
    let plaintext = seal::Settings::off();
    let allowed = plaintext.plaintext_allowed().expect("the scope is off");
    seal_chunk(chunk, &Sealing::Plain(allowed), now).records
}

/// Nobody waits for these records.
struct Nobody;

impl SpanSettled for Nobody {
    fn settled(&self, _: u64) {}
}

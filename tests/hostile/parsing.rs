//! Any bytes are parsed or refused, without a panic, and without much memory.

use std::fs;
use std::path::Path;

use allocation_counter::measure;
use bytes::Bytes;
use kinseal::aggregate::format::{Layout, MAX_MEMBERS, deaggregate, records_of};
use kinseal::record::PartitionKey;
use kinseal::seal::block::{MAX_UNPACKED, Packing, unpack};
use kinseal::seal::message::message_in;

use crate::mutant::Mutants;
use crate::parsers;

/// Of each kind.
const MUTANTS: usize = 20_000;

/// Errors, contexts and the one key in the cache.
const FIXED: usize = 64 << 10;

#[test]
fn any_message_is_opened_or_refused_in_memory_of_its_size() {
    let corpus = vectors();
    let mut mutants = Mutants::new(1, &corpus);
    corpus.iter().for_each(|message| expect_frugal(message));
    for _ in 0..MUTANTS {
        expect_frugal(&mutants.next());
    }
}

#[test]
fn a_message_that_was_cut_anywhere_is_refused_in_memory_of_its_size() {
    let mut corpus = vectors();
    // Each place of each header, and some frames: more of them say nothing new.
    corpus.retain(|message| message.len() < 2500);
    assert!(corpus.len() > 30, "{}", corpus.len());
    for message in corpus {
        for end in 0..message.len() {
            expect_frugal(&message[..end]);
        }
    }
}

#[test]
fn any_text_is_a_message_or_none_in_memory_of_its_size() {
    let encode = |message: &Vec<u8>| base64_simd::STANDARD.encode_to_string(message).into_bytes();
    let corpus: Vec<_> = vectors().iter().map(encode).collect();
    let mut mutants = Mutants::new(2, &corpus);
    for _ in 0..MUTANTS {
        let text = Bytes::from(mutants.next());
        let bound = 4 * text.len() + FIXED;
        let used = peak(|| drop(message_in(&text)));
        assert!(used <= bound, "{used} bytes for {}", text.len());
    }
}

/// The smallest member of an aggregate has two bytes, and takes some 100 when it is read: that is the factor.
const PER_BYTE: usize = 256;

#[test]
fn any_aggregate_is_taken_apart_or_refused_in_memory_of_its_size() {
    let corpus = aggregates();
    let mut mutants = Mutants::new(3, &corpus);
    for _ in 0..MUTANTS {
        let bytes = mutants.next();
        let used = peak(|| parsers::aggregate(&bytes));
        let bound = PER_BYTE * bytes.len() + FIXED;
        assert!(used <= bound, "{used} bytes for {}", bytes.len());
    }
}

#[test]
fn any_message_of_a_client_is_read_or_refused_in_memory_of_its_size() {
    // A record with all its fields, a flush, a request for metrics, credentials.
    let corpus = [
        &b"\x08\x07\x1a\x0d\x0a\x01s\x12\x01k\x1a\x01\x35\x22\x02hi"[..],
        b"\x08\x01\x22\x00",
        b"\x08\x02\x3a\x02\x10\x01",
        b"\x08\x03\x4a\x08\x12\x06\x0a\x01a\x12\x01b",
    ];
    let corpus = corpus.map(<[u8]>::to_vec);
    let mut mutants = Mutants::new(5, &corpus);
    for _ in 0..MUTANTS {
        let bytes = mutants.next();
        let used = peak(|| parsers::request(&bytes));
        assert!(
            used <= 4 * bytes.len() + FIXED,
            "{used} bytes for {}",
            bytes.len()
        );
    }
}

/// A copy for each member would take 40 GiB.
#[test]
fn a_long_key_of_many_members_is_held_once() {
    let key = vec![b'k'; 500_000];
    let mut aggregate = [&[0x0a][..], &[0xa0, 0xc2, 0x1e], &key].concat();
    aggregate.extend([0x1a, 0x04, 0x08, 0x00, 0x1a, 0x00].repeat(80_000));
    let aggregate = Bytes::from(aggregate);
    let mut members = 0;
    let used = peak(|| members = records_of(aggregate.clone()).map_or(0, |r| r.len()));
    assert_eq!(members, 80_000);
    assert!(used < 40 << 20, "{used} bytes for {}", aggregate.len());
}

/// The worst there is: members of two bytes each, as many as are taken.
#[test]
fn empty_members_take_no_more_than_their_share() {
    let members = |count| [&[0x0a, 0x00][..], &[0x1a, 0x00].repeat(count)].concat();
    let most = Bytes::from(members(MAX_MEMBERS));
    let used = peak(|| assert!(records_of(most.clone()).is_some()));
    let share = used / most.len();
    assert!(share < PER_BYTE, "{share} bytes for each byte");
    let more = Bytes::from(members(MAX_MEMBERS + 1));
    let used = peak(|| assert!(records_of(more.clone()).is_none()));
    assert!(used < FIXED, "{used} bytes, and refused");
}

/// Millions of members, keys or hash keys of two bytes, in some kilobytes of zstd.
#[test]
fn a_small_block_of_countless_members_is_refused_before_it_claims_memory() {
    for entry in [[0x1a, 0x00], [0x0a, 0x00], [0x12, 0x00]] {
        let members = [&[0x0a, 0x01, b'k', 0x1a, 0x00][..], &entry.repeat(16 << 20)].concat();
        let block = zstd::bulk::compress(&members[..MAX_UNPACKED], 1).expect("compressed");
        assert!(block.len() < 10_000);
        let used = peak(|| assert!(unpack("kpl+zstd", &block).is_err()));
        assert!(used < 2 * MAX_UNPACKED, "{used} bytes for {}", block.len());
    }
}

#[test]
fn any_block_is_unpacked_or_refused_in_memory_of_its_records() {
    let corpus = blocks();
    let mut mutants = Mutants::new(4, &corpus);
    for _ in 0..MUTANTS {
        let bytes = mutants.next();
        let used = peak(|| parsers::block(&bytes));
        // A frame says how long its content is before it is read, and its members are counted before they are
        // made: both are bounded.
        let bound = MAX_UNPACKED + PER_BYTE * 2 * MAX_MEMBERS + FIXED;
        assert!(used <= bound, "{used} bytes for {}", bytes.len());
    }
}

#[test]
fn any_keyfile_is_read_or_refused_without_showing_its_key() {
    let corpus = files(&parsers::root().join("fuzz/seeds/keyfile"));
    let has_key = |file: &Vec<u8>| String::from_utf8_lossy(file).contains(parsers::KEY);
    assert!(corpus.iter().all(has_key));
    let mut mutants = Mutants::new(5, &corpus);
    for _ in 0..5_000 {
        parsers::keyfile(&mutants.next());
    }
}

#[track_caller]
fn expect_frugal(message: &[u8]) {
    let used = peak(|| parsers::message(message));
    let bound = 4 * message.len() + FIXED;
    assert!(used <= bound, "{used} bytes for {}", message.len());
}

/// The most memory held at once, by this thread and beside what it held before.
fn peak(work: impl FnOnce()) -> usize {
    let used = measure(work).bytes_max;
    usize::try_from(used).expect("memory has an end")
}

fn vectors() -> Vec<Vec<u8>> {
    // Once, so that the keys of the vectors are loaded.
    parsers::message(b"");
    files(&parsers::root().join("tests/vectors/ciphertexts"))
}

/// In an order that is the same everywhere.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder).expect("a corpus is there");
    let mut paths: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    paths.sort();
    let read = |path| fs::read(path).expect("readable");
    paths.into_iter().map(read).collect()
}

fn aggregates() -> Vec<Vec<u8>> {
    let corpus: Vec<_> = members()
        .into_iter()
        .map(|(layout, data)| {
            let (bytes, _) = layout.encode(data.iter().map(Vec::as_slice));
            bytes
        })
        .collect();
    let is_aggregate = |bytes: &Vec<u8>| deaggregate(&Bytes::copy_from_slice(bytes)).is_some();
    assert!(corpus.iter().all(is_aggregate));
    let bare = members().into_iter().map(|(layout, data)| {
        let mut out = Vec::new();
        layout.encode_bare(data.iter().map(Vec::as_slice), &mut out);
        out
    });
    corpus.into_iter().chain(bare).collect()
}

fn blocks() -> Vec<Vec<u8>> {
    let packings = [
        Packing::Kpl,
        Packing::KplZstd { level: 1 },
        Packing::KplZstd { level: 9 },
    ];
    let packed = packings.iter().flat_map(|packing| {
        members()
            .into_iter()
            .map(|(layout, data)| packing.pack(&layout, data.iter().map(Vec::as_slice)))
    });
    packed.collect()
}

fn members() -> Vec<(Layout, Vec<Vec<u8>>)> {
    let sizes: [&[usize]; 4] = [&[0], &[200; 5], &[1, 0, 300], &[20; 60]];
    let layouts = sizes.iter().map(|sizes| {
        let mut layout = Layout::new();
        let data: Vec<_> = sizes.iter().map(|size| vec![b'x'; *size]).collect();
        for (number, data) in data.iter().enumerate() {
            let key = PartitionKey::new(format!("key-{}", number % 7)).expect("short");
            let hash_key = (number % 3 == 0).then(|| key.hash_key());
            layout.add(&key, hash_key, data.len());
        }
        (layout, data)
    });
    layouts.collect()
}

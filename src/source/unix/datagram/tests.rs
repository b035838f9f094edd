//! Tests: datagrams whole, senders that wait, and what is too long.

use super::*;
use crate::delivery::MemoryBudget;
use crate::shutdown::{self, Stop};
use crate::source::keying::Keying;
use crate::source::{Chunk, Costs};
use std::path::PathBuf;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

struct Rig {
    dir: tempfile::TempDir,
    chunks: mpsc::Receiver<Chunk>,
    budget: MemoryBudget,
    stop: Stop,
    run: JoinHandle<io::Result<()>>,
}

fn file_in(dir: &Path) -> PathBuf {
    dir.join("in.sock")
}

fn settings(dir: &Path) -> DatagramSettings {
    DatagramSettings {
        path: Address::File(file_in(dir)),
        access: Some(Access {
            mode: 0o640,
            owner: None,
            group: None,
        }),
        when_full: WhenFull::Block,
    }
}

fn start(memory: usize) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let socket = DatagramSocket::bind(&settings).unwrap();
    let again = DatagramSocket::bind(&settings).unwrap_err();
    assert!(matches!(again, BindError::InUse(_)), "{again}");
    let (to, chunks) = mpsc::channel(1000);
    let budget = MemoryBudget::new(memory);
    let intake = Intake::new(to, budget.clone(), Costs::new(0, true));
    let (stop, shutdown) = shutdown::channel();
    let run =
        tokio::spawn(async move { socket.run(intake, &Keying::RANDOM.into(), shutdown).await });
    Rig {
        dir,
        chunks,
        budget,
        stop,
        run,
    }
}

impl Rig {
    fn sender(&self) -> UnixDatagram {
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(file_in(self.dir.path())).unwrap();
        sender
    }

    async fn records(&mut self, count: usize) -> Vec<Bytes> {
        let mut records = Vec::new();
        while records.len() < count {
            let Some(chunk) = self.chunks.recv().await else {
                break;
            };
            records.extend(chunk.records.into_iter().map(|record| record.data));
        }
        records
    }
}

#[tokio::test]
async fn each_datagram_is_a_record_also_an_empty_one() {
    use std::os::unix::fs::MetadataExt;
    let mut rig = start(1 << 26);
    let sender = rig.sender();
    let long = vec![b'x'; 150_000];
    for datagram in [&b"one\ntwo"[..], b"", &long, b"\0"] {
        sender.send(datagram).await.unwrap();
    }
    let records = rig.records(4).await;
    assert_eq!(records, [&b"one\ntwo"[..], b"", &long, b"\0"]);
    assert_eq!(rig.budget.in_use(), 0, "a silent socket holds nothing");

    let file = file_in(rig.dir.path());
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o640);
    sender.send(b"last").await.unwrap();
    rig.stop.stop();
    assert_eq!(rig.records(usize::MAX).await, [&b"last"[..]]);
    rig.run.await.unwrap().unwrap();
    assert!(!file.exists());
}

#[tokio::test]
async fn senders_wait_while_there_is_no_room_and_nothing_is_lost() {
    let mut rig = start(8192);
    let sender = rig.sender();
    let sent = tokio::spawn(async move {
        for n in 0..2000 {
            sender.send(format!("{n:0999}").as_bytes()).await.unwrap();
        }
    });
    let first = rig.chunks.recv().await.unwrap();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!sent.is_finished());
    let held = first.records.len();
    drop(first);
    let rest = rig.records(2000 - held).await;
    sent.await.unwrap();
    let expected = (held..2000).map(|n| format!("{n:0999}"));
    assert!(rest.into_iter().eq(expected.map(Bytes::from)));
}

#[tokio::test]
async fn what_is_longer_than_any_record_is_cut_and_counted_and_the_next_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut socket = DatagramSocket::bind(&settings(dir.path())).unwrap();
    socket.longest = 10;
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(file_in(dir.path())).unwrap();
    for datagram in [&b"0123456789"[..], b"0123456789abc", b"ok"] {
        sender.send(datagram).await.unwrap();
    }
    let mut cut = Cut::default();
    let records = socket.read_now(BLOCK, &mut cut);
    let records: Vec<_> = records
        .iter()
        .map(|r| (&r.bytes[..], r.oversized))
        .collect();
    let ten = &b"0123456789"[..];
    assert_eq!(records, [(ten, false), (ten, true), (b"ok", false)]);
    // Told at once.
    assert_eq!((cut.bytes, cut.datagrams.last()), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_socket_whose_file_is_removed_is_bound_again_and_what_was_sent_before_is_read() {
    let mut rig = start(1 << 26);
    let path = file_in(rig.dir.path());
    let before = rig.sender();
    before.send(b"begun").await.unwrap();
    assert_eq!(rig.records(1).await, [&b"begun"[..]]);
    std::fs::remove_file(&path).unwrap();
    before.send(b"one").await.unwrap();
    while !path.exists() {
        tokio::time::sleep(crate::source::unix::rebind::LOOK / 10).await;
    }
    let after = rig.sender();
    after.send(b"two").await.unwrap();
    assert_eq!(rig.records(2).await, [&b"one"[..], b"two"]);
    // It has to connect again, and is told so.
    before.send(b"three").await.unwrap_err();
    rig.stop.stop();
    rig.run.await.unwrap().unwrap();
    assert!(!path.exists());
}

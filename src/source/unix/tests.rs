//! Tests: clients, the stop, want of room, and the socket's file.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::net::AddressFamily;
use rustix::process::{getegid, geteuid};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::delivery::MemoryBudget;
use crate::metrics::Counters;
use crate::shutdown::{self, Stop};
use crate::source::join::{LinePattern, Rule};
use crate::source::keying::Keying;
use crate::source::{Chunk, Costs};

struct Rig {
    dir: tempfile::TempDir,
    chunks: mpsc::Receiver<Chunk>,
    budget: MemoryBudget,
    counters: Arc<Counters>,
    stop: Stop,
    run: JoinHandle<()>,
}

fn file_in(dir: &Path) -> PathBuf {
    dir.join("in.sock")
}

fn settings(dir: &Path) -> Settings {
    Settings {
        path: Address::File(file_in(dir)),
        access: None,
        allow: None,
        max_connections: MAX_CONNECTIONS,
        acknowledged: None,
        framing: Framing::Newline,
        multiline: None,
        when_full: WhenFull::Block,
    }
}

fn start(memory: usize) -> Rig {
    start_with(memory, |_| ())
}

fn start_with(memory: usize, change: impl FnOnce(&mut Settings)) -> Rig {
    start_lingering(memory, Duration::ZERO, change)
}

fn start_lingering(memory: usize, linger: Duration, change: impl FnOnce(&mut Settings)) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    change(&mut settings);
    let listener = Listener::bind(&settings).unwrap();
    let (to, chunks) = mpsc::channel(1000);
    let budget = MemoryBudget::new(memory);
    let counters: Arc<Counters> = Arc::default();
    let intake = Intake::new(to, budget.clone(), Costs::new(0, true));
    let intake = intake.counting(Arc::clone(&counters)).lingering(linger);
    let (stop, shutdown) = shutdown::channel();
    let run =
        tokio::spawn(async move { listener.run(intake, &Keying::RANDOM.into(), shutdown).await });
    Rig {
        dir,
        chunks,
        budget,
        counters,
        stop,
        run,
    }
}

impl Rig {
    async fn client(&self) -> UnixStream {
        UnixStream::connect(file_in(self.dir.path())).await.unwrap()
    }

    async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let Some(chunk) = self.chunks.recv().await else {
                break;
            };
            for record in chunk.records {
                lines.push(String::from_utf8(record.data.to_vec()).unwrap());
            }
        }
        lines
    }
}

#[tokio::test]
async fn lines_of_many_clients_come_whole_and_a_last_one_without_newline_too() {
    let mut rig = start(1 << 26);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(rig.client().await);
    }
    for part in ["on", "e\ntw"] {
        for client in &mut clients {
            client.write_all(part.as_bytes()).await.unwrap();
        }
    }
    assert_eq!(rig.lines(20).await, vec!["one"; 20]);
    drop(clients);
    assert_eq!(rig.lines(20).await, vec!["tw"; 20]);
    assert_eq!(rig.budget.in_use(), 0, "silent clients hold nothing");
}

fn joining(timeout: Duration) -> Option<Arc<Multiline>> {
    Some(Arc::new(Multiline {
        rule: Rule::Start(LinePattern::new("^S").unwrap()),
        timeout,
        max_lines: None,
        max_bytes: Multiline::MAX_BYTES,
    }))
}

#[tokio::test]
async fn lines_of_each_client_are_joined_apart_and_the_last_ones_when_it_hangs_up() {
    let mut rig = start_with(1 << 26, |it| {
        it.multiline = joining(Duration::from_secs(3600))
    });
    let mut clients = [rig.client().await, rig.client().await];
    for part in ["S1\n a", "\n b\nS2\n c\n"] {
        for client in &mut clients {
            client.write_all(part.as_bytes()).await.unwrap();
        }
    }
    assert_eq!(rig.lines(2).await, ["S1\n a\n b"; 2]);
    assert_eq!(rig.budget.in_use(), 0, "what is open has room of its own");
    for client in &mut clients {
        client.write_all(b" d").await.unwrap();
    }
    drop(clients);
    assert_eq!(rig.lines(2).await, ["S2\n c\n d"; 2]);
}

#[tokio::test(start_paused = true)]
async fn open_record_of_a_client_is_complete_after_its_timeout() {
    let mut rig = start_with(1 << 26, |it| {
        it.multiline = joining(Duration::from_secs(60))
    });
    let began = tokio::time::Instant::now();
    let mut client = rig.client().await;
    client.write_all(b"S1\n a\n").await.unwrap();
    assert_eq!(rig.lines(1).await, ["S1\n a"]);
    assert!(began.elapsed() >= Duration::from_secs(60));
    client.write_all(b" b\n").await.unwrap();
    assert_eq!(rig.lines(1).await, [" b"]);
    rig.stop.stop();
    rig.run.await.unwrap();
}

#[tokio::test]
async fn what_clients_had_sent_is_read_after_the_stop_and_the_file_is_removed() {
    let mut rig = start(1 << 26);
    let mut client = rig.client().await;
    client.write_all(b"zero\n").await.unwrap();
    assert_eq!(rig.lines(1).await, ["zero"]);
    let many = "0123456789\n".repeat(10_000);
    client.write_all(many.as_bytes()).await.unwrap();
    client.write_all(b"half").await.unwrap();
    rig.stop.stop();
    assert_eq!(rig.lines(usize::MAX).await.len(), 10_001);
    rig.run.await.unwrap();
    assert!(!file_in(rig.dir.path()).exists());
}

#[tokio::test]
async fn clients_beyond_the_most_wait_and_silent_ones_hold_up_nobody() {
    let mut rig = start_with(1 << 26, |it| it.max_connections = 2);
    let (silent, mut busy) = (rig.client().await, rig.client().await);
    busy.write_all(b"one\n").await.unwrap();
    assert_eq!(rig.lines(1).await, ["one"]);
    let mut waiting = rig.client().await;
    waiting.write_all(b"three\n").await.unwrap();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(rig.chunks.try_recv().is_err(), "it has no place yet");
    busy.write_all(b"two\n").await.unwrap();
    assert_eq!(rig.lines(1).await, ["two"]);
    drop(busy);
    assert_eq!(rig.lines(1).await, ["three"]);
    drop(silent);
}

#[tokio::test]
async fn clients_that_stop_within_long_lines_hold_up_no_other_with_a_long_line() {
    let long = vec![b'x'; 1_000_000];
    let mut rig = start(1 << 26);
    let mut stopped = Vec::new();
    for _ in 0..7 {
        let mut client = rig.client().await;
        client.write_all(&long).await.unwrap();
        stopped.push(client);
    }
    let mut honest = rig.client().await;
    let began = Instant::now();
    honest.write_all(&long).await.unwrap();
    honest.write_all(b"\n").await.unwrap();
    assert_eq!(rig.lines(1).await[0].len(), long.len());
    let took = began.elapsed();
    // Less than any is waited for; it takes some milliseconds.
    assert!(took < Duration::from_secs(4), "{took:?}");
    stopped[0].write_all(b"\n").await.unwrap();
    assert_eq!(rig.lines(1).await[0].len(), long.len(), "none is cut off");
}

#[tokio::test(start_paused = true)]
async fn lines_that_are_written_one_by_one_are_read_together_where_they_linger_anyway() {
    for (linger, together) in [(Duration::from_millis(100), true), (Duration::ZERO, false)] {
        let mut rig = start_lingering(1 << 26, linger, |_| ());
        let mut client = rig.client().await;
        client.write_all(b"at once\n").await.unwrap();
        assert_eq!(rig.lines(1).await, ["at once"]);
        // The clock stands still while somebody has something to do.
        for _ in 0..20 {
            client.write_all(b"line\n").await.unwrap();
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        let first = rig.chunks.recv().await.unwrap().records.len();
        assert_eq!(first == 20, together, "{first} with {linger:?}");
    }
}

#[tokio::test]
async fn a_peer_that_is_not_on_the_list_is_sent_away_and_nothing_of_it_is_read() {
    let me = geteuid().as_raw();
    for (uid, expected) in [(me, vec!["one"]), (me + 1, vec![])] {
        let mut rig = start_with(1 << 26, |it| {
            it.allow = Some(Allow {
                uids: vec![Account::Id(uid)],
                gids: Vec::new(),
            });
        });
        let mut client = rig.client().await;
        // It may be gone already.
        let _ = client.write_all(b"one\n").await;
        let _ = client.shutdown().await;
        assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0, "closed");
        rig.stop.stop();
        assert_eq!(rig.lines(usize::MAX).await, expected);
    }
}

#[tokio::test]
async fn clients_that_wait_to_be_accepted_at_the_stop_are_read_too() {
    let mut rig = start_with(1 << 26, |it| it.max_connections = 2);
    for n in 0..5 {
        // Without giving way: none is accepted before the stop.
        let mut client = std::os::unix::net::UnixStream::connect(file_in(rig.dir.path())).unwrap();
        std::io::Write::write_all(&mut client, format!("{n}\n").as_bytes()).unwrap();
    }
    rig.stop.stop();
    let mut lines = rig.lines(usize::MAX).await;
    lines.sort();
    assert_eq!(lines, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn client_waits_while_there_is_no_room() {
    let mut rig = start(8192);
    let mut client = rig.client().await;
    let written = tokio::spawn(async move {
        let line = "x".repeat(999) + "\n";
        for _ in 0..2000 {
            client.write_all(line.as_bytes()).await.unwrap();
        }
    });
    // While its ticket lives, so does its memory: nothing else is read.
    let first = rig.chunks.recv().await.unwrap();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!written.is_finished());
    let held = first.records.len();
    drop(first);
    assert_eq!(rig.lines(2000 - held).await.len(), 2000 - held);
    written.await.unwrap();
}

#[tokio::test]
async fn client_is_not_held_up_where_lines_without_room_are_dropped() {
    let mut rig = start_with(8192, |it| it.when_full = WhenFull::DropNewest);
    let mut client = rig.client().await;
    let line = |n: u32| format!("{n:0999}");
    client.write_all(b"first\n").await.unwrap();
    let first = rig.chunks.recv().await.unwrap();
    for n in 0..2000 {
        let line = line(n) + "\n";
        client.write_all(line.as_bytes()).await.unwrap();
    }
    drop(client);
    rig.stop.stop();
    rig.run.await.unwrap();
    // `first` has held its memory all along, so at most what fits beside it was kept.
    let mut kept = Vec::new();
    while let Some(chunk) = rig.chunks.recv().await {
        kept.extend(chunk.records.into_iter().map(|record| record.data));
    }
    assert!(kept.len() < 8, "{}", kept.len());
    let mut lines = (0..2000).map(line);
    for data in &kept {
        assert!(lines.any(|line| line == *data), "whole, and in order");
    }
    let (counts, kept) = (rig.counters.snapshot(), kept.len() as u64);
    assert_eq!((counts.accepted, counts.dropped), (2001, 2000 - kept));
    // Those that were kept have been thrown away here, without an answer.
    assert_eq!((counts.pending, counts.abandoned), (1, kept));
    assert!(counts.balance(), "{counts:?}");
    drop(first);
}

#[tokio::test]
async fn frames_come_whole_and_neither_a_fault_nor_a_lost_half_takes_those_before() {
    for (framing, frames, wrong) in [
        (
            Framing::LengthPrefixed,
            &b"\0\0\0\x03a\nb\0\0\0\0\0\0\0\x01c"[..],
            &b"\xff\0\0\0"[..],
        ),
        (Framing::OctetCounted, b"3 a\nb1 c", b"x"),
    ] {
        let mut rig = start_with(1 << 26, |it| it.framing = framing);
        let mut client = rig.client().await;
        for byte in frames {
            client.write_all(&[*byte]).await.unwrap();
        }
        let count = if framing == Framing::OctetCounted {
            2
        } else {
            3
        };
        let lines = rig.lines(count).await;
        assert_eq!((&lines[0][..], &lines[count - 1][..]), ("a\nb", "c"));
        client.write_all(frames).await.unwrap();
        client.write_all(wrong).await.unwrap();
        // Closed, though this side is still open.
        assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0);
        assert_eq!(rig.lines(count).await, lines);

        let mut client = rig.client().await;
        client.write_all(frames).await.unwrap();
        assert_eq!(rig.lines(count).await, lines);
        client.write_all(&frames[..frames.len() - 1]).await.unwrap();
        drop(client);
        rig.stop.stop();
        assert_eq!(rig.lines(usize::MAX).await.len(), count - 1);
        assert_eq!(rig.budget.in_use(), 0);
    }
}

#[tokio::test]
async fn stale_socket_is_replaced_and_a_live_one_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, file) = (settings(dir.path()), file_in(dir.path()));
    drop(std::os::unix::net::UnixListener::bind(&file).unwrap());
    let listener = Listener::bind(&settings).unwrap();
    let error = Listener::bind(&settings).unwrap_err();
    assert!(matches!(&error, BindError::InUse(path) if *path == settings.path));
    drop(listener);
    assert!(!file.exists());
    // Of another kind, but live.
    let _other = std::os::unix::net::UnixDatagram::bind(&file).unwrap();
    let error = Listener::bind(&settings).unwrap_err();
    assert!(matches!(error, BindError::InUse(_)));
}

#[tokio::test]
async fn a_live_socket_whose_backlog_is_full_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, file) = (settings(dir.path()), file_in(dir.path()));
    let bound = bind(&settings.path, SocketType::STREAM, None).unwrap();
    rustix::net::listen(&bound.socket, 0).unwrap();
    let _waits = std::os::unix::net::UnixStream::connect(&file).unwrap();
    let error = Listener::bind(&settings).unwrap_err();
    assert!(matches!(error, BindError::InUse(_)), "{error}");
}

#[tokio::test]
async fn the_file_has_its_mode_owner_and_group_when_it_can_be_connected_to() {
    let [me, mine] = [geteuid().as_raw(), getegid().as_raw()];
    let rig = start_with(1 << 26, |it| {
        it.access = Some(Access {
            mode: 0o620,
            owner: Some(Account::Id(me)),
            group: Some(Account::Id(mine)),
        });
    });
    let meta = file_in(rig.dir.path()).metadata().unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o620);
    assert_eq!((meta.uid(), meta.gid()), (me, mine));
    rig.client().await;
}

#[tokio::test]
async fn an_unknown_name_is_told_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = Some(Account::Name("no such account".into()));
    for (owner, group, kind) in [(nobody.clone(), None, "user"), (None, nobody, "group")] {
        let settings = Settings {
            access: Some(Access {
                mode: 0o600,
                owner,
                group,
            }),
            ..settings(dir.path())
        };
        let error = Listener::bind(&settings).unwrap_err().to_string();
        let told = format!("there is no {kind} \"no such account\" on this host");
        assert!(error.contains(&told), "{error}");
        assert!(!file_in(dir.path()).exists());
    }
    let root = Account::Name("root".into());
    assert_eq!(root.user().unwrap(), 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn nobody_may_use_the_file_before_it_has_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
    rustix::fs::fchmod(&socket, rustix::fs::Mode::empty()).unwrap();
    let to = Address::File(file_in(dir.path())).to_system().unwrap();
    rustix::net::bind(&socket, &to).unwrap();
    let meta = file_in(dir.path()).metadata().unwrap();
    assert_eq!(
        meta.mode() & 0o777,
        0,
        "the kernel still does as `bind` counts on"
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_abstract_name_needs_no_file_and_is_taken_while_it_is_used() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("kinseal-test-{}", std::process::id());
    let mut rig = start_with(1 << 26, |it| it.path = Address::Abstract(name.clone()));
    assert!(!file_in(rig.dir.path()).exists());
    let again = Settings {
        path: Address::Abstract(name.clone()),
        ..settings(rig.dir.path())
    };
    let error = Listener::bind(&again).unwrap_err();
    assert!(matches!(&error, BindError::InUse(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains(&format!("socket @{name} is in use"))
    );

    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let mut client = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
    std::io::Write::write_all(&mut client, b"one\n").unwrap();
    assert_eq!(rig.lines(1).await, ["one"]);
    rig.stop.stop();
    drop(client);
    rig.run.await.unwrap();
    drop(Listener::bind(&again).unwrap());
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, file) = (settings(dir.path()), file_in(dir.path()));
    std::fs::write(&file, "precious").unwrap();
    let error = Listener::bind(&settings).unwrap_err();
    assert!(matches!(error, BindError::NotASocket(_)));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let nowhere = Settings {
        path: Address::File(dir.path().join("no/such/dir.sock")),
        ..settings
    };
    let error = Listener::bind(&nowhere).unwrap_err().to_string();
    assert!(error.contains("no/such/dir.sock"), "{error}");
}

/// Until somebody has bound the path.
async fn until_there(path: &Path) {
    while !path.exists() {
        tokio::time::sleep(rebind::LOOK / 10).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_whose_file_is_removed_is_bound_again_and_who_was_connected_goes_on() {
    let mut rig = start_with(1 << 26, |it| {
        it.max_connections = 2;
        it.access = Some(Access {
            mode: 0o620,
            owner: None,
            group: None,
        });
    });
    let path = file_in(rig.dir.path());
    let mut before = rig.client().await;
    let second = rig.client().await;
    before.write_all(b"one\n").await.unwrap();
    assert_eq!(rig.lines(1).await, ["one"]);
    // Has connected, and is not let in yet.
    let mut waiting = rig.client().await;
    waiting.write_all(b"two\n").await.unwrap();
    std::fs::remove_file(&path).unwrap();
    until_there(&path).await;
    let mode = std::fs::metadata(&path).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o620);

    before.write_all(b"three\n").await.unwrap();
    assert_eq!(rig.lines(1).await, ["three"]);
    drop(second);
    assert_eq!(rig.lines(1).await, ["two"]);
    drop(before);
    let mut after = rig.client().await;
    after.write_all(b"four\n").await.unwrap();
    assert_eq!(rig.lines(1).await, ["four"]);
    rig.stop.stop();
    rig.run.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test(start_paused = true)]
async fn a_socket_whose_place_another_has_taken_is_bound_again_once_that_one_has_gone() {
    let mut rig = start(1 << 26);
    let path = file_in(rig.dir.path());
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    tokio::time::sleep(3 * rebind::LOOK).await;
    let _client = rig.client().await;
    other.accept().await.unwrap();
    drop(other);
    // It leaves its file behind.
    loop {
        match UnixStream::connect(&path).await {
            Ok(mut client) => break client.write_all(b"one\n").await.unwrap(),
            Err(_) => tokio::time::sleep(rebind::LOOK / 10).await,
        }
    }
    assert_eq!(rig.lines(1).await, ["one"]);
}

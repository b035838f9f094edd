//! File descriptors: as many as the configuration may need, or else fewer clients.
//!
//! Clients of sockets take one each, and who connects is a stranger. So that they cannot take those of files, spool,
//! checkpoint and dead letters, the limit of the process is raised as far as it may be; where that is too little, sockets
//! admit fewer clients.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::agent::{Settings, SourceKind};

/// For the runtime, credentials, KMS, locks, the checkpoint and what this process was started with. A guess, generous.
const REST: u64 = 96;
/// Of a stream: dead letters, their folder, what is begun of its spool.
const OF_STREAM: u64 = 8;
/// Of a source of files: its events, a directory that is looked through, a compressed file.
const OF_FILES: u64 = 8;

/// Where the limit is too little.
#[derive(Debug, PartialEq, Eq)]
struct Short {
    needed: u64,
    limit: u64,
    /// Clients of all sockets at once, from now on.
    clients: u64,
}

/// Before anything is opened. Fewer clients than `settings` say are told.
pub(super) fn make_room(settings: &mut Settings) {
    let Some(limit) = raise(needed(settings)) else {
        return;
    };
    if let Some(Short {
        needed,
        limit,
        clients,
    }) = fit(settings, limit)
    {
        tracing::warn!(
            limit,
            needed,
            clients,
            "this process may have fewer files open than its configuration may need: sockets admit so many clients in all, \
             and more of them wait, so that files, spool and checkpoint keep their share. Raise the limit: LimitNOFILE={needed} \
             in the unit of systemd, or `ulimit -n {needed}` before the start"
        );
    }
}

/// The limit of this process, raised to `needed` if it may be; `None`: there is none.
///
/// No further: programs that this one starts (`credential_process`) inherit it, and some of them close all they could have.
fn raise(needed: u64) -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let current = current?;
    let most = maximum.map_or(needed, |maximum| maximum.min(needed));
    if most <= current {
        return Some(current);
    }
    let raised = Rlimit {
        current: Some(most),
        maximum,
    };
    // Where it may not be (a seccomp filter), it is as it was.
    Some(setrlimit(Resource::Nofile, raised).map_or(current, |()| most))
}

/// Descriptors that may be open at once.
fn needed(settings: &Settings) -> u64 {
    but_clients(settings).saturating_add(clients(settings))
}

fn clients(settings: &Settings) -> u64 {
    let sockets = settings.sources.iter().map(|source| match &source.kind {
        SourceKind::Unix(socket) => socket.max_connections as u64,
        SourceKind::File(_) | SourceKind::UnixDatagram(_) | SourceKind::Stdin(_) => 0,
    });
    sockets.sum()
}

fn but_clients(settings: &Settings) -> u64 {
    let sources = settings.sources.iter().map(|source| match &source.kind {
        SourceKind::File(files) => OF_FILES + files.most_open() as u64,
        SourceKind::Unix(_) | SourceKind::UnixDatagram(_) => 1,
        SourceKind::Stdin(_) => 0,
    });
    // A connection for each call.
    let segments = settings.spool.as_ref().map_or(0, |spool| spool.most_open());
    let streams = (settings.streams.iter())
        .map(|stream| OF_STREAM + segments + stream.delivery.max_in_flight as u64);
    REST + sources.sum::<u64>() + streams.sum::<u64>()
}

/// Has sockets admit no more clients than `limit` leaves, each the same part of what it wanted, and one at least.
fn fit(settings: &mut Settings, limit: u64) -> Option<Short> {
    let (needed, wanted) = (needed(settings), clients(settings));
    let room = limit.saturating_sub(but_clients(settings));
    if wanted <= room {
        return None;
    }
    for source in &mut settings.sources {
        if let SourceKind::Unix(socket) = &mut source.kind {
            let part = u128::from(room) * socket.max_connections as u128 / u128::from(wanted);
            socket.max_connections = (part as usize).max(1);
        }
    }
    Some(Short {
        needed,
        limit,
        clients: clients(settings),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::agent::Source;
    use crate::record::StreamName;
    use crate::source::WhenFull;
    use crate::source::framing::Framing;
    use crate::source::tail;
    use crate::source::unix::{self, Address};

    /// A source of 80 files, and sockets with so many clients.
    fn settings(sockets: &[usize]) -> Settings {
        let files = SourceKind::File(tail::Settings {
            max_open_files: 80,
            ..tail::Settings::default()
        });
        let encryption = crate::seal::Settings::off();
        let stream = StreamName::new("s").unwrap();
        let aws = crate::aws::Settings::default();
        let mut settings = Settings::for_one(stream, files, encryption, aws, PathBuf::new());
        for max_connections in sockets {
            let kind = SourceKind::Unix(unix::Settings {
                path: Address::File("/run/x".into()),
                access: None,
                allow: None,
                max_connections: *max_connections,
                framing: Framing::Newline,
                acknowledged: None,
                multiline: None,
                when_full: WhenFull::Block,
            });
            let like = &settings.sources[0];
            settings.sources.push(Source {
                kind,
                ..like.clone()
            });
        }
        settings
    }

    fn admitted(settings: &Settings) -> Vec<usize> {
        let sockets = settings.sources.iter().filter_map(|s| match &s.kind {
            SourceKind::Unix(socket) => Some(socket.max_connections),
            _ => None,
        });
        sockets.collect()
    }

    #[test]
    fn files_and_what_they_may_have_beyond_and_each_client_are_needed() {
        let [none, two] = [&[][..], &[100, 20]].map(|sockets| needed(&settings(sockets)));
        assert!(none >= 80 + 10 + 16, "{none}");
        assert_eq!(two, none + 100 + 20 + 2);
    }

    #[test]
    fn clients_get_what_others_leave_and_each_socket_has_one_at_least() {
        let mut enough = settings(&[300, 100]);
        let needed = needed(&enough);
        assert_eq!(fit(&mut enough, needed), None);
        assert_eq!(admitted(&enough), [300, 100]);

        let mut fewer = settings(&[300, 100]);
        let short = fit(&mut fewer, needed - 200).unwrap();
        assert_eq!(admitted(&fewer), [150, 50]);
        let limit = needed - 200;
        assert_eq!(
            short,
            Short {
                needed,
                limit,
                clients: 200
            }
        );

        let mut none = settings(&[300, 100]);
        fit(&mut none, 3).unwrap();
        assert_eq!(admitted(&none), [1, 1]);
    }
}

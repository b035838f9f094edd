//! Who a client is, and whether it is let in.

use std::{fmt, io};

use tokio::net::UnixStream;

use super::access::{Account, AccountError};
use crate::source::making::Maker;

/// `allow` of a stream socket: a client of one of these users, or whose first group is one of these, is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    pub uids: Vec<Account>,
    pub gids: Vec<Account>,
}

/// The same, in numbers.
#[derive(Debug)]
pub(super) struct AllowList {
    uids: Vec<u32>,
    gids: Vec<u32>,
}

/// The process at the other end, as the kernel knew it when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    /// Where the system tells it.
    pid: Option<i32>,
    uid: u32,
    gid: u32,
}

impl Allow {
    pub(super) fn resolve(&self) -> Result<AllowList, AccountError> {
        Ok(AllowList {
            uids: self
                .uids
                .iter()
                .map(Account::user)
                .collect::<Result<_, _>>()?,
            gids: self
                .gids
                .iter()
                .map(Account::group)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl AllowList {
    pub(super) fn lets_in(&self, peer: Peer) -> bool {
        self.uids.contains(&peer.uid) || self.gids.contains(&peer.gid)
    }
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            pid: credentials.pid(),
            uid: credentials.uid(),
            gid: credentials.gid(),
        })
    }
}

impl Peer {
    /// Records say that it has sent them, where their envelope has room for that.
    pub(super) fn names(self, maker: Maker) -> Maker {
        maker.sent_by(self.pid, self.uid, self.gid)
    }
}

/// As a person reads it in a log.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pid) = self.pid {
            write!(f, "pid {pid}, ")?;
        }
        write!(f, "uid {}, gid {}", self.uid, self.gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_or_a_group_of_the_list_is_let_in_and_nobody_else() {
        let root = || Account::Name("root".into());
        let allow = Allow {
            uids: vec![root(), Account::Id(7)],
            gids: vec![Account::Id(9)],
        };
        let list = allow.resolve().unwrap();
        let peer = |uid, gid| Peer {
            pid: None,
            uid,
            gid,
        };
        for (uid, gid, expected) in [(0, 1, true), (7, 1, true), (1, 9, true), (9, 7, false)] {
            assert_eq!(list.lets_in(peer(uid, gid)), expected, "{uid} {gid}");
        }
    }
}

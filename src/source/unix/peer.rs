//! Who a client is, and whether it is let in.

use std::ffi::CString;
use std::{fmt, io};

use nix::unistd::{Uid, User, getgrouplist};
use tokio::net::UnixStream;

use super::access::{Account, AccountError};
use crate::source::making::Maker;

/// `allow` of a stream socket: a client of one of these users is let in, or whose group is one of these, or whose user
/// is a member of one.
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
    /// Blocks where a group decides: its members may be known on another host only.
    pub(super) fn lets_in(&self, peer: Peer) -> bool {
        self.lets_in_by(peer, groups_of)
    }

    fn lets_in_by(&self, peer: Peer, groups_of: impl FnOnce(u32) -> Vec<u32>) -> bool {
        let lists = |gid: &u32| self.gids.contains(gid);
        self.uids.contains(&peer.uid)
            || lists(&peer.gid)
            || (!self.gids.is_empty() && groups_of(peer.uid).iter().any(lists))
    }
}

/// The groups that a login gives this user: what the process has of them, the kernel tells by its first one only.
fn groups_of(uid: u32) -> Vec<u32> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let groups = user.and_then(|user| {
        let name = CString::new(user.name).ok()?;
        getgrouplist(&name, user.gid).ok()
    });
    // Whoever has no name is a member of nothing.
    let groups = groups.unwrap_or_default();
    groups.into_iter().map(|gid| gid.as_raw()).collect()
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
    use std::collections::BTreeSet;

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
        let member_of = |uid| if uid == 3 { vec![4, 9] } else { vec![4] };
        for (uid, gid, expected) in [
            (0, 1, true),
            (7, 1, true),
            (1, 9, true),
            (3, 1, true),
            (9, 7, false),
        ] {
            let is_let_in = list.lets_in_by(peer(uid, gid), member_of);
            assert_eq!(is_let_in, expected, "{uid} {gid}");
        }
    }

    #[test]
    fn a_users_groups_are_those_of_a_login() {
        let [passwd, group] =
            ["/etc/passwd", "/etc/group"].map(|path| std::fs::read_to_string(path).unwrap());
        for user in passwd.lines() {
            let mut fields = user.split(':');
            let (name, uid, own) = (
                fields.next().unwrap(),
                fields.nth(1).unwrap(),
                fields.next().unwrap(),
            );
            let is_in = |group: &&str| {
                let members = group.rsplit(':').next().unwrap();
                members.split(',').any(|member| member == name)
            };
            let id = |group: &str| group.split(':').nth(2).unwrap().parse().unwrap();
            let mut expected: BTreeSet<u32> = group.lines().filter(is_in).map(id).collect();
            expected.insert(own.parse().unwrap());
            let found: BTreeSet<u32> = groups_of(uid.parse().unwrap()).into_iter().collect();
            assert_eq!(found, expected, "{name}");
        }
        assert_eq!(groups_of(u32::MAX - 7), [0; 0]);
    }
}

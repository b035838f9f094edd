//! Who may use a socket: users and groups by name or number, and what is made of them at the start.

use std::io;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

use nix::unistd::{Group, User};

use super::{Address, BindError};

/// A user or a group, as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    Id(u32),
    Name(String),
}

/// `mode`, `owner` and `group` of a socket's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Permission bits alone.
    pub mode: u32,
    pub owner: Option<Account>,
    pub group: Option<Account>,
}

/// The same, in numbers.
#[derive(Debug)]
pub(super) struct FileAccess {
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
}

/// Why an account has no number here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    #[error("there is no {kind} {name:?} on this host; create it, or give a number")]
    Unknown { kind: &'static str, name: String },
    #[error("cannot look up the {kind} {name:?}: {source}")]
    Lookup {
        kind: &'static str,
        name: String,
        source: io::Error,
    },
}

impl Account {
    /// Its number, as a user. Blocks: the name may come from another host.
    pub(super) fn user(&self) -> Result<u32, AccountError> {
        self.number("user", |name| {
            Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
        })
    }

    /// Its number, as a group. Blocks.
    pub(super) fn group(&self) -> Result<u32, AccountError> {
        self.number("group", |name| {
            Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
        })
    }

    fn number(
        &self,
        kind: &'static str,
        find: impl FnOnce(&str) -> io::Result<Option<u32>>,
    ) -> Result<u32, AccountError> {
        let name = match self {
            Self::Id(id) => return Ok(*id),
            Self::Name(name) => name.clone(),
        };
        match find(&name) {
            Ok(Some(id)) => Ok(id),
            Ok(None) => Err(AccountError::Unknown { kind, name }),
            Err(source) => Err(AccountError::Lookup { kind, name, source }),
        }
    }
}

impl Access {
    pub(super) fn resolve(&self) -> Result<FileAccess, AccountError> {
        Ok(FileAccess {
            mode: self.mode,
            owner: self.owner.as_ref().map(Account::user).transpose()?,
            group: self.group.as_ref().map(Account::group).transpose()?,
        })
    }
}

impl FileAccess {
    /// The mode last: until then the file is nobody's.
    pub(super) fn apply(&self, path: &Path) -> Result<(), BindError> {
        let given = match (self.owner, self.group) {
            (None, None) => Ok(()),
            (owner, group) => lchown(path, owner, group),
        };
        let mode = std::fs::Permissions::from_mode(self.mode);
        given
            .and_then(|()| std::fs::set_permissions(path, mode))
            .map_err(|source| BindError::Access {
                address: Address::File(path.to_owned()),
                source,
            })
    }
}

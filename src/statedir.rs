//! Where the state is kept unless somebody says otherwise.

use std::env;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

/// Where the system keeps what a service must not lose (Filesystem Hierarchy Standard 3.0, 5.8).
pub(crate) const OF_THE_SYSTEM: &str = "/var/lib/kinseal";

/// The system's place for root and for whoever may write there, as a service's own user may; else the user's own, by the
/// XDG Base Directory Specification.
pub(crate) fn default_dir() -> PathBuf {
    let may_use_the_systems = || access(OF_THE_SYSTEM, Access::WRITE_OK).is_ok();
    if geteuid().is_root() || may_use_the_systems() {
        return OF_THE_SYSTEM.into();
    }
    let var = |name| env::var_os(name).map(PathBuf::from);
    of_a_user(var("XDG_STATE_HOME"), var("HOME")).unwrap_or_else(|| OF_THE_SYSTEM.into())
}

/// `$XDG_STATE_HOME/kinseal`, where that is absolute, as the specification demands; else `$HOME/.local/state/kinseal`.
fn of_a_user(xdg_state_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let is_absolute = |path: &PathBuf| path.is_absolute();
    let state_home = xdg_state_home.filter(is_absolute);
    let in_home = |home: PathBuf| home.join(".local/state");
    let state_home = state_home.or_else(|| home.filter(is_absolute).map(in_home));
    state_home.map(|dir| dir.join(Path::new("kinseal")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_place_of_their_own_by_the_xdg_specification() {
        let of = |xdg: Option<&str>, home: Option<&str>| {
            of_a_user(xdg.map(PathBuf::from), home.map(PathBuf::from))
        };
        let path = |path: &str| Some(PathBuf::from(path));
        assert_eq!(of(Some("/s"), Some("/h")), path("/s/kinseal"));
        assert_eq!(of(None, Some("/h")), path("/h/.local/state/kinseal"));
        for relative in ["", "s"] {
            assert_eq!(
                of(Some(relative), Some("/h")),
                path("/h/.local/state/kinseal")
            );
        }
        assert_eq!(of(None, Some("h")), None);
        assert_eq!(of(None, None), None);
    }
}

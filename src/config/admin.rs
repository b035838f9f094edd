//! The `[admin]` table.

use super::table::Table;
use super::words;
use crate::admin::Listen;

/// `None` only where a mistake has been noted; without `listen` there is nobody to ask.
pub(super) fn read(t: &mut Table<'_>) -> Option<Option<Listen>> {
    let listen = t.parsed("listen", "an address or a path", words::listen);
    listen.map(Some).or_default(None)
}

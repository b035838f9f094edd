//! Files that options name.

use std::io;
use std::path::Path;

use anyhow::anyhow;

use crate::consume::letters::LetterFile;

/// That of `--dead-letter`.
pub(super) fn dead_letters(path: Option<&Path>) -> anyhow::Result<Option<LetterFile>> {
    path.map(|path| made(LetterFile::open(path), "--dead-letter", path))
        .transpose()
}

/// What came of opening a file that is made where it is not there.
pub(super) fn made<T>(opened: io::Result<T>, option: &str, path: &Path) -> anyhow::Result<T> {
    opened.map_err(|error| {
        let name = format!("{option} {}", path.display());
        match error.kind() {
            io::ErrorKind::NotFound => anyhow!("{name}: its directory is not there; make it first"),
            _ => anyhow::Error::new(error).context(name),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_made_is_told_with_the_way_out() {
        let error = dead_letters(Some(Path::new("/no/such/letters"))).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "--dead-letter /no/such/letters: its directory is not there; make it first"
        );
        let error = dead_letters(Some(Path::new("/"))).unwrap_err();
        assert!(
            format!("{error:#}").starts_with("--dead-letter /: Is a directory"),
            "{error:#}"
        );
        assert!(dead_letters(None).unwrap().is_none());
    }
}

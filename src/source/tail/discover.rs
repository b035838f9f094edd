//! Which files there are: globs, and the directories they reach into.

use std::fs::Metadata;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use walkdir::WalkDir;

/// Compiled `include` and `exclude`.
///
/// `*` and `?` do not cross a `/`, `**` does, `[a-z]` and `{a,b}` are known. Symbolic links are followed, to
/// files and to directories.
#[derive(Debug)]
pub struct Globs {
    include: GlobSet,
    exclude: GlobSet,
    roots: Vec<Root>,
}

/// Where one glob's files can be.
#[derive(Debug, PartialEq, Eq)]
struct Root {
    glob: String,
    /// The path before the first part that is a pattern; the whole path where none is.
    prefix: PathBuf,
    /// Parts that follow; no bound with `**`, nothing where the glob is one path.
    depth: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GlobError {
    #[error(
        "include {0:?} is not an absolute path; write it from the root, like /var/log/shop/*.log"
    )]
    Relative(String),
    #[error("glob {glob:?} cannot be understood: {why}")]
    Malformed { glob: String, why: String },
}

/// A file or directory that is there.
#[derive(Debug)]
pub(super) enum Found {
    File(PathBuf, Metadata),
    /// It can hold files that are looked for.
    Directory(PathBuf),
    /// It cannot be looked at.
    Refused(PathBuf, std::io::Error),
}

impl Globs {
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, GlobError> {
        if let Some(relative) = include.iter().find(|glob| !glob.starts_with('/')) {
            return Err(GlobError::Relative(relative.clone()));
        }
        Ok(Self {
            include: compile(include)?,
            exclude: compile(exclude)?,
            roots: include.iter().map(|glob| Root::of(glob)).collect(),
        })
    }

    pub fn matches(&self, path: &Path) -> bool {
        self.include.is_match(path) && !self.exclude.is_match(path)
    }

    /// Whether one of `globs`, which are among the included, matches.
    pub(super) fn matches_one_of(&self, path: &Path, globs: &[String]) -> bool {
        let matching = self.include.matches(path);
        matching
            .iter()
            .any(|index| globs.contains(&self.roots[*index].glob))
    }

    /// Everything that matches now, in the order of the globs and then of the paths.
    pub(super) fn walk(&self, mut on: impl FnMut(Found)) {
        for root in &self.roots {
            match root.depth {
                Some(0) => self.look_at_one(&root.prefix, &mut on),
                depth => self.walk_tree(&root.prefix, depth, &mut on),
            }
        }
    }

    fn look_at_one(&self, path: &Path, on: &mut impl FnMut(Found)) {
        if let Some(parent) = path.parent().filter(|parent| parent.is_dir()) {
            on(Found::Directory(parent.to_owned()));
        }
        match path.metadata() {
            Ok(meta) if self.matches(path) => look_at(path.to_owned(), meta, on),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => on(Found::Refused(path.to_owned(), e)),
        }
    }

    fn walk_tree(&self, prefix: &Path, depth: Option<usize>, on: &mut impl FnMut(Found)) {
        let tree = WalkDir::new(prefix)
            .follow_links(true)
            // By their names: they are of one directory. To cut these out of the paths takes longer.
            .sort_by(|a, b| a.path().as_os_str().cmp(b.path().as_os_str()))
            .max_depth(depth.unwrap_or(usize::MAX));
        for entry in tree {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {
                    if depth.is_none_or(|depth| entry.depth() < depth) {
                        on(Found::Directory(entry.into_path()));
                    }
                }
                Ok(entry) if self.matches(entry.path()) => {
                    // A file that has gone since is not there; that is all.
                    if let Ok(meta) = entry.path().metadata() {
                        look_at(entry.into_path(), meta, on);
                    }
                }
                Ok(_) => {}
                Err(e) => refused(e, on),
            }
        }
    }
}

fn look_at(path: PathBuf, meta: Metadata, on: &mut impl FnMut(Found)) {
    // Opening a pipe or a device would block or eat what is another reader's.
    if meta.is_file() {
        on(Found::File(path, meta));
    }
}

/// Links that lead nowhere or in a circle, and what is not there (yet), are not worth a word.
fn refused(error: walkdir::Error, on: &mut impl FnMut(Found)) {
    let path = error.path().unwrap_or(Path::new("/")).to_owned();
    let is_loop = error.loop_ancestor().is_some();
    match error.into_io_error() {
        Some(e) if !is_loop && e.kind() != std::io::ErrorKind::NotFound => {
            on(Found::Refused(path, e));
        }
        _ => {}
    }
}

fn compile(globs: &[String]) -> Result<GlobSet, GlobError> {
    let malformed = |glob: &str, e: &globset::Error| GlobError::Malformed {
        glob: glob.to_owned(),
        why: e.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let compiled = GlobBuilder::new(glob)
            .literal_separator(true)
            .build()
            .map_err(|e| malformed(glob, &e))?;
        set.add(compiled);
    }
    set.build().map_err(|e| malformed(&globs.join(", "), &e))
}

impl Root {
    fn of(glob: &str) -> Self {
        let is_pattern = |part: &Component<'_>| {
            let part = part.as_os_str().as_encoded_bytes();
            part.iter().any(|byte| b"*?[]{}\\".contains(byte))
        };
        let parts: Vec<Component<'_>> = Path::new(glob).components().collect();
        // `{a/b,c}` has patterns with a `/` in them: then the number of parts says nothing.
        let bounded = !glob.contains("**") && !glob.contains('{');
        let literal = parts.iter().take_while(|part| !is_pattern(part)).count();
        Self {
            glob: glob.to_owned(),
            prefix: parts[..literal].iter().collect(),
            depth: (bounded || literal == parts.len()).then_some(parts.len() - literal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root(glob: &str) -> (PathBuf, Option<usize>) {
        let root = Root::of(glob);
        (root.prefix, root.depth)
    }

    #[test]
    fn walk_starts_where_the_patterns_do_and_goes_no_deeper_than_they() {
        assert_eq!(root("/var/log/*.log"), ("/var/log".into(), Some(1)));
        assert_eq!(root("/srv/*/log/?.log"), ("/srv".into(), Some(3)));
        assert_eq!(root("/srv/**/a.log"), ("/srv".into(), None));
        assert_eq!(root("/srv/{a/b,c}.log"), ("/srv".into(), None));
        assert_eq!(root("/srv/a.log"), ("/srv/a.log".into(), Some(0)));
    }

    #[test]
    fn include_that_is_relative_or_malformed_is_refused_with_its_text() {
        let error = Globs::new(&["log/*.log".to_owned()], &[]).unwrap_err();
        assert_eq!(error, GlobError::Relative("log/*.log".to_owned()));
        let error = Globs::new(&["/log/[".to_owned()], &[]).unwrap_err();
        assert!(error.to_string().contains("/log/["), "{error}");
        let error = Globs::new(&["/a".to_owned()], &["/{".to_owned()]).unwrap_err();
        assert!(matches!(error, GlobError::Malformed { .. }));
    }

    #[test]
    fn walk_finds_what_matches_through_links_and_only_that() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("in/deep/er")).unwrap();
        fs::create_dir_all(at("out")).unwrap();
        for name in [
            "in/a.log",
            "in/deep/er/b.log",
            "in/no.txt",
            "in/x.debug.log",
            "out/c.log",
        ] {
            fs::write(at(name), "").unwrap();
        }
        fs::create_dir(at("in/dir.log")).unwrap();
        symlink(at("out"), at("in/linked")).unwrap();
        symlink(at("in"), at("in/deep/circle")).unwrap();
        symlink(at("nowhere"), at("in/dangling.log")).unwrap();
        let include = [format!("{}/in/**/*.log", dir.path().display())];
        let globs = Globs::new(&include, &["**/*.debug.log".to_owned()]).unwrap();
        let (mut files, mut directories) = (Vec::new(), Vec::new());
        globs.walk(|found| match found {
            Found::File(path, _) => files.push(path),
            Found::Directory(path) => directories.push(path),
            Found::Refused(path, e) => panic!("{path:?}: {e}"),
        });
        assert_eq!(
            files,
            [
                at("in/a.log"),
                at("in/deep/er/b.log"),
                at("in/linked/c.log")
            ]
        );
        assert_eq!(
            directories,
            ["in", "in/deep", "in/deep/er", "in/dir.log", "in/linked"].map(at)
        );
    }

    #[test]
    fn one_path_is_looked_at_without_reading_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let globs = Globs::new(&[path.display().to_string()], &[]).unwrap();
        let seen = || {
            let mut seen = Vec::new();
            globs.walk(|found| seen.push(found));
            seen
        };
        assert!(matches!(&seen()[..], [Found::Directory(d)] if d == dir.path()));
        fs::write(&path, "").unwrap();
        assert!(matches!(&seen()[..], [_, Found::File(p, _)] if *p == path));
    }
}

//! A source file as its paths: no comments, no tests.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of `src` with code that ships.
pub(super) struct SourceFile {
    /// Below `src`, like `seal/kms.rs`.
    pub(super) name: String,
    /// Its module's path, like `seal::kms`.
    pub(super) module: String,
    pub(super) code: String,
}

impl SourceFile {
    pub(super) fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("readable") {
                let path = entry.expect("readable").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    files.extend(Self::read(&root, path));
                }
            }
        }
        assert!(files.len() > 20, "src has only {} files?", files.len());
        files
    }

    fn read(root: &Path, path: PathBuf) -> Option<Self> {
        let below = path.strip_prefix(root).expect("found below it");
        let mut parts: Vec<String> = below
            .with_extension("")
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        if ["lib", "main"].contains(&parts[0].as_str()) || parts.iter().any(|p| is_test(p)) {
            return None;
        }
        parts.pop_if(|last| last == "mod");
        let text = fs::read_to_string(&path).expect("UTF-8");
        Some(Self {
            name: below.to_string_lossy().into_owned(),
            module: parts.join("::"),
            code: shipped(&text),
        })
    }

    /// Every path below the crate that the code names, absolute.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for (at, _) in self.code.match_indices("crate::") {
            tree("", &self.code[at + "crate::".len()..], &mut paths);
        }
        let mut rest = self.code.as_str();
        while let Some(at) = rest.find("super::") {
            let mut module: Vec<&str> = self.module.split("::").collect();
            rest = &rest[at..];
            while let Some(above) = rest.strip_prefix("super::") {
                module.pop();
                rest = above;
            }
            tree(&module.join("::"), rest, &mut paths);
        }
        paths
    }

    /// Crates whose names begin so, where the code names something in them.
    pub(super) fn crate_paths(&self, prefixes: &[&str]) -> Vec<String> {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let words = self
            .code
            .split("::")
            .filter_map(|before| before.rsplit(|c| !is_name(c)).next());
        let named = words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)));
        named.map(str::to_owned).collect()
    }
}

fn is_test(part: &str) -> bool {
    part == "tests" || part.ends_with("_tests")
}

/// Adds the paths of a use tree, `a::b`, `a::{b, c::d}` or `{a, b}`, each after `prefix`. Returns what
/// follows it.
fn tree<'a>(prefix: &str, text: &'a str, paths: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix('*') {
        paths.push(prefix.to_owned());
        return rest;
    }
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = tree(prefix, rest, paths).trim_start();
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = match (prefix, name) {
        ("", name) => name.to_owned(),
        (prefix, "" | "self") => prefix.to_owned(),
        (prefix, name) => format!("{prefix}::{name}"),
    };
    if let Some(below) = rest.strip_prefix("::") {
        return tree(&path, below, paths);
    }
    if !path.is_empty() {
        paths.push(path);
    }
    let alias = rest.strip_prefix(" as ");
    alias.map_or(rest, |alias| {
        alias.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
    })
}

/// Without comments and without items that are compiled for tests only. Relies on rustfmt's layout.
fn shipped(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let bare = line.trim_start();
        let indent = &line[..line.len() - bare.len()];
        if bare.starts_with("#[cfg(test)]") {
            let end = format!("{indent}}}");
            for line in lines.by_ref() {
                let one_line = line.starts_with(indent)
                    && !line[indent.len()..].starts_with([' ', '#'])
                    && line.ends_with([';', '}']);
                if line == end || one_line {
                    break;
                }
            }
            continue;
        }
        let comment = bare.starts_with("//");
        let end = line.find(" // ").unwrap_or(line.len());
        if !comment {
            code.push_str(&line[..end]);
        }
        code.push('\n');
    }
    code
}

#[test]
fn a_use_tree_is_read_with_all_its_branches() {
    let mut paths = Vec::new();
    let rest = tree("", "{a, b::{self, c::d, e as f}, g::*};", &mut paths);
    assert_eq!(paths, ["a", "b", "b::c::d", "b::e", "g"]);
    assert_eq!(rest, ";");
}

#[test]
fn only_what_ships_is_read() {
    let text = "use crate::a;\n// use crate::b;\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod tests {\n    \
                use crate::c;\n}\nfn d() {} // crate::e\n";
    let code = shipped(text);
    let words: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(words.join(" "), "use crate::a; fn d() {}");
}

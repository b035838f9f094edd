//! The document under way: its text, its lines, and what is wrong with it so far.

use std::cell::RefCell;
use std::fmt::Display;

use toml_edit::TableLike;

use super::environment::Environment;
use super::mistake::Mistake;
use super::table::Table;
use super::written::Place;

pub(super) struct File<'a> {
    pub(super) text: &'a str,
    line_starts: Vec<usize>,
    pub(super) env: &'a dyn Environment,
    mistakes: RefCell<Vec<Mistake>>,
    /// Required keys that are not there.
    missing: RefCell<Vec<(Place, String)>>,
    /// Keys that a misspelt key was likely meant to be: these are not missing as well.
    pub(super) misspelt: RefCell<Vec<Place>>,
    /// Where answers are asked for that need a spool.
    pub(super) spooled_answers: RefCell<Vec<Place>>,
    /// Of which of the two kinds it is.
    pub(super) whose: Whose,
}

/// Who is to read a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Agent,
    KplDaemon,
}

impl<'a> File<'a> {
    pub(super) fn new(text: &'a str, env: &'a dyn Environment, whose: Whose) -> Self {
        let newlines = memchr::memchr_iter(b'\n', text.as_bytes());
        Self {
            text,
            line_starts: std::iter::once(0)
                .chain(newlines.map(|at| at + 1))
                .collect(),
            env,
            mistakes: RefCell::default(),
            missing: RefCell::default(),
            misspelt: RefCell::default(),
            spooled_answers: RefCell::default(),
            whose,
        }
    }

    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    pub(super) fn mistake(&self, place: &Place, text: impl Into<String>) {
        self.mistakes.borrow_mut().push(Mistake {
            line: place.line,
            key: place.key.clone(),
            text: text.into(),
        });
    }

    /// `key` has to be in the table at `table`, and is not.
    pub(super) fn missing(&self, table: &Place, key: &str, allowed: impl Display) {
        let text = format!("not given; allowed: {allowed}");
        self.missing.borrow_mut().push((table.child(key), text));
    }

    /// `key` has to be beside the key at `place`, and is not.
    pub(super) fn missing_beside(&self, place: &Place, key: &str, allowed: impl Display) {
        let text = format!("not given; allowed: {allowed}");
        self.missing.borrow_mut().push((place.sibling(key), text));
    }

    /// Reads the whole document.
    pub(super) fn read<R>(
        &'a self,
        root: &'a dyn TableLike,
        f: impl FnOnce(&mut Table<'a>) -> R,
    ) -> R {
        Table::read(self, Place::top(1), root, f)
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        let misspelt = self.misspelt.into_inner();
        let mut mistakes = self.mistakes.into_inner();
        for (
            Place {
                line,
                table_line,
                key,
                ..
            },
            text,
        ) in self.missing.into_inner()
        {
            if !misspelt
                .iter()
                .any(|meant| (meant.table_line, &meant.key) == (table_line, &key))
            {
                mistakes.push(Mistake { line, key, text });
            }
        }
        mistakes
    }
}

impl File<'_> {
    pub(super) fn place_of_key(&self, table: &Place, entries: &dyn TableLike, name: &str) -> Place {
        let span = entries.key(name).and_then(toml_edit::Key::span);
        table
            .child(name)
            .at(span.map(|span| self.line_of(span.start)))
    }
}

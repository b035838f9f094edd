//! One value of the document: read as what it should be, or shown as what was found.

use toml_edit::{Item, TableLike, Value};

use super::environment::interpolate;
use super::file::File;
use super::written::{Place, Written};

/// One key's value in a [`Table`](super::table::Table), or one element of a list.
pub(super) struct Entry<'a> {
    pub(super) file: &'a File<'a>,
    pub(super) place: Place,
    pub(super) item: Found<'a>,
}

pub(super) enum Found<'a> {
    Item(&'a Item),
    Element(&'a Value),
}

impl<'a> Entry<'a> {
    pub(super) fn value(&self) -> Option<&'a Value> {
        match self.item {
            Found::Item(item) => item.as_value(),
            Found::Element(value) => Some(value),
        }
    }

    pub(super) fn table(&self) -> Option<&'a dyn TableLike> {
        match self.item {
            Found::Item(item) => item.as_table_like(),
            Found::Element(_) => None,
        }
    }

    pub(super) fn refuse<T>(&self, allowed: &str) -> Written<T> {
        self.file.mistake(
            &self.place,
            format!("found {}; allowed: {allowed}", self.shown()),
        );
        Written::Mistaken
    }

    pub(super) fn parsed<T>(
        &self,
        what: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Written<T> {
        let Some(text) = self.value().and_then(Value::as_str) else {
            return self.refuse(what);
        };
        match interpolate(text, self.file.env) {
            Err(e) => {
                self.file.mistake(&self.place, format!("found {e}"));
                Written::Mistaken
            }
            Ok(text) => match parse(&text) {
                Ok(value) => Written::Given(value, self.place.clone()),
                Err(allowed) => self.refuse(&allowed),
            },
        }
    }

    /// A list of strings.
    pub(super) fn list<T>(
        &self,
        what: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Written<Vec<T>> {
        self.list_of(what, |element| element.parsed(what, &parse))
    }

    /// A list, each element with its own line.
    pub(super) fn list_of<T>(
        &self,
        what: &str,
        read: impl Fn(&Self) -> Written<T>,
    ) -> Written<Vec<T>> {
        let Some(array) = self.value().and_then(Value::as_array) else {
            return self.refuse(what);
        };
        let mut list = Vec::new();
        let mut all_good = true;
        for element in array {
            let line = element.span().map(|span| self.file.line_of(span.start));
            let element = Entry {
                file: self.file,
                place: self.place.at(line),
                item: Found::Element(element),
            };
            match read(&element) {
                Written::Given(value, _) => list.push(value),
                Written::Absent | Written::Mistaken => all_good = false,
            }
        }
        if all_good {
            Written::Given(list, self.place.clone())
        } else {
            Written::Mistaken
        }
    }

    /// A value that is no string, or a string that an environment variable may fill.
    pub(super) fn scalar<T>(
        &self,
        what: &str,
        take: impl Fn(&Value) -> Option<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Written<T> {
        match self.value().and_then(take) {
            Some(value) => Written::Given(value, self.place.clone()),
            None => self.parsed(what, parse),
        }
    }

    pub(super) fn check<T, U>(
        &self,
        written: Written<T>,
        check: impl FnOnce(T) -> Result<U, String>,
    ) -> Written<U> {
        match written {
            Written::Absent => Written::Absent,
            Written::Mistaken => Written::Mistaken,
            Written::Given(value, place) => match check(value) {
                Ok(value) => Written::Given(value, place),
                Err(allowed) => self.refuse(&allowed),
            },
        }
    }

    /// As in the file, in one line; with what the environment made of it.
    fn shown(&self) -> String {
        let value = match self.item {
            Found::Item(Item::Table(_)) => return "a table".into(),
            Found::Item(Item::ArrayOfTables(_)) => return "a list of tables".into(),
            Found::Item(item) => item.as_value(),
            Found::Element(value) => Some(value),
        };
        match value {
            None => "nothing".into(),
            Some(Value::Array(_)) => "a list".into(),
            Some(Value::InlineTable(_)) => "a table".into(),
            Some(Value::String(text)) => {
                let filled = interpolate(text.value(), self.file.env).unwrap_or_default();
                if filled == *text.value() {
                    shortened(&filled)
                } else {
                    format!("{} (from {})", shortened(&filled), shortened(text.value()))
                }
            }
            Some(other) => {
                let raw = other
                    .span()
                    .and_then(|span| self.file.text.get(span))
                    .unwrap_or_default();
                raw.trim().to_owned()
            }
        }
    }
}

fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    if has_a_key(text) {
        return "what looks like a key".into();
    }
    match text.char_indices().nth(MOST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// The hexadecimal digits of an AES key: pasted where its file's name belongs, they would end up in a log.
fn has_a_key(text: &str) -> bool {
    let longest = text
        .split(|c: char| !c.is_ascii_hexdigit())
        .map(str::len)
        .max();
    longest.is_some_and(|digits| digits >= 32)
}

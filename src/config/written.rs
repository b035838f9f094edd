//! What a file says for a key, before anything is known about the rest.

/// A key's value as written.
#[derive(Debug, Clone, Default)]
pub(super) enum Written<T> {
    #[default]
    Absent,
    /// Given, and a mistake has been noted.
    Mistaken,
    Given(T, Place),
}

/// Where something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    /// Where the table begins that the key is in.
    pub(super) table_line: usize,
    pub(super) key: String,
    /// Not written, but what a preset in this place stands for.
    pub(super) is_implied: bool,
}

impl<T> Written<T> {
    /// This one, or where it is not given, `base`.
    pub(super) fn or(self, base: Self) -> Self {
        if let Self::Absent = self { base } else { self }
    }

    pub(super) fn map<U>(self, f: impl FnOnce(T) -> U) -> Written<U> {
        match self {
            Self::Absent => Written::Absent,
            Self::Mistaken => Written::Mistaken,
            Self::Given(value, place) => Written::Given(f(value), place),
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(super) fn place(&self) -> Option<&Place> {
        if let Self::Given(_, place) = self {
            Some(place)
        } else {
            None
        }
    }

    pub(super) fn given(self) -> Option<T> {
        if let Self::Given(value, _) = self {
            Some(value)
        } else {
            None
        }
    }

    pub(super) fn as_given(&self) -> Option<&T> {
        if let Self::Given(value, _) = self {
            Some(value)
        } else {
            None
        }
    }

    /// `None` where a mistake makes it pointless to go on.
    pub(super) fn or_default(&self, default: T) -> Option<T>
    where
        T: Clone,
    {
        match self {
            Self::Absent => Some(default),
            Self::Mistaken => None,
            Self::Given(value, _) => Some(value.clone()),
        }
    }
}

impl Place {
    /// The document as a whole.
    pub(super) fn top(line: usize) -> Self {
        Self {
            line,
            table_line: line,
            key: String::new(),
            is_implied: false,
        }
    }

    /// The key `name` of the table that lies here.
    pub(super) fn child(&self, name: &str) -> Self {
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let name = if !name.is_empty() && name.chars().all(bare) {
            name.to_owned()
        } else {
            format!("{name:?}")
        };
        let key = if self.key.is_empty() {
            name
        } else {
            format!("{}.{name}", self.key)
        };
        Self {
            line: self.line,
            table_line: self.line,
            key,
            is_implied: self.is_implied,
        }
    }

    /// The key `name` of the same table; said to be here, where it should have been.
    pub(super) fn sibling(&self, name: &str) -> Self {
        let table = self.key.rsplit_once('.').map_or("", |(table, _)| table);
        let place = Self {
            key: table.to_owned(),
            ..self.clone()
        };
        Self {
            table_line: self.table_line,
            ..place.child(name)
        }
    }

    /// The key `name` of the same table, which a preset here stands for.
    pub(super) fn implied(&self, name: &str) -> Self {
        Self {
            is_implied: true,
            ..self.sibling(name)
        }
    }

    /// In a `[[stream]]`, which is laid over the rest.
    pub(super) fn is_override(&self) -> bool {
        self.key.starts_with("stream.")
    }

    /// The same key, on the line where it begins, if that is known.
    pub(super) fn at(&self, line: Option<usize>) -> Self {
        Self {
            line: line.unwrap_or(self.line),
            ..self.clone()
        }
    }
}

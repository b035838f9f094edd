//! The names of an object's members: `custom_field_names`.

use crate::source::shape::json;

/// Names, none of them twice; each ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// `"name":`
    names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldsError {
    #[error("at least one name is needed")]
    Empty,
    #[error("{0:?} is there twice")]
    Twice(String),
}

impl Fields {
    pub fn new<S: AsRef<str>>(names: &[S]) -> Result<Self, FieldsError> {
        if names.is_empty() {
            return Err(FieldsError::Empty);
        }
        for (i, name) in names.iter().map(AsRef::as_ref).enumerate() {
            if names[..i].iter().any(|before| before.as_ref() == name) {
                return Err(FieldsError::Twice(name.to_owned()));
            }
        }
        let written = names.iter().map(|name| json::string(name.as_ref()) + ":");
        Ok(Self {
            names: written.collect(),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// Appends the object that has these values, in the order of the names; one that is not there is null.
    pub(super) fn write<'v>(
        &self,
        values: impl Iterator<Item = Option<&'v str>>,
        out: &mut Vec<u8>,
    ) {
        out.push(b'{');
        let values = values.chain(std::iter::repeat(None));
        for (i, (name, value)) in self.names.iter().zip(values).enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name.as_bytes());
            match value {
                Some(value) => json::push_string(out, value),
                None => out.extend_from_slice(b"null"),
            }
        }
        out.push(b'}');
    }

    /// Bytes beside the values, at most.
    pub(super) fn fixed(&self) -> usize {
        let names: usize = self.names.iter().map(String::len).sum();
        names + self.names.len() * ",null".len() + "{}".len()
    }
}

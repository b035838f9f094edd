//! `CSVTOJSON`.

use regex::Regex;

use super::fields::Fields;

/// A line's columns, as an object. Quotes mean nothing: whatever the delimiter matches is between two columns.
///
/// As with the Kinesis Agent, columns beyond the names are left out, and names beyond the columns are null; so are
/// those of empty columns at the line's end.
#[derive(Debug, Clone)]
pub struct CsvToJson {
    fields: Fields,
    delimiter: Regex,
}

/// Two that are written alike are alike.
impl PartialEq for CsvToJson {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields && self.delimiter.as_str() == other.delimiter.as_str()
    }
}

impl Eq for CsvToJson {}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DelimiterError {
    #[error("not a regular expression: {0}")]
    Syntax(String),
    #[error("it matches where there is nothing; a | that is meant as itself is written \\|")]
    MatchesNothing,
}

impl CsvToJson {
    pub const DELIMITER: &str = ",";

    /// `delimiter` is a regular expression.
    pub fn new(fields: Fields, delimiter: &str) -> Result<Self, DelimiterError> {
        let delimiter =
            Regex::new(delimiter).map_err(|error| DelimiterError::Syntax(super::reason(&error)))?;
        if delimiter.is_match("") {
            return Err(DelimiterError::MatchesNothing);
        }
        Ok(Self { fields, delimiter })
    }

    pub(super) fn apply(&self, line: &str, out: &mut Vec<u8>) {
        // What is behind the last column that is not empty; of a line without a delimiter, all of it.
        let columns = self.delimiter.split(line);
        let count = columns.enumerate().fold(0, |count, (i, column)| {
            if i == 0 || !column.is_empty() {
                i + 1
            } else {
                count
            }
        });
        let is_blank = count == 1 && self.delimiter.find(line).is_some_and(|d| d.start() == 0);
        let count = if is_blank { 0 } else { count };
        let columns = self.delimiter.split(line).take(count);
        self.fields.write(columns.map(Some), out);
    }

    pub(super) fn fixed(&self) -> usize {
        self.fields.fixed()
    }
}

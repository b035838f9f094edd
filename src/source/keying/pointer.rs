//! JSON pointers (RFC 6901), followed through a line without making a tree of it.
//!
//! The line is scanned once, to its end: only then is it JSON, and only then is it known which of several
//! members of one name is the last, which counts as everywhere. Nothing is allocated but for a string with
//! escapes in it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Where in a JSON document a value lies.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonPointer {
    as_given: String,
    tokens: Vec<Token>,
}

#[derive(Clone, PartialEq, Eq)]
struct Token {
    name: String,
    /// What it means in an array.
    index: Option<usize>,
}

impl JsonPointer {
    /// `/` before each name; in a name `~0` is `~` and `~1` is `/`. Empty: the document itself.
    pub fn new(text: &str) -> Result<Self, JsonPointerError> {
        let tokens = match text.strip_prefix('/') {
            Some(tokens) => tokens.split('/').map(Token::new).collect::<Option<_>>(),
            None => text.is_empty().then(Vec::new),
        };
        let tokens = tokens.ok_or_else(|| JsonPointerError(text.to_owned()))?;
        Ok(Self {
            as_given: text.to_owned(),
            tokens,
        })
    }

    pub fn as_str(&self) -> &str {
        &self.as_given
    }

    /// The text of the value: of a string without its quotes and escapes, of a number or a boolean as it is
    /// written. `None`: the line is no JSON, or there is no such value, or it is null, an object or an array.
    pub(super) fn find<'l>(&self, line: &'l [u8]) -> Option<Cow<'l, str>> {
        let mut document = serde_json::Deserializer::from_slice(line);
        let found = Walk(&self.tokens).deserialize(&mut document).ok()??;
        document.end().ok()?;
        let raw = found.get();
        match raw.as_bytes().first()? {
            b'"' => unquoted(raw),
            b'{' | b'[' | b'n' => None,
            _ => Some(Cow::Borrowed(raw)),
        }
    }
}

/// Of a JSON string's text; `None` where an escape in it is no character.
fn unquoted(raw: &str) -> Option<Cow<'_, str>> {
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inside.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inside));
    }
    serde_json::from_str(raw).ok().map(Cow::Owned)
}

impl Token {
    fn new(escaped: &str) -> Option<Self> {
        let mut parts = escaped.split('~');
        let mut name = parts.next()?.to_owned();
        for part in parts {
            match part.as_bytes().first()? {
                b'0' => name.push('~'),
                b'1' => name.push('/'),
                _ => return None,
            }
            name.push_str(&part[1..]);
        }
        let digits = name.bytes().all(|b| b.is_ascii_digit());
        let canonical = digits && (name == "0" || !name.starts_with('0'));
        let index = canonical.then(|| name.parse().ok()).flatten();
        Some(Self { name, index })
    }
}

impl fmt::Debug for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_given)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no JSON pointer: it begins with / and has one before each name, like \"/order/id\"; \
     in a name ~ is written ~0 and / is written ~1"
)]
pub struct JsonPointerError(String);

/// The rest of the way, from a value that is yet to be read.
#[derive(Clone, Copy)]
struct Walk<'p>(&'p [Token]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            serde::Deserialize::deserialize(value).map(Some)
        } else {
            value.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_next) = map.next_key_seed(Is(&self.0[0].name))? {
            if is_next {
                found = map.next_value_seed(Self(&self.0[1..]))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        for at in 0.. {
            if Some(at) == self.0[0].index {
                match seq.next_element_seed(Self(&self.0[1..]))? {
                    Some(element) => found = element,
                    None => break,
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    // What follows has nothing in it, so the way ends here.

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a member's name is this one.
struct Is<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<bool, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn found(pointer: &str, line: &str) -> Option<String> {
        let pointer = JsonPointer::new(pointer).unwrap();
        pointer.find(line.as_bytes()).map(Cow::into_owned)
    }

    #[test]
    fn pointers_of_the_rfc_find_what_the_rfc_says() {
        // RFC 6901, section 5.
        let line = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        for (pointer, value) in [
            ("/foo/0", "bar"),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ] {
            assert_eq!(found(pointer, line).as_deref(), Some(value), "{pointer}");
        }
        for nothing in [
            "", "/foo", "/foo/2", "/foo/-", "/foo/00", "/foo/0/0", "/nope",
        ] {
            assert_eq!(found(nothing, line), None, "{nothing}");
        }
    }

    #[test]
    fn a_pointer_that_is_none_is_refused_with_the_form() {
        for bad in ["order", "/a~", "/a~2", "/~/b", "$.a"] {
            let error = JsonPointer::new(bad).unwrap_err().to_string();
            assert!(error.contains("~1"), "{error}");
        }
    }

    #[test]
    fn numbers_and_booleans_are_as_they_are_written_and_strings_as_they_are_meant() {
        for (written, text) in [
            ("1.50", "1.50"),
            ("-0", "-0"),
            ("1e3", "1e3"),
            (
                "340282366920938463463374607431768211455",
                "340282366920938463463374607431768211455",
            ),
            ("true", "true"),
            (r#""\u00fc\t\ud83d\ude00""#, "ü\t😀"),
            (r#""""#, ""),
        ] {
            let line = format!("{{\"a\" : {written} }}");
            assert_eq!(found("/a", &line).as_deref(), Some(text), "{line}");
        }
        for nothing in ["null", "{}", "[1]", r#""\ud800""#] {
            assert_eq!(found("/a", &format!("{{\"a\":{nothing}}}")), None);
        }
    }

    #[test]
    fn what_is_no_json_has_no_value() {
        for line in [
            "",
            "plain text",
            r#"{"a":1"#,
            r#"{"a":1} x"#,
            r#"{"a":1,}"#,
            r#"{"b":tru,"a":1}"#,
        ] {
            assert_eq!(found("/a", line), None, "{line}");
        }
        let pointer = JsonPointer::new("/a").unwrap();
        assert_eq!(pointer.find(b"{\"a\":\"\xff\"}"), None);
    }

    #[test]
    fn of_members_with_one_name_the_last_counts() {
        assert_eq!(found("/a/b", r#"{"a":{"b":1},"a":{"b":2}}"#).unwrap(), "2");
        assert_eq!(found("/a/b", r#"{"a":{"b":1},"a":3}"#), None);
        assert_eq!(found("/a/b", r#"{"a":3,"a":{"b":4}}"#).unwrap(), "4");
    }

    #[test]
    fn a_line_nested_without_end_exhausts_nothing() {
        let deep = "[".repeat(1 << 20);
        assert_eq!(found("/a", &format!("{{\"a\":{deep}")), None);
        assert_eq!(found("/0/0/0", &deep), None);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9).prop_map(|n: f64| Value::from(n)),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let name = prop_oneof!["[ab01/~]{0,2}", ".{0,3}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Pointers to everything in a value.
    fn pointers(value: &Value, at: &str, into: &mut Vec<String>) {
        into.push(at.to_owned());
        match value {
            Value::Array(elements) => {
                for (i, element) in elements.iter().enumerate() {
                    pointers(element, &format!("{at}/{i}"), into);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    pointers(member, &format!("{at}/{name}"), into);
                }
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn a_pointer_finds_what_a_tree_would_have_there(
            value in value(),
            other in "(/[ab01]{0,2}|/~[01]|/-){0,3}",
            pretty in any::<bool>(),
        ) {
            let mut all = vec![other];
            pointers(&value, "", &mut all);
            let line = if pretty { format!("{value:#}") } else { value.to_string() };
            for pointer in all {
                let expected = match value.pointer(&pointer) {
                    Some(Value::String(text)) => Some(text.clone()),
                    Some(scalar @ (Value::Number(_) | Value::Bool(_))) => Some(scalar.to_string()),
                    _ => None,
                };
                prop_assert_eq!(found(&pointer, &line), expected, "{} in {}", pointer, line);
            }
        }

        #[test]
        fn no_line_makes_it_panic(line in prop::collection::vec(any::<u8>(), 0..64), at in "(/[a0]){0,2}") {
            let pointer = JsonPointer::new(&at).unwrap();
            let _ = pointer.find(&line);
        }
    }
}

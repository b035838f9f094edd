//! `${VAR}` in a string of the configuration.
//!
//! `${VAR}` is the variable, `${VAR:-default}` has a default for where it is not set or empty, as in the
//! shell, and `$${` is a plain `${`. Any other `$` is itself.

/// Where variables come from; a parameter, so that tests need not touch the process's own.
pub trait Environment {
    /// `None` where it is not set, or not UTF-8.
    fn var(&self, name: &str) -> Option<String>;

    /// What the system calls itself.
    fn hostname(&self) -> Option<String>;
}

/// The process's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Environment for System {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn hostname(&self) -> Option<String> {
        gethostname::gethostname().into_string().ok()
    }
}

/// The string with its variables filled in, or what is wrong with it.
pub(super) fn interpolate(text: &str, env: &dyn Environment) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some((inside, after)) = rest[at + 2..].split_once('}') else {
            return Err("a \"${\" that is not closed; write ${NAME}, or $${ for a plain ${".into());
        };
        out.push_str(&variable(inside, env)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn variable(inside: &str, env: &dyn Environment) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let first_is_letter = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !first_is_letter || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(format!(
            "{name:?}, which is not the name of a variable; write ${{NAME}}, or $${{ for a plain ${{"
        ));
    }
    // Shells set HOSTNAME, but do not export it; service managers do neither.
    let system = || env.hostname().filter(|_| name == "HOSTNAME");
    let value = match default {
        None => env.var(name).or_else(system),
        Some(default) => env
            .var(name)
            .filter(|value| !value.is_empty())
            .or_else(system)
            .or_else(|| Some(default.to_owned())),
    };
    value.ok_or_else(|| {
        format!("${{{name}}}, which the environment does not have; set it, or give a default: ${{{name}:-…}}")
    })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// HOSTNAME comes from the system: "box".
    pub(in crate::config) struct Fixed(pub &'static [(&'static str, &'static str)]);

    impl Environment for Fixed {
        fn var(&self, name: &str) -> Option<String> {
            let pair = self.0.iter().find(|(n, _)| *n == name)?;
            Some(pair.1.to_owned())
        }

        fn hostname(&self) -> Option<String> {
            Some("box".into())
        }
    }

    #[test]
    fn variables_are_filled_in() {
        let env = Fixed(&[("A", "1"), ("EMPTY", "")]);
        for (text, expected) in [
            ("plain $5 {x}", "plain $5 {x}"),
            ("${A}${A}", "11"),
            ("x-${A}-y", "x-1-y"),
            ("${B:-2}", "2"),
            ("${B:-}", ""),
            ("${A:-2}", "1"),
            ("${EMPTY:-2}", "2"),
            ("[${EMPTY}]", "[]"),
            ("${HOSTNAME}", "box"),
            ("${HOSTNAME:-x}", "box"),
            ("$${A}", "${A}"),
            ("$", "$"),
        ] {
            assert_eq!(interpolate(text, &env).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_environment_goes_before_the_system() {
        let env = Fixed(&[("HOSTNAME", "given")]);
        assert_eq!(interpolate("${HOSTNAME}", &env).as_deref(), Ok("given"));
    }

    #[test]
    fn what_cannot_be_filled_in_is_named() {
        for (text, part) in [
            ("${NO}", "${NO}, which the environment does not have"),
            ("${A", "not closed"),
            ("${}", "\"\""),
            ("${1X}", "\"1X\""),
            ("${a b}", "\"a b\""),
        ] {
            let error = interpolate(text, &Fixed(&[])).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn text_without_a_dollar_is_itself(text in "[^$]*") {
            prop_assert_eq!(interpolate(&text, &Fixed(&[])), Ok(text));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[$a{}:-]{0,12}|.*") {
            let _ = interpolate(&text, &Fixed(&[("a", "b")]));
        }
    }
}

//! What the process says about itself, on standard error.

use std::io::IsTerminal;

use clap::{ArgAction, Args};
use tracing_subscriber::EnvFilter;

use crate::config::Environment;

/// Whatever is asked for: what dumps a profile file that is no UTF-8, with the secrets in it; and what takes it for an error, at each
/// call that fails, that an HTTP client tells no connection to close.
const NEVER: [&str; 3] = [
    "aws_runtime::env_config=off",
    "aws_runtime::env_config::source=off",
    "aws_smithy_runtime::client::http::connection_poisoning=off",
];

#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub(super) struct LogArgs {
    /// Say more: -v debug, -vv trace; with encrypt and decrypt also the headers, as JSON
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// error, warn, info, debug, trace, or directives: kinseal=debug,hyper=info [default: KINSEAL_LOG]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = directives, conflicts_with = "verbose")]
    log: Option<String>,
}

impl LogArgs {
    pub(super) fn is_verbose(&self) -> bool {
        self.verbose > 0
    }

    pub(super) fn init(&self, env: &dyn Environment) {
        let (directives, mistaken) = self.directives(env);
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter(&directives))
            .with_writer(std::io::stderr)
            // A full disk, or a reader that has gone: it would be said on the same standard error, with a panic.
            .log_internal_errors(false)
            .with_ansi(std::io::stderr().is_terminal());
        // An embedder's own subscriber stays.
        let _ = subscriber.try_init();
        if let Some(mistaken) = mistaken {
            tracing::warn!(
                KINSEAL_LOG = mistaken,
                "not a level and not directives; logging at info"
            );
        }
    }

    /// What to log, and what KINSEAL_LOG says if that is of no use.
    fn directives(&self, env: &dyn Environment) -> (String, Option<String>) {
        match (self.verbose, &self.log) {
            (0, Some(given)) => (given.clone(), None),
            (0, None) => match env.var("KINSEAL_LOG").filter(|value| !value.is_empty()) {
                None => (of_level("info"), None),
                Some(value) => match directives(&value) {
                    Ok(directives) => (directives, None),
                    Err(_) => (of_level("info"), Some(value)),
                },
            },
            (1, _) => (of_level("debug"), None),
            (_, _) => (of_level("trace"), None),
        }
    }
}

/// By directives that were parsed before, or are our own.
pub(super) fn filter(directives: &str) -> EnvFilter {
    let filter = EnvFilter::try_new(directives).unwrap_or_default();
    NEVER.iter().fold(filter, |filter, never| {
        filter.add_directive(never.parse().expect("a directive"))
    })
}

/// A level is about this program; what others below it say is for those who name them.
pub(super) fn of_level(level: &str) -> String {
    match level {
        "error" => "error".into(),
        // Failures of the credentials chain are in our own error; there they do not come with a dump. And what inotify
        // warns of is that a directory is gone whose watch was to be taken away.
        level => format!("warn,aws_config=error,notify::inotify=error,kinseal={level}"),
    }
}

fn directives(text: &str) -> Result<String, String> {
    if ["error", "warn", "info", "debug", "trace"].contains(&text) {
        return Ok(of_level(text));
    }
    match EnvFilter::try_new(text) {
        Ok(_) if text.contains(['=', ',']) || text == "off" => Ok(text.to_owned()),
        _ => Err(
            "allowed: error, warn, info, debug, trace, off, or directives like kinseal=debug"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Says(Option<&'static str>);

    impl Environment for Says {
        fn var(&self, name: &str) -> Option<String> {
            assert_eq!(name, "KINSEAL_LOG");
            self.0.map(str::to_owned)
        }

        fn hostname(&self) -> Option<String> {
            None
        }
    }

    fn asked(verbose: u8, log: Option<&str>, env: Option<&'static str>) -> String {
        let log = log.map(|text| directives(text).unwrap());
        LogArgs { verbose, log }.directives(&Says(env)).0
    }

    #[test]
    fn the_command_line_goes_before_the_environment() {
        assert_eq!(
            asked(0, None, None),
            "warn,aws_config=error,notify::inotify=error,kinseal=info"
        );
        assert_eq!(
            asked(0, None, Some("debug")),
            "warn,aws_config=error,notify::inotify=error,kinseal=debug"
        );
        assert_eq!(asked(0, Some("error"), Some("debug")), "error");
        assert_eq!(
            asked(1, None, Some("error")),
            "warn,aws_config=error,notify::inotify=error,kinseal=debug"
        );
        assert_eq!(
            asked(0, Some("kinseal::send=trace,hyper=debug"), None),
            "kinseal::send=trace,hyper=debug"
        );
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        assert!(directives("verbose").is_err());
        assert!(directives("kinseal=loud").is_err());
    }

    #[test]
    fn a_mistaken_variable_does_not_stop_the_agent() {
        let args = LogArgs {
            verbose: 0,
            log: None,
        };
        let (directives, mistaken) = args.directives(&Says(Some("loud")));
        assert_eq!(
            (directives.as_str(), mistaken.as_deref()),
            (
                "warn,aws_config=error,notify::inotify=error,kinseal=info",
                Some("loud")
            )
        );
    }
}

//! `--from`: where in a stream to begin.

use std::time::SystemTime;

use crate::cli::Misuse;
use crate::config::words;
use crate::consume::StartAt;

/// As it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    Start(StartAt),
    /// Behind the Kinesis record of this sequence number.
    After(String),
}

impl From {
    pub(super) fn parse(said: &[String]) -> Result<Self, Misuse> {
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        Ok(match said[..] {
            [] | ["trim-horizon"] => Self::Start(StartAt::TrimHorizon),
            ["latest"] => Self::Start(StartAt::Latest),
            ["at-timestamp", time] => Self::Start(StartAt::At(moment(time, SystemTime::now())?)),
            ["after-sequence", number] if is_number(number) => Self::After(number.to_owned()),
            _ => {
                return Err(Misuse(format!(
                    "--from {}: allowed: trim-horizon, latest, at-timestamp TIME, after-sequence NUMBER",
                    said.join(" ")
                )));
            }
        })
    }

    pub(super) fn start(&self) -> StartAt {
        match self {
            Self::Start(start) => *start,
            Self::After(_) => StartAt::TrimHorizon,
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `2026-11-30T12:00:00Z`, or `15m` for so long before `now`.
fn moment(text: &str, now: SystemTime) -> Result<SystemTime, Misuse> {
    if let Ok(moment) = humantime::parse_rfc3339_weak(text) {
        return Ok(moment);
    }
    let ago = words::duration(text).ok();
    ago.and_then(|ago| now.checked_sub(ago)).ok_or_else(|| {
        Misuse(format!(
            "--from at-timestamp {text}: allowed: a time in UTC like 2026-11-30T12:00:00Z, or one ago like 15m"
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn parse(said: &str) -> Result<From, Misuse> {
        let said: Vec<_> = said.split(' ').map(str::to_owned).collect();
        From::parse(&said)
    }

    #[test]
    fn where_to_begin_is_said_in_the_services_words() {
        let expected = From::Start(StartAt::TrimHorizon);
        assert_eq!(parse("trim-horizon").unwrap(), expected);
        assert_eq!(parse("latest").unwrap(), From::Start(StartAt::Latest));
        let expected = From::After("495".into());
        assert_eq!(parse("after-sequence 495").unwrap(), expected);
        let at = UNIX_EPOCH + Duration::from_secs(1_764_460_800);
        let expected = From::Start(StartAt::At(at));
        assert_eq!(
            parse("at-timestamp 2025-11-30T00:00:00Z").unwrap(),
            expected
        );
        for odd in [
            "",
            "now",
            "latest 1",
            "at-timestamp",
            "at-timestamp yesterday",
            "after-sequence x",
        ] {
            assert!(parse(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_moment_may_be_so_long_ago() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let expected = UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(moment("15m", now).unwrap(), expected);
        assert!(moment("m15", now).is_err());
    }
}

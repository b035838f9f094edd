//! Values as a person writes them, in a file or on the command line: `"64MiB"`, `"100ms"`, `"alias/shop"`.
//!
//! Each function takes the text and gives the value, or says what is allowed, as the end of the sentence
//! "found …; allowed: …".

use std::path::PathBuf;
use std::time::Duration;

use globset::GlobBuilder;

use crate::admin::Listen;
use crate::seal::message::ReadLimits;
use crate::seal::{EncryptionContext, block};

/// `500`, `"500B"`, `"64MiB"`, `"5MB"`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let allowed = || String::from("a number of bytes, like 65536, \"64KiB\", \"5MiB\" or \"5MB\"");
    let (number, unit) = number_and_unit(text).ok_or_else(allowed)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(allowed()),
    };
    number.checked_mul(factor).ok_or_else(allowed)
}

/// In the largest unit that divides it.
pub fn show_bytes(bytes: u64) -> String {
    let unit = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    match unit {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

/// `"100ms"`, `"6s"`, `"5m"`, `"1h"`, `"7d"`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let allowed = || String::from("a time with its unit, like \"100ms\", \"6s\", \"5m\" or \"1h\"");
    let (number, unit) = number_and_unit(text).ok_or_else(allowed)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(allowed()),
    };
    let millis = number.checked_mul(millis).ok_or_else(allowed)?;
    Ok(Duration::from_millis(millis))
}

/// In the largest unit that divides it.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let unit = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ]
    .into_iter()
    .find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit));
    match unit {
        Some((factor, unit)) => format!("{}{unit}", millis / factor),
        None => format!("{millis}ms"),
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim_start_matches(' ')))
}

/// `eu-west-1`, `us-gov-west-1`, `eusc-de-east-1`.
pub fn region(text: &str) -> Result<String, String> {
    let allowed = || String::from("the code of a region, like \"eu-west-1\"");
    let parts: Vec<&str> = text.split('-').collect();
    let [words @ .., number] = &parts[..] else {
        return Err(allowed());
    };
    let is_word = |w: &&str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase());
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    if words.len() < 2 || !words.iter().all(is_word) || !is_number {
        return Err(allowed());
    }
    Ok(text.to_owned())
}

/// `http://` or `https://`, a host, a port if need be.
pub fn endpoint_url(text: &str) -> Result<String, String> {
    let is_url = || {
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !path
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'))
        {
            return None;
        }
        let (host, port) = if let Some(v6) = authority.strip_prefix('[') {
            let (host, after) = v6.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (
                host,
                if after.is_empty() {
                    None
                } else {
                    Some(after.strip_prefix(':')?)
                },
            )
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        let in_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || !host.bytes().all(in_host) {
            return None;
        }
        match port {
            None => Some(()),
            Some(port) => port
                .parse::<u16>()
                .ok()
                .filter(|port| *port > 0)
                .map(|_| ()),
        }
    };
    match is_url() {
        Some(()) => Ok(text.to_owned()),
        None => Err("http:// or https:// with a host, like \"http://127.0.0.1:4567\"".into()),
    }
}

/// A KMS key by id, ARN, alias or alias ARN.
///
/// <https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#key-id>
pub fn kms_key(text: &str) -> Result<String, String> {
    let resource = if text.starts_with("arn:") {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        match parts[..] {
            [_, partition, "kms", region, account, resource]
                if !partition.is_empty() && !region.is_empty() && is_account(account) =>
            {
                if resource.starts_with("alias/") {
                    Some(resource)
                } else {
                    resource.strip_prefix("key/")
                }
            }
            _ => None,
        }
    } else {
        Some(text)
    };
    let known = resource.is_some_and(|resource| match resource.strip_prefix("alias/") {
        Some(alias) => is_alias(alias),
        None => is_key_id(resource),
    });
    if known {
        return Ok(text.to_owned());
    }
    let mut allowed = String::from(
        "a key of KMS by id, ARN or alias, like \"alias/shop\" or \"arn:aws:kms:eu-west-1:111122223333:key/…\"",
    );
    if is_alias(text) && !text.contains('/') {
        allowed.push_str(&format!("; did you mean \"alias/{text}\"?"));
    }
    Err(allowed)
}

/// The keys of one stream, the one that makes its data keys first.
pub fn kms_keys(keys: &[String]) -> Result<(), String> {
    // This program's readers refuse messages with more; other AWS Encryption SDKs can be told to.
    let most = ReadLimits::default().max_encrypted_data_keys;
    let twice = (keys.iter().enumerate()).find(|(i, key)| keys[..*i].contains(key));
    match (keys.len(), twice) {
        (0, _) => Err("found an empty list; allowed: one key at least".into()),
        (_, Some((_, key))) => Err(format!("found \"{key}\" twice; allowed: each key once")),
        (len, _) if len > most => Err(format!(
            "found {len} keys; allowed: up to {most}, since readers refuse more"
        )),
        _ => Ok(()),
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_alias(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-');
    !name.is_empty() && name.len() <= 250 && name.bytes().all(allowed)
}

/// A UUID, or `mrk-` and 32 hexadecimal digits for a key of several regions.
fn is_key_id(id: &str) -> bool {
    let hex = |part: &str, len| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(digits) = id.strip_prefix("mrk-") {
        return hex(digits, 32);
    }
    let parts: Vec<&str> = id.split('-').collect();
    parts.len() == 5
        && parts
            .iter()
            .zip([8, 4, 4, 4, 12])
            .all(|(part, len)| hex(part, len))
}

/// `arn:PARTITION:iam::ACCOUNT:role/NAME`.
pub fn role_arn(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    match parts[..] {
        ["arn", partition, "iam", "", account, role]
            if !partition.is_empty()
                && is_account(account)
                && role
                    .strip_prefix("role/")
                    .is_some_and(|name| !name.is_empty() && !name.ends_with('/')) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("the ARN of a role, like \"arn:aws:iam::111122223333:role/NAME\"".into()),
    }
}

/// STS: 2 to 1,224 characters. <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
pub fn external_id(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b);
    if (2..=1224).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err("2 to 1224 letters, digits or any of _+=,.@:/-".into())
}

/// A service's working directory is nobody's to know.
pub fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() && !text.contains('\0') {
        return Ok(path);
    }
    Err("an absolute path, like \"/var/lib/kinseal\"".into())
}

/// `127.0.0.1:9465`, or the path of a socket.
pub fn listen(text: &str) -> Result<Listen, String> {
    text.parse()
}

/// Absolute, `*` within a folder, `**` across folders.
pub fn absolute_glob(text: &str) -> Result<String, String> {
    if !std::path::Path::new(text).is_absolute() || text.contains('\0') {
        return Err("an absolute glob, like \"/var/log/shop/*.log\"".into());
    }
    match GlobBuilder::new(text).literal_separator(true).build() {
        Ok(_) => Ok(text.to_owned()),
        Err(e) => Err(format!(
            "an absolute glob, and in this one there is an {}",
            e.kind()
        )),
    }
}

/// Of a pair that a reader asks for. The encryption context's own words are the library's.
pub fn context_key(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with("aws-crypto-") {
        return Err("keys of at least 1 character that do not begin with \"aws-crypto-\"".into());
    }
    Ok(text.to_owned())
}

/// Of a pair that is written: what begins with `kinseal-` says how a message is packed.
pub fn own_context_key(text: &str) -> Result<String, String> {
    let key = context_key(text).ok();
    key.filter(|key| !key.starts_with(block::CONTEXT_PREFIX))
        .ok_or_else(|| {
            "keys of at least 1 character that do not begin with \"aws-crypto-\" or \"kinseal-\""
                .into()
        })
}

/// The message format counts the bytes of a context in 16 bits.
pub const CONTEXT_MAX: usize = 65_535;

/// Bytes of a context in a message, without the length in front: a count, and each string with its length.
pub fn context_len(context: &EncryptionContext) -> usize {
    let pairs = context
        .iter()
        .map(|(key, value)| 2 + key.len() + 2 + value.len());
    2 + pairs.sum::<usize>()
}

#[cfg(test)]
mod tests;

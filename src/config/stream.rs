//! `[encryption]`, `[aggregation]`, `[batch]`, `[delivery]`, and the `[[stream]]` tables that are laid over
//! them for one stream each.
//!
//! Laid over key by key, with two exceptions: the two ways to name a key replace one another, and a
//! `context` replaces the whole context.

use super::Stream;
use super::encryption::{Encryption, ScopeWord};
use super::file::File;
use super::source;
use super::table::Table;
use super::tuning::{Aggregation, Batch, Delivery};
use super::words::{show_bytes, show_duration};
use super::written::{Place, Written};
use crate::record::StreamName;
use crate::seal::{CacheSettings, block};
use crate::{aggregate, batch, retry};

/// The four tables of one layer, as written.
#[derive(Clone, Default)]
struct Parts {
    encryption: Encryption,
    aggregation: Aggregation,
    batch: Batch,
    delivery: Delivery,
}

/// One `[[stream]]`.
struct Override {
    name: Written<StreamName>,
    parts: Parts,
}

/// The streams that `sources` name; `None` for each that has a mistake.
pub(super) fn read_all(root: &mut Table<'_>, sources: &[source::Part]) -> Vec<Option<Stream>> {
    let top = Parts::read(root);
    let overrides = root
        .tables("stream", |t| Override::read(t))
        .given()
        .unwrap_or_default();
    let file = root.file();
    check_names(file, &overrides, sources);

    let mut names: Vec<&StreamName> = Vec::new();
    for part in sources {
        if let Written::Given(name, _) = &part.stream
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    let own = |name: &StreamName| {
        let named = |o: &&Override| matches!(&o.name, Written::Given(n, _) if n == name);
        overrides
            .iter()
            .find(named)
            .map(|o| o.parts.clone())
            .unwrap_or_default()
    };
    require_scope(root, names.iter().map(|name| own(name).encryption.scope));
    if names.is_empty() {
        top.check(file);
    }
    let resolve = |name: &StreamName| {
        let parts = own(name).over(&top);
        parts.check(file);
        parts.resolve(name.clone())
    };
    names.into_iter().map(resolve).collect()
}

impl Override {
    fn read(t: &mut Table<'_>) -> Self {
        let name = t.parsed("name", "the name or ARN of a stream", |text| {
            StreamName::new(text)
                .map_err(|_| "the name or ARN of a stream, as a [[source]] has it".into())
        });
        if name.is_absent() {
            t.file().missing(
                t.place(),
                "name",
                "the name or ARN of a stream, as a [[source]] has it",
            );
        }
        Self {
            name,
            parts: Parts::read(t),
        }
    }
}

/// Each `[[stream]]` is about another stream, and about one that exists here.
fn check_names(file: &File<'_>, overrides: &[Override], sources: &[source::Part]) {
    let all_known = sources.iter().all(|part| part.stream.place().is_some());
    let used: Vec<&StreamName> = sources
        .iter()
        .filter_map(|part| part.stream.as_given())
        .collect();
    for (i, this) in overrides.iter().enumerate() {
        let Written::Given(name, place) = &this.name else {
            continue;
        };
        let first = overrides[..i]
            .iter()
            .find(|other| other.name.as_given() == Some(name));
        if let Some(Place { line, .. }) = first.and_then(|first| first.name.place()) {
            let text =
                format!("found \"{name}\" again, as on line {line}; allowed: one [[stream]] each");
            file.mistake(place, text);
        } else if all_known && !used.is_empty() && !used.contains(&name) {
            let mut used: Vec<String> = used.iter().map(|name| format!("\"{name}\"")).collect();
            used.dedup();
            let text = format!(
                "found \"{name}\", which no [[source]] sends to; allowed: {}",
                used.join(", ")
            );
            file.mistake(place, text);
        }
    }
}

/// Plaintext is sent where the configuration says so, not where it says nothing.
fn require_scope(root: &Table<'_>, own: impl IntoIterator<Item = Written<ScopeWord>>) {
    let own: Vec<_> = own.into_iter().collect();
    let all_have_their_own = !own.is_empty() && own.iter().all(|scope| !scope.is_absent());
    if !root.has("encryption") && !all_have_their_own {
        root.file().missing(
            root.place(),
            "encryption",
            "an [encryption] table; plaintext is only sent when scope = \"off\" says so",
        );
    }
}

impl Parts {
    fn read(t: &mut Table<'_>) -> Self {
        let is_top = t.place().key.is_empty();
        let encryption = t.table("encryption", |t| Encryption::read(t, is_top));
        let encryption = match encryption {
            Written::Mistaken => Encryption {
                scope: Written::Mistaken,
                ..Encryption::default()
            },
            other => other.given().unwrap_or_default(),
        };
        Self {
            encryption,
            aggregation: t
                .table("aggregation", Aggregation::read)
                .given()
                .unwrap_or_default(),
            batch: t.table("batch", Batch::read).given().unwrap_or_default(),
            delivery: t
                .table("delivery", Delivery::read)
                .given()
                .unwrap_or_default(),
        }
    }

    fn over(self, base: &Self) -> Self {
        Self {
            encryption: self.encryption.over(&base.encryption),
            aggregation: self.aggregation.over(&base.aggregation),
            batch: self.batch.over(&base.batch),
            delivery: self.delivery.over(&base.delivery),
        }
    }

    fn resolve(self, name: StreamName) -> Option<Stream> {
        Some(Stream {
            name,
            encryption: self.encryption.resolve()?,
            aggregation: self.aggregation.resolve()?,
            batch: self.batch.resolve()?,
            delivery: self.delivery.resolve()?,
        })
    }

    /// What no key can be checked for alone.
    fn check(&self, file: &File<'_>) {
        self.encryption.check(file);
        let limits = batch::Limits::default();
        let retry = retry::Settings::default();
        let record = (
            "batch.max_record_bytes",
            &self.batch.max_record_bytes,
            limits.max_record_bytes as u64,
        );

        if self.encryption.scope.as_given() == Some(&ScopeWord::Block) {
            // Sealed, a block has to be a record: an eighth for its header, whose context alone can take
            // 64 KiB of 1 MiB, and for what does not compress.
            let room = (self.batch.max_record_bytes.clone()).map(|bytes| bytes - bytes / 8);
            let default = limits.max_record_bytes as u64;
            at_most(
                file,
                (
                    "encryption.block.max_size",
                    &self.encryption.block.max_size,
                    block::Settings::default().max_size as u64,
                ),
                (
                    "7/8 of batch.max_record_bytes",
                    &room,
                    default - default / 8,
                ),
                show_bytes,
            );
        }

        let request = (
            "batch.max_bytes",
            &self.batch.max_bytes,
            limits.max_bytes as u64,
        );
        at_most(file, record, request, show_bytes);
        if self.aggregation.enabled.or_default(true) == Some(true) {
            let default = aggregate::Settings::default().max_size as u64;
            at_most(
                file,
                ("aggregation.max_size", &self.aggregation.max_size, default),
                record,
                show_bytes,
            );
        }
        let key = (
            "encryption.cache.max_bytes",
            &self.encryption.max_bytes,
            CacheSettings::default().max_bytes,
        );
        at_most(file, record, key, show_bytes);
        at_most(
            file,
            (
                "delivery.retry.initial",
                &self.delivery.retry_initial,
                retry.initial,
            ),
            ("delivery.retry.max", &self.delivery.retry_max, retry.max),
            show_duration,
        );
        // A record that is given up before its first batch is due would never be sent.
        if let Written::Given(Some(ttl), place) = &self.delivery.record_ttl {
            let ttl = (
                "delivery.record_ttl",
                &Written::Given(*ttl, place.clone()),
                *ttl,
            );
            let default = aggregate::Settings::default().linger;
            let aggregate = ("aggregation.linger", &self.aggregation.linger, default);
            at_most(file, aggregate, ttl, show_duration);
            let linger = &self.encryption.block.linger;
            if self.encryption.scope.as_given() == Some(&ScopeWord::Block) && !linger.is_absent() {
                let block = ("encryption.block.linger", linger, default);
                at_most(file, block, ttl, show_duration);
            }
        }
    }
}

/// A key's name, what is written for it, and its default.
pub(super) type Named<'w, T> = (&'static str, &'w Written<T>, T);

pub(super) fn at_most<T: PartialOrd + Copy>(
    file: &File<'_>,
    small: Named<'_, T>,
    large: Named<'_, T>,
    show: impl Fn(T) -> String,
) {
    let (Some(s), Some(l)) = (small.1.or_default(small.2), large.1.or_default(large.2)) else {
        return;
    };
    if s <= l {
        return;
    }
    // What a [[stream]] says is newer than what it was laid over.
    let (s_place, l_place) = (small.1.place(), large.1.place());
    let blame_large =
        !s_place.is_some_and(Place::is_override) && l_place.is_some_and(Place::is_override);
    match (s_place, l_place) {
        (Some(place), _) if !blame_large => {
            file.mistake(
                place,
                format!(
                    "found {}; allowed: up to {}, which is {}",
                    show(s),
                    large.0,
                    show(l)
                ),
            );
        }
        (_, Some(place)) => {
            file.mistake(
                place,
                format!(
                    "found {}; allowed: at least {}, which is {}",
                    show(l),
                    small.0,
                    show(s)
                ),
            );
        }
        (_, None) => {}
    }
}

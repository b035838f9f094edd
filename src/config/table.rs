//! A TOML table, asked for its keys one by one.
//!
//! serde would stop at the first mistake. This walks the parsed document instead: each accessor notes what
//! is wrong, with its line, and goes on; keys that nobody asked for are mistakes too. No accessor fails:
//! what it gives is [`Written`], which knows "not given" from "given, and wrong".

use std::ops::RangeInclusive;
use std::time::Duration;

use toml_edit::{Item, TableLike, Value};

use super::entry::{Entry, Found};
use super::file::{File, Whose};
use super::mistake::{did_you_mean, nearest};
use super::words;
use super::written::{Place, Written};

pub(super) struct Table<'a> {
    file: &'a File<'a>,
    place: Place,
    entries: &'a dyn TableLike,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(super) fn read<R>(
        file: &'a File<'a>,
        place: Place,
        entries: &'a dyn TableLike,
        f: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let mut table = Self {
            file,
            place,
            entries,
            known: Vec::new(),
        };
        let read = f(&mut table);
        table.finish();
        read
    }

    pub(super) fn file(&self) -> &'a File<'a> {
        self.file
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Keys that this table may have, though nobody asks for them now.
    pub(super) fn allow(&mut self, keys: &[&'static str]) {
        self.known.extend(keys);
    }

    /// A string, and what `parse` makes of it. `what` says what is allowed where it is no string at all.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        what: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Written<T> {
        self.with(key, |entry| entry.parsed(what, &parse))
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Written<T> {
        let allowed = words
            .iter()
            .map(|(word, _)| format!("{word:?}"))
            .collect::<Vec<_>>()
            .join(" or ");
        self.parsed(key, &allowed, |text| {
            let known = words.iter().find(|(word, _)| *word == text);
            known.map(|(_, value)| *value).ok_or_else(|| {
                let near = nearest(text, words.iter().map(|(word, _)| *word));
                format!("{allowed}{}", did_you_mean(near, '"'))
            })
        })
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Written<bool> {
        self.with(key, |entry| {
            entry.scalar("true or false", Value::as_bool, |text| {
                text.parse().map_err(|_| "true or false".into())
            })
        })
    }

    pub(super) fn integer(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Written<u64> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.with(key, |entry| {
            let number = entry.scalar(
                &allowed,
                // What is below zero is below any range, too.
                |value| value.as_integer().map(|n| u64::try_from(n).ok()),
                |text| text.parse().map(Some).map_err(|_| allowed.clone()),
            );
            entry.check(number, |n| {
                n.filter(|n| range.contains(n))
                    .ok_or_else(|| allowed.clone())
            })
        })
    }

    /// `65536` or `"64KiB"`.
    pub(super) fn bytes(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Written<u64> {
        let allowed = format!(
            "a number of bytes, like 65536 or \"64KiB\", from {} to {}",
            words::show_bytes(*range.start()),
            words::show_bytes(*range.end())
        );
        self.with(key, |entry| {
            let number = entry.scalar(
                &allowed,
                |value| value.as_integer().map(|n| u64::try_from(n).ok()),
                |text| words::bytes(text).map(Some).map_err(|_| allowed.clone()),
            );
            entry.check(number, |n| {
                n.filter(|n| range.contains(n))
                    .ok_or_else(|| allowed.clone())
            })
        })
    }

    pub(super) fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Written<Duration> {
        let allowed = allowed_durations(&range);
        self.parsed(key, &allowed, |text| {
            words::duration(text)
                .ok()
                .filter(|d| range.contains(d))
                .ok_or_else(|| allowed.clone())
        })
    }

    pub(super) fn duration_or_none(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Written<Option<Duration>> {
        let allowed = format!("\"none\", or {}", allowed_durations(&range));
        self.parsed(key, &allowed, |text| {
            if text == "none" {
                return Ok(None);
            }
            let duration = words::duration(text).ok().filter(|d| range.contains(d));
            duration.map(Some).ok_or_else(|| allowed.clone())
        })
    }

    /// A list of strings.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        what: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Written<Vec<T>> {
        self.with(key, |entry| entry.list(what, parse))
    }

    /// A string, or a list of strings.
    pub(super) fn one_or_list<T>(
        &mut self,
        key: &'static str,
        what: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Written<Vec<T>> {
        self.with(key, |entry| match entry.value() {
            Some(Value::Array(_)) => entry.list(what, parse),
            _ => entry.parsed(what, parse).map(|one| vec![one]),
        })
    }

    /// A table whose keys are the user's own.
    pub(super) fn map<T>(
        &mut self,
        key: &'static str,
        what: &str,
        parse_key: impl Fn(&str) -> Result<String, String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Written<Vec<(String, T)>> {
        self.with(key, |entry| {
            let Some(table) = entry.table() else {
                return entry.refuse(what);
            };
            let mut pairs = Vec::new();
            let mut all_good = true;
            for (name, item) in table.iter() {
                let place = entry.file.place_of_key(&entry.place, table, name);
                if let Err(allowed) = parse_key(name) {
                    entry.file.mistake(
                        &place,
                        format!("found the key {name:?}; allowed: {allowed}"),
                    );
                    all_good = false;
                    continue;
                }
                let element = Entry {
                    file: entry.file,
                    place,
                    item: Found::Item(item),
                };
                match element.parsed(what, &parse) {
                    Written::Given(value, _) => pairs.push((name.to_owned(), value)),
                    Written::Absent | Written::Mistaken => all_good = false,
                }
            }
            if all_good {
                Written::Given(pairs, entry.place.clone())
            } else {
                Written::Mistaken
            }
        })
    }

    /// A table in this one.
    pub(super) fn table<R>(
        &mut self,
        key: &'static str,
        f: impl FnOnce(&mut Self) -> R,
    ) -> Written<R> {
        self.with(key, |entry| match entry.table() {
            Some(table) => {
                let read = Table::read(entry.file, entry.place.clone(), table, f);
                Written::Given(read, entry.place.clone())
            }
            None => entry.refuse(&format!("a table, [{}]", entry.place.key)),
        })
    }

    /// A table, or a string that `parse` takes.
    pub(super) fn string_or_table<R>(
        &mut self,
        key: &'static str,
        what: &str,
        parse: impl Fn(&str) -> Result<R, String>,
        f: impl FnOnce(&mut Self) -> Written<R>,
    ) -> Written<R> {
        self.with(key, |entry| match entry.table() {
            Some(table) => Table::read(entry.file, entry.place.clone(), table, f),
            None => entry.parsed(what, &parse),
        })
    }

    /// The tables of a `[[key]]`.
    pub(super) fn tables<R>(
        &mut self,
        key: &'static str,
        mut f: impl FnMut(&mut Self) -> R,
    ) -> Written<Vec<R>> {
        self.with(key, |entry| {
            let refused =
                |entry: &Entry<'a>| entry.refuse(&format!("tables, [[{}]]", entry.place.key));
            let mut elements: Vec<(&'a dyn TableLike, Option<usize>)> = Vec::new();
            match entry.item {
                Found::Item(Item::ArrayOfTables(tables)) => {
                    elements.extend(
                        tables
                            .iter()
                            .map(|t| (t as &dyn TableLike, t.span().map(|s| s.start))),
                    );
                }
                Found::Item(Item::Value(Value::Array(array))) => {
                    for element in array {
                        let Value::InlineTable(table) = element else {
                            return refused(&entry);
                        };
                        elements.push((table, table.span().map(|s| s.start)));
                    }
                }
                _ => return refused(&entry),
            }
            let read = elements.into_iter().map(|(table, start)| {
                let place = entry.place.at(start.map(|start| entry.file.line_of(start)));
                Table::read(entry.file, place, table, &mut f)
            });
            Written::Given(read.collect(), entry.place.clone())
        })
    }

    /// What `f` makes of a key's value.
    pub(super) fn with<R>(
        &mut self,
        key: &'static str,
        f: impl FnOnce(Entry<'a>) -> Written<R>,
    ) -> Written<R> {
        self.known.push(key);
        match self.entries.get(key) {
            None | Some(Item::None) => Written::Absent,
            Some(item) => f(Entry {
                file: self.file,
                place: self.file.place_of_key(&self.place, self.entries, key),
                item: Found::Item(item),
            }),
        }
    }

    /// What nobody has asked for is a mistake.
    fn finish(self) {
        for (name, _) in self.entries.iter() {
            if self.known.contains(&name) {
                continue;
            }
            let place = self.file.place_of_key(&self.place, self.entries, name);
            let near = nearest(
                name,
                self.known.iter().copied().filter(|known| !self.has(known)),
            )
            .or_else(|| nearest(name, self.known.iter().copied()));
            let text = match near {
                Some(near) => {
                    let meant = self.place.child(near);
                    self.file.misspelt.borrow_mut().push(meant);
                    format!("unknown key{}", did_you_mean(Some(near), '`'))
                }
                None if let Some(home) = home_of(name, self.file.whose) => {
                    format!("not a key of this table; it belongs {home}")
                }
                None => format!("unknown key; allowed here: {}", self.known.join(", ")),
            };
            self.file.mistake(&place, text);
        }
    }
}

/// Where a key lies that was written elsewhere: below the wrong header, most often.
fn home_of(key: &str, whose: Whose) -> Option<&'static str> {
    let home = home_of_agents(key)?;
    let is_there = match whose {
        Whose::Agent => true,
        Whose::KplDaemon => {
            let tables = ["in [aws]", "in [encryption]", "in [encryption.block]"];
            let of_letters = ["max_file_size", "max_total_size"];
            key == "memory_limit" || tables.contains(&home) || of_letters.contains(&key)
        }
    };
    is_there.then_some(home)
}

fn home_of_agents(key: &str) -> Option<&'static str> {
    match key {
        "state_dir" | "memory_limit" | "core_dumps" => Some("at the top, before the first [table]"),
        "region" | "profile" | "endpoint_url" | "assume_role_arn" => Some("in [aws]"),
        "include" | "exclude" | "start_position" | "skip_header_lines" | "partial_timeout" => {
            Some("in a [[source]] of type = \"file\"")
        }
        "multiline" => Some("in a [[source]] of type = \"file\" or \"unix\" or \"stdin\""),
        "start_pattern" | "continue_pattern" | "timeout" | "max_lines" => {
            Some("in [source.multiline]")
        }
        "path" | "mode" | "owner" | "group" => {
            Some("in a [[source]] of type = \"unix\" or \"unix_datagram\"")
        }
        "framing" | "ack" | "allow" | "max_connections" => {
            Some("in a [[source]] of type = \"unix\"")
        }
        "uids" | "gids" => Some("in allow of a [[source]] of type = \"unix\""),
        "stream" | "partition_key" | "format" | "labels" | "envelope" | "data_processing" => {
            Some("in a [[source]]")
        }
        "fields" | "message_key" | "parse_json" => Some("in envelope of a [[source]]"),
        "option_name" | "parse_options" | "custom_field_names" | "delimiter" | "log_format"
        | "match_pattern" | "timestamp" | "metadata" => Some("in [[source.data_processing]]"),
        "constant" | "json_pointer" | "regex" | "hmac_key_file" | "explicit_hash_key" => {
            Some("in partition_key of a [[source]]")
        }
        "scope" | "kms_key" | "wrapping_key_file" | "context" | "cache" | "preset" | "suite"
        | "frame_length" | "encoding" | "backend" | "lanes" | "compatibility" => {
            Some("in [encryption]")
        }
        "compression" | "level" => Some("in [encryption.block]"),
        "max_size" | "max_count" | "container_key" | "linger" => Some("in [aggregation]"),
        "max_records" | "max_record_bytes" => Some("in [batch]"),
        "rate_limit" | "max_in_flight" | "request_timeout" | "connect_timeout" | "record_ttl"
        | "ordering" | "protocol" | "retry" => Some("in [delivery]"),
        "log_interval" => Some("in [metrics]"),
        "max_file_size" | "max_total_size" => Some("in [dead_letter]"),
        "when_full" => {
            Some("in [dead_letter], or in a [[source]] that is a socket or of type = \"stdin\"")
        }
        _ => None,
    }
}

fn allowed_durations(range: &RangeInclusive<Duration>) -> String {
    format!(
        "a time with its unit, like \"100ms\" or \"5m\", from {} to {}",
        words::show_duration(*range.start()),
        words::show_duration(*range.end())
    )
}

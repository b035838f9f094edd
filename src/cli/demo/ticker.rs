//! Stock sales as JSON lines: symbol, sales price, order id, activity timestamp.
//!
//! A line is a function of its number, so that what came back can be compared byte by byte with what was
//! written, however many there are. Prices are made up.

use std::io::Write;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::cli::utc::Utc;

/// Symbols and where their prices begin, in cents.
const SYMBOLS: [(&str, u64); 8] = [
    ("AAPL", 22_650),
    ("AMZN", 18_720),
    ("GOOG", 16_840),
    ("MSFT", 41_530),
    ("NFLX", 70_110),
    ("NVDA", 12_080),
    ("ORCL", 16_990),
    ("TSLA", 24_260),
];

/// One run's sales, each by its number.
#[derive(Debug, Clone)]
pub(super) struct Tickers {
    /// Sets one run's order ids apart from another's.
    run: u32,
    start: SystemTime,
    per_second: u64,
}

impl Tickers {
    pub(super) fn new(run: u32, start: SystemTime, per_second: u64) -> Self {
        Self {
            run,
            start,
            per_second: per_second.max(1),
        }
    }

    /// Appends the line of a sale, with its newline.
    pub(super) fn append(&self, number: u64, out: &mut Vec<u8>) {
        let dice = mix(u64::from(self.run) << 32 ^ number);
        let (symbol, base) = SYMBOLS[(dice % 8) as usize];
        let cents = base + (dice >> 8) % (base / 20);
        let since_start = Duration::from_micros(number * 1_000_000 / self.per_second);
        // Not serde_json: its order of keys would depend on a feature, and a write never fails here.
        let written = writeln!(
            out,
            "{{\"symbol\":\"{symbol}\",\"salesPrice\":{}.{:02},\"orderId\":\"{:08x}-{number:08}\",\
             \"activityTimestamp\":\"{}\"}}",
            cents / 100,
            cents % 100,
            self.run,
            Utc(self.start + since_start),
        );
        written.expect("a Vec takes every write");
    }

    /// The line as a record has it: without its newline.
    pub(super) fn record(&self, number: u64, out: &mut Vec<u8>) {
        out.clear();
        self.append(number, out);
        out.pop();
    }

    pub(super) fn order_id(&self, number: u64) -> String {
        format!("{:08x}-{number:08}", self.run)
    }

    /// The number of the sale that this record says it is, if it is one of this run.
    pub(super) fn number_of(&self, record: &[u8]) -> Option<u64> {
        let sale: Sale<'_> = serde_json::from_slice(record).ok()?;
        let (run, number) = sale.order_id.split_once('-')?;
        let of_this_run = u32::from_str_radix(run, 16) == Ok(self.run);
        number.parse().ok().filter(|_| of_this_run)
    }
}

#[derive(Deserialize)]
struct Sale<'a> {
    #[serde(rename = "orderId")]
    order_id: &'a str,
}

/// The finaliser of SplitMix64: neighbours become unlike each other.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(secs: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(secs)
    }

    #[test]
    fn every_sale_is_a_json_line_with_an_order_id_of_its_own() {
        let tickers = Tickers::new(7, at(1_700_000_000), 1000);
        let mut lines = Vec::new();
        (0..5000).for_each(|n| tickers.append(n, &mut lines));
        let mut ids = HashSet::new();
        for (number, line) in (0u64..).zip(std::str::from_utf8(&lines).unwrap().lines()) {
            let sale: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(sale["symbol"].as_str().is_some_and(|s| s.len() == 4));
            assert!(sale["salesPrice"].as_f64().is_some_and(|p| p > 100.0));
            assert!(sale["activityTimestamp"].is_string());
            assert!(ids.insert(sale["orderId"].as_str().unwrap().to_owned()));
            assert_eq!(sale["orderId"], tickers.order_id(number));
            assert_eq!(tickers.number_of(line.as_bytes()), Some(number));
        }
        assert_eq!(ids.len(), 5000);
    }

    #[test]
    fn a_record_is_its_line_without_the_newline() {
        let tickers = Tickers::new(0xabc, at(0), 10);
        let (mut line, mut record) = (Vec::new(), b"old".to_vec());
        tickers.append(15, &mut line);
        tickers.record(15, &mut record);
        assert_eq!(line.strip_suffix(b"\n"), Some(&record[..]));
        let text = String::from_utf8(record).unwrap();
        assert!(text.ends_with(
            r#""orderId":"00000abc-00000015","activityTimestamp":"1970-01-01T00:00:01.500Z"}"#
        ));
    }

    #[test]
    fn what_is_not_of_this_run_has_no_number() {
        let (ours, theirs) = (Tickers::new(1, at(0), 1), Tickers::new(2, at(0), 1));
        let mut record = Vec::new();
        theirs.record(3, &mut record);
        assert_eq!(ours.number_of(&record), None);
        assert_eq!(ours.number_of(b"not json"), None);
        assert_eq!(ours.number_of(br#"{"orderId":"1"}"#), None);
    }
}

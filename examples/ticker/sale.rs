//! Stock sales as JSON, made from a seed: the same seed, the same sales.

use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

/// Symbols and where their prices begin, in cents.
const SYMBOLS: [(&str, u64); 6] = [
    ("AAPL", 22_650),
    ("AMZN", 18_720),
    ("GOOG", 16_840),
    ("MSFT", 41_530),
    ("NVDA", 12_080),
    ("ORCL", 16_990),
];

/// 2026-11-30T09:00:00Z: the stock exchange opens.
const OPENING: Duration = Duration::from_secs(1_796_029_200);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sale {
    pub(crate) ticker_symbol: String,
    pub(crate) sales_price: f64,
    pub(crate) order_id: String,
    pub(crate) time_stamp: String,
}

/// So many sales.
pub(crate) fn sales(seed: u64, count: usize) -> Vec<Sale> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut now = SystemTime::UNIX_EPOCH + OPENING;
    let sales = (0..count).map(|_| {
        let (symbol, base) = SYMBOLS[dice.random_range(0..SYMBOLS.len())];
        let cents = base + dice.random_range(0..base / 20);
        now += Duration::from_millis(dice.random_range(1..500));
        Sale {
            ticker_symbol: symbol.to_owned(),
            sales_price: cents as f64 / 100.0,
            order_id: format!("{:016x}", dice.random::<u64>()),
            time_stamp: humantime::format_rfc3339_millis(now).to_string(),
        }
    });
    sales.collect()
}

impl Sale {
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and a number")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_makes_the_same_sales_and_another_makes_others() {
        assert_eq!(sales(7, 50), sales(7, 50));
        assert_ne!(sales(7, 50), sales(8, 50));
        assert_eq!(sales(7, 50)[..20], sales(7, 20));
    }

    #[test]
    fn a_sale_is_its_json_again_and_each_has_an_order_of_its_own() {
        let sales = sales(1, 500);
        let orders: HashSet<_> = sales.iter().map(|sale| &sale.order_id).collect();
        assert_eq!(orders.len(), sales.len());
        for sale in &sales {
            let read: Sale = serde_json::from_slice(&sale.to_json()).expect("our own JSON");
            assert_eq!(read, *sale);
        }
    }
}

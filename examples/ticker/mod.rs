//! What both ticker applications stand on: sales, and the place where they are sold.

pub(crate) mod place;
pub(crate) mod sale;

/// How bytes begin, in hexadecimal, and how many there are.
pub(crate) fn hex_begin(bytes: &[u8]) -> String {
    const SHOWN: usize = 32;
    let digits = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}"));
    let more = if bytes.len() > SHOWN { "…" } else { "" };
    format!(
        "{}{more} ({} bytes)",
        digits.collect::<String>(),
        bytes.len()
    )
}

//! Bytes as hexadecimal digits.

/// Two lower-case digits for each byte.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(digit).collect()
}

/// The bytes of such digits, of either case; `None` where there are others, or an odd number of them.
pub(crate) fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| {
        let value = nibble(*high)? << 4 | nibble(*low)?;
        u8::try_from(value).ok()
    };
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_either_case_are_the_bytes_again_and_no_others_are_any() {
        let bytes: Vec<u8> = (0..=255).collect();
        let digits = to_hex(&bytes);
        assert_eq!(from_hex(&digits), Some(bytes.clone()));
        assert_eq!(from_hex(&digits.to_uppercase()), Some(bytes));
        for bad in ["0", "0g", "é0", " 0", "+1"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }
}

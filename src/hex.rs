//! Bytes as hexadecimal digits.

use zeroize::Zeroizing;

/// Two lower-case digits for each byte.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(digit).collect()
}

/// The bytes of such digits, of either case, wiped in the end: they may be a key. `None` where there is anything else, or
/// half a byte.
pub(crate) fn from_hex(digits: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for [high, low] in pairs {
        let byte = digit(*high)? * 16 + digit(*low)?;
        bytes.push(u8::try_from(byte).expect("two hexadecimal digits make a byte"));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_either_case_are_the_bytes_again_and_no_others_are_any() {
        let bytes: Vec<u8> = (0..=255).collect();
        let digits = to_hex(&bytes);
        for digits in [digits.to_uppercase(), digits] {
            assert_eq!(*from_hex(digits.as_bytes()).unwrap(), bytes);
        }
        for bad in ["0", "0g", "é0", "é", " 0", " 00", "+1"] {
            assert_eq!(from_hex(bad.as_bytes()), None, "{bad}");
        }
    }
}

//! Base64 (RFC 4648 §4), read.

/// The octets of `text`; `None` where it is no base64. Padding may be missing.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut octets = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for four in text.chunks(4) {
        let mut bits = 0;
        for place in 0..4 {
            bits = bits << 6 | four.get(place).map_or(Some(0), |letter| value(*letter))?;
        }
        // A letter holds 6 bits, so one alone is no octet.
        octets.extend_from_slice(&bits.to_be_bytes()[1..four.len().max(2)]);
        if four.len() == 1 {
            return None;
        }
    }
    Some(octets)
}

/// What a letter stands for.
fn value(letter: u8) -> Option<u32> {
    Some(u32::from(match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648 §10.
    #[test]
    fn the_vectors_of_the_rfc_are_read() {
        let vectors = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, text) in vectors.iter().enumerate() {
            assert_eq!(decode(text).unwrap(), &b"foobar"[..length], "{text}");
            assert_eq!(decode(text.trim_end_matches('=')).unwrap(), &b"foobar"[..length]);
        }
        assert_eq!(decode("+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
    }

    #[test]
    fn other_texts_are_none() {
        for text in ["Z", "Zm9vY", "Zm 9", "Zm=v", "Zmé", "-_-_"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}

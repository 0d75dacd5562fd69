//! Serial numbers of zones: 32 bits that wrap, compared as RFC 1982 says.

/// Whether `one` is newer than `other` (RFC 1982 §3.2). Of two that lie half of the numbers apart
/// neither is.
pub fn is_newer(one: u32, other: u32) -> bool {
    (1..1 << 31).contains(&one.wrapping_sub(other))
}

/// The newer of the two.
pub fn newest(one: u32, other: u32) -> u32 {
    if is_newer(one, other) { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_grow_over_the_end_of_the_numbers() {
        assert!(is_newer(2, 1) && !is_newer(1, 2) && !is_newer(7, 7));
        assert!(is_newer(0, u32::MAX) && !is_newer(u32::MAX, 0));
        assert!(is_newer(1 << 31, 1) && !is_newer(1, 1 << 31));
        assert!(!is_newer(0, 1 << 31) && !is_newer(1 << 31, 0), "RFC 1982 leaves this open");
        assert_eq!((newest(5, u32::MAX), newest(3, 4)), (5, 4));
    }
}

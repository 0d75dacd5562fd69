//! The known word that a misspelt one was probably meant to be.

/// Longer words are nobody's misspelling, and would cost quadratic work.
const WORD_CHARS_MAX: usize = 40;

/// The nearest of the known words, if one is near: one slip, and one more for each four letters.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let letters: Vec<char> = word.to_lowercase().chars().take(WORD_CHARS_MAX + 1).collect();
    if letters.len() > WORD_CHARS_MAX {
        return None;
    }
    let slips_max = 1 + letters.len() / 4;
    known
        .into_iter()
        .map(|candidate| (slips(&letters, candidate), candidate))
        .filter(|(slips, candidate)| *slips <= slips_max && *slips < candidate.len())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete, replace or swap with their neighbour to get from one to the other
/// (the optimal string alignment distance).
fn slips(word: &[char], known: &str) -> usize {
    let known: Vec<char> = known.chars().collect();
    let mut before_last = vec![0; known.len() + 1];
    let mut last: Vec<usize> = (0..=known.len()).collect();
    for (i, &letter) in word.iter().enumerate() {
        let mut row = vec![i + 1; known.len() + 1];
        for (j, &other) in known.iter().enumerate() {
            let replaced = last[j] + usize::from(letter != other);
            row[j + 1] = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && letter == known[j - 1] && word[i - 1] == other {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[known.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_forgiven_and_other_words_are_not() {
        let known = ["forward", "kubernetes", "cache", "loop", "loadbalance", "ttl"];
        for (word, meant) in [
            ("forwrad", Some("forward")),
            ("kubernets", Some("kubernetes")),
            ("Cache", Some("cache")),
            ("lop", Some("loop")),
            ("tt", Some("ttl")),
            ("load_balance", Some("loadbalance")),
            ("banana", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
        assert_eq!(nearest(&"forward".repeat(1000), known), None);
    }
}

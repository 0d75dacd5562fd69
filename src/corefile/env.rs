//! `{$NAME}` and `{%NAME%}`: values of environment variables inside words.
//!
//! A value is put in once and not looked at again, so it can hold neither words, nor braces, nor
//! further variables.

/// Puts the values in; calls `missing` with the name of each variable that is not set, which reads
/// as empty.
pub(super) fn substitute(
    word: &str,
    variable: fn(&str) -> Option<String>,
    mut missing: impl FnMut(&str),
) -> String {
    let mut text = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, name, after)) = reference(rest) {
        text.push_str(before);
        match variable(name) {
            Some(value) => text.push_str(&value),
            None => missing(name),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

/// The first reference, with what is before and after it.
fn reference(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    // A word full of `{%` without an end is searched for the end once, not once for each.
    let mut may_end = true;
    while let Some(brace) = text[from..].find('{') {
        let (before, inner) = (&text[..from + brace], &text[from + brace + 1..]);
        let found = match inner.as_bytes().first() {
            Some(b'$') => Some(inner[1..].split_once('}')?),
            Some(b'%') if may_end => inner[1..].split_once("%}"),
            _ => None,
        };
        match found {
            Some((name, after)) if !name.is_empty() => return Some((before, name, after)),
            None if inner.starts_with('%') => may_end = false,
            _ => {}
        }
        from += brace + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        match name {
            "ZONE" => Some("cluster.local".to_owned()),
            "SELF" => Some("{$SELF}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn a_word_of_unfinished_references_costs_linear_work() {
        for unfinished in ["{$", "{%", "{"] {
            let word = unfinished.repeat(200_000);
            assert_eq!(substitute(&word, variable, |_| ()), word);
        }
    }

    #[test]
    fn values_are_put_in_once_and_missing_ones_are_told() {
        for (word, text, missing) in [
            ("{$ZONE}", "cluster.local", vec![]),
            ("{%ZONE%}:53", "cluster.local:53", vec![]),
            ("a.{$ZONE}.{$ZONE}", "a.cluster.local.cluster.local", vec![]),
            ("x{$NONE}y", "xy", vec!["NONE"]),
            ("{$SELF}", "{$SELF}", vec![]),
            ("{$}", "{$}", vec![]),
            ("{{$ZONE}", "{cluster.local", vec![]),
            ("{$ZONE", "{$ZONE", vec![]),
            ("{%ZONE}", "{%ZONE}", vec![]),
            ("{é{$ZONE}", "{écluster.local", vec![]),
        ] {
            let mut told: Vec<String> = Vec::new();
            assert_eq!(substitute(word, variable, |name| told.push(name.to_owned())), text);
            assert_eq!(told, missing, "{word}");
        }
    }
}

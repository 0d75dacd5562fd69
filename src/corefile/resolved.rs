//! Statements with everything in place → text that stands by itself: no imports, no variables.

use super::parse::Statement;

/// Writes statements so that reading them gives the same ones again.
pub(super) fn text(statements: &[Statement]) -> String {
    let mut text = String::new();
    add(&mut text, statements, 0);
    text
}

fn add(text: &mut String, statements: &[Statement], depth: usize) {
    for statement in statements {
        indent(text, depth);
        let words: Vec<String> = statement.words.iter().map(|word| quoted(word)).collect();
        text.push_str(&words.join(" "));
        if let Some(body) = &statement.body {
            text.push_str(if words.is_empty() { "{\n" } else { " {\n" });
            add(text, body, depth + 1);
            indent(text, depth);
            text.push('}');
        }
        text.push('\n');
    }
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("    ", depth));
}

/// The word, in quotes where it would be read as something else without them.
fn quoted(word: &str) -> String {
    let is_bare = !word.is_empty()
        && !word.starts_with('"')
        && !["{", "}"].contains(&word)
        && !word.contains(|letter: char| letter.is_whitespace() || letter == '#');
    if is_bare { word.to_owned() } else { format!("\"{}\"", word.replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Origin, load};

    fn variable(name: &str) -> Option<String> {
        match name {
            "ZONE" => Some("example.org".to_owned()),
            "SELF" => Some("a {$SELF}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn p12_what_is_written_is_read_as_it_was_without_imports_and_variables() {
        for text in [
            ". {\n cache 30\n}\n",
            "(own) {\n errors {\n  consolidate 5m \"^a # \\\"b\\\" {$ZONE} .*$\"\n }\n}\n\
             {$ZONE} b:54 {\n import own\n forward . 1.1.1.1 {\n  max_fails 3\n }\n}\n",
        ] {
            let options = Options { variable, ..Options::default() };
            let first = load(&Origin::Stdin(text.into()), &options).unwrap();
            let nothing = Options { variable: |_| None, ..Options::default() };
            let again = load(&Origin::Stdin(first.resolved.to_string().into()), &nothing).unwrap();
            assert_eq!(again.fingerprint, first.fingerprint, "{}", first.resolved);
            assert!(again.warnings.is_empty());
        }
    }
}

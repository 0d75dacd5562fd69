//! Label selectors, as `kubectl -l` takes them: which objects count.
//!
//! ```text
//! a=b   a==b   a!=b   a in (b,c)   a notin (b,c)   a   !a      with commas between; all must hold
//! ```
//!
//! kube matches and prints them. It has no reader of this syntax, so that is ours, after the
//! grammar of apimachinery (`labels.Parse`). `<` and `>` are for nodes and refused, as API servers
//! do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kube::core::{Expression, Selector as Expressions, SelectorExt};

use super::schema::{SUBDOMAIN_MAX, is_subdomain};

/// Longest name of a label, and longest value, in characters.
const NAME_MAX: usize = 63;

/// A label selector that makes sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selector(Expressions);

impl Selector {
    /// Reads a selector. An empty one selects everything.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = Rest(text.trim_start_matches(is_space));
        let mut found = Vec::new();
        while found.is_empty() && !rest.0.is_empty() || rest.take(",") {
            found.push(rest.requirement()?);
        }
        if !rest.0.is_empty() {
            return Err(format!("{} where a comma or the end should be", rest.shown()));
        }
        // In the order of their keys (as apimachinery), so that what is the same prints the same.
        found.sort_by(|a, b| key_of(a).cmp(key_of(b)));
        Ok(Self(found.into_iter().collect()))
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.matches(labels)
    }
}

impl fmt::Display for Selector {
    /// Writes it as API servers take it (`labelSelector=`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is still to be read; it never begins with a space.
struct Rest<'t>(&'t str);

impl<'t> Rest<'t> {
    /// Reads one requirement.
    fn requirement(&mut self) -> Result<Expression, String> {
        if self.take("!") {
            return Ok(Expression::DoesNotExist(self.key()?));
        }
        let key = self.key()?;
        if self.0.is_empty() || self.0.starts_with(',') {
            return Ok(Expression::Exists(key));
        }
        if self.take("==") || self.take("=") {
            return Ok(Expression::Equal(key, self.value()?));
        }
        if self.take("!=") {
            return Ok(Expression::NotEqual(key, self.value()?));
        }
        let shown = self.shown();
        match self.word() {
            "in" => Ok(Expression::In(key, self.values()?)),
            "notin" => Ok(Expression::NotIn(key, self.values()?)),
            _ => Err(format!("{shown} where =, !=, in, notin or a comma should be")),
        }
    }

    /// Reads values in parentheses; an empty one is a value too.
    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        if !self.take("(") {
            return Err(format!("{} where ( should be", self.shown()));
        }
        let mut values = BTreeSet::from([self.value()?]);
        while self.take(",") {
            values.insert(self.value()?);
        }
        if self.take(")") {
            return Ok(values);
        }
        Err(format!("{} where a comma or ) should be", self.shown()))
    }

    /// Reads the name of a label, which may have a domain name and a slash in front.
    fn key(&mut self) -> Result<String, String> {
        let shown = self.shown();
        let key = self.word();
        if key.is_empty() {
            return Err(format!("{shown} where the name of a label should be"));
        }
        let (prefix, name) = key.split_once('/').map_or((None, key), |(p, n)| (Some(p), n));
        if prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
            return Err(format!(
                "the prefix of \"{key}\" is no lower-case domain name of at most {SUBDOMAIN_MAX} \
                 characters"
            ));
        }
        check("name of a label", name)?;
        Ok(key.to_owned())
    }

    /// Reads a value, which may be empty.
    fn value(&mut self) -> Result<String, String> {
        let value = self.word();
        if !value.is_empty() {
            check("value of a label", value)?;
        }
        Ok(value.to_owned())
    }

    /// Takes a symbol, if it comes next.
    fn take(&mut self, symbol: &str) -> bool {
        let Some(rest) = self.0.strip_prefix(symbol) else { return false };
        self.0 = rest.trim_start_matches(is_space);
        true
    }

    /// Takes all up to the next space or symbol.
    fn word(&mut self) -> &'t str {
        let end = self.0.find(|c| is_space(c) || "=!(),<>".contains(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest.trim_start_matches(is_space);
        word
    }

    /// What comes next, for the text of an error.
    fn shown(&self) -> String {
        match self.0.split(is_space).next().unwrap_or_default() {
            "" => "it ends".to_owned(),
            next => format!("it has \"{next}\""),
        }
    }
}

/// The spaces of apimachinery.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// The label that a requirement is about.
fn key_of(requirement: &Expression) -> &str {
    match requirement {
        Expression::In(key, _)
        | Expression::NotIn(key, _)
        | Expression::Equal(key, _)
        | Expression::NotEqual(key, _)
        | Expression::Exists(key)
        | Expression::DoesNotExist(key) => key,
    }
}

/// Checks a name or a value: letters, digits, and `-`, `_` and `.` inside.
fn check(what: &str, text: &str) -> Result<(), String> {
    let is_inner = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    let is_edge = |octet: Option<u8>| octet.is_some_and(|octet| octet.is_ascii_alphanumeric());
    if text.len() > NAME_MAX {
        return Err(format!("the {what} \"{text}\" has more than {NAME_MAX} characters"));
    }
    if text.bytes().all(is_inner) && is_edge(text.bytes().next()) && is_edge(text.bytes().last()) {
        return Ok(());
    }
    Err(format!("the {what} \"{text}\" has not only letters, digits and, between them, -, _ and ."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        Selector::parse(text).unwrap_or_else(|reason| panic!("{text}: {reason}")).to_string()
    }

    #[test]
    fn every_form_is_read_and_printed_as_api_servers_take_it() {
        for (text, expected) in [
            ("", ""),
            ("  ", ""),
            ("app=web", "app=web"),
            (" app == web ", "app=web"),
            ("app!=web", "app!=web"),
            ("app=", "app="),
            ("app!=,b", "app!=,b"),
            ("a in (b, c)", "a in (b,c)"),
            ("a in(c,b,c)", "a in (b,c)"),
            ("a notin\t( b )", "a notin (b)"),
            ("a in ()", "a in ()"),
            ("a in (,b)", "a in (,b)"),
            ("a in (b,,)", "a in (,b)"),
            ("a", "a"),
            ("! a", "!a"),
            ("in in (in,notin),notin", "in in (in,notin),notin"),
            ("b,a=1,!c", "a=1,b,!c"),
            ("team.example.org/Role_1.x=Y-2", "team.example.org/Role_1.x=Y-2"),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_told() {
        let long = "x".repeat(64);
        let prefix = format!("{}/a", "x.".repeat(127));
        for (text, reason) in [
            (",", "it has \",\" where the name of a label should be"),
            ("a,", "it ends where the name of a label should be"),
            ("a,,b", "it has \",b\" where the name of a label should be"),
            ("=b", "it has \"=b\" where the name of a label should be"),
            ("!!a", "it has \"!a\" where the name of a label should be"),
            ("a b", "it has \"b\" where =, !=, in, notin or a comma should be"),
            ("a>1", "it has \">1\" where =, !=, in, notin or a comma should be"),
            ("a In (b)", "it has \"In\" where =, !=, in, notin or a comma should be"),
            ("!a=b", "it has \"=b\" where a comma or the end should be"),
            ("a=b c", "it has \"c\" where a comma or the end should be"),
            ("a=(b)", "it has \"(b)\" where a comma or the end should be"),
            ("a in b", "it has \"b\" where ( should be"),
            ("a in (b", "it ends where a comma or ) should be"),
            ("a in (b c)", "it has \"c)\" where a comma or ) should be"),
            ("-a", "the name of a label \"-a\" has not only letters"),
            ("a/b/c", "the name of a label \"b/c\" has not only letters"),
            ("a/", "the name of a label \"\" has not only letters"),
            ("é", "the name of a label \"é\" has not only letters"),
            ("a=b_", "the value of a label \"b_\" has not only letters"),
            ("/a", "the prefix of \"/a\" is no lower-case domain name"),
            ("A.b/c", "the prefix of \"A.b/c\" is no lower-case domain name"),
            (&*prefix, "the prefix of \"x.x."),
            (&*long, "the name of a label \"xxx"),
            (&*format!("a={long}"), "the value of a label \"xxx"),
        ] {
            let told = Selector::parse(text).expect_err(text);
            assert!(told.starts_with(reason), "{text}: {told}");
        }
        assert!(Selector::parse(&format!("{0}={0}", &long[1..])).is_ok());
    }

    #[test]
    fn all_requirements_must_hold() {
        let labels = [("app", "web"), ("team.example.org/role", "front"), ("empty", "")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("none!=web", true),
            ("none=", false),
            ("empty=", true),
            ("empty in (,x)", true),
            ("app in (db,web)", true),
            ("none in (db,web)", false),
            ("app notin (db)", true),
            ("none notin (db)", true),
            ("app notin (web)", false),
            ("team.example.org/role", true),
            ("!team.example.org/role", false),
            ("!none", true),
            ("app=web,!none,empty", true),
            ("app=web,none", false),
            ("app=web,app=db", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&labels), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_printed_is_read_again(
            text in prop_oneof![
                ".{0,40}",
                "[ab/.=!(), in-]{0,30}",
                "(a( in |=| notin ?)\\(?[ab, ]{0,3}\\)?,?){0,3}",
            ],
        ) {
            if let Ok(selector) = Selector::parse(&text) {
                let printed = selector.to_string();
                prop_assert_eq!(Selector::parse(&printed), Ok(selector), "{}", printed);
            }
        }
    }
}

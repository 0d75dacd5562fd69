//! Goals as they are written.

use super::measure::{METRICS, Metric, Unit};
use super::{Objective, Operator, Value};

/// The operators, longer ones first.
const OPERATORS: &[(&str, Operator)] = &[
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("==", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::More),
    ("=", Operator::Equal),
];

/// What a goal can be scoped to: kinds of names and of clients.
const SCOPES: &[&str] = &[
    "service",
    "headless",
    "host",
    "external-name",
    "foreign",
    "missing",
    "ptr",
    "srv",
    "random",
    "listed",
    "packet",
    "glibc",
    "musl",
    "go",
    "jvm",
    "netty",
    "c-ares",
];

/// Units of times, in seconds.
const UNITS: &[(&str, f64)] =
    &[("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Longest text of a goal that is told back; longer words are nobody's misspelling.
const CHARS_MAX: usize = 60;

/// Reads one goal.
///
/// # Errors
/// One line: what is wrong and what to write.
pub(super) fn goal(text: &str) -> Result<Objective, String> {
    let wrong = |why: String| {
        let short: String = text.chars().take(CHARS_MAX).collect();
        format!("--slo: {short:?}: {why}")
    };
    read(text).map_err(wrong)
}

fn read(text: &str) -> Result<Objective, String> {
    let (name, operator, value) = split(text)?;
    let (scope, metric) = scoped(name)?;
    let value = number(value, metric)?;
    Ok(Objective { text: text.to_owned(), scope, metric, operator, value })
}

/// Splits at the operator.
fn split(text: &str) -> Result<(&str, Operator, &str), String> {
    let at = text.find(['<', '>', '=']).ok_or("no operator; write it as p99<5ms")?;
    let (name, rest) = text.split_at(at);
    let found = OPERATORS.iter().find(|(operator, _)| rest.starts_with(operator));
    let (operator, meant) = found.ok_or("no operator; write it as p99<5ms")?;
    Ok((name.trim(), *meant, rest[operator.len()..].trim()))
}

fn scoped(name: &str) -> Result<(Option<String>, Metric), String> {
    let (scope, name) = match name.split_once('.') {
        // p99.9 is how some write p999.
        Some(("p99", "9")) => (None, "p999"),
        Some((scope, name)) => (Some(scope), name),
        None => (None, name),
    };
    let metric = metric(name)?;
    let Some(scope) = scope else { return Ok((None, metric)) };
    if !SCOPES.contains(&scope) {
        let what = "kind of name or client";
        return Err(unknown(what, scope, SCOPES.iter().copied()));
    }
    if metric.is_of_the_run() {
        return Err(format!("{name} is of the whole run; write it without {scope:?}"));
    }
    Ok((Some(scope.to_owned()), metric))
}

fn metric(name: &str) -> Result<Metric, String> {
    let known = METRICS.iter().find(|(known, _)| *known == name);
    let names = METRICS.iter().map(|(known, _)| *known);
    known.map(|(_, metric)| *metric).ok_or_else(|| unknown("metric", name, names))
}

fn unknown<'k>(what: &str, word: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    let short: String = word.chars().take(CHARS_MAX).collect();
    match nearest(word, known.clone()) {
        Some(meant) => format!("no {what} {short:?}; did you mean {meant:?}?"),
        None => {
            let known: Vec<&str> = known.collect();
            format!("no {what} {short:?}; there are {}", known.join(" "))
        }
    }
}

/// Reads the value of a metric.
fn number(text: &str, metric: Metric) -> Result<Value, String> {
    let is_figure = |it: char| it.is_ascii_digit() || it == '.';
    let end = text.find(|it| !is_figure(it)).unwrap_or(text.len());
    let (figures, unit) = text.split_at(end);
    let unit = unit.trim();
    let number: f64 =
        figures.parse().map_err(|_| format!("no value in {text:?}; {}", hint(metric)))?;
    let is_whole = number.fract() == 0.0;
    match (metric.unit(), unit) {
        (Unit::Count, "%") if number <= 100.0 => Ok(Value::Percent(number)),
        (Unit::Count, "") if is_whole => Ok(Value::Number(number)),
        (Unit::Number, "" | "/s" | "x") => Ok(Value::Number(number)),
        (Unit::Time, "") if number == 0.0 => Ok(Value::Seconds(0.0)),
        (Unit::Time, unit) => {
            let known = UNITS.iter().find(|(known, _)| *known == unit);
            let seconds = known.map(|(_, seconds)| Value::Seconds(number * seconds));
            seconds.ok_or_else(|| format!("{text:?} is no time; {}", hint(metric)))
        }
        _ => Err(format!("{text:?} does not fit; {}", hint(metric))),
    }
}

/// What values of a metric look like.
fn hint(metric: Metric) -> &'static str {
    match metric.unit() {
        Unit::Time => "write a time such as 5ms or 2s",
        Unit::Count => "write a count such as 0, or a percent such as 0.1%",
        Unit::Number => "write a number such as 2.5",
    }
}

/// The nearest of the known words, if one is near: one slip, and one more for each four letters.
fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let letters: Vec<char> =
        word.to_lowercase().replace('-', "_").chars().take(CHARS_MAX).collect();
    let slips_max = 1 + letters.len() / 4;
    known
        .map(|known| (slips(&letters, &known.replace('-', "_")), known))
        .filter(|(slips, known)| *slips <= slips_max && *slips < known.len())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, known)| known)
}

/// Letters to insert, delete or replace to get from one to the other.
fn slips(word: &[char], known: &str) -> usize {
    let known: Vec<char> = known.chars().collect();
    let mut row: Vec<usize> = (0..=known.len()).collect();
    for (i, letter) in word.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in known.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[known.len()]
}

#[cfg(test)]
mod tests {
    use super::super::super::super::record::class_name;
    use super::super::super::super::tasks::Class;
    use super::*;

    #[test]
    fn every_kind_of_name_and_client_is_a_scope() {
        use crate::load::resolver::Resolver;
        use Class::*;
        let classes =
            [Service, Headless, Host, ExternalName, Foreign, Missing, Ptr, Srv, Random, Listed];
        let resolvers = {
            use Resolver::*;
            [Packet, Glibc, Musl, Go, Jvm, Netty, CAres]
        };
        let names = classes.map(class_name).into_iter().chain(resolvers.map(Resolver::name));
        assert_eq!(names.collect::<Vec<_>>(), SCOPES);
    }

    #[test]
    fn values_are_read_with_their_units() {
        for (text, value) in [
            ("p99<5ms", Value::Seconds(0.005)),
            ("p99.9 < 1.5 s", Value::Seconds(1.5)),
            ("max<=250us", Value::Seconds(0.00025)),
            ("recovery<0", Value::Seconds(0.0)),
            ("longest_outage<1m", Value::Seconds(60.0)),
            ("failed=0", Value::Number(0.0)),
            ("glibc.try_again<=0.1%", Value::Percent(0.1)),
            ("c-ares.amplification<2.5", Value::Number(2.5)),
            ("rate>=5000/s", Value::Number(5000.0)),
        ] {
            let (Value::Seconds(wanted) | Value::Number(wanted) | Value::Percent(wanted)) = value;
            let read = goal(text).unwrap().value;
            let (Value::Seconds(seen) | Value::Number(seen) | Value::Percent(seen)) = read;
            assert!((seen - wanted).abs() < 1e-12, "{text}: {read:?}");
            assert_eq!(std::mem::discriminant(&read), std::mem::discriminant(&value), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (text, told) in [
            ("p99", "no operator"),
            ("p98<5ms", "no metric \"p98\"; did you mean"),
            ("unknown-host=0", "did you mean \"unknown_host\"?"),
            ("banana=0", "there are p50 p90"),
            ("p99<5", "is no time; write a time such as 5ms"),
            ("p99<", "no value in \"\""),
            ("p99<-1ms", "no value in \"-1ms\""),
            ("p99<5%", "write a time"),
            ("failed<0.5", "write a count such as 0, or a percent"),
            ("failed<5ms", "does not fit"),
            ("failed<101%", "does not fit"),
            ("glibs.p99<5ms", "did you mean \"glibc\"?"),
            ("glibc.recovery<2s", "recovery is of the whole run"),
            ("rate>1ms", "write a number"),
            ("p99<1.2.3ms", "no value in"),
            ("p99<5ms\nfailed=0", "is no time"),
        ] {
            let error = goal(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
            assert!(error.starts_with("--slo: \"") && error.lines().count() == 1, "{error}");
        }
    }
}

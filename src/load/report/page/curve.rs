//! The curve of latency over percentiles, with as much room for 99.9 … 99.99 % as for 0 … 90 %.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::super::{Latency, histogram};

/// Points per decade: 90, 99, 99.9 % and so on each end one.
const POINTS_PER_DECADE: u32 = 16;
/// Most decades: 12 are one lookup in a million millions.
const DECADES_MAX: u32 = 12;

/// One line of the plot.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Curve {
    /// `all`, `resolver` or `class`.
    kind: &'static str,
    /// The name of the group.
    name: String,
    /// log10(1/(1-q)) of a quantile q, and the latency in milliseconds.
    points: Vec<[f64; 2]>,
}

impl Curve {
    /// The curve of a histogram; `None` where there is none, or nothing in it.
    pub(super) fn new(kind: &'static str, name: &str, latency: &Latency) -> Option<Self> {
        let histogram = histogram::decode(&latency.histogram).ok()?;
        if histogram.is_empty() {
            return None;
        }
        Some(Self { kind, name: name.to_owned(), points: points(&histogram) })
    }
}

/// The points, up to the quantile beyond which only the longest latency is.
fn points(histogram: &Histogram<u64>) -> Vec<[f64; 2]> {
    let end = (histogram.len() as f64).log10().min(f64::from(DECADES_MAX));
    let steps = (0..=DECADES_MAX * POINTS_PER_DECADE)
        .map(|step| f64::from(step) / f64::from(POINTS_PER_DECADE))
        .take_while(|decades| *decades < end);
    let mut points: Vec<[f64; 2]> = steps
        .map(|decades| {
            let quantile = 1.0 - 10_f64.powf(-decades);
            [decades, histogram.value_at_quantile(quantile) as f64 / 1000.0]
        })
        .collect();
    points.push([end, histogram.max() as f64 / 1000.0]);
    points
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

    use super::*;

    fn recorded(values_us: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        for value in values_us {
            histogram.record(value).unwrap();
        }
        histogram
    }

    #[test]
    fn every_decade_ends_at_its_percentile() {
        let points = points(&recorded(1..=10_000));
        let at = |decades: f64| points.iter().find(|point| point[0] == decades).unwrap()[1];
        assert_eq!(points.len(), 4 * 16 + 1);
        for (decades, ms) in [(1.0, 9.0), (2.0, 9.9), (3.0, 9.99), (4.0, 10.0)] {
            assert!((at(decades) - ms).abs() < 0.01, "{decades}: {}", at(decades));
        }
        assert!(points.windows(2).all(|two| two[0][0] < two[1][0] && two[0][1] <= two[1][1]));
    }

    #[test]
    fn one_lookup_is_one_point() {
        assert_eq!(points(&recorded([1500])), [[0.0, 1.5]]);
    }

    #[test]
    fn points_are_bounded_whatever_the_count() {
        let mut histogram = recorded([5]);
        histogram.record_n(7, u64::MAX / 2).unwrap();
        assert_eq!(points(&histogram).len(), 12 * 16 + 1);
    }

    #[test]
    fn what_is_no_histogram_has_no_curve() {
        let mut empty = Vec::new();
        V2DeflateSerializer::new().serialize(&recorded([]), &mut empty).unwrap();
        for histogram in ["", "%%%", "AAAA", "HISTFAAAABB42pNpmSzMwMDAwAAAHw=="] {
            let latency = Latency { histogram: histogram.to_owned(), ..Latency::default() };
            assert_eq!(Curve::new("all", "total", &latency), None, "{histogram}");
        }
        assert!(!empty.is_empty());
    }
}

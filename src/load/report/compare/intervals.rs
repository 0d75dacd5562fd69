//! Intervals of 95 % for percentiles and proportions.

use hdrhistogram::Histogram;

/// The normal deviate of 95 %, both sides.
const Z: f64 = 1.959_964;
/// Fewer slots say nothing about how a percentile spreads.
const SLOTS_MIN: usize = 4;

/// Interval of a percentile, in the unit of the histogram: the count of values below it is
/// binomial, so its rank lies within some standard deviations of `n·p`.
pub fn order_statistics(histogram: &Histogram<u64>, part: f64) -> (f64, f64) {
    let count = histogram.len() as f64;
    if count == 0.0 {
        return (0.0, 0.0);
    }
    let deviation = Z * (count * part * (1.0 - part)).sqrt();
    let at = |rank: f64| histogram.value_at_quantile((rank / count).clamp(0.0, 1.0)) as f64;
    let middle = count * part;
    (at(middle - deviation), at(middle + deviation + 1.0))
}

/// How far the mean of a figure of slots may be off, by how it spreads over them. Neighbours
/// resemble each other, so their number is cut down by the correlation of each to the next.
pub fn spread(values: &[f64]) -> f64 {
    if values.len() < SLOTS_MIN {
        return 0.0;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    if squares == 0.0 {
        return 0.0;
    }
    let products: f64 = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    let correlation = (products / squares).clamp(0.0, 0.99);
    let independent = (count * (1.0 - correlation) / (1.0 + correlation)).max(1.0);
    Z * (squares / (count - 1.0) / independent).sqrt()
}

/// Wilson's interval of a proportion.
pub fn wilson((part, of): (u64, u64)) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let (count, proportion) = (of as f64, part as f64 / of as f64);
    let divisor = 1.0 + Z * Z / count;
    let middle = proportion + Z * Z / (2.0 * count);
    let deviation = proportion * (1.0 - proportion) / count + Z * Z / (4.0 * count * count);
    let half = Z * deviation.sqrt();
    (((middle - half) / divisor).max(0.0), ((middle + half) / divisor).min(1.0))
}

/// Interval of a difference of proportions, after less before (Newcombe 1998, method 10).
pub fn newcombe(before: (u64, u64), after: (u64, u64)) -> (f64, f64) {
    let proportion = |(part, of): (u64, u64)| if of == 0 { 0.0 } else { part as f64 / of as f64 };
    let (one, other) = (proportion(before), proportion(after));
    let ((one_low, one_high), (other_low, other_high)) = (wilson(before), wilson(after));
    let difference = other - one;
    let low = difference - (other - other_low).hypot(one_high - one);
    let high = difference + (other_high - other).hypot(one - one_low);
    (low, high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::histogram;
    use super::*;

    #[test]
    fn proportions_are_those_of_the_papers() {
        // Newcombe 1998, Statistics in Medicine 17:857 and 17:873: 81/263, and 56/70 less 48/80.
        let (low, high) = wilson((81, 263));
        assert!((low - 0.2553).abs() < 1e-4 && (high - 0.3662).abs() < 1e-4, "{low} {high}");
        let (low, high) = newcombe((48, 80), (56, 70));
        assert!((low - 0.0524).abs() < 1e-4 && (high - 0.3339).abs() < 1e-4, "{low} {high}");
        assert_eq!(wilson((0, 0)), (0.0, 1.0));
    }

    #[test]
    fn the_rank_of_a_median_lies_within_an_interval() {
        let mut values = histogram::empty();
        (1..=1000).for_each(|us| histogram::record(&mut values, us));
        // 500 ± 1.96 · √250 are ranks 469 to 532.
        let (low, high) = order_statistics(&values, 0.5);
        assert!((low - 470.0).abs() <= 1.0 && (high - 532.0).abs() <= 1.0, "{low} {high}");
        assert_eq!(order_statistics(&histogram::empty(), 0.5), (0.0, 0.0));
    }

    #[test]
    fn neighbours_that_resemble_each_other_count_less() {
        let alternating: Vec<f64> = (0..40).map(|at| f64::from(at % 2)).collect();
        let drifting: Vec<f64> = (0..40).map(|at| f64::from(at / 20)).collect();
        assert!(spread(&drifting) > 3.0 * spread(&alternating));
        assert_eq!(spread(&[1.0, 2.0]), 0.0);
        assert_eq!(spread(&[1.0; 40]), 0.0);
    }

    proptest! {
        #[test]
        fn intervals_hold_what_was_seen(
            one in (0_u64..50, 0_u64..50),
            other in (0_u64..50, 0_u64..50),
        ) {
            let of = |(part, rest): (u64, u64)| (part, part + rest);
            let (one, other) = (of(one), of(other));
            let (low, high) = newcombe(one, other);
            prop_assert!(low <= high && low.is_finite() && high.is_finite());
            if one.1 > 0 && other.1 > 0 {
                let seen = other.0 as f64 / other.1 as f64 - one.0 as f64 / one.1 as f64;
                prop_assert!(low <= seen + 1e-9 && seen <= high + 1e-9);
                let (back_low, back_high) = newcombe(other, one);
                prop_assert!((low + back_high).abs() < 1e-9 && (high + back_low).abs() < 1e-9);
            }
        }
    }
}

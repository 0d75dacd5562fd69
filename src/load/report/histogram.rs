//! HdrHistograms of microseconds, and the figures and the text that a report has of them.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use super::Latency;

/// The longest latency that is told apart: 100 s.
pub const LONGEST_US: u64 = 100_000_000;
/// Significant digits: a value is known to 0.1 %.
const DIGITS: u8 = 3;
/// Longest text and longest inflated form of a histogram that is read. Ours are below 200 kB.
const OCTETS_MAX: usize = 1 << 20;
/// Largest value of a histogram that is read: 2⁴⁰ µs are twelve days.
const VALUE_MAX: u64 = 1 << 40;
/// Octets before the counts of an inflated histogram: cookie, length, offset, digits, lowest and
/// highest value, ratio.
const HEADER_OCTETS: usize = 40;

/// A histogram without values. It grows with the longest of them.
pub fn empty() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("three digits are allowed")
}

/// Counts one latency; what is shorter than a microsecond or too long counts as the nearest.
pub fn record(histogram: &mut Histogram<u64>, us: u64) {
    record_n(histogram, us.clamp(1, LONGEST_US), 1);
}

/// Counts a value so often. Makes room for it, which `saturating_record` does not.
pub fn record_n(histogram: &mut Histogram<u64>, value: u64, count: u64) {
    if histogram.record_n(value, count).is_err() {
        histogram.saturating_record_n(value, count);
    }
}

/// Adds the values of `other`.
pub fn add(histogram: &mut Histogram<u64>, other: &Histogram<u64>) {
    for value in other.iter_recorded() {
        record_n(histogram, value.value_iterated_to(), value.count_at_value());
    }
}

/// Figures and text of a histogram.
pub fn latency(histogram: &Histogram<u64>) -> Latency {
    if histogram.is_empty() {
        return Latency::default();
    }
    let quantile = |part| ms(histogram.value_at_quantile(part) as f64);
    Latency {
        count: histogram.len(),
        mean: ms(histogram.mean()),
        deviation: ms(histogram.stdev()),
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        p999: quantile(0.999),
        max: ms(histogram.max() as f64),
        histogram: encode(histogram),
        clamped: 0,
    }
}

/// Milliseconds of microseconds, to the nanosecond.
fn ms(us: f64) -> f64 {
    (us * 1000.0).round() / 1e6
}

/// A rate or a share with as many digits as anybody reads. Short figures also go through JSON
/// unchanged.
pub fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

/// HdrHistogram V2, deflated, base64.
fn encode(histogram: &Histogram<u64>) -> String {
    let mut octets = Vec::new();
    let written = V2DeflateSerializer::new().serialize(histogram, &mut octets);
    written.expect("a histogram of three digits in memory can be written");
    STANDARD.encode(octets)
}

/// Reads the text of a histogram. The empty text is an empty histogram.
///
/// # Errors
/// What is wrong with it: it is no such text, or larger than any of ours.
pub fn decode(text: &str) -> Result<Histogram<u64>, String> {
    if text.is_empty() {
        return Ok(empty());
    }
    if text.len() > OCTETS_MAX {
        return Err(format!("a histogram of more than {OCTETS_MAX} octets"));
    }
    let octets = STANDARD.decode(text).map_err(|error| format!("no base64: {error}"))?;
    let inflated = inflate(&octets)?;
    let read = Deserializer::new().deserialize(&mut &inflated[..]);
    read.map_err(|error| format!("no histogram: {error}"))
}

/// Inflates a histogram and looks at what its header promises, before memory is taken for that.
fn inflate(octets: &[u8]) -> Result<Vec<u8>, String> {
    let body = octets.get(8..).ok_or("no histogram: it is cut")?;
    let mut inflated = Vec::new();
    let limit = OCTETS_MAX as u64 + 1;
    ZlibDecoder::new(body)
        .take(limit)
        .read_to_end(&mut inflated)
        .map_err(|error| format!("no histogram: {error}"))?;
    let header = inflated.get(..HEADER_OCTETS).ok_or("no histogram: its header is cut")?;
    let number = |at: usize, size: usize| {
        header[at..at + size].iter().fold(0_u64, |number, octet| number << 8 | u64::from(*octet))
    };
    let counts = (inflated.len() - HEADER_OCTETS) as u64;
    let (length, digits, highest) = (number(4, 4), number(12, 4), number(24, 8));
    if length > counts || inflated.len() > OCTETS_MAX {
        return Err("no histogram: its length is wrong".to_owned());
    }
    if digits > u64::from(DIGITS) || highest > VALUE_MAX {
        return Err(format!("a histogram of {digits} digits up to {highest}, which is too large"));
    }
    Ok(inflated)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Histogram<u64> {
        let mut histogram = empty();
        values.iter().for_each(|us| record(&mut histogram, *us));
        histogram
    }

    proptest! {
        #[test]
        fn text_is_read_as_what_was_written(
            values in prop::collection::vec(0..2 * LONGEST_US, 0..100)
        ) {
            let histogram = of(&values);
            let latency = latency(&histogram);
            prop_assert_eq!(decode(&latency.histogram).unwrap(), histogram);
            prop_assert_eq!(latency.count, values.len() as u64);
        }

        #[test]
        fn sums_have_all_values(
            one in prop::collection::vec(1..LONGEST_US, 0..100),
            other in prop::collection::vec(1..LONGEST_US, 0..100),
        ) {
            let mut sum = of(&one);
            add(&mut sum, &of(&other));
            let all = of(&one.into_iter().chain(other).collect::<Vec<_>>());
            prop_assert_eq!(sum.len(), all.len());
            for part in [0.0, 0.5, 0.9, 1.0] {
                prop_assert_eq!(sum.value_at_quantile(part), all.value_at_quantile(part));
            }
        }

        #[test]
        fn any_text_and_any_changed_octet_is_read_or_refused(
            noise in ".{0,80}", at in 0_usize..80, octet in any::<u8>(), deflate in any::<bool>()
        ) {
            let _ = decode(&noise);
            let text = encode(&of(&[1, 100, 5000]));
            let mut octets = STANDARD.decode(&text).unwrap();
            if deflate {
                let index = at % octets.len();
                octets[index] = octet;
            } else {
                // Changes the inflated form, so that every field of the header is met.
                let mut inflated = inflate(&octets).unwrap();
                let index = at % inflated.len();
                inflated[index] = octet;
                octets.truncate(8);
                let mut writer =
                    flate2::write::ZlibEncoder::new(octets, flate2::Compression::fast());
                std::io::Write::write_all(&mut writer, &inflated).unwrap();
                octets = writer.finish().unwrap();
            }
            let _ = decode(&STANDARD.encode(octets));
        }
    }

    #[test]
    fn figures_are_in_milliseconds() {
        let latency =
            latency(&of(&[1000; 99].iter().copied().chain([2_000_000]).collect::<Vec<_>>()));
        assert!((latency.p50 - 1.0).abs() < 0.001);
        assert!((latency.p99 - 1.0).abs() < 0.001);
        assert!((latency.p999 - 2000.0).abs() < 2.0);
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut writer = flate2::write::ZlibEncoder::new(vec![0; 8], flate2::Compression::best());
        std::io::Write::write_all(&mut writer, &vec![0; 10 * OCTETS_MAX]).unwrap();
        let text = STANDARD.encode(writer.finish().unwrap());
        assert!(decode(&text).unwrap_err().contains("length is wrong"));
    }
}

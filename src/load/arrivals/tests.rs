//! Profiles and times as written, and arrivals beside their integral.

use super::*;
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3600);

fn all(profile: &Profile, duration: Duration, part: usize, parts: usize) -> Vec<Duration> {
    Arrivals::new(profile, Some(duration), part, parts, 7).collect()
}

#[test]
fn times_are_read_with_their_units() {
    let read = |text| parse_time(text).map(|time| time.as_nanos());
    assert_eq!(read("30s"), Ok(30_000_000_000));
    assert_eq!(read("0s"), Ok(0));
    assert_eq!(read(" 800ms "), Ok(800_000_000));
    assert_eq!(read("1m30s"), Ok(90_000_000_000));
    assert_eq!(read("1.5s"), Ok(1_500_000_000));
    assert_eq!(read("1h2m3s4ms5us6ns"), Ok(3_723_004_005_006));
    assert_eq!(parse_time("366d"), Ok(TIME_MAX));
    let wrong = ["", "30", "s", "30 s", "-1s", "1x", "1.2.3s", ".s", "1e3s", "inf", "3é", "367d"];
    for text in wrong.into_iter().chain(["99999999999999999999d", "9999999999999999.9d"]) {
        let problem = parse_time(text).unwrap_err();
        assert!(problem.contains("write") && !problem.contains('\n'), "{problem}");
    }
}

#[test]
fn profiles_are_written_as_they_are_read() {
    for text in [
        "constant:5000",
        "poisson:0.5",
        "ramp:1000..50000/60s",
        "step:100,2000.5,100/1500ms",
        "step:7/1ns",
    ] {
        assert_eq!(Profile::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn what_is_no_profile_is_told_in_one_line_with_what_to_write() {
    for text in [
        "",
        "5000",
        "constant",
        "constant:",
        "constant:0",
        "constant:-1",
        "poisson:inf",
        "poisson:NaN",
        "constant:1e9",
        "uniform:5",
        "ramp:1..2",
        "ramp:1/5s",
        "ramp:1..2/0s",
        "ramp:1..2/5",
        "step:/5s",
        "step:1,,2/5s",
        "step:1,2",
        "constant:5\nfoo",
    ] {
        let problem = Profile::parse(text).unwrap_err();
        assert!(problem.contains("write") && !problem.contains('\n'), "{problem}");
    }
    let many = format!("step:{}1/5s", "1,".repeat(STEPS_MAX));
    assert!(Profile::parse(&many).unwrap_err().contains("at most 1000"));
}

#[test]
fn a_constant_rate_does_not_drift() {
    let mut arrivals = Arrivals::new(&Profile::Constant(3.0), Some(HOUR), 0, 1, 0);
    assert_eq!(arrivals.nth(3 * 3600 - 3), Some(Duration::from_secs(3599)));
    assert_eq!(arrivals.by_ref().count(), 2);
    assert_eq!(all(&Profile::Constant(10.0), Duration::from_millis(300), 0, 1).len(), 3);
}

#[test]
fn a_ramp_holds_its_integral_and_then_its_last_rate() {
    let profile = Profile::parse("ramp:100..300/10s").unwrap();
    let due = all(&profile, Duration::from_secs(11), 0, 1);
    assert_eq!(due.len(), 2000 + 300);
    assert_eq!(due[2000], Duration::from_secs(10));
    assert_eq!(due[2300 - 300 / 2], Duration::from_millis(10_500));
    assert_eq!(profile.rate_at(Duration::from_secs(5)), 200.0);
    assert_eq!(profile.rate_at(HOUR), 300.0);
    assert_eq!(profile.mean_rate(Duration::from_secs(10)), 200.0);
    assert_eq!(profile.mean_rate(Duration::ZERO), 100.0);
}

#[test]
fn steps_follow_each_other() {
    let profile = Profile::parse("step:10,1000,20/2s").unwrap();
    let due = all(&profile, Duration::from_secs(8), 0, 1);
    let in_second = |s| due.iter().filter(|due| due.as_secs() == s).count();
    let counts: Vec<usize> = (0..8).map(in_second).collect();
    assert_eq!(counts, [10, 10, 1000, 1000, 20, 20, 20, 20]);
    assert_eq!(profile.rate_at(Duration::from_secs(2)), 1000.0);
    assert_eq!(profile.mean_rate(Duration::from_secs(4)), 505.0);
}

/// Mean and variance of the gaps, for which a wrong distribution is far off.
#[test]
fn poisson_gaps_are_exponential_and_parts_differ() {
    let profile = Profile::Poisson(1000.0);
    let due = all(&profile, Duration::from_secs(200), 0, 2);
    let gaps: Vec<f64> = due.windows(2).map(|two| (two[1] - two[0]).as_secs_f64() * 1e3).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    assert!((mean - 2.0).abs() < 0.05, "each of two parts has half the rate: {mean} ms");
    assert!((variance - 4.0).abs() < 0.2, "{variance} ms²");
    assert_eq!(due, all(&profile, Duration::from_secs(200), 0, 2), "the seed decides");
    assert_ne!(due, all(&profile, Duration::from_secs(200), 1, 2));
}

fn rate() -> impl Strategy<Value = f64> {
    (1u32..5000).prop_map(|tenths| f64::from(tenths) / 10.0)
}

fn profiles() -> impl Strategy<Value = Profile> {
    let time = (1u64..20_000).prop_map(Duration::from_millis);
    prop_oneof![
        rate().prop_map(Profile::Constant),
        rate().prop_map(Profile::Poisson),
        (rate(), rate(), time.clone()).prop_map(|(from, to, over)| Profile::Ramp {
            from,
            to,
            over
        }),
        (prop::collection::vec(rate(), 1..6), time)
            .prop_map(|(rates, each)| Profile::Step { rates, each }),
    ]
}

proptest! {
    #[test]
    fn what_is_shown_is_read_again(profile in profiles()) {
        prop_assert_eq!(Profile::parse(&profile.to_string()), Ok(profile));
    }

    #[test]
    fn no_text_panics(text in ".{0,40}", time in "[0-9.smhdnu]{0,24}") {
        let _ = Profile::parse(&text);
        let _ = Profile::parse(&format!("ramp:1..2/{time}"));
        let _ = parse_time(&time);
    }

    #[test]
    fn arrivals_rise_and_end_in_time(profile in profiles(), parts in 1usize..4) {
        let end = Duration::from_secs(15);
        let due = all(&profile, end, parts - 1, parts);
        prop_assert!(due.is_sorted() && due.last().is_none_or(|last| *last < end));
    }

    /// Where nothing is left to chance, drivers together make what one alone makes.
    #[test]
    fn parts_make_the_whole(profile in profiles(), parts in 1usize..5) {
        prop_assume!(!matches!(profile, Profile::Poisson(_)));
        let end = Duration::from_secs(12);
        let mut together: Vec<_> =
            (0..parts).flat_map(|part| all(&profile, end, part, parts)).collect();
        together.sort();
        let whole = all(&profile, end, 0, 1);
        let wanted = profile.mean_rate(end) * end.as_secs_f64();
        prop_assert!((whole.len() as f64 - wanted).abs() < 1.001, "{} {wanted}", whole.len());
        prop_assert_eq!(together, whole);
    }
}

//! When lookups are due: constant, Poisson, steps and ramps.
//!
//! All but Poisson are computed from the count: lookup `k` is due when the integral of the rate is
//! `k`. Nothing is added up, so hours later each is due to the nanosecond where it should be, and
//! drivers that share a profile (every `parts`-th lookup each) make it exactly.

use std::fmt;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Exp1};

/// Most lookups per second. Beyond what one machine sends.
pub const RATE_MAX: f64 = 10_000_000.0;
/// Fewest: about one in three hours.
pub const RATE_MIN: f64 = 0.0001;
/// Most rates of a `step`.
pub const STEPS_MAX: usize = 1000;
/// Longest time that can be written.
pub const TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// How profiles are written, for whoever wrote one wrong.
const USAGE: &str = "write constant:RATE, poisson:RATE, ramp:FROM..TO/TIME or \
                     step:RATE,RATE,.../TIME, such as poisson:500 or ramp:100..5000/60s";

/// When lookups are due, as written on the command line.
#[derive(Clone, Debug, PartialEq)]
pub enum Profile {
    /// So many per second, evenly.
    Constant(f64),
    /// So many per second on average, each independent of the others.
    Poisson(f64),
    /// From one rate to another, evenly, over that time; then the last rate.
    Ramp { from: f64, to: f64, over: Duration },
    /// Each rate for that time; then the last rate.
    Step { rates: Vec<f64>, each: Duration },
}

impl Profile {
    /// Reads `constant:RATE`, `poisson:RATE`, `ramp:FROM..TO/TIME` or `step:RATE,RATE,…/TIME`.
    ///
    /// # Errors
    /// One line: what is wrong, and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::read(text.trim()).map_err(|problem| format!("{text:?}: {problem}"))
    }

    fn read(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').ok_or(USAGE)?;
        match kind {
            "constant" => Ok(Self::Constant(parse_rate(rest)?)),
            "poisson" => Ok(Self::Poisson(parse_rate(rest)?)),
            "ramp" => {
                let (rates, over) = rest.rsplit_once('/').ok_or(USAGE)?;
                let (from, to) = rates.split_once("..").ok_or(USAGE)?;
                let (from, to) = (parse_rate(from)?, parse_rate(to)?);
                Ok(Self::Ramp { from, to, over: positive(over)? })
            }
            "step" => {
                let (rates, each) = rest.rsplit_once('/').ok_or(USAGE)?;
                let rates = rates.split(',').map(parse_rate).collect::<Result<Vec<_>, _>>()?;
                match rates.len() {
                    0..=STEPS_MAX => Ok(Self::Step { rates, each: positive(each)? }),
                    many => Err(format!("{many} steps are too many; use at most {STEPS_MAX}")),
                }
            }
            _ => Err(USAGE.to_owned()),
        }
    }

    /// Lookups per second that are due `at` this time after the start.
    pub fn rate_at(&self, at: Duration) -> f64 {
        self.course().part_at(at.as_secs_f64()).rate_at(at.as_secs_f64())
    }

    /// Lookups per second on average, over this time from the start; the first rate for no time.
    pub fn mean_rate(&self, over: Duration) -> f64 {
        let over_s = over.as_secs_f64();
        match over_s > 0.0 {
            true => self.course().part_at(over_s).count_at(over_s) / over_s,
            false => self.rate_at(over),
        }
    }

    /// The highest rate there is, in lookups per second.
    pub fn peak_rate(&self) -> f64 {
        match self {
            Self::Constant(rate) | Self::Poisson(rate) => *rate,
            Self::Ramp { from, to, .. } => from.max(*to),
            Self::Step { rates, .. } => rates.iter().copied().fold(0.0, f64::max),
        }
    }

    /// The same with every rate multiplied.
    #[must_use]
    pub fn scaled(&self, by: f64) -> Self {
        match self {
            Self::Constant(rate) => Self::Constant(rate * by),
            Self::Poisson(rate) => Self::Poisson(rate * by),
            Self::Ramp { from, to, over } => {
                Self::Ramp { from: from * by, to: to * by, over: *over }
            }
            Self::Step { rates, each } => {
                Self::Step { rates: rates.iter().map(|rate| rate * by).collect(), each: *each }
            }
        }
    }

    /// The rate as straight lines, one after the other.
    fn course(&self) -> Course {
        match self {
            Self::Constant(rate) | Self::Poisson(rate) => Course::of(&[], *rate),
            Self::Ramp { from, to, over } => Course::of(&[(*from, *to, *over)], *to),
            Self::Step { rates, each } => {
                let steps: Vec<_> = rates.iter().map(|rate| (*rate, *rate, *each)).collect();
                Course::of(&steps, rates.last().copied().unwrap_or(RATE_MIN))
            }
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(rate) => write!(f, "constant:{rate}"),
            Self::Poisson(rate) => write!(f, "poisson:{rate}"),
            Self::Ramp { from, to, over } => write!(f, "ramp:{from}..{to}/{}", time_text(*over)),
            Self::Step { rates, each } => {
                f.write_str("step:")?;
                for (index, rate) in rates.iter().enumerate() {
                    write!(f, "{}{rate}", if index == 0 { "" } else { "," })?;
                }
                write!(f, "/{}", time_text(*each))
            }
        }
    }
}

/// Reads lookups per second.
fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.trim().parse::<f64>().ok();
    rate.filter(|rate| (RATE_MIN..=RATE_MAX).contains(rate)).ok_or_else(|| {
        format!("{text:?} is no rate; write lookups per second, from {RATE_MIN} to {RATE_MAX}")
    })
}

/// Reads a time that something takes.
fn positive(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time.is_zero() {
        return Err(format!("{text:?} is no time at all; write a longer one, such as 30s"));
    }
    Ok(time)
}

/// The units of times, with their nanoseconds.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Reads a time such as `30s`, `800ms`, `1.5s`, `5m` or `1m30s`.
///
/// # Errors
/// One line: what is wrong, and what to write.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write it with units, such as 30s, 800ms or 1m30s");
    let mut rest = text.trim();
    let mut whole = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, behind) = rest.split_at(number_end);
        let unit_end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = nanoseconds(number, *unit_ns).ok_or_else(wrong)?;
        whole = whole.saturating_add(Duration::from_nanos(part));
        rest = behind;
    }
    match whole <= TIME_MAX {
        true => Ok(whole),
        false => Err(format!("{text:?} is too long; write at most {}", time_text(TIME_MAX))),
    }
}

/// So many units; what is beyond [`TIME_MAX`] is more than that.
fn nanoseconds(number: &str, unit_ns: u64) -> Option<u64> {
    if number.contains('.') {
        // Beyond 2^64, `as` stays there.
        return Some((number.parse::<f64>().ok()? * unit_ns as f64).round() as u64);
    }
    // Only digits: what cannot be read is too long, or empty.
    let digits = (!number.is_empty()).then_some(number)?;
    Some(digits.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(unit_ns))
}

/// Writes a time in the largest unit up to seconds that needs no fraction.
fn time_text(time: Duration) -> String {
    let ns = time.as_nanos();
    let fits = |(_, unit_ns): &&(&str, u64)| ns.is_multiple_of(u128::from(*unit_ns));
    let (unit, unit_ns) = UNITS[..4].iter().rev().find(fits).unwrap_or(&UNITS[0]);
    format!("{}{unit}", ns / u128::from(*unit_ns))
}

/// The rate over time: straight lines, of which the last has no end.
struct Course(Vec<Line>);

/// A time in which the rate changes evenly.
#[derive(Clone, Copy)]
struct Line {
    start_s: f64,
    /// Lookups that were due before.
    start_count: f64,
    rate: f64,
    /// Rate per second.
    slope: f64,
}

impl Course {
    /// Pieces (first rate, last rate, how long), and the rate after them.
    fn of(pieces: &[(f64, f64, Duration)], last: f64) -> Self {
        let mut lines = Vec::with_capacity(pieces.len() + 1);
        let (mut start_s, mut start_count) = (0.0, 0.0);
        for (from, to, over) in pieces {
            let over_s = over.as_secs_f64();
            if over_s > 0.0 {
                let slope = (to - from) / over_s;
                lines.push(Line { start_s, start_count, rate: *from, slope });
                start_count += (from + to) / 2.0 * over_s;
                start_s += over_s;
            }
        }
        lines.push(Line { start_s, start_count, rate: last, slope: 0.0 });
        Self(lines)
    }

    /// The line of a time.
    fn part_at(&self, at_s: f64) -> &Line {
        let after = self.0.partition_point(|line| line.start_s <= at_s);
        &self.0[after.max(1) - 1]
    }

    /// When lookup `count` is due, in seconds, looked for from line `line` on.
    fn due_s(&self, line: &mut usize, count: f64) -> f64 {
        while self.0.get(*line + 1).is_some_and(|next| next.start_count <= count) {
            *line += 1;
        }
        self.0[*line].due_s(count)
    }
}

impl Line {
    fn rate_at(&self, at_s: f64) -> f64 {
        self.rate + self.slope * (at_s - self.start_s)
    }

    fn count_at(&self, at_s: f64) -> f64 {
        self.start_count + (self.rate + self.rate_at(at_s)) / 2.0 * (at_s - self.start_s)
    }

    /// Solves `count_at(due) = count`, in the form that loses no digits where the slope is small.
    fn due_s(&self, count: f64) -> f64 {
        let count = count - self.start_count;
        let root = (self.rate * self.rate + 2.0 * self.slope * count).max(0.0).sqrt();
        self.start_s + 2.0 * count / (self.rate + root)
    }
}

/// The instants at which lookups are due, since the start, rising. Ends with the run.
pub struct Arrivals {
    course: Course,
    /// Chance, for Poisson.
    gaps: Option<Gaps>,
    /// Line that the next lookup is on.
    line: usize,
    /// Lookups of this part so far.
    count: u64,
    part: usize,
    parts: usize,
    end: Duration,
}

/// Independent gaps, added up without a rounding error that grows.
struct Gaps {
    mean_ns: f64,
    dice: SmallRng,
    /// The last instant: whole nanoseconds, and the part of one.
    at_ns: u64,
    part_ns: f64,
}

impl Arrivals {
    /// Arrivals of one of `parts` drivers, which together make `profile`.
    pub fn new(
        profile: &Profile,
        duration: Option<Duration>,
        part: usize,
        parts: usize,
        seed: u64,
    ) -> Self {
        let parts = parts.max(1);
        let gaps = match profile {
            Profile::Poisson(rate) => Some(Gaps {
                mean_ns: parts as f64 / rate * 1e9,
                dice: SmallRng::seed_from_u64(seed_of(seed, part)),
                at_ns: 0,
                part_ns: 0.0,
            }),
            _ => None,
        };
        let end = duration.unwrap_or(Duration::MAX);
        Self { course: profile.course(), gaps, line: 0, count: 0, part, parts, end }
    }

    /// Which of the drivers these are for, from 0.
    pub fn part(&self) -> usize {
        self.part
    }
}

/// The seed of one part: close numbers make unlike dice, as `seed_from_u64` mixes them well.
pub fn seed_of(seed: u64, part: usize) -> u64 {
    seed.wrapping_add((part as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let due = match &mut self.gaps {
            Some(gaps) => Some(gaps.next()),
            None => {
                let count = self.count as f64 * self.parts as f64 + self.part as f64;
                Duration::try_from_secs_f64(self.course.due_s(&mut self.line, count)).ok()
            }
        };
        self.count += 1;
        due.filter(|due| *due < self.end)
    }
}

impl Gaps {
    fn next(&mut self) -> Duration {
        let gap: f64 = Exp1.sample(&mut self.dice);
        let ns = gap.mul_add(self.mean_ns, self.part_ns);
        self.part_ns = ns.fract();
        self.at_ns = self.at_ns.saturating_add(ns as u64);
        Duration::from_nanos(self.at_ns)
    }
}

#[cfg(test)]
mod tests;

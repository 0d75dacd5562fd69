//! When lookups are due: constant, Poisson, steps and ramps.

use std::time::Duration;

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

/// The instants at which lookups are due, since the start, rising. Ends with the run.
pub struct Arrivals {}

impl Arrivals {
    /// Arrivals of one of `parts` drivers, which together make `profile`.
    pub fn new(
        _profile: &Profile,
        _duration: Option<Duration>,
        _part: usize,
        _parts: usize,
        _seed: u64,
    ) -> Self {
        Self {}
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        None
    }
}

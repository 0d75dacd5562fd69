//! A canary: a few lookups per second for ever, so that a cluster notices by itself when its names
//! fail. Its rate is bounded, it needs no end, and what it keeps does not grow.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::super::Error;
use super::super::arguments::RunArguments;
use crate::ops::http::{Text, TextPages, serve_text};

/// Most lookups per second: more is a test, which somebody should wait for.
pub const CANARY_RATE_MAX: f64 = 100.0;
/// Where its metrics are unless `--metrics` says. As those of NodeLocal DNSCache.
pub const METRICS: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 9253);

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Canary {
    /// Lookups per second, more than 0 and at most [`CANARY_RATE_MAX`].
    pub rate: f64,
    /// Where `/metrics` and `/healthz` are.
    pub metrics: SocketAddr,
}

impl Canary {
    /// What the command line says; `None` where it asks for no canary.
    ///
    /// # Errors
    /// A rate out of bounds, or something that a run without end cannot do.
    pub fn new(arguments: &RunArguments) -> Result<Option<Self>, Error> {
        let Some(rate) = arguments.canary else { return Ok(None) };
        let wrong = |what: String| Err(Error::Config(what));
        // Written so that what is no number is out of bounds.
        if !(rate > 0.0 && rate <= CANARY_RATE_MAX) {
            return wrong(format!(
                "--canary {rate}: give a rate above 0 and up to {CANARY_RATE_MAX} per second; for \
                 more use --rate"
            ));
        }
        if !arguments.fault.is_empty() {
            return wrong("--canary with --fault: a canary breaks nothing; use --rate".to_owned());
        }
        if arguments.workers > 1 {
            return wrong("--canary with --workers: each canary is alone; run several".to_owned());
        }
        Ok(Some(Self { rate, metrics: arguments.metrics.unwrap_or(METRICS) }))
    }

    /// Its arrivals, as `--profile` has them. By chance, so that canaries do not beat together.
    pub fn profile(&self) -> String {
        format!("poisson:{}", self.rate)
    }

    /// Serves `text` as `/metrics` until the result is dropped.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn serve(&self, text: Text) -> Result<TextPages, Error> {
        serve(self.metrics, text)
    }
}

/// Serves `text` as `/metrics` at `address`, for any run with `--metrics`, until the result is
/// dropped.
///
/// # Errors
/// The address cannot be had.
pub fn serve(address: SocketAddr, text: Text) -> Result<TextPages, Error> {
    serve_text("--metrics", address, text).map_err(|error| Error::Config(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::super::arguments::run;
    use super::*;

    fn canary(words: &str) -> Result<Option<Canary>, String> {
        Canary::new(&run(words)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_canary_has_its_rate_and_a_port() {
        let expected = Canary { rate: 5.0, metrics: "[::]:9253".parse().unwrap() };
        assert_eq!(canary("--canary 5"), Ok(Some(expected)));
        assert_eq!(expected.profile(), "poisson:5");
        let elsewhere = canary("--canary 0.2 --metrics 127.0.0.1:99").unwrap().unwrap();
        assert_eq!(elsewhere.metrics, "127.0.0.1:99".parse().unwrap());
        assert_eq!(canary("--rate 500"), Ok(None));
    }

    #[test]
    fn what_a_canary_may_not_do_is_refused_with_its_remedy() {
        for rate in ["0", "100.1", "NaN", "inf"] {
            let error = canary(&format!("--canary {rate}")).unwrap_err();
            assert!(error.contains("up to 100 per second; for more use --rate"), "{error}");
        }
        assert!(canary("--canary 5 --fault term@1s").unwrap_err().contains("--fault"));
        assert!(canary("--canary 5 --workers 3").unwrap_err().contains("--workers"));
    }
}

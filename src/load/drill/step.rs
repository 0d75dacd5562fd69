//! The steps of a drill, one line each: `10s kill 0`.

use std::fmt;
use std::time::Duration;

use crate::load::arrivals::parse_time;

/// What is done, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Since the start of the run.
    pub at: Duration,
    /// What.
    pub act: Act,
    /// As written, without the time.
    pub text: String,
}

/// What is done. Replicas are counted from 0.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// SIGKILL; the replica is started again after 2 s, as a kubelet does.
    Kill(usize),
    /// SIGKILL of the process that serves: below a parent, if it has one, which goes on.
    Crash(usize),
    /// Its node is gone: nothing answers, not even the kernel.
    Lose(usize),
    /// SIGSTOP: the process is there and does nothing.
    Stop(usize),
    /// SIGCONT.
    Continue(usize),
    /// SIGTERM, and a new start when it has ended: a DaemonSet's replacement.
    Replace(usize),
    /// A Deployment's replacement of each replica: a new one, then SIGTERM to the old one, whose
    /// end nobody waits for.
    Roll,
    /// So many replicas: SIGTERM to those beyond, new ones for those that are missing. Those that
    /// end go on beside the next steps.
    Scale(usize),
    /// The balancer gives no new flows to this one. What it has goes on until its lag is over.
    Remove(usize),
    /// The API server is out of reach, or back.
    Api(Way),
    /// The upstream does this; `well` ends it.
    Upstream(Illness),
    /// Another Corefile: one that is wrong, or the one of the start.
    Corefile(Kind),
    /// So many changes of endpoints of headless Services per second; 0 ends it.
    Churn(u32),
    /// Queries for names by chance, so many per second, straight to the servers; 0 ends it.
    Flood(u32),
}

/// There or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Connections are cut and refused.
    Down,
    /// As usual.
    Up,
}

/// A wrong Corefile or the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// With a directive that does not exist.
    Broken,
    /// The drill's.
    Good,
}

/// What ails an upstream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Illness {
    /// Nothing.
    Well,
    /// It swallows everything.
    Blackhole,
    /// It answers later by this.
    Delay(Duration),
    /// It loses this part of the questions.
    Loss(f64),
    /// It answers SERVFAIL.
    Servfail,
    /// It takes so many packets per second and loses the rest.
    Pps(u32),
}

/// The words of steps, for errors.
const WORDS: &str = "kill N, crash N, lose N, stop N, continue N, replace N, roll, scale N, remove N, \
     api down|up, upstream well|blackhole|delay TIME|loss PERCENT%|servfail|pps N, \
     corefile broken|good, churn N, flood N";

impl Step {
    /// Reads `WHEN VERB …`.
    ///
    /// # Errors
    /// What is wrong, and the words that there are.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let at = words.next().ok_or("an empty step; write a time and what to do: 10s kill 0")?;
        let at = parse_time(at).map_err(|why| format!("step {line:?}: {why}"))?;
        let words: Vec<&str> = words.collect();
        let act = Act::parse(&words)
            .ok_or_else(|| format!("step {line:?} is not known; there are: {WORDS}"))?;
        Ok(Self { at, act, text: words.join(" ") })
    }
}

impl Act {
    fn parse(words: &[&str]) -> Option<Self> {
        let number = |text: &str| text.parse::<u32>().ok();
        let index = |text: &str| text.parse::<u8>().ok().map(usize::from);
        Some(match *words {
            ["kill", n] => Self::Kill(index(n)?),
            ["crash", n] => Self::Crash(index(n)?),
            ["lose", n] => Self::Lose(index(n)?),
            ["stop", n] => Self::Stop(index(n)?),
            ["continue", n] => Self::Continue(index(n)?),
            ["replace", n] => Self::Replace(index(n)?),
            ["roll"] => Self::Roll,
            ["scale", n] => Self::Scale(index(n)?),
            ["remove", n] => Self::Remove(index(n)?),
            ["api", "down"] => Self::Api(Way::Down),
            ["api", "up"] => Self::Api(Way::Up),
            ["upstream", ref illness @ ..] => Self::Upstream(Illness::parse(illness)?),
            ["corefile", "broken"] => Self::Corefile(Kind::Broken),
            ["corefile", "good"] => Self::Corefile(Kind::Good),
            ["churn", n] => Self::Churn(number(n)?),
            ["flood", n] => Self::Flood(number(n)?),
            _ => return None,
        })
    }

    /// The replica that it names.
    pub fn replica(&self) -> Option<usize> {
        match self {
            Self::Kill(n)
            | Self::Crash(n)
            | Self::Lose(n)
            | Self::Stop(n)
            | Self::Continue(n)
            | Self::Replace(n)
            | Self::Remove(n) => Some(*n),
            _ => None,
        }
    }

    /// Whether it takes `earlier` back.
    pub fn ends(&self, earlier: &Self) -> bool {
        match (earlier, self) {
            (Self::Stop(one), Self::Continue(other)) => one == other,
            (Self::Api(Way::Down), Self::Api(Way::Up)) => true,
            (Self::Upstream(_), Self::Upstream(_)) => true,
            (Self::Corefile(Kind::Broken), Self::Corefile(Kind::Good)) => true,
            (Self::Churn(_), Self::Churn(_)) | (Self::Flood(_), Self::Flood(_)) => true,
            (Self::Scale(one), Self::Scale(other)) => one < other,
            _ => false,
        }
    }

    /// Whether it does nothing but to take an earlier step back.
    pub fn undoes(&self) -> bool {
        matches!(
            self,
            Self::Continue(_)
                | Self::Api(Way::Up)
                | Self::Upstream(Illness::Well)
                | Self::Corefile(Kind::Good)
                | Self::Churn(0)
                | Self::Flood(0)
        )
    }

    /// Whether it needs an API server of ours to change or to cut off.
    pub fn needs_api(&self) -> bool {
        matches!(self, Self::Api(_) | Self::Churn(_))
    }
}

impl Illness {
    fn parse(words: &[&str]) -> Option<Self> {
        Some(match *words {
            ["well"] => Self::Well,
            ["blackhole"] => Self::Blackhole,
            ["delay", time] => Self::Delay(parse_time(time).ok()?),
            ["loss", part] => {
                let percent = part.strip_suffix('%')?.parse::<f64>().ok()?;
                (0.0..=100.0).contains(&percent).then_some(Self::Loss(percent / 100.0))?
            }
            ["servfail"] => Self::Servfail,
            ["pps", n] => Self::Pps(n.parse().ok()?),
            _ => return None,
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}@{}s", self.text, self.at.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_time_and_what_is_done() {
        let step = Step::parse("10s kill 0").unwrap();
        assert_eq!((step.at, step.act), (Duration::from_secs(10), Act::Kill(0)));
        let step = Step::parse("1m  upstream delay 800ms").unwrap();
        assert_eq!(step.act, Act::Upstream(Illness::Delay(Duration::from_millis(800))));
        assert_eq!(step.to_string(), "upstream delay 800ms@60s");
        assert_eq!(
            Step::parse("0s upstream loss 30%").unwrap().act,
            Act::Upstream(Illness::Loss(0.3))
        );
    }

    #[test]
    fn what_is_no_step_is_told_with_the_words_that_there_are() {
        for line in ["", "kill 0", "10s", "10s kill", "10s kill x", "10s upstream loss 300%"] {
            let error = Step::parse(line).unwrap_err();
            assert!(error.contains("step"), "{line}: {error}");
        }
        assert!(Step::parse("1s dance").unwrap_err().contains("scale N"));
    }
}

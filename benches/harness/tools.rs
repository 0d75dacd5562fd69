//! The tools: how each is started, and where it tells its figures.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mainstay::load::report::Report;

/// Sockets that each tool asks from.
const CLIENTS: u32 = 8;

/// A load generator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `mainstay load`.
    Ours,
    /// dnsperf with the 100 queries under way that it has by default: then it waits.
    Dnsperf,
}

/// One run.
pub struct Plan<'a> {
    pub mainstay: &'a Path,
    pub server: SocketAddr,
    pub names: PathBuf,
    pub folder: &'a Path,
    pub rate: u32,
    pub seconds: u32,
}

/// What a tool told, as far as it does.
#[derive(Debug, Default)]
pub struct Figures {
    pub rate: f64,
    pub lost: f64,
    pub mean_ms: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p90_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub max_ms: Option<f64>,
}

impl Tool {
    pub const ALL: [Self; 2] = [Self::Ours, Self::Dnsperf];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "mainstay load",
            Self::Dnsperf => "dnsperf",
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// It is not there, failed, or told nothing.
    pub fn run(self, plan: &Plan<'_>) -> Result<Figures, String> {
        match self {
            Self::Ours => ours(plan),
            Self::Dnsperf => dnsperf_figures(&output("dnsperf", &dnsperf(plan))?),
        }
    }
}

fn ours(plan: &Plan<'_>) -> Result<Figures, String> {
    let json = plan.folder.join("report.json");
    let mut command = Command::new(plan.mainstay);
    command.args(["load", &plan.server.to_string(), "--quiet"]).arg("--names").arg(&plan.names);
    command.args(["--profile", &format!("constant:{}", plan.rate)]);
    command.args(["--duration", &format!("{}s", plan.seconds)]);
    command.args(["--clients", &CLIENTS.to_string(), "--popularity", "uniform"]);
    let out = command.arg("--json").arg(&json).output().map_err(|error| error.to_string())?;
    let text = std::fs::read_to_string(&json)
        .map_err(|error| format!("no report: {error}: {}", String::from_utf8_lossy(&out.stderr)))?;
    let report: Report = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if let Some(saturated) = &report.generator.saturated {
        eprintln!("harness: {saturated}");
    }
    let latency = &report.total.latency;
    Ok(Figures {
        rate: report.packets.answered as f64 / report.duration_s.max(f64::from(plan.seconds)),
        lost: report.packets.lost as f64,
        mean_ms: Some(latency.mean),
        p50_ms: Some(latency.p50),
        p90_ms: Some(latency.p90),
        p99_ms: Some(latency.p99),
        max_ms: Some(latency.max),
    })
}

fn dnsperf(plan: &Plan<'_>) -> Vec<String> {
    let (address, port) = (plan.server.ip().to_string(), plan.server.port().to_string());
    let (rate, seconds) = (plan.rate.to_string(), plan.seconds.to_string());
    let names = plan.names.display().to_string();
    ["-s", &address, "-p", &port, "-d", &names, "-l", &seconds, "-Q", &rate]
        .into_iter()
        .chain(["-c", &CLIENTS.to_string(), "-T", "1"])
        .map(str::to_owned)
        .collect()
}

/// Reads its lines, such as `Average Latency (s):  0.000043 (min 0.00001, max 0.3)`.
fn dnsperf_figures(text: &str) -> Result<Figures, String> {
    let line = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name));
    let first = |name: &str| line(name)?.split_whitespace().next()?.parse::<f64>().ok();
    let rate = first("Queries per second:").ok_or_else(|| format!("no rate in {text:?}"))?;
    let longest = || line("Average Latency (s):")?.split_once("max ")?.1.strip_suffix(')');
    Ok(Figures {
        rate,
        lost: first("Queries lost:").unwrap_or_default(),
        mean_ms: first("Average Latency (s):").map(|s| s * 1e3),
        max_ms: longest().and_then(|s| s.parse::<f64>().ok()).map(|s| s * 1e3),
        ..Figures::default()
    })
}

/// Runs a program that may be missing.
fn output(program: &str, arguments: &[String]) -> Result<String, String> {
    let out = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let out = out.map_err(|error| format!("{program}: {error}"))?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}

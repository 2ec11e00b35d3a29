//! redis-server under redis-benchmark.

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process;

use super::build;
use super::child::Running;
use super::load::Load;

/// How long the server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);
/// Keys that are set, so that old values are replaced.
const KEYS: u64 = 100_000;
/// Fewer requests are over before they can be timed.
const LEAST: u64 = 10_000;

/// A server that keeps everything in memory, and its client's options. Dropped in this order.
pub(super) struct Redis {
    server: Running,
    port: u16,
    pipeline: u32,
    _directory: TempDir,
}

impl Redis {
    pub(super) fn is_installed() -> bool {
        build::is_installed("redis-server") && build::is_installed("redis-benchmark")
    }

    /// Starts it on a free port.
    pub(super) fn start(pipeline: u32) -> Result<Self> {
        let directory = tempfile::tempdir().context("a temporary directory")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
        command.arg(port.to_string()).arg("--dir").arg(directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Running::spawn(&mut command)?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                bail!("redis-server was not ready in {} s", PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { server, port, pipeline, _directory: directory })
    }
}

impl Redis {
    /// Sets so many keys, to values of 100 bytes.
    pub(super) fn fill(&self, keys: u64) -> Result<()> {
        let mut command = self.benchmark(keys, keys);
        command.args(["-P", "64", "-d", "100"]);
        process::capture(&mut command).map(|_| ())
    }

    /// Latencies that one client sees, in us: p50, p99, mean.
    pub(super) fn latency(&self, keys: u64, requests: u64) -> Result<[f64; 3]> {
        let output = process::capture(self.benchmark(keys, requests).args(["-c", "1", "-d", "100"]))?;
        latencies(&output).with_context(|| format!("redis-benchmark wrote {output:?}"))
    }

    fn benchmark(&self, keys: u64, requests: u64) -> Command {
        let mut command = process::command("redis-benchmark");
        command.args(["--csv", "-t", "set", "-r", &keys.to_string(), "-h", "127.0.0.1"]);
        command.args(["-p", &self.port.to_string(), "-n", &requests.to_string()]);
        command
    }
}

impl Load for Redis {
    fn pid(&self) -> u32 {
        self.server.id()
    }

    fn cost(&mut self, operations: u64) -> Result<f64> {
        let mut command = self.benchmark(KEYS, operations);
        command.args(["-P", &self.pipeline.to_string()]);
        let output = process::capture(&mut command)?;
        rate(&output).map(|rate| 1e9 / rate).with_context(|| format!("redis-benchmark wrote {output:?}"))
    }

    fn least(&self) -> u64 {
        LEAST
    }
}

/// The figures behind the name of the test.
fn fields(csv: &str) -> Option<Vec<f64>> {
    let row = csv.lines().find_map(|line| line.trim().strip_prefix("\"SET\","))?;
    row.split(',').map(|field| field.trim_matches('"').parse().ok()).collect()
}

/// Requests per second.
fn rate(csv: &str) -> Option<f64> {
    fields(csv)?.first().copied().filter(|rate| *rate > 0.0)
}

/// p50, p99 and mean in us: rps, then in ms mean, least, p50, p95, p99, most.
fn latencies(csv: &str) -> Option<[f64; 3]> {
    let fields = fields(csv)?;
    Some([*fields.get(3)? * 1e3, *fields.get(5)? * 1e3, *fields.get(1)? * 1e3])
}

#[cfg(test)]
mod tests {
    use super::{latencies, rate};

    #[test]
    fn the_rate_follows_the_name_of_the_test() {
        let new = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"749625.19\",\"0.963\"\n";
        assert_eq!(rate(new), Some(749_625.19));
        assert_eq!(rate("\"SET\",\"87600.00\"\n"), Some(87_600.0));
        assert_eq!(rate("\"GET\",\"1.0\"\n"), None);
        assert_eq!(rate("\"SET\",\"0.00\"\n"), None);
    }

    #[test]
    fn latencies_are_by_column() {
        let row = "\"SET\",\"37037.04\",\"0.025\",\"0.016\",\"0.023\",\"0.031\",\"0.047\",\"4.271\"\n";
        assert_eq!(latencies(row), Some([23.0, 47.0, 25.0]));
        assert_eq!(latencies("\"SET\",\"37037.04\"\n"), None);
    }
}

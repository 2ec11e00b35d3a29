//! Options that select processes.

use std::path::PathBuf;

use anyhow::bail;
use regex_lite::Regex;

use crate::target::{
    Process,
    select::{LEAST_ID, Selector, cgroup_path},
};

/// Which processes, beside those that are named by pid.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SelectArgs {
    /// Also processes whose name, or the file name of whose program, matches this regular expression
    #[arg(long, value_name = "REGEX", value_parser = parse_name, help_heading = "Processes")]
    name: Vec<Regex>,
    /// Also processes of this cgroup and those below it: a path as in /proc/PID/cgroup or below /sys/fs/cgroup
    #[arg(long, value_name = "PATH", help_heading = "Processes")]
    cgroup: Vec<PathBuf>,
    /// Also processes of the container whose id begins like this (docker, podman, containerd, kubernetes)
    #[arg(long, value_name = "ID", value_parser = parse_id, help_heading = "Processes")]
    container: Vec<String>,
}

fn parse_name(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string())
}

fn parse_id(text: &str) -> Result<String, String> {
    let is_id = text.len() >= LEAST_ID && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let help = || {
        format!(
            "not the id of a container: at least {LEAST_ID} hexadecimal digits, as `docker ps` shows them"
        )
    };
    is_id.then(|| text.to_ascii_lowercase()).ok_or_else(help)
}

impl SelectArgs {
    /// What they say.
    pub(super) fn selector(&self) -> Selector {
        Selector {
            names: self.name.clone(),
            cgroups: self.cgroup.iter().map(|path| cgroup_path(path)).collect(),
            containers: self.container.clone(),
        }
    }

    /// The processes that exist now, with those of `pids`.
    ///
    /// # Errors
    /// One of `pids` cannot be traced, or there is no process.
    pub(super) fn processes(&self, pids: &[u32]) -> anyhow::Result<Vec<Process>> {
        let mut processes = pids.iter().map(|&pid| Process::open(pid)).collect::<Result<Vec<_>, _>>()?;
        let selector = self.selector();
        if selector.is_empty() {
            return Ok(processes);
        }
        let found = selector.pids();
        let others = found.iter().filter(|pid| !pids.contains(pid));
        processes.extend(others.filter_map(|&pid| Process::open(pid).ok()));
        if processes.is_empty() {
            bail!("no process that can be traced is selected by --name, --cgroup or --container");
        }
        Ok(processes)
    }
}

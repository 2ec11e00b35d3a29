//! Options that select processes.

use std::path::PathBuf;

use anyhow::bail;
use regex_lite::Regex;

use super::{message::message, options::parse_pid};
use crate::{
    report::escape,
    target::{
        Process,
        select::{LEAST_ID, Selector, cgroup_path, is_missing},
    },
};

/// Which processes exist already or are to come, and whether their children count.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct SelectArgs {
    #[command(flatten)]
    pub(super) which: WhichArgs,
    /// Trace the children of the processes too, theirs, and what they execute: those that exist and those to come, at
    /// most 256 at once
    #[arg(short = 'F', long)]
    pub(super) follow: bool,
}

/// Which processes.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct WhichArgs {
    /// Processes to look at
    #[arg(required_unless_present_any = ["name", "cgroup", "container"], value_name = "PID", value_parser = parse_pid)]
    pub(super) pids: Vec<u32>,
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

impl WhichArgs {
    /// The options as they were given, and cgroups that do not exist.
    fn words(&self) -> Vec<String> {
        let names = self.name.iter().map(|name| format!("--name '{}'", escape(name.as_str())));
        let cgroups = self.cgroup.iter().map(|path| {
            let shown = escape(&path.to_string_lossy()).into_owned();
            let missing = if is_missing(&cgroup_path(path)) { " (there is no such cgroup)" } else { "" };
            format!("--cgroup {shown}{missing}")
        });
        let containers = self.container.iter().map(|id| format!("--container {id}"));
        names.chain(cgroups).chain(containers).collect()
    }

    /// What they say.
    pub(super) fn selector(&self) -> Selector {
        Selector {
            names: self.name.clone(),
            cgroups: self.cgroup.iter().map(|path| cgroup_path(path)).collect(),
            containers: self.container.clone(),
        }
    }

    /// The processes that exist now, first those that are named by pid.
    ///
    /// # Errors
    /// One of these cannot be traced, or there is no process. Of several, those that have exited are only said to have: a
    /// list such as that of `pidof` is old when it is read.
    pub(super) fn processes(&self) -> anyhow::Result<Vec<Process>> {
        let (mut processes, mut gone) = (Vec::new(), Vec::new());
        for &pid in &self.pids {
            match Process::open(pid) {
                Ok(process) => processes.push(process),
                Err(error) if error.is_gone() => gone.push(error),
                Err(error) => return Err(error.into()),
            }
        }
        let selector = self.selector();
        if processes.is_empty()
            && selector.is_empty()
            && let Some(error) = gone.pop()
        {
            return Err(error.into());
        }
        for error in gone {
            message(&format!("{error}; the other processes are looked at"));
        }
        if selector.is_empty() {
            return Ok(processes);
        }
        let found = selector.pids();
        let others = found.iter().filter(|pid| !self.pids.contains(pid));
        processes.extend(others.filter_map(|&pid| Process::open(pid).ok()));
        if processes.is_empty() {
            bail!("no process that can be traced is selected by {}", self.words().join(", "));
        }
        Ok(processes)
    }
}

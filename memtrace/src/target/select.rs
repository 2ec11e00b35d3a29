//! Which processes to trace, by name, cgroup or container. Only /proc is asked: no daemon, no file system of cgroups.

use std::path::Path;

use regex_lite::Regex;

use super::usage::read_some;
use crate::model::cgroup::is_inside;

/// Processes that are looked at, at most.
const MAX_PROCESSES: usize = 1 << 16;
/// Where cgroups are mounted: a path below may be given as it is seen there.
const MOUNT: &str = "/sys/fs/cgroup";
/// The controller of memory, of version 1, below that.
const MEMORY: &str = "/memory";
/// Hexadecimal digits of a container's id at least: docker and podman show 12.
pub const LEAST_ID: usize = 4;
/// Digits of a whole id.
const ID: usize = 64;

/// What selects processes: any of these.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// Match the name (`comm`) or the last component of the first argument.
    pub names: Vec<Regex>,
    /// Cgroups, with those below: as [`cgroup_path`] gives them.
    pub cgroups: Vec<String>,
    /// Beginnings of ids of containers.
    pub containers: Vec<String>,
}

impl Selector {
    /// Whether it selects nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.cgroups.is_empty() && self.containers.is_empty()
    }

    /// The processes that it selects, in order of their pids, without the agent and kernel threads.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let own = std::process::id();
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let pids = names.filter_map(|name| name.parse::<u32>().ok()).take(MAX_PROCESSES);
        let mut found: Vec<u32> = pids.filter(|&pid| pid != own && self.selects(pid)).collect();
        found.sort_unstable();
        found
    }

    fn selects(&self, pid: u32) -> bool {
        let read = |name: &str| read_some(&format!("/proc/{pid}/{name}"));
        // Kernel threads have no command line.
        let Some(arguments) = read("cmdline").filter(|arguments| !arguments.is_empty()) else { return false };
        let groups =
            if self.cgroups.is_empty() && self.containers.is_empty() { None } else { read("cgroup") };
        let is_named =
            || read("comm").is_some_and(|comm| self.is_named(comm.trim_end_matches('\n'), &arguments));
        groups.is_some_and(|groups| self.is_in(&groups)) || (!self.names.is_empty() && is_named())
    }

    fn is_named(&self, comm: &str, arguments: &str) -> bool {
        let first = arguments.split('\0').next().unwrap_or_default();
        let last = first.rsplit('/').next().unwrap_or_default();
        self.names.iter().any(|name| name.is_match(comm) || name.is_match(last))
    }

    /// Whether a process with this `cgroup` file is in one of the cgroups or containers.
    fn is_in(&self, file: &str) -> bool {
        // Hierarchy, controllers, path; hierarchy 0 is version 2.
        let paths = || file.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let is_of =
            |path: &str, id: &str| path.split('/').filter_map(container).any(|known| known.starts_with(id));
        paths().any(|path| {
            self.cgroups.iter().any(|group| is_inside(path, group))
                || self.containers.iter().any(|id| is_of(path, id))
        })
    }
}

/// A cgroup as /proc/PID/cgroup names it, from its path there or in the file system.
#[must_use]
pub fn cgroup_path(path: &Path) -> String {
    let path = path.to_string_lossy();
    let inside = path.strip_prefix(MOUNT).map(|rest| {
        let memory = rest.strip_prefix(MEMORY).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        memory.filter(|_| !Path::new(&format!("{MOUNT}/cgroup.controllers")).exists()).unwrap_or(rest)
    });
    format!("/{}", inside.unwrap_or(&path).trim_matches('/'))
}

/// Whether there is no such cgroup, as far as the file system of cgroups is mounted.
#[must_use]
pub fn is_missing(group: &str) -> bool {
    let mounts = [MOUNT.to_owned(), format!("{MOUNT}{MEMORY}")];
    let has = |path: &str| mounts.iter().any(|mount| Path::new(mount).join(path).exists());
    has("cgroup.procs") && !has(group.trim_start_matches('/'))
}

/// The id of the container that a component of a cgroup's path is for: `ID`, `docker-ID.scope`, `libpod-ID.scope`,
/// `cri-containerd-ID.scope`, `crio-ID.scope`, `cri-o-ID`.
fn container(component: &str) -> Option<&str> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let id = name.rsplit(['-', ':']).next()?;
    (id.len() == ID && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        time::{Duration, Instant},
    };

    use regex_lite::Regex;

    use super::{Selector, cgroup_path, container};

    #[test]
    fn ids_of_containers() {
        let id = "0123456789abcdef".repeat(4);
        for name in [
            "ID",
            "docker-ID.scope",
            "libpod-ID.scope",
            "cri-containerd-ID.scope",
            "crio-ID",
            "kubelet:cri:ID",
        ] {
            assert_eq!(container(&name.replace("ID", &id)), Some(id.as_str()), "{name}");
        }
        for name in ["", "user.slice", "docker-0123.scope", "session-4.scope"] {
            assert_eq!(container(name), None, "{name}");
        }
    }

    #[test]
    fn cgroups_and_containers_select_what_is_below() {
        let id = "0123456789abcdef".repeat(4);
        let group =
            |path: &str| Selector { cgroups: vec![cgroup_path(Path::new(path))], ..Selector::default() };
        let file = format!("12:memory:/web\n0::/kubepods/pod1/docker-{id}.scope/inner\n");
        for path in ["/kubepods", "kubepods/pod1/", "/sys/fs/cgroup/kubepods", "/web", "/"] {
            assert!(group(path).is_in(&file), "{path}");
        }
        for path in ["/kube", "/pod1", "/web/more"] {
            assert!(!group(path).is_in(&file), "{path}");
        }
        let of = |id: &str| Selector { containers: vec![id.to_owned()], ..Selector::default() };
        assert!(of("0123456789ab").is_in(&file) && !of("123456789ab").is_in(&file));
    }

    #[test]
    fn names_are_of_the_process_or_of_its_program() {
        let named = |name: &str| Selector { names: vec![Regex::new(name).unwrap()], ..Selector::default() };
        assert!(named("^worker").is_named("worker-3", "/usr/bin/server\0--x\0"));
        assert!(named("^server$").is_named("worker-3", "/usr/bin/server\0--x\0"));
        assert!(!named("usr|--x").is_named("worker-3", "/usr/bin/server\0--x\0"));
    }

    #[test]
    fn one_of_ones_own_is_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let selector = Selector { names: vec![Regex::new("^sleep$").unwrap()], ..Selector::default() };
        // Its arguments are there a moment after it has begun.
        let end = Instant::now() + Duration::from_secs(60);
        let mut found = Vec::new();
        while !found.contains(&child.id()) && Instant::now() < end {
            found = selector.pids();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id()) && !found.contains(&std::process::id()));
    }
}

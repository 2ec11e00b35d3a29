//! File systems in memory, of every mount namespace.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::sys::statfs::statfs;
use rustc_hash::FxHashSet;

use super::file::Roots;
use crate::profile::machine::Missing;

/// Bytes read of a table of mounts.
const MAX_BYTES: u64 = 4 << 20;
/// Mount namespaces that are looked at, and file systems.
const MAX_NAMESPACES: usize = 64;
const MAX_MOUNTS: usize = 1024;
/// File systems that wait for another machine or a process, also when a path only leads through them.
const REMOTE: [&str; 10] =
    ["nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "autofs", "lustre", "virtiofs"];

/// A tmpfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tmpfs {
    /// The device number of its files.
    pub device: u64,
    /// Its mount point, in the namespace where it was found.
    pub point: String,
    /// Bytes used, and its size.
    pub used: u64,
    pub size: u64,
}

/// Every tmpfs that has a size, each once.
pub(super) fn read(roots: &Roots, pids: &[u32], missing: &mut Vec<Missing>) -> Vec<Tmpfs> {
    let mut found: Vec<Tmpfs> = Vec::new();
    for process in namespaces(roots, pids) {
        let Some(text) = roots.proc(&format!("{process}/mountinfo"), MAX_BYTES) else { continue };
        let mounts: Vec<Mount> = text.lines().filter_map(Mount::parse).collect();
        let remote = |mount: &Mount| REMOTE.contains(&mount.kind.as_str()) || mount.kind.starts_with("fuse");
        // Whoever could start this program does not wait for its root.
        let below = mounts.iter().filter(|mount| remote(mount) && mount.point != "/");
        let remote: Vec<&str> = below.map(|mount| mount.point.as_str()).collect();
        for mount in mounts.iter().filter(|mount| matches!(mount.kind.as_str(), "tmpfs" | "devtmpfs")) {
            if found.len() >= MAX_MOUNTS || found.iter().any(|known| known.device == mount.device) {
                continue;
            }
            if remote.iter().any(|point| Path::new(&mount.point).starts_with(point)) {
                missing.push(Missing::Mount(mount.point.clone()));
                continue;
            }
            let root =
                if process == "self" { PathBuf::new() } else { roots.proc.join(&process).join("root") };
            found.extend(of(mount, &root));
        }
    }
    found
}

/// A process of each mount namespace, this one's first.
fn namespaces(roots: &Roots, pids: &[u32]) -> Vec<String> {
    let of = |process: &str| fs::read_link(roots.proc.join(process).join("ns/mnt")).ok();
    let mut seen: FxHashSet<PathBuf> = of("self").into_iter().collect();
    let mut found = vec!["self".to_owned()];
    for pid in pids {
        if found.len() >= MAX_NAMESPACES {
            break;
        }
        let pid = pid.to_string();
        if of(&pid).is_some_and(|namespace| seen.insert(namespace)) {
            found.push(pid);
        }
    }
    found
}

/// What a tmpfs uses; `None` if it has no size, or something else is mounted there now.
fn of(mount: &Mount, root: &Path) -> Option<Tmpfs> {
    let mut path = root.as_os_str().to_owned();
    path.push(&mount.point);
    if fs::metadata(&path).ok()?.dev() != mount.device {
        return None;
    }
    let stat = statfs(Path::new(&path)).ok()?;
    let block = u64::try_from(stat.block_size()).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(block);
    let used = stat.blocks().saturating_sub(stat.blocks_free());
    (stat.blocks() > 0).then(|| Tmpfs {
        device: mount.device,
        point: mount.point.clone(),
        used: bytes(used),
        size: bytes(stat.blocks()),
    })
}

/// A line of a table of mounts.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: u64,
    point: String,
    kind: String,
}

impl Mount {
    /// `id parent major:minor root point options … - kind source options`.
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(2);
        let (major, minor) = before.next()?.split_once(':')?;
        let device = libc::makedev(major.parse().ok()?, minor.parse().ok()?);
        let point = unescaped(before.nth(1)?);
        Some(Self { device, point, kind: after.split(' ').next()?.to_owned() })
    }
}

/// A path with its `\040` and the like replaced.
fn unescaped(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| byte == b'\\') {
            Some(code) => {
                bytes.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Mount, unescaped};

    #[test]
    fn mounts_are_read() {
        let mount = Mount::parse("38 25 0:34 / /a\\040b rw,nosuid shared:5 - tmpfs none rw,size=4k").unwrap();
        let expected =
            Mount { device: libc::makedev(0, 34), point: "/a b".to_owned(), kind: "tmpfs".to_owned() };
        assert_eq!(mount, expected);
        assert_eq!(Mount::parse("38 25 0:34 / /a rw"), None);
        assert_eq!(Mount::parse("x"), None);
        assert_eq!(unescaped("a\\134\\04"), "a\\\\04");
    }
}

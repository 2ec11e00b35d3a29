//! What processes hold by a descriptor only: deleted files, memfds, BPF maps, inotify watches.

use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    file::{Roots, text},
    mounts::Tmpfs,
    watches::Watches,
};
use crate::profile::machine::{Holding, Missing, Owner, Place, ProcessMemory};

/// Descriptors that are read, of all processes together.
const MAX_DESCRIPTORS: usize = 262_144;
/// Places that are told apart.
const MAX_PLACES: usize = 8192;
/// Characters of a path or a name that are kept.
const MAX_LABEL: usize = 256;

/// Sums by place.
#[derive(Debug, Default)]
pub(super) struct Sums(FxHashMap<Place, (u64, u64)>);

impl Sums {
    /// Adds one thing of so many bytes. Places beyond the bound are left out, which leaves them in the rest of their part.
    pub(super) fn add(&mut self, place: Place, bytes: u64) {
        if self.0.len() < MAX_PLACES || self.0.contains_key(&place) {
            let sum = self.0.entry(place).or_default();
            *sum = (sum.0.saturating_add(bytes), sum.1 + 1);
        }
    }

    /// What was added up.
    pub(super) fn holdings(self) -> impl Iterator<Item = Holding> {
        self.0.into_iter().map(|(place, (bytes, count))| Holding { place, bytes, count })
    }
}

/// A descriptor and what it leads to.
pub(super) struct Descriptor<'a> {
    /// Whose.
    pub owner: &'a Owner,
    /// Its path in /proc.
    pub path: PathBuf,
    /// What the link says, lossy.
    pub target: String,
}

/// Calls `visit` for descriptors of all processes. Returns how many processes do not show theirs.
pub(super) fn each(roots: &Roots, processes: &[ProcessMemory], mut visit: impl FnMut(Descriptor<'_>)) -> u64 {
    let (mut left, mut hidden) = (MAX_DESCRIPTORS, 0);
    for ProcessMemory { owner, .. } in processes {
        let directory = roots.proc.join(owner.pid.to_string()).join("fd");
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => {
                hidden += u64::from(error.kind() == std::io::ErrorKind::PermissionDenied);
                continue;
            }
        };
        for entry in entries.filter_map(Result::ok).take(left) {
            left -= 1;
            let path = entry.path();
            // Of a process that ended meanwhile there are no links.
            let Ok(target) = fs::read_link(&path) else { continue };
            let target = String::from_utf8_lossy(target.as_os_str().as_bytes()).into_owned();
            visit(Descriptor { owner, path, target });
        }
    }
    hidden
}

/// Deleted files, memfds and BPF maps; and inotify watches. What deleted files use is taken off their file systems: these are left with what has a
/// name.
pub(super) fn read(
    roots: &Roots,
    processes: &[ProcessMemory],
    mounts: &mut [Tmpfs],
    missing: &mut Vec<Missing>,
) -> (Vec<Holding>, Watches) {
    let mut watches = Watches::default();
    let (mut sums, mut seen, mut maps) = (Sums::default(), FxHashSet::default(), FxHashSet::default());
    let hidden = each(roots, processes, |Descriptor { owner, path, target }| {
        if target == "anon_inode:bpf-map" {
            if let Some((id, bytes)) = bpf_map(&path).filter(|(id, _)| maps.insert(*id)) {
                tracing::trace!("BPF map {id} of {}: {bytes} bytes", owner.pid);
                sums.add(Place::BpfMaps(owner.clone()), bytes);
            }
            return;
        }
        if target == "anon_inode:inotify" {
            watches.add(owner, &information(&path));
            return;
        }
        let Some(name) = target.strip_suffix(" (deleted)") else { return };
        let memfd = name.strip_prefix("/memfd:");
        // Files elsewhere are not touched: that could wait for another machine.
        if memfd.is_none() && !mounts.iter().any(|mount| Path::new(name).starts_with(&mount.point)) {
            return;
        }
        let Ok(file) = fs::metadata(&path) else { return };
        if file.nlink() > 0 || !file.is_file() || !seen.insert((file.dev(), file.ino())) {
            return;
        }
        let bytes = file.blocks().saturating_mul(512);
        let label = |text: &str| text.chars().take(MAX_LABEL).collect();
        if let Some(name) = memfd {
            sums.add(Place::Memfd(owner.clone(), label(name)), bytes);
        } else if let Some(mount) = mounts.iter_mut().find(|mount| mount.device == file.dev()) {
            mount.used = mount.used.saturating_sub(bytes);
            sums.add(Place::Deleted(owner.clone(), label(name)), bytes);
        }
    });
    if hidden > 0 {
        missing.push(Missing::Descriptors(hidden));
    }
    (sums.holdings().collect(), watches)
}

/// Where the kernel describes what is behind a descriptor.
fn information(path: &Path) -> PathBuf {
    let number = path.file_name().unwrap_or_default();
    path.parent().unwrap_or(path).with_file_name("fdinfo").join(number)
}

/// Id and bytes of the BPF map behind a descriptor.
fn bpf_map(path: &Path) -> Option<(u32, u64)> {
    let information = text(&information(path), 4096)?;
    let field =
        |name: &str| information.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some((u32::try_from(field("map_id:")?).ok()?, field("memlock:")?))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::{MAX_PLACES, Sums, read};
    use crate::{
        kernel::machine::Roots,
        profile::machine::{Owner, Place, ProcessMemory},
    };

    #[test]
    fn maps_are_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        for pid in ["7", "8"] {
            let process = directory.path().join(pid);
            fs::create_dir_all(process.join("fd")).unwrap();
            fs::create_dir_all(process.join("fdinfo")).unwrap();
            symlink("anon_inode:bpf-map", process.join("fd/3")).unwrap();
            fs::write(process.join("fdinfo/3"), "pos:\t0\nmemlock:\t8192\nmap_id:\t5\n").unwrap();
            symlink("/elsewhere/x (deleted)", process.join("fd/4")).unwrap();
            symlink("anon_inode:bpf-map", process.join("fd/5")).unwrap();
        }
        let roots = Roots { proc: directory.path().into(), sys: directory.path().into() };
        let process =
            |pid| ProcessMemory { owner: Owner { pid, comm: "x".to_owned() }, ..ProcessMemory::default() };
        let found = read(&roots, &[process(7), process(8), process(9)], &mut [], &mut Vec::new()).0;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&found[0].place, found[0].bytes), (&Place::BpfMaps(process(7).owner), 8192));
    }

    #[test]
    fn places_are_bounded() {
        let mut sums = Sums::default();
        for at in 0..MAX_PLACES as u64 + 10 {
            sums.add(Place::Tmpfs(at.to_string()), at);
        }
        assert_eq!(sums.holdings().count(), MAX_PLACES);
    }
}

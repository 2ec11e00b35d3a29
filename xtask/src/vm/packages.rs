//! Debian's packages, fetched and unpacked without installing them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::fresh;
use crate::process;

/// The newest package of a kernel for virtual machines. Its name has the version in it.
pub(super) fn newest_kernel(version: &str) -> Result<String> {
    let prefix = format!("linux-image-{version}");
    let names = process::capture(process::command("apt-cache").args(["pkgnames", &prefix]))?;
    newest(&names, version).with_context(|| {
        format!("apt offers no {prefix}…-cloud-amd64 (is its list up to date? `apt-get update`)")
    })
}

fn newest(names: &str, version: &str) -> Option<String> {
    let numbers = |name: &str| -> Vec<u64> {
        name.split(|character: char| !character.is_ascii_digit())
            .filter_map(|part| part.parse().ok())
            .collect()
    };
    names
        .lines()
        .filter(|name| {
            let rest = name.strip_prefix("linux-image-").and_then(|name| name.strip_prefix(version));
            // `6.1` is not the beginning of `6.12`.
            rest.is_some_and(|rest| rest.starts_with('.') && rest.ends_with("-cloud-amd64"))
        })
        .max_by_key(|name| numbers(name))
        .map(str::to_owned)
}

/// Fetches a package, if it is not there, and unpacks it; the directory.
pub(super) fn unpack(directory: &Path, package: &str) -> Result<PathBuf> {
    let fetched = directory.join(format!("{package}.fetched"));
    if find(&fetched, ".deb").is_err() {
        fresh(&fetched)?;
        process::run(
            process::command("apt-get").current_dir(&fetched).args(["--quiet", "download", package]),
        )?;
    }
    let unpacked = directory.join(package);
    if !unpacked.exists() {
        process::run(process::command("dpkg").arg("-x").arg(find(&fetched, ".deb")?).arg(&unpacked))?;
    }
    Ok(unpacked)
}

/// The kernel in an unpacked package.
pub(super) fn image(unpacked: &Path) -> Result<PathBuf> {
    find(&unpacked.join("boot"), "-cloud-amd64")
}

/// The file in a directory whose name ends so; a kernel's is the only one that begins with `vmlinuz`.
fn find(directory: &Path, ending: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .find(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(ending) && (ending == ".deb" || name.starts_with("vmlinuz"))
        })
        .with_context(|| format!("nothing in {} ends in {ending}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn the_newest_of_a_version_is_taken() {
        let names = "linux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-50-cloud-amd64\nlinux-image-6.1.0-60-amd64\n\
                     linux-image-6.12.117+deb12-cloud-amd64\nlinux-image-6.12-cloud-amd64\n\
                     linux-image-6.1.0-50-cloud-amd64-dbg\n";
        assert_eq!(newest(names, "6.1").as_deref(), Some("linux-image-6.1.0-50-cloud-amd64"));
        assert_eq!(newest(names, "6.12").as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64"));
        assert_eq!(newest(names, "5.10"), None);
    }
}

//! Debian's packages, fetched and unpacked without installing them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::fresh;
use crate::process;

/// Where kernels are: Debian keeps older ones with its older releases, and ports new ones back.
const RELEASES: [(&str, &str); 6] = [
    ("debian-security", "bullseye-security"),
    ("debian", "bookworm"),
    ("debian-security", "bookworm-security"),
    ("debian", "trixie"),
    ("debian-security", "trixie-security"),
    ("debian", "trixie-backports"),
];

/// Debian's archive, with lists apart from the system's.
pub(super) struct Archive {
    directory: PathBuf,
}

impl Archive {
    /// Fetches the archive's lists into a directory, where packages will be, too.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let archive = Self { directory: directory.to_owned() };
        for part in ["apt/lists/partial", "apt/cache/archives/partial"] {
            fs::create_dir_all(directory.join(part)).context("making apt's directories")?;
        }
        let signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
        let source = |(part, release)| format!("deb {signed} http://deb.debian.org/{part} {release} main\n");
        let sources: String = RELEASES.into_iter().map(source).collect();
        fs::write(directory.join("apt/sources.list"), sources).context("writing apt's sources")?;
        process::run(archive.apt("apt-get").args(["--quiet", "--quiet", "update"]))?;
        Ok(archive)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = process::command(program);
        let options = [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::Etc::SourceParts", "none"),
            ("Dir::State::Lists", "lists"),
            ("Dir::Cache", "cache"),
        ];
        for (option, place) in options {
            command.arg("-o").arg(format!("{option}={}", self.directory.join("apt").join(place).display()));
        }
        // Nothing is left to a user who may not see the directory.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    }

    /// The newest package of a kernel for virtual machines; its name has the version in it. `newest` is any version.
    pub(super) fn newest_kernel(&self, version: &str) -> Result<String> {
        let names = process::capture(self.apt("apt-cache").args(["pkgnames", "linux-"]))?;
        let version = if version == "newest" { "" } else { version };
        newest(&names, version)
            .with_context(|| format!("no kernel {version}…-cloud-amd64 in Debian's archive"))
    }

    /// Fetches a package, if it is not there, and unpacks it; the directory.
    pub(super) fn unpack(&self, package: &str) -> Result<PathBuf> {
        let fetched = self.directory.join(format!("{package}.fetched"));
        if find(&fetched, "", ".deb").is_err() {
            fresh(&fetched)?;
            let mut download = self.apt("apt-get");
            download.current_dir(&fetched).args(["--quiet", "--quiet", "download", package]);
            process::run(&mut download)?;
        }
        let unpacked = self.directory.join(package);
        if !unpacked.exists() {
            process::run(process::command("dpkg").arg("-x").arg(find(&fetched, "", ".deb")?).arg(&unpacked))?;
        }
        Ok(unpacked)
    }
}

/// The newest of the kernels whose version begins so. Since 6.19 the image has a package apart.
fn newest(names: &str, version: &str) -> Option<String> {
    let release = |name: &str| -> Option<Vec<u64>> {
        let rest = name.strip_prefix("linux-image-").or_else(|| name.strip_prefix("linux-binary-"))?;
        let after = rest.strip_prefix(version)?;
        // `6.1` is not the beginning of `6.12`, and `linux-image-6.1-cloud-amd64` only names another package.
        let is_whole = version.is_empty() && rest.starts_with(|first: char| first.is_ascii_digit());
        let numbers: Vec<u64> = rest
            .strip_suffix("-cloud-amd64")?
            .split(|character: char| !character.is_ascii_digit())
            .filter_map(|part| part.parse().ok())
            .collect();
        ((is_whole || after.starts_with('.')) && numbers.len() > 2).then_some(numbers)
    };
    let known = names.lines().filter_map(|name| Some((release(name)?, name)));
    // Of two with one version `linux-image` is the one without the image.
    let newest = known.max_by_key(|(numbers, name)| (numbers.clone(), name.starts_with("linux-binary-")));
    newest.map(|(_, name)| name.to_owned())
}

/// The kernel in an unpacked package: in /boot, since 6.19 beside its modules.
pub(super) fn image(unpacked: &Path) -> Result<PathBuf> {
    let modules = unpacked.join("usr/lib/modules");
    find(&unpacked.join("boot"), "vmlinuz-", "-cloud-amd64")
        .or_else(|_| find(&find(&modules, "", "-cloud-amd64")?, "vmlinuz", ""))
}

/// The file in a directory whose name begins and ends so.
fn find(directory: &Path, beginning: &str, ending: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .find(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(beginning) && name.ends_with(ending)
        })
        .with_context(|| format!("nothing in {} is called {beginning}…{ending}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn the_newest_of_a_version_is_taken() {
        let names = "linux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-50-cloud-amd64\nlinux-image-6.1.0-60-amd64\n\
                     linux-image-6.12.117+deb12-cloud-amd64\nlinux-image-6.12-cloud-amd64\n\
                     linux-image-6.1.0-50-cloud-amd64-dbg\nlinux-image-6.19.14+deb13-cloud-amd64\n\
                     linux-binary-6.19.14+deb13-cloud-amd64\nlinux-image-cloud-amd64\n\
                     linux-binary-unsigned-7.2.12+deb13-cloud-amd64\n";
        assert_eq!(newest(names, "6.1").as_deref(), Some("linux-image-6.1.0-50-cloud-amd64"));
        assert_eq!(newest(names, "6.12").as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64"));
        assert_eq!(newest(names, "").as_deref(), Some("linux-binary-6.19.14+deb13-cloud-amd64"));
        assert_eq!(newest(names, "5.10"), None);
    }
}

//! The programs that build the eBPF object: Debian's rustc, whose package has `core` for the BPF target; bpf-linker,
//! installed below `target/` against the libLLVM that rustup ships; rust-objcopy of the same toolchain.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::lock::Toolchain;
use crate::process;

/// What the object is compiled for.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Debian's compiler.
pub(crate) const RUSTC: &str = "/usr/bin/rustc";
const PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];
const APT_INSTALL: [&str; 3] = ["install", "-y", "--no-install-recommends"];
const LINKER_VERSION: &str = "0.13.0";

/// What is known of [`RUSTC`].
pub(crate) struct Rustc {
    release: String,
    commit: String,
    llvm: String,
}

impl Rustc {
    /// Finds the compiler; with `install`, gets its packages where they are missing.
    ///
    /// # Errors
    /// It is not there, or its sources are installed.
    pub(crate) fn find(install: bool) -> Result<Self> {
        if !has_bpf_core() {
            let command = format!("apt-get {} {}", APT_INSTALL.join(" "), PACKAGES.join(" "));
            ensure!(
                install,
                "{RUSTC} cannot compile for {TARGET}. As root: {command}\n(`--install` runs that)"
            );
            process::run(process::command("apt-get").arg("update"))?;
            process::run(process::command("apt-get").args(APT_INSTALL).args(PACKAGES))?;
            ensure!(has_bpf_core(), "{RUSTC} still cannot compile for {TARGET} after {command}");
        }
        let version = process::capture(process::command(RUSTC).arg("-vV"))?;
        let rustc = Self::parse(&version)?;
        let sources = format!("/usr/src/rustc-{}", rustc.release);
        ensure!(
            !Path::new(&sources).exists(),
            "{sources} is installed: LLVM would copy its text into the object, which could not be reproduced \
             elsewhere. As root: apt-get purge rust-web-src"
        );
        Ok(rustc)
    }

    fn parse(version: &str) -> Result<Self> {
        let value = |key: &str| {
            let line = version.lines().find_map(|line| line.strip_prefix(key));
            line.map(|value| value.trim().to_owned())
                .with_context(|| format!("`{RUSTC} -vV` prints no `{key}`"))
        };
        Ok(Self {
            release: value("release:")?,
            commit: value("commit-hash:")?,
            llvm: value("LLVM version:")?,
        })
    }

    pub(crate) fn path(&self) -> &'static Path {
        Path::new(RUSTC)
    }
}

fn has_bpf_core() -> bool {
    let libdir =
        process::capture(process::command(RUSTC).args(["--print", "target-libdir", "--target", TARGET]));
    libdir.is_ok_and(|path| Path::new(path.trim()).is_dir())
}

/// bpf-linker and rust-objcopy.
pub(crate) struct Linker {
    /// `target/bpf-tools`.
    tools: PathBuf,
    /// Root of the rustup toolchain that runs this.
    sysroot: PathBuf,
    /// File name of its libLLVM, which is also the library's SONAME.
    llvm: String,
}

impl Linker {
    /// Finds the linker, and builds it (about 90 s) where it is missing or of another toolchain.
    ///
    /// # Errors
    /// The toolchain has no libLLVM, it is older than the compiler's, or the linker cannot be built.
    pub(crate) fn find(target_directory: &Path, rustc: &Rustc) -> Result<Self> {
        let sysroot = sysroot()?;
        let llvm = lib_llvm(&sysroot.join("lib"))?;
        let (ours, theirs) = (llvm_major(&llvm)?, llvm_major(&rustc.llvm)?);
        ensure!(
            ours >= theirs,
            "{RUSTC} emits bitcode of LLVM {theirs}, and the libLLVM of {} is older ({ours}): update Rust",
            sysroot.display()
        );
        let linker = Self { tools: target_directory.join("bpf-tools"), sysroot, llvm };
        if !linker.is_current() {
            linker.build(ours).context("building bpf-linker")?;
            ensure!(linker.is_current(), "{} does not run after it was built", linker.path().display());
        }
        Ok(linker)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.tools.join("bin/bpf-linker")
    }

    /// Value of LD_LIBRARY_PATH with which the linker runs even if the checkout was moved after it was built.
    pub(crate) fn library_path(&self) -> PathBuf {
        self.tools.join("llvm/lib")
    }

    /// Copies an object without its DWARF; BTF stays.
    ///
    /// # Errors
    /// rust-objcopy is missing or fails.
    pub(crate) fn strip(&self, from: &Path, to: &Path) -> Result<()> {
        let host = format!("lib/rustlib/{}-unknown-linux-gnu/bin/rust-objcopy", std::env::consts::ARCH);
        process::run(
            process::command(self.sysroot.join(host))
                .env("LD_LIBRARY_PATH", self.sysroot.join("lib"))
                .args([OsStr::new("--strip-debug"), from.as_os_str(), to.as_os_str()]),
        )
    }

    pub(crate) fn toolchain(&self, rustc: &Rustc) -> Toolchain {
        Toolchain {
            linker: format!("bpf-linker {LINKER_VERSION}"),
            linker_llvm: self.llvm.clone(),
            rustc: rustc.release.clone(),
            rustc_commit: rustc.commit.clone(),
            rustc_llvm: rustc.llvm.clone(),
        }
    }

    fn is_current(&self) -> bool {
        let mut version = process::command(self.path());
        version.arg("--version").env("LD_LIBRARY_PATH", self.library_path());
        self.library_path().join(&self.llvm).exists()
            && process::capture(&mut version).is_ok_and(|text| text.trim().ends_with(LINKER_VERSION))
    }

    fn build(&self, llvm_major: u32) -> Result<()> {
        let library_path = self.library_path();
        if library_path.exists() {
            std::fs::remove_dir_all(&library_path)?;
        }
        std::fs::create_dir_all(&library_path)?;
        let llvm = self.sysroot.join("lib").join(&self.llvm);
        // The first name is for the linker's build, the second for the loader.
        for name in ["libLLVM.so", &self.llvm] {
            symlink(&llvm, library_path.join(name))?;
        }
        let scratch = self.tools.join("build");
        process::run(
            cargo(&self.sysroot)
                .args(["install", "--locked", "--force", "bpf-linker", "--version", LINKER_VERSION])
                .args(["--no-default-features", "--features", &format!("llvm-{llvm_major}")])
                .args([OsStr::new("--root"), self.tools.as_os_str()])
                .args([OsStr::new("--target-dir"), scratch.as_os_str()])
                .env("RUSTC", self.sysroot.join("bin/rustc"))
                .env("LLVM_PREFIX", self.tools.join("llvm"))
                .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
                .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
                .env("CARGO_PROFILE_RELEASE_STRIP", "true"),
        )?;
        std::fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())
    }

    /// The toolchain's cargo.
    pub(crate) fn cargo(&self) -> Command {
        cargo(&self.sysroot)
    }
}

fn cargo(sysroot: &Path) -> Command {
    process::command(sysroot.join("bin/cargo"))
}

/// Asks the rustc beside the cargo that runs this: PATH may name the distribution's first.
fn sysroot() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").map(PathBuf::from);
    let rustc = cargo.map(|path| path.with_file_name("rustc")).filter(|path| path.exists());
    let rustc = rustc.unwrap_or_else(|| "rustc".into());
    let path = process::capture(process::command(rustc).args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(path.trim()))
}

fn lib_llvm(directory: &Path) -> Result<String> {
    let entries = std::fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("libLLVM.so."))
        .collect();
    names.sort();
    match names.pop() {
        Some(name) => Ok(name),
        None => bail!("{} has no libLLVM.so: a toolchain of rustup is needed", directory.display()),
    }
}

/// 22 of `22.1.8` and of `libLLVM.so.22.1-rust-1.95.0-stable`.
fn llvm_major(version: &str) -> Result<u32> {
    let digits = version.trim_start_matches("libLLVM.so.").split('.').next().unwrap_or_default();
    digits.parse().with_context(|| format!("no version of LLVM in `{version}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_rustc_is_read_line_by_line() {
        let text =
            "rustc 1.96.0 (ac6 2026-05-25)\ncommit-hash: ac68\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        let rustc = Rustc::parse(text).unwrap();
        assert_eq!((&*rustc.release, &*rustc.commit, &*rustc.llvm), ("1.96.0", "ac68", "22.1.8"));
        let error = Rustc::parse("release: 1.96.0\n").map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, "`/usr/bin/rustc -vV` prints no `commit-hash:`");
    }

    #[test]
    fn major_version_comes_from_either_spelling() {
        assert_eq!(llvm_major("22.1.8").unwrap(), 22);
        assert_eq!(llvm_major("libLLVM.so.22.1-rust-1.95.0-stable").unwrap(), 22);
        assert!(llvm_major("libLLVM.so.git").is_err());
    }

    #[test]
    fn libllvm_is_told_from_its_neighbours() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("librustc_driver.so"), "").unwrap();
        assert!(lib_llvm(directory.path()).unwrap_err().to_string().contains("a toolchain of rustup"));
        std::fs::write(directory.path().join("libLLVM.so.22.1-rust"), "").unwrap();
        assert_eq!(lib_llvm(directory.path()).unwrap(), "libLLVM.so.22.1-rust");
    }
}

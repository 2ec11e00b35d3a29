//! Child processes whose outcome depends on this repository, not on the caller's environment.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Settings of cargo that say where things are fetched from or kept, and never change what is built.
const HARMLESS: [&str; 6] =
    ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_TERM_"];

/// A command without the variables through which `cargo run`, rustup or the user would steer a compiler: the
/// eBPF build uses another compiler, and its bytes must not depend on them.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(steers_a_build) {
            command.env_remove(name);
        }
    }
    command
}

fn steers_a_build(name: &str) -> bool {
    let steering = ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC", "LLVM_", "LD_LIBRARY_PATH", "LD_PRELOAD"];
    steering.iter().any(|prefix| name.starts_with(prefix))
        && !HARMLESS.iter().any(|prefix| name.starts_with(prefix))
}

/// Runs the command and returns what it wrote to stdout.
///
/// # Errors
/// It cannot be started, or fails; the message then holds its stderr.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| describe(command))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}: {}", describe(command), output.status, stderr.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of {}", describe(command)))
}

/// Runs the command with this process's terminal.
///
/// # Errors
/// It cannot be started, or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| describe(command))?;
    if !status.success() {
        bail!("{}: {status}", describe(command));
    }
    Ok(())
}

/// The program and its arguments, without the environment.
fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(OsStr::to_string_lossy));
    format!("`{}`", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_change_the_build_are_dropped_and_mirrors_kept() {
        for name in
            ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_PROFILE_BPF_LTO", "LD_LIBRARY_PATH", "CARGO"]
        {
            assert!(steers_a_build(name), "{name}");
        }
        for name in
            ["PATH", "HOME", "CARGO_HOME", "CARGO_NET_OFFLINE", "RUSTUP_TOOLCHAIN", "CARGO_HTTP_PROXY"]
        {
            assert!(!steers_a_build(name), "{name}");
        }
    }

    #[test]
    fn a_failing_command_is_named_with_its_stderr() {
        let error = capture(command("sh").args(["-c", "echo broken >&2; exit 7"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("broken") && error.contains('7'), "{error}");
        assert!(run(command("sh").args(["-c", "exit 1"])).is_err());
        assert_eq!(capture(command("echo").arg("fine")).unwrap(), "fine\n");
    }
}

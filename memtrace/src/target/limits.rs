//! How many files may be open: the agent holds those of its targets, a command has the limits of who started it.

use std::{io, sync::OnceLock};

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
};

/// Enough for the files and probes of many targets. More is asked for only where the hard limit is higher anyway.
const ENOUGH: u64 = 1 << 16;

/// What `ulimit` says where nobody has changed it.
const USUAL: (u64, u64) = (1024, 1024);

/// Soft and hard limit before they were raised.
static BEFORE: OnceLock<(u64, u64)> = OnceLock::new();

/// Raises this process's limit of open files as far as it may, to 65,536 at least.
pub fn raise_file_limit() {
    let (_, hard) = *BEFORE.get_or_init(limits);
    // With CAP_SYS_RESOURCE the hard limit can be raised too.
    if setrlimit(Resource::RLIMIT_NOFILE, hard.max(ENOUGH), hard.max(ENOUGH)).is_err() {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Soft and hard limit as they were before [`raise_file_limit`].
pub(super) fn limits_before() -> (u64, u64) {
    BEFORE.get().copied().unwrap_or_else(limits)
}

fn limits() -> (u64, u64) {
    getrlimit(Resource::RLIMIT_NOFILE).unwrap_or(USUAL)
}

/// What to do, where an error comes of too many open files.
#[must_use]
pub fn advice_on_files<'a>(
    causes: impl IntoIterator<Item = &'a (dyn std::error::Error + 'static)>,
) -> Option<String> {
    let number = |error: &(dyn std::error::Error + 'static)| {
        let io = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        io.or_else(|| error.downcast_ref::<Errno>().map(|errno| *errno as i32))
    };
    causes.into_iter().find_map(|error| match number(error) {
        Some(libc::EMFILE) => Some(format!(
            "too many open files: this process may have {} and needs some for each program, map and probe, and for each \
             file that targets map; raise the limit (`ulimit -n {ENOUGH}`; LimitNOFILE= in a unit of systemd)",
            limits().0
        )),
        Some(libc::ENFILE) => {
            Some("too many open files on this machine: raise /proc/sys/fs/file-max".to_owned())
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use nix::errno::Errno;

    use super::advice_on_files;

    #[test]
    fn the_cause_may_lie_deep() {
        let deep = anyhow::Error::new(io::Error::from_raw_os_error(libc::EMFILE)).context("cannot load");
        assert!(advice_on_files(deep.chain()).is_some_and(|advice| advice.contains("ulimit -n")));
        let other = anyhow::Error::new(Errno::ENFILE).context("cannot load");
        assert!(advice_on_files(other.chain()).is_some_and(|advice| advice.contains("file-max")));
        let none = anyhow::Error::new(Errno::EPERM).context("cannot load");
        assert_eq!(advice_on_files(none.chain()), None);
    }
}

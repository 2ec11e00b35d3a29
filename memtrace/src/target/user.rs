//! The user that a command runs as.

use std::ffi::{OsStr, OsString};

use nix::unistd::{Gid, Uid, User as PasswdUser};

use super::error::Error;

/// Not a valid id: for `setresuid` and `setresgid` it means "unchanged".
const UNCHANGED: u32 = u32::MAX;

/// The user that a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<Gid>,
    /// Name, home and shell, for the environment.
    pub(super) environment: Vec<(&'static str, OsString)>,
}

impl User {
    /// The user of a name or number.
    ///
    /// # Errors
    /// There is no such user.
    pub fn find(name: &str) -> Result<Self, Error> {
        let unknown = || Error::NoSuchUser(name.to_owned());
        let user = match name.parse::<u32>() {
            Ok(UNCHANGED) => return Err(unknown()),
            // Containers use users without an entry.
            Ok(uid) => match PasswdUser::from_uid(Uid::from_raw(uid)) {
                Ok(None) => {
                    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
                    return Ok(Self { uid, gid, groups: vec![gid], environment: Vec::new() });
                }
                known => known,
            },
            Err(_not_a_number) => PasswdUser::from_name(name),
        };
        Self::of(&user.ok().flatten().ok_or_else(unknown)?).ok_or_else(unknown)
    }

    /// The caller of sudo, if there is one. One without an entry has the ids in the variables, without further groups.
    ///
    /// # Errors
    /// The caller cannot be determined: the command must not run as root instead.
    pub fn behind_sudo() -> Result<Option<Self>, Error> {
        let Some(uid) = std::env::var_os("SUDO_UID").filter(|_| nix::unistd::geteuid().is_root()) else {
            return Ok(None);
        };
        let uid = id("SUDO_UID", &uid)?;
        if uid == 0 {
            return Ok(None);
        }
        let known = PasswdUser::from_uid(Uid::from_raw(uid)).ok().flatten();
        if let Some(user) = known.as_ref().and_then(Self::of) {
            return Ok(Some(user));
        }
        let gid = Gid::from_raw(id("SUDO_GID", &std::env::var_os("SUDO_GID").unwrap_or_default())?);
        Ok(Some(Self { uid: Uid::from_raw(uid), gid, groups: Vec::new(), environment: Vec::new() }))
    }

    fn of(user: &PasswdUser) -> Option<Self> {
        let name = std::ffi::CString::new(user.name.as_str()).ok()?;
        let groups = nix::unistd::getgrouplist(&name, user.gid).ok()?;
        let environment = vec![
            ("USER", user.name.clone().into()),
            ("LOGNAME", user.name.clone().into()),
            ("HOME", user.dir.clone().into_os_string()),
            ("SHELL", user.shell.clone().into_os_string()),
        ];
        Some(Self { uid: user.uid, gid: user.gid, groups, environment })
    }
}

/// A user or group id in a variable of sudo.
fn id(variable: &'static str, value: &OsStr) -> Result<u32, Error> {
    let number = value.to_str().and_then(|text| text.parse().ok()).filter(|&number| number != UNCHANGED);
    number.ok_or_else(|| Error::Caller { variable, value: value.to_owned() })
}

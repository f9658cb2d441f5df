//! Who a process is: user, groups, capabilities, and the promise not to gain more.
//!
//! The order matters and is the caller's: the bounding set while we still have CAP_SETPCAP, then groups and ids, then the
//! final sets (a user other than root has lost permitted and effective by then), no_new_privs last.

use std::str::FromStr;

use caps::{CapSet, Capability, CapsHashSet};

use super::process::last_errno;
use crate::error::{Error, Result};

fn failed(call: &'static str, object: impl std::fmt::Display) -> impl FnOnce(nix::errno::Errno) -> Error {
    move |errno| Error::call(call, object, errno as i32)
}

/// Whether we are root in our user namespace.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Becomes the user. The thread is the only one, so that the plain calls change the whole process.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    let list: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&list).map_err(failed("setgroups", format!("{groups:?}")))?;
    let (uid_, gid_) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setresgid(gid_, gid_, gid_).map_err(failed("setresgid", gid))?;
    setresuid(uid_, uid_, uid_).map_err(failed("setresuid", uid))
}

/// Makes new files the user's and the group's, while all rights stay: the kernel takes some of them away with the change (capabilities(7),
/// "Effect of user ID changes"), so they are taken up again.
pub fn create_as(uid: u32, gid: u32) -> Result<()> {
    use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // Neither call tells whether it has worked, but each tells what was before.
    if (setfsgid(group), setfsgid(group)).1 != group || (setfsuid(user), setfsuid(user)).1 != user {
        return Err(Error::call("setfsuid", uid, libc::EPERM));
    }
    let held = caps::read(None, CapSet::Permitted).map_err(|_| Error::call("capget", "", last_errno()))?;
    caps::set(None, CapSet::Effective, &held).map_err(|_| Error::call("capset", "Effective", last_errno()))
}

/// The names of capabilities(7) (`CAP_CHOWN`) as a set; a name that this kernel's headers do not know is an error.
fn set_of(names: &[String]) -> Result<CapsHashSet> {
    names.iter().map(|name| Capability::from_str(name).map_err(|_| Error::said(format!("{name} is not a capability")))).collect()
}

/// The names, without `CAP_`, of the capabilities that we may hold and give: all of this kernel, unless we are in a container ourselves.
pub fn held_capabilities() -> Result<Vec<String>> {
    let held = caps::read(None, CapSet::Permitted).map_err(|_| Error::call("capget", "", last_errno()))?;
    let mut names: Vec<String> = held.iter().map(|capability| capability.to_string().trim_start_matches("CAP_").to_owned()).collect();
    names.sort();
    Ok(names)
}

/// Takes every capability but `keep` out of the bounding set: no file of the image can give it back.
pub fn bound_capabilities(keep: &[String]) -> Result<()> {
    let keep = set_of(keep)?;
    let here = caps::read(None, CapSet::Bounding).map_err(|_| Error::call("prctl", "PR_CAPBSET_READ", last_errno()))?;
    for capability in here.difference(&keep) {
        caps::drop(None, CapSet::Bounding, *capability).map_err(|_| Error::call("prctl", format!("PR_CAPBSET_DROP {capability}"), last_errno()))?;
    }
    Ok(())
}

/// Sets permitted and effective, and clears inheritable and ambient: a user that is not root has a capability only if a
/// file gives it.
pub fn set_capabilities(held: &[String]) -> Result<()> {
    let held = set_of(held)?;
    let failed = |set: CapSet| move |_| Error::call("capset", format!("{set:?}"), last_errno());
    caps::clear(None, CapSet::Ambient).map_err(failed(CapSet::Ambient))?;
    // The effective set must be within the permitted one at each moment, so it shrinks first.
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &held).map_err(failed(set))?;
    }
    caps::clear(None, CapSet::Inheritable).map_err(failed(CapSet::Inheritable))
}

/// From here on no exec gives more rights (setuid, file capabilities).
pub fn no_new_privileges() -> Result<()> {
    rustix::thread::set_no_new_privs(true).map_err(|errno| Error::call("prctl", "PR_SET_NO_NEW_PRIVS", errno.raw_os_error()))
}

/// The file mode mask of what we create.
pub fn set_umask(mask: u32) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
}

/// The name of this machine.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Names the machine of our UTS namespace.
pub fn set_host_name(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).map_err(|errno| Error::call("sethostname", name, errno.raw_os_error()))
}

/// The version of the running kernel, as (6, 12).
pub fn kernel_version() -> (u32, u32) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

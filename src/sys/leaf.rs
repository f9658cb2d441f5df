//! A process that speaks to strangers over the network: it keeps one socket, starts nobody and may do nothing.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;

use super::{file, process, user};
use crate::error::{Error, Result};

/// Makes a fresh fork such a process; `name` is what ps(1) shows. Without capabilities any root process that sees us could attach to us, and we
/// stand in the host's network and mounts, so we hide.
pub fn become_leaf(name: &CStr, socket: &OwnedFd) -> Result<()> {
    process::close_others(3, &[socket.as_fd()]);
    // What a library writes to standard error must not land in somebody's connection that got the number 2.
    let null = file::open("/dev/null", OFlags::RDWR)?;
    (0..3).try_for_each(|number| process::place_descriptor(&null, number))?;
    process::set_name(name);
    process::new_session()?;
    user::bound_capabilities(&[])?;
    user::set_capabilities(&[])?;
    user::no_new_privileges()?;
    process::hide()?;
    // Last: a change of credentials clears it. If the parent has ended before, its end of the socket is closed.
    process::die_with_parent()
}

/// The most bytes of memory of its own that this process may have (RLIMIT_DATA): what strangers send must not fill the machine.
pub fn limit_memory(bytes: u64) -> Result<()> {
    let limit = rustix::process::Rlimit { current: Some(bytes), maximum: Some(bytes) };
    rustix::process::setrlimit(rustix::process::Resource::Data, limit).map_err(|errno| Error::call("setrlimit", "RLIMIT_DATA", errno.raw_os_error()))
}

//! A visit to another process's namespaces, so that a child can be born there, and the way home.
//!
//! A PID namespace takes only children, and a mount namespace is best entered before the child is born: then there is no moment at which
//! a process of the container that may look into the child finds a path to the host there. Needs a caller with one thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;

use super::file;
use super::process::{self, Namespaces};
use crate::error::{Error, Result};

/// While it lives, our children are born in another process's namespaces; then we come back.
pub struct Visit {
    pid: Option<OwnedFd>,
    files: Option<Files>,
}

/// Entering a mount namespace moves our root and our working directory as well.
struct Files {
    namespace: OwnedFd,
    root: OwnedFd,
    directory: OwnedFd,
}

impl Visit {
    /// Enters those of `namespaces` that are MOUNT or PID, of the process behind a pidfd.
    pub fn to(pidfd: BorrowedFd<'_>, namespaces: Namespaces) -> Result<Visit> {
        let own = |name: &str| file::open(format!("/proc/self/ns/{name}"), OFlags::RDONLY);
        let place = |path: &str| file::open(path, OFlags::PATH | OFlags::DIRECTORY);
        let mut visit = Visit { pid: None, files: None };
        let pid = namespaces.contains(Namespaces::PID).then(|| own("pid")).transpose()?;
        let files = match namespaces.contains(Namespaces::MOUNT) {
            true => Some(Files { namespace: own("mnt")?, root: place("/")?, directory: place(".")? }),
            false => None,
        };
        process::join_namespaces(pidfd, namespaces & (Namespaces::MOUNT | Namespaces::PID))?;
        // Only now there is a way to go back.
        (visit.pid, visit.files) = (pid, files);
        Ok(visit)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let files = self.files.as_ref().map_or(Ok(()), Files::come_back);
        // The PID namespace was ours a moment ago; were it refused, the next clone would fail loudly (EINVAL).
        let pid = self.pid.as_ref().map_or(Ok(()), process::join_namespace_fd);
        if let Err(error) = files.and(pid) {
            // We would go on among the container's files and take them for the host's.
            eprintln!("minipod: coming back from a container: {error}");
            process::exit_now(70);
        }
    }
}

impl Files {
    fn come_back(&self) -> Result<()> {
        let failed = |call: &'static str| move |errno: rustix::io::Errno| Error::call(call, "", errno.raw_os_error());
        process::join_namespace_fd(&self.namespace)?;
        rustix::process::fchdir(&self.root).map_err(failed("fchdir"))?;
        rustix::process::chroot(".").map_err(failed("chroot"))?;
        rustix::process::fchdir(self.directory.as_fd()).map_err(failed("fchdir"))
    }
}

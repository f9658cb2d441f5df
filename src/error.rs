//! What went wrong, in one shape for the whole program.
//!
//! An [`Error`] answers four questions: what were we doing, for which container, which call failed on which object, and
//! with which errno. It may also carry the Kubernetes reason (`CreateContainerConfigError`, `StartError`, …) that the
//! pod's status will show. It is made where the call failed, gains its context on the way up, and is printed once:
//!
//! ```text
//! container web: mounting volume content at /content: openat2 "/srv/www": ENOENT (No such file or directory)
//! hint: the path does not exist on this machine; create it, or use hostPath type DirectoryOrCreate
//! ```

use std::fmt;

use nix::errno::Errno;

pub type Result<T> = std::result::Result<T, Error>;

/// One failure. Clean-up errors never replace it: the first error is the one that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The Kubernetes reason that a container's waiting or terminated state shows, where there is one.
    pub reason: Option<&'static str>,
    /// The container that it happened to, where it is one.
    pub container: Option<String>,
    /// What we were doing, outermost first; present participles ("mounting volume content at /content").
    pub doing: Vec<String>,
    /// What failed in the end.
    pub cause: Cause,
}

/// The end of the chain: a system call that failed, or a rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A system call (named as its man page), on an object (usually a path), with its errno.
    Call { call: &'static str, object: String, errno: i32 },
    /// No call failed: a sentence says what is wrong.
    Said(String),
}

impl Error {
    /// A failed system call. `object` is what it was called on: a path, an interface, a pid; empty if there is none.
    pub fn call(call: &'static str, object: impl fmt::Display, errno: i32) -> Error {
        Error::new(Cause::Call { call, object: object.to_string(), errno })
    }

    /// A failed operation of the standard library. `call` is the system call behind it.
    pub fn io(call: &'static str, object: impl fmt::Display, error: &std::io::Error) -> Error {
        match error.raw_os_error() {
            Some(errno) => Error::call(call, object, errno),
            None => Error::said(format!("{call} {object}: {error}")),
        }
    }

    /// A broken rule, as a sentence without a full stop.
    pub fn said(what: impl Into<String>) -> Error {
        Error::new(Cause::Said(what.into()))
    }

    fn new(cause: Cause) -> Error {
        Error { reason: None, container: None, doing: Vec::new(), cause }
    }

    /// Adds what we were doing when it happened; called on the way up, so the outermost ends up first.
    #[must_use]
    pub fn doing(mut self, what: impl fmt::Display) -> Error {
        self.doing.insert(0, what.to_string());
        self
    }

    /// Names the container, unless a deeper floor already has.
    #[must_use]
    pub fn container(mut self, name: &str) -> Error {
        self.container.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Gives the Kubernetes reason, unless a deeper floor already has.
    #[must_use]
    pub fn reason(mut self, reason: &'static str) -> Error {
        self.reason.get_or_insert(reason);
        self
    }

    /// The errno of the failed call, where a call failed.
    pub fn errno(&self) -> Option<i32> {
        match &self.cause {
            Cause::Call { errno, .. } => Some(*errno),
            Cause::Said(_) => None,
        }
    }

    /// Whether the failed call said exactly this errno (`libc`'s numbers).
    pub fn is(&self, errno: i32) -> bool {
        self.errno() == Some(errno)
    }

    /// What the person can do next, for the pairs of call and errno that have a usual cause.
    pub fn hint(&self) -> Option<&'static str> {
        let Cause::Call { call, errno, .. } = &self.cause else { return None };
        HINTS.iter().find(|(calls, number, _)| *errno == *number && (calls.is_empty() || calls.contains(call))).map(|(_, _, hint)| *hint)
    }
}

/// Rows of (calls, errno, hint); no calls means any. The first that fits is told.
const HINTS: &[(&[&str], i32, &str)] = &[
    (
        &["execve", "execveat"],
        libc::ENOENT,
        "the program, or the interpreter that its first line names, is not in the image; look with `minipod image inspect`",
    ),
    (&["execve", "execveat"], libc::EACCES, "the program is not executable for the container's user; check its mode in the image"),
    (&["execve", "execveat"], libc::ENOEXEC, "the file is not a program for this machine, or a script without a #! line"),
    (
        &["clone3", "unshare", "setns", "mount", "fsopen", "open_tree"],
        libc::EPERM,
        "minipod needs root with CAP_SYS_ADMIN; run it with sudo, or in a privileged container",
    ),
    (&["mount"], libc::ENODEV, "this kernel has no such file system; overlay is `modprobe overlay`"),
    (&[], libc::ENOSPC, "no space left: free some with `minipod image rm` or `minipod delete`, or use another --root"),
    (&[], libc::EDQUOT, "the disk quota is used up"),
    (&[], libc::EROFS, "the file system is mounted read-only; use another --root"),
    (&["openat2"], libc::EXDEV, "the path leads out of its volume or root file system (by .. or a symlink), which is refused"),
    (&["openat2"], libc::ELOOP, "too many symbolic links on the way"),
    (&[], libc::EMFILE, "too many open files: raise the limit with ulimit -n"),
];

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.container {
            write!(f, "container {name}: ")?;
        }
        for step in &self.doing {
            write!(f, "{step}: ")?;
        }
        match &self.cause {
            Cause::Said(what) => f.write_str(what),
            Cause::Call { call, object, errno } => {
                f.write_str(call)?;
                if !object.is_empty() {
                    write!(f, " {object:?}")?;
                }
                let errno = Errno::from_raw(*errno);
                write!(f, ": {errno:?} ({})", errno.desc())
            }
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_container_deed_call_object_and_errno() {
        let error = Error::call("openat2", "/srv/www", libc::ENOENT).doing("mounting volume content").container("web");
        assert_eq!(error.to_string(), r#"container web: mounting volume content: openat2 "/srv/www": ENOENT (No such file or directory)"#);
    }

    #[test]
    fn the_deepest_container_and_reason_win_and_the_outermost_deed_comes_first() {
        let error = Error::said("no").doing("inner").doing("outer").container("a").container("b").reason("R1").reason("R2");
        assert_eq!((error.to_string().as_str(), error.reason), ("container a: outer: inner: no", Some("R1")));
    }

    #[test]
    fn a_hint_fits_call_and_errno() {
        assert!(Error::call("execve", "/bin/nope", libc::ENOENT).hint().unwrap().contains("not in the image"));
        assert_eq!(Error::call("openat2", "/x", libc::ENOENT).hint(), None);
        assert!(Error::call("write", "/x", libc::ENOSPC).hint().is_some());
    }
}

//! Processes: born by clone3(2) in their namespaces and their cgroup, watched and killed by pidfd.
//!
//! ```text
//! parent                                  child
//!   clone3(NEWPID|NEWNS|.., cgroup fd) ──▶  body(): setns, mounts, credentials, execve
//!   └─ pidfd: poll, waitid, kill             └─ never returns to the caller's code
//! ```
//!
//! The child is a fork (it does not share memory), and the caller has one thread, so the body may use ordinary code; it
//! ends in execve(2) or `_exit`. A pid never leaves this module as something to signal: pids are reused, pidfds are not.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use bitflags::bitflags;
use nix::sched::CloneFlags;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};

use crate::error::{Error, Result};

bitflags! {
    /// Namespaces to make (clone3) or to join (setns); the bits are the kernel's.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Namespaces: u64 {
        const MOUNT = libc::CLONE_NEWNS as u64;
        const PID = libc::CLONE_NEWPID as u64;
        const NET = libc::CLONE_NEWNET as u64;
        const IPC = libc::CLONE_NEWIPC as u64;
        const UTS = libc::CLONE_NEWUTS as u64;
        const CGROUP = libc::CLONE_NEWCGROUP as u64;
        const USER = libc::CLONE_NEWUSER as u64;
    }
}

impl std::fmt::Display for Namespaces {
    /// The words of namespaces(7): `net,ipc,uts`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<_> = self.iter_names().map(|(name, _)| name.to_lowercase()).collect();
        f.write_str(&words.join(","))
    }
}

/// A process that we made, held by its pidfd.
#[derive(Debug)]
pub struct Child {
    /// For showing, and for paths below /proc while the process is not reaped.
    pub pid: u32,
    pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// The shell's and every container runtime's number: the code, or 128 + the signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

impl AsFd for Child {
    /// Readable (poll) once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Child {
    /// Reaps the process if it has ended; never blocks.
    pub fn try_wait(&self) -> Result<Option<Exit>> {
        self.waitid(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Waits until the process has ended, and reaps it.
    pub fn wait(&self) -> Result<Exit> {
        loop {
            if let Some(exit) = self.waitid(WaitIdOptions::EXITED)? {
                return Ok(exit);
            }
        }
    }

    /// Waits until the process has ended, and reaps it; but not for ever: the PID 1 of a PID namespace does not end before the last
    /// process in it is reaped, and its parent may be anybody. None: it has not.
    pub fn wait_at_most(&self, patience: Duration) -> Result<Option<Exit>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(exit) = self.try_wait()? {
                return Ok(Some(exit));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let left = rustix::time::Timespec::try_from(left).map_err(|_| Error::call("ppoll", self.pid, libc::EINVAL))?;
            match rustix::event::poll(&mut [rustix::event::PollFd::new(&self.pidfd, rustix::event::PollFlags::IN)], Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::call("ppoll", self.pid, errno.raw_os_error())),
            }
        }
    }

    fn waitid(&self, options: WaitIdOptions) -> Result<Option<Exit>> {
        loop {
            match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
                Ok(status) => return Ok(status.map(exit_of)),
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(Error::call("waitid", self.pid, errno.raw_os_error())),
            }
        }
    }

    /// Sends a signal to exactly this process; one that has already ended is no error.
    pub fn signal(&self, signal: i32) -> Result<()> {
        send_signal(&self.pidfd, signal)
    }

    /// Sends SIGKILL to the process and to those that are still in its process group. Not by pidfd (which can do so since 6.9 only), but
    /// just as safe: as long as we have not reaped it, its number is nobody else's, and no other group can have it.
    pub fn kill_group(&self) -> Result<()> {
        // ESRCH: it does not lead a group yet.
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(self.pid.cast_signed()), Signal::SIGKILL);
        self.signal(libc::SIGKILL)
    }
}

fn exit_of(status: WaitIdStatus) -> Exit {
    match status.terminating_signal() {
        Some(signal) => Exit::Signal(signal),
        None => Exit::Code(status.exit_status().unwrap_or(0)),
    }
}

/// pidfd_send_signal(2) (5.1); a process that is gone is no error.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    // SAFETY: the call takes two numbers and a null siginfo; the descriptor is borrowed for its length.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0) };
    match done {
        0 => Ok(()),
        _ => match last_errno() {
            libc::ESRCH => Ok(()),
            errno => Err(Error::call("pidfd_send_signal", signal_name(signal), errno)),
        },
    }
}

/// A pidfd for a process that is not our child.
pub fn pidfd_of(pid: u32) -> Result<OwnedFd> {
    let known = rustix::process::Pid::from_raw(pid as i32).ok_or_else(|| Error::call("pidfd_open", pid, libc::ESRCH))?;
    rustix::process::pidfd_open(known, rustix::process::PidfdFlags::empty()).map_err(|errno| Error::call("pidfd_open", pid, errno.raw_os_error()))
}

/// Makes a process with new namespaces, born in `cgroup` (a cgroup2 directory), and runs `body` in it. Whatever the body
/// leaves undone ends with the process: if it returns an error, or panics, the process ends with code 127.
///
/// Needs clone3 (5.3) and CLONE_INTO_CGROUP (5.7). A cgroup that ever received `cgroup.kill` kills the child at once
/// (seen on 6.12 and later), so each start gets a cgroup of its own.
pub fn clone(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>, body: impl FnOnce() -> Result<Infallible>) -> Result<Child> {
    let mut pidfd: libc::c_int = -1;
    // libc's CLONE_INTO_CGROUP overflows its type and is 0: the child would silently stay in our cgroup.
    let into_cgroup = if cgroup.is_some() { linux_raw_sys::general::CLONE_INTO_CGROUP } else { 0 };
    let args = libc::clone_args {
        flags: libc::CLONE_PIDFD as u64 | into_cgroup | namespaces.bits(),
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: without CLONE_VM the child has its own copy of our memory and a stack of its own (the same addresses), as
    // after fork(2). The process has one thread, so no lock can be held by a thread that the child lacks. `args` and
    // `pidfd` live until the call has returned.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        0 => {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            exit_now(127)
        }
        pid if pid > 0 => {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: pid as u32, pidfd })
        }
        _ => Err(Error::call("clone3", namespaces, last_errno())),
    }
}

/// Ends the process at once: no destructor, no exit handler, no flush of what the parent had buffered.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Forks an ordinary process (same namespaces, same cgroup): the supervisor, from the command that starts it.
pub fn fork(body: impl FnOnce() -> Result<Infallible>) -> Result<Child> {
    clone(Namespaces::empty(), None, body)
}

/// Joins namespaces of the process behind a pidfd, in one call (5.8). PID acts on the children to come, not on us.
pub fn join_namespaces(pidfd: impl AsFd, namespaces: Namespaces) -> Result<()> {
    nix::sched::setns(pidfd, CloneFlags::from_bits_retain(namespaces.bits() as i32)).map_err(|errno| Error::call("setns", namespaces, errno as i32))
}

/// Our own PID namespace for children, as a descriptor to come back to with [`join_namespace_fd`].
pub fn own_pid_namespace() -> Result<OwnedFd> {
    super::file::open("/proc/self/ns/pid", rustix::fs::OFlags::RDONLY)
}

/// Our own mount namespace, to come back to.
pub fn own_mount_namespace() -> Result<OwnedFd> {
    super::file::open("/proc/self/ns/mnt", rustix::fs::OFlags::RDONLY)
}

/// Joins the namespace behind a /proc/PID/ns descriptor.
pub fn join_namespace_fd(namespace: impl AsFd) -> Result<()> {
    nix::sched::setns(namespace, CloneFlags::empty()).map_err(|errno| Error::call("setns", "", errno as i32))
}

/// Leaves for new namespaces of our own.
pub fn unshare(namespaces: Namespaces) -> Result<()> {
    nix::sched::unshare(CloneFlags::from_bits_retain(namespaces.bits() as i32)).map_err(|errno| Error::call("unshare", namespaces, errno as i32))
}

/// Asks the kernel to SIGKILL us when our parent dies. Lost on a change of credentials, so it is set after them.
pub fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|errno| Error::call("prctl", "PR_SET_PDEATHSIG", errno.raw_os_error()))
}

/// Takes ourselves out of the reach of ptrace(2) and of those below /proc/PID that ask as much, for everybody without CAP_SYS_PTRACE. The
/// next exec puts us back in.
pub fn hide() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|errno| Error::call("prctl", "PR_SET_DUMPABLE", errno.raw_os_error()))
}

/// Makes sure that our own program cannot be written through /proc/PID/exe: if it was started from a mount that can be written to, it
/// starts itself again through a read-only view of its file, attached nowhere.
///
/// A child of ours that joins a container has our program as its exe until it executes the container's. A container's process that gets
/// hold of it then (a program that begins with `#!/proc/self/exe` is enough) could write to it later, as root, and so to what the
/// host runs (CVE-2019-5736). Through this view every opening for writing is EROFS. Needs open_tree and mount_setattr (5.12).
pub fn start_from_read_only_view() -> Result<()> {
    let own = super::file::open("/proc/self/exe", rustix::fs::OFlags::PATH)?;
    let mount = rustix::fs::fstatvfs(&own).map_err(|errno| Error::call("fstatvfs", "/proc/self/exe", errno.raw_os_error()))?;
    if mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        // An exec by descriptor leaves the descriptor's number as our name (until 6.14).
        set_name(c"minipod");
        return Ok(());
    }
    let view = super::mount::copy_tree(&own, false)?;
    super::mount::limit(&view, super::mount::Limits::READ_ONLY, false)?;
    let strings =
        |words: &mut dyn Iterator<Item = std::ffi::OsString>| words.filter_map(|word| CString::new(word.into_encoded_bytes()).ok()).collect::<Vec<_>>();
    let args = strings(&mut std::env::args_os());
    let env = strings(&mut std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    }));
    let Err(errno) = nix::unistd::fexecve(&view, &args, &env);
    Err(Error::call("execveat", "/proc/self/exe", errno as i32))
}

/// Leaves the session: no terminal, and no signal of the group that we came from.
pub fn new_session() -> Result<()> {
    rustix::process::setsid().map(drop).map_err(|errno| Error::call("setsid", "", errno.raw_os_error()))
}

/// The name that `ps` shows (15 bytes).
pub fn set_name(name: &CStr) {
    // Only for the eyes; a failure changes nothing.
    let _ = rustix::thread::set_name(name);
}

/// Puts every signal back to its default and unblocks all: neither our mask (signalfd) nor an ignored SIGPIPE (Rust) or
/// SIGHUP (nohup) may reach a program that we execute.
pub fn reset_signals() -> Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default disposition runs no code of ours.
        unsafe { sigaction(signal, &default) }.map_err(|errno| Error::call("sigaction", signal, errno as i32))?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(|errno| Error::call("sigprocmask", "", errno as i32))
}

/// Ignores SIGCHLD, which outlives an exec: children that end, and orphans below a PID 1, are reaped by the kernel.
pub fn ignore_children() -> Result<()> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring runs no code of ours.
    unsafe { sigaction(Signal::SIGCHLD, &ignore) }.map(drop).map_err(|errno| Error::call("sigaction", "SIGCHLD", errno as i32))
}

/// Closes every descriptor from `first` on but those to keep: a forked process drops what its parent had open, or was given without
/// knowing. Only in a process that uses nothing else that owns a descriptor any more (close_range, 5.9).
pub fn close_others(first: u32, keep: &[BorrowedFd<'_>]) {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    keep.sort_unstable();
    let mut from = first;
    for next in keep.into_iter().filter(|fd| *fd >= first).chain([u32::MAX]) {
        if from < next {
            // SAFETY: the caller promises that no owner of these numbers is used after the fork; each range leaves out what is kept.
            unsafe { libc::syscall(libc::SYS_close_range, from, next - 1, 0) };
        }
        from = next.saturating_add(1);
    }
}

/// Makes `fd` descriptor `number` (0, 1, 2), open over an exec.
pub fn place_descriptor(fd: impl AsFd, number: i32) -> Result<()> {
    // SAFETY: 0, 1 and 2 are owned by nobody in this process that is about to execute another program.
    match unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) } {
        -1 => Err(Error::call("dup2", number, last_errno())),
        _ if fd.as_fd().as_raw_fd() == number => clear_close_on_exec(number),
        _ => Ok(()),
    }
}

/// dup2 onto itself keeps the close-on-exec flag, so it is cleared by hand.
fn clear_close_on_exec(number: i32) -> Result<()> {
    // SAFETY: fcntl with F_SETFD takes numbers only.
    match unsafe { libc::fcntl(number, libc::F_SETFD, 0) } {
        -1 => Err(Error::call("fcntl", number, last_errno())),
        _ => Ok(()),
    }
}

/// A program with everything that execve needs, made before the clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// What is tried in order: one path, or the program's name in each directory of PATH.
    pub paths: Vec<CString>,
    pub args: Vec<CString>,
    pub env: Vec<CString>,
}

/// Becomes the program. Returns only if no path could be executed: with the first errno that says more than ENOENT, as a
/// shell does.
pub fn execute(program: &Program) -> Error {
    let mut best: Option<(&CStr, i32)> = None;
    for path in &program.paths {
        let Err(errno) = nix::unistd::execve(path, &program.args, &program.env);
        let errno = errno as i32;
        if best.is_none_or(|(_, before)| matches!(before, libc::ENOENT | libc::ENOTDIR)) {
            best = Some((path, errno));
        }
        if !matches!(errno, libc::ENOENT | libc::ENOTDIR | libc::EACCES) {
            break;
        }
    }
    let (path, errno) = best.unwrap_or((c"", libc::ENOENT));
    Error::call("execve", path.to_string_lossy(), errno)
}

/// Becomes the program in a descriptor (a sealed memfd): no path of any root leads to it.
pub fn execute_fd(file: impl AsFd, args: &[CString]) -> Error {
    let env: [CString; 0] = [];
    let Err(errno) = nix::unistd::fexecve(file, args, &env);
    Error::call("execveat", "", errno as i32)
}

/// A file in memory that can be read and executed but no longer be changed.
pub fn sealed_file(name: &str, bytes: &[u8]) -> Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let failed = |call: &'static str| move |errno: rustix::io::Errno| Error::call(call, "", errno.raw_os_error());
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(failed("memfd_create"))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = rustix::io::write(&file, rest).map_err(failed("write"))?;
        rest = &rest[n..];
    }
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).map_err(failed("fcntl"))?;
    Ok(file)
}

/// A pipe, both ends close-on-exec: (reader, writer).
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|errno| Error::call("pipe2", "", errno.raw_os_error()))
}

/// Gives a pipe room for so many bytes, if it may have them (fs.pipe-max-size, fs.pipe-user-pages-soft): else it keeps what it has.
pub fn widen_pipe(fd: impl AsFd, bytes: usize) {
    let _ = rustix::pipe::fcntl_setpipe_size(fd, bytes);
}

/// Makes a descriptor's reads return at once.
pub fn set_nonblocking(fd: impl AsFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd).map_err(|errno| Error::call("fcntl", "", errno.raw_os_error()))?;
    rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK).map_err(|errno| Error::call("fcntl", "", errno.raw_os_error()))
}

/// SIGTERM, SIGQUIT, 15, RTMIN+3, SIGRTMAX-1 (as image configs and manifests write them) to its number.
pub fn signal_number(name: &str) -> Option<i32> {
    let name = name.trim();
    if let Ok(number) = name.parse::<i32>() {
        return (1..=libc::SIGRTMAX()).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let word = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    let away = |rest: &str, sign| if rest.is_empty() { Some(0) } else { rest.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from) };
    if let Some(rest) = word.strip_prefix("RTMIN") {
        return away(rest, '+').map(|n| real_time.start() + n).filter(|n| real_time.contains(n));
    }
    if let Some(rest) = word.strip_prefix("RTMAX") {
        return away(rest, '-').map(|n| real_time.end() - n).filter(|n| real_time.contains(n));
    }
    let word = match word {
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        "POLL" => "IO",
        word => word,
    };
    format!("SIG{word}").parse::<Signal>().ok().map(|signal| signal as i32)
}

/// The name of a signal, as Kubernetes writes it: SIGTERM, SIGRTMIN+3, SIGRTMAX-1. What is no signal stays a number.
pub fn signal_name(number: i32) -> String {
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    match Signal::try_from(number) {
        Ok(signal) => signal.to_string(),
        Err(_) if number == first => "SIGRTMIN".to_owned(),
        Err(_) if number == last => "SIGRTMAX".to_owned(),
        Err(_) if (first..=first + 15).contains(&number) => format!("SIGRTMIN+{}", number - first),
        Err(_) if (first..last).contains(&number) => format!("SIGRTMAX-{}", last - number),
        Err(_) => number.to_string(),
    }
}

/// Bytes that nobody can guess.
pub fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the buffer is ours and N bytes long. Up to 256 bytes are never cut short (getrandom(2)).
    match unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) } {
        n if n == N as isize => Ok(bytes),
        _ => Err(Error::call("getrandom", "", last_errno())),
    }
}

/// Milliseconds of a clock that never jumps and goes on while the machine sleeps (CLOCK_BOOTTIME).
pub fn boot_millis() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Gives freed heap and our program's pages back to the kernel: an idle supervisor keeps only what it touches again. The pages are
/// in the page cache and come back by a minor fault.
pub fn trim_memory() {
    // SAFETY: malloc_trim only returns heap that is free.
    unsafe { libc::malloc_trim(0) };
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else { return };
    for (from, to) in clean_file_mappings(&maps) {
        // SAFETY: no page of the mapping was ever written (a relocated one counts as anonymous, and such a mapping is left out), so the
        // next access reads the same bytes from the file.
        unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_DONTNEED) };
    }
}

/// The mappings of files in /proc/self/smaps that hold no page of our own, as address ranges.
fn clean_file_mappings(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        if let Some(size) = line.strip_prefix("Anonymous:") {
            found.extend(current.take().filter(|_| size.trim() == "0 kB"));
        } else if let Some((range, rest)) = line.split_once(' ').filter(|(range, _)| range.contains('-')) {
            let hex = |text| usize::from_str_radix(text, 16).ok();
            let range = range.split_once('-').and_then(|(from, to)| Some((hex(from)?, hex(to)?)));
            // Only what is backed by a file, and only what nobody may write.
            current = range.filter(|_| rest.contains(" /") && !rest.starts_with("rw") && !rest.contains("[v"));
        }
    }
    found
}

pub(super) fn last_errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_images_write_them() {
        for (word, number) in
            [("SIGTERM", 15), ("QUIT", 3), ("9", 9), ("SIGRTMIN+3", libc::SIGRTMIN() + 3), ("sigusr1", 10), ("SIGIOT", 6), ("SIGCLD", 17), ("SIGPOLL", 29)]
        {
            assert_eq!(signal_number(word), Some(number), "{word}");
        }
        for name in ["SIGTERM", "SIGSTKFLT", "SIGRTMIN", "SIGRTMIN+15", "SIGRTMAX-14", "SIGRTMAX-1", "SIGRTMAX"] {
            assert_eq!(signal_number(name).map(signal_name).as_deref(), Some(name));
        }
        for word in ["", "SIGFOO", "0", "99", "RTMIN+99", "RTMIN-1", "RTMAX+1", "RTMAX-99", "-1"] {
            assert_eq!(signal_number(word), None, "{word}");
        }
    }

    #[test]
    fn only_untouched_mappings_of_files_are_given_back() {
        let smaps = "00400000-00500000 r-xp 00000000 08:01 12 /usr/bin/minipod\nRss: 8 kB\nAnonymous:             0 kB\n\
                     00600000-00700000 r--p 00000000 08:01 12 /usr/bin/minipod\nAnonymous:             4 kB\n\
                     00700000-00800000 rw-p 00000000 08:01 12 /usr/bin/minipod\nAnonymous:             0 kB\n\
                     01000000-01100000 rw-p 00000000 00:00 0 [heap]\nAnonymous:             0 kB\n";
        assert_eq!(clean_file_mappings(smaps), [(0x400000, 0x500000)]);
        trim_memory();
        assert_eq!(signal_number("TERM"), Some(15), "the program still runs");
    }

    #[test]
    fn a_clone_is_reaped_with_its_code_and_its_signal() {
        let child = fork(|| exit_now(7)).unwrap();
        assert_eq!(child.wait().unwrap(), Exit::Code(7));
        let child = fork(|| {
            loop {
                std::thread::park()
            }
        })
        .unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        assert_eq!(child.wait_at_most(Duration::from_millis(1)).unwrap(), None);
        child.signal(libc::SIGKILL).unwrap();
        assert_eq!(child.wait_at_most(Duration::from_secs(60)).unwrap(), Some(Exit::Signal(9)));
        child.signal(libc::SIGKILL).unwrap();
    }

    #[test]
    fn a_body_that_fails_ends_the_process_with_127() {
        assert_eq!(fork(|| Err(Error::said("no"))).unwrap().wait().unwrap(), Exit::Code(127));
    }

    #[test]
    fn a_program_is_searched_and_the_errno_that_says_most_is_told() {
        let program = |paths: &[&str]| Program { paths: paths.iter().map(|p| CString::new(*p).unwrap()).collect(), args: vec![c"x".into()], env: vec![] };
        assert!(execute(&program(&["/nope/x", "/etc/passwd"])).is(libc::EACCES));
        assert!(execute(&program(&["/nope/x"])).is(libc::ENOENT));
    }

    #[test]
    fn a_sealed_program_runs_and_cannot_be_written() {
        let bytes = std::fs::read("/bin/true").unwrap();
        let file = sealed_file("true", &bytes).unwrap();
        assert!(rustix::io::write(&file, b"x").is_err());
        let child = fork(|| Err(execute_fd(&file, &[c"true".into()]))).unwrap();
        assert_eq!(child.wait().unwrap(), Exit::Code(0));
    }
}

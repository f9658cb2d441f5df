//! A plan is walked: one clone3, one pipe, at most one message.
//!
//! ```text
//! parent                                            child
//!   pipe, clone3 ───────────────────────────────▶  step 0, step 1, … step n
//!   read the pipe                                    │ fails: eight bytes, _exit
//!     end of file: the exec closed it, it runs       ▼
//!     eight bytes: step, call, errno               execve (the pipe is close-on-exec)
//! ```
//!
//! [`launch`] waits for the answer. A start takes well under a millisecond; what can make it longer is a bind mount from a
//! dead network file system, and then there is nothing better to do than to wait for it. [`begin`] does not wait: a process that joins
//! a running container may be held up by it (a frozen cgroup, a program on a dead file system), and the pod has other things to do.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::plan::Plan;
use super::step::{CALLS, Hands, Step, Walk};
use crate::error::{Cause, Error, Result};
use crate::sys::process::{self, Child, Namespaces};
use crate::sys::tty;
use crate::sys::visit::Visit;

/// Starts the plan's process, born in `cgroup`. The error names the step that failed; its reason is the step's.
pub fn launch(plan: &Plan, hands: &Hands<'_>, cgroup: Option<BorrowedFd<'_>>) -> Result<Child> {
    // A plan ends in an exec, after which there is nothing of ours.
    launch_visit(plan, hands, cgroup, || 127)
}

/// The same for a plan that executes nothing: the child then does `work` with its three streams, and ends with its code.
pub fn launch_visit(plan: &Plan, hands: &Hands<'_>, cgroup: Option<BorrowedFd<'_>>, work: impl FnOnce() -> i32) -> Result<Child> {
    let Begun { child, answer } = begin_visit(plan, hands, cgroup, work)?;
    let mut message = [0; 8];
    if tty::read(&answer, &mut message)? == 0 {
        return Ok(child);
    }
    child.wait()?;
    Err(told(plan, Message::from_bytes(message)))
}

/// A child on its way through its plan, or already in its program.
pub struct Begun {
    pub child: Child,
    answer: OwnedFd,
}

/// As [`launch`], without waiting for the answer: ask [`Begun::failure`] once the child has ended.
pub fn begin(plan: &Plan, hands: &Hands<'_>, cgroup: Option<BorrowedFd<'_>>) -> Result<Begun> {
    begin_visit(plan, hands, cgroup, || 127)
}

fn begin_visit(plan: &Plan, hands: &Hands<'_>, cgroup: Option<BorrowedFd<'_>>, work: impl FnOnce() -> i32) -> Result<Begun> {
    let (answer, report) = process::pipe()?;
    let _visit = match hands.pid_holder.or(hands.holder) {
        Some(holder) if plan.born_in != Namespaces::empty() => Some(Visit::to(holder, plan.born_in)?),
        _ => None,
    };
    let child = process::clone(plan.namespaces, cgroup, || walk(plan, hands, report.as_fd(), work))?;
    Ok(Begun { child, answer })
}

impl Begun {
    /// The step at which the plan failed; None if the program was executed. To be asked after the child's end: before, it waits for it.
    pub fn failure(&self, plan: &Plan) -> Result<Option<Error>> {
        let mut message = [0; 8];
        Ok((tty::read(&self.answer, &mut message)? > 0).then(|| told(plan, Message::from_bytes(message))))
    }
}

/// The child's part: never returns to the caller.
fn walk(plan: &Plan, hands: &Hands<'_>, report: BorrowedFd<'_>, work: impl FnOnce() -> i32) -> Result<Infallible> {
    let mut walk = Walk::new(hands, report);
    let mut number = 0;
    let result = process::reset_signals().and_then(|()| {
        plan.steps.iter().enumerate().try_for_each(|(at, step)| {
            number = at;
            step.run(&mut walk)
        })
    });
    if let Err(error) = result {
        let _ = tty::write_all(report, &Message::of(number, &error).to_bytes());
        process::exit_now(127)
    }
    // The pipe as well: its end of file tells the parent that all steps are done.
    process::close_others(3, &[]);
    process::exit_now(work())
}

/// What the child says when a step fails.
struct Message {
    step: u16,
    call: u16,
    errno: i32,
}

impl Message {
    fn of(step: usize, error: &Error) -> Message {
        let (call, errno) = match &error.cause {
            Cause::Call { call, errno, .. } => (CALLS.iter().position(|known| known == call).unwrap_or(0), *errno),
            Cause::Said(_) => (0, 0),
        };
        Message { step: step as u16, call: call as u16, errno }
    }

    fn to_bytes(&self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&self.step.to_ne_bytes());
        bytes[2..4].copy_from_slice(&self.call.to_ne_bytes());
        bytes[4..].copy_from_slice(&self.errno.to_ne_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; 8]) -> Message {
        let [a, b, c, d, errno @ ..] = bytes;
        Message { step: u16::from_ne_bytes([a, b]), call: u16::from_ne_bytes([c, d]), errno: i32::from_ne_bytes(errno) }
    }
}

/// The child's message in words, from the plan that both hold.
fn told(plan: &Plan, message: Message) -> Error {
    let Some(step) = plan.steps.get(usize::from(message.step)) else { return Error::said("the child sent a message that makes no sense") };
    let call = CALLS.get(usize::from(message.call)).copied().unwrap_or("");
    let cause = match step {
        Step::Execute(program) => return execute_error(program, message.errno).reason(step.reason()),
        _ if message.errno == 0 => Error::said("what is there in the container is not what it should be"),
        Step::Bind { source, mapped: true, .. } if call == "mount_setattr" && message.errno == libc::EINVAL => {
            Error::said(format!("hostUsers: false needs id-mapped mounts, which the file system of {} (or one mounted beneath it) lacks", source.display()))
        }
        _ => Error::call(call, "", message.errno),
    };
    cause.doing(step).reason(step.reason())
}

/// The words that tools look for: runc's for a name that PATH does not have, else the path and the errno.
fn execute_error(program: &process::Program, errno: i32) -> Error {
    let name = program.args.first().map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default();
    if program.paths.len() > 1 && errno == libc::ENOENT {
        return Error::said(format!("exec: {name:?}: executable file not found in $PATH"));
    }
    Error::call("execve", name, errno)
}

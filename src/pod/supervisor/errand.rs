//! An errand: one command in a container, for a probe or a hook, that nobody waits for.
//!
//! ```text
//! begin ──▶ pidfd, output pipe ──▶ poll set
//!             │ ended: its exit code, or the step that its plan failed at
//!             │ its time is up: killed, with its process group
//!             ▼
//!           what it came to
//! ```
//!
//! It is in the container's cgroup, so whatever it leaves running ends with the container. It is our child, and must be reaped soon: the
//! kernel does not let the first process of a PID namespace go before all others of it are reaped.

use std::os::fd::{AsFd, OwnedFd};

use crate::container::launch::Begun;
use crate::container::plan::Plan;
use crate::error::{Error, Result};
use crate::pod::instance::Instance;
use crate::sys::process::{self, Exit};
use crate::sys::tty;

/// As much of what a command says is kept (`maxReadLength` of `pkg/probe/exec`).
const OUTPUT: usize = 10 << 10;
/// How long a killed command may take to die (a dead file system holds it) before we go on without it, in milliseconds.
const PATIENCE: u64 = 1_000;
/// Who kills a command that we did not kill? Most likely its container is ending. So long (milliseconds) we wait for that to be seen:
/// a probe that dies together with its container says nothing about it.
const SUSPENSE: u64 = 100;

pub struct Errand {
    command: String,
    /// How long it may take, in milliseconds.
    allowed: Option<u64>,
    begun: Begun,
    plan: Plan,
    output: OwnedFd,
    said: Vec<u8>,
    limit: Limit,
    reaped: bool,
    end: Option<End>,
}

/// What happens when, if nothing else does before (monotonic milliseconds).
enum Limit {
    None,
    Kill(u64),
    GiveUp(u64),
    Tell(u64),
}

/// What an errand came to.
pub enum End {
    /// The command was not executed.
    NotRun(Error),
    Code(i32),
    /// It was killed because its time was up.
    Late,
}

impl Errand {
    /// Begins a command in an instance. It may take `allowed` milliseconds from `now` on.
    pub fn begin(instance: &Instance, command: &[String], allowed: Option<u64>, now: u64) -> Result<Errand> {
        let (output, theirs) = process::pipe()?;
        process::set_nonblocking(&output)?;
        let (plan, begun) = instance.begin(command, theirs.as_fd())?;
        let limit = allowed.map_or(Limit::None, |ms| Limit::Kill(now.saturating_add(ms)));
        Ok(Errand { command: command.join(" "), allowed, begun, plan, output, said: Vec::new(), limit, reaped: false, end: None })
    }

    /// Readable once the command has ended.
    pub fn process(&self) -> impl AsFd {
        self.begun.child.as_fd()
    }

    /// Readable while it has something to say, and at the end of that.
    pub fn output(&self) -> &OwnedFd {
        &self.output
    }

    /// In the words of a probe whose time was up (the runtime's, as the kubelet passes them on).
    pub fn overdue(&self) -> String {
        format!("command timed out: {:?} timed out after {}s", self.command, self.allowed.unwrap_or(0) / 1000)
    }

    /// What it has said, as text.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said).into_owned()
    }

    /// Reads what is there and forgets what is too much: nobody is to wait for a full pipe. False: nothing more will come.
    pub fn listen(&mut self) -> Result<bool> {
        let mut buffer = [0; 4096];
        // A command that never stops talking must not keep us: what is left is told again.
        for _ in 0..16 {
            match tty::read(&self.output, &mut buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => self.said.extend(buffer[..n].iter().take(OUTPUT.saturating_sub(self.said.len()))),
                Err(error) if error.is(libc::EAGAIN) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// The command may have ended: reaps it. What it wrote is read up to now; a child of its that keeps the pipe does not keep us.
    pub fn reap(&mut self, now: u64) -> Result<()> {
        let Some(exit) = self.begun.child.try_wait()? else { return Ok(()) };
        self.reaped = true;
        self.listen()?;
        self.end = Some(match self.begun.failure(&self.plan)? {
            _ if matches!(self.limit, Limit::GiveUp(_)) => End::Late,
            Some(error) => End::NotRun(error),
            None => End::Code(exit.code()),
        });
        self.limit = match exit {
            Exit::Signal(libc::SIGKILL) if matches!(self.end, Some(End::Code(_))) => Limit::Tell(now.saturating_add(SUSPENSE)),
            _ => Limit::None,
        };
        Ok(())
    }

    pub fn is_reaped(&self) -> bool {
        self.reaped
    }

    /// Ends it now, and waits for its end, which comes at once: what it is in is dead already.
    pub fn cut_off(&mut self) -> Result<()> {
        if self.reaped {
            return Ok(());
        }
        self.begun.child.kill_group()?;
        self.reaped = true;
        self.begun.child.wait().map(drop)
    }

    /// The next moment at which time alone changes something.
    pub fn deadline(&self) -> Option<u64> {
        match self.limit {
            Limit::None => None,
            Limit::Kill(at) | Limit::GiveUp(at) | Limit::Tell(at) => Some(at),
        }
    }

    /// Its time may be up: kills it.
    pub fn hurry(&mut self, now: u64) -> Result<()> {
        match self.limit {
            Limit::Kill(at) if at <= now => {
                self.limit = Limit::GiveUp(now.saturating_add(PATIENCE));
                self.begun.child.kill_group()
            }
            _ => Ok(()),
        }
    }

    /// What it came to, once: as soon as it is known, and known not to be its container's own end (a hook has failed in either case, so
    /// it is `certain`).
    pub fn told(&mut self, certain: bool, now: u64) -> Option<End> {
        match self.limit {
            Limit::GiveUp(at) if at <= now => {
                self.limit = Limit::None;
                Some(End::Late)
            }
            Limit::Tell(at) if at > now && !certain => None,
            Limit::GiveUp(_) | Limit::Kill(_) => None,
            Limit::Tell(_) | Limit::None => self.end.take(),
        }
    }
}

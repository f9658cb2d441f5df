//! Probes and hooks over the network: one process per pod asks them, so that no server, however slow, delays the supervisor.
//!
//! ```text
//! supervisor                                   prober (a fork of it, in the host's network)
//!   ask {id, target, timeout}  ── seqpacket ──▶  one task for each, side by side ──▶ the pod's servers
//!   answers {id, outcome, text} ◀──────────────  each ends by its answer or by its own deadline
//! ```
//!
//! The supervisor's side never blocks: a question is one message, an answer is one message, and the socket lies in the supervisor's
//! poll set. The prober is the only process of minipod with an async runtime (one thread of it). It has no capability, no descriptor
//! but its socket and /dev/null, keeps nothing between two questions, and sleeps in one epoll_wait while nobody asks.
//!
//! The rules and the words are the kubelet's (`pkg/probe/http`, `pkg/probe/tcp`, `pkg/probe/grpc`, `pkg/kubelet/lifecycle/handlers.go`):
//! people search for `connection refused` and `HTTP probe failed with statuscode: 500`, so they must find them.

mod dial;
mod grpc;
mod http;
mod place;
mod process;
mod tls;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sys::process::{Child, Exit};
use crate::sys::{self, socket};

/// The Kubernetes version whose kubelet we are to a server that reads `User-Agent`.
const VERSION: &str = "1.36";
/// The most bytes that a message to the supervisor has, and that are read of a body (the kubelet's `maxRespBodyLength`). Escaped in
/// JSON they are at most six times as many, which is below what the socket takes.
const TEXT_LIMIT: usize = 10 * 1024;
/// The most answers that one call of [`Prober::answers`] gives; what is left makes the socket readable again.
const ANSWERS_AT_ONCE: usize = 64;

/// What is asked, by the host's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// GET. `host` is an address (IPv6 without brackets) or a name; `path` may have a query; a header `Host` replaces the URL's.
    Http { hook: bool, https: bool, host: String, port: u16, path: String, headers: Vec<(String, String)> },
    /// A connection is enough.
    Tcp { host: String, port: u16 },
    /// `grpc.health.v1.Health/Check` in clear text; an empty `service` is the server as a whole.
    Grpc { host: String, port: u16, service: String },
}

/// One question. `timeout_ms` is for all of it: name, connection, redirects, body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ask {
    /// Comes back with the answer.
    pub id: u64,
    pub target: Target,
    pub timeout_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Success,
    /// A success of which something must be told: a redirect to another host (event ProbeWarning), or a hook that asked for HTTPS and
    /// was served in clear text (event LifecycleHTTPFallback).
    Warning,
    Failure,
    /// The question itself could not be asked, or the answer not be read to its end; the kubelet tries up to three times and then throws
    /// the result away (event `… probe errored and resulted in …`).
    Unknown,
}

/// One answer. `message` is what the event says after `Liveness probe failed: `, at most 10 KiB; empty for a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub id: u64,
    pub outcome: Outcome,
    pub message: String,
}

/// How one question ended.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    outcome: Outcome,
    message: String,
}

impl Verdict {
    fn success() -> Verdict {
        Verdict { outcome: Outcome::Success, message: String::new() }
    }

    fn failure(message: impl Into<String>) -> Verdict {
        Verdict { outcome: Outcome::Failure, message: message.into() }
    }

    fn warning(message: impl Into<String>) -> Verdict {
        Verdict { outcome: Outcome::Warning, message: message.into() }
    }

    fn unknown(message: impl Into<String>) -> Verdict {
        Verdict { outcome: Outcome::Unknown, message: message.into() }
    }
}

/// The prober, as its supervisor holds it. Dropping it kills and reaps the process.
#[derive(Debug)]
pub struct Prober {
    child: Child,
    socket: OwnedFd,
}

impl AsFd for Prober {
    /// Readable once there are answers, or the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Prober {
    /// Forks the process: in our cgroup, our network and our mounts. The caller must have one thread.
    pub fn start() -> Result<Prober> {
        let (ours, theirs) = socket::pair()?;
        sys::process::set_nonblocking(&ours)?;
        sys::process::set_nonblocking(&theirs)?;
        let child = sys::process::fork(|| process::run(theirs)).map_err(|error| error.doing("starting the prober"))?;
        Ok(Prober { child, socket: ours })
    }

    /// For showing, and for paths below /proc.
    pub fn pid(&self) -> u32 {
        self.child.pid
    }

    /// Sends a question. EMSGSIZE: its headers are more than a message holds (64 KiB); EAGAIN: some 250 wait to be read
    /// already, so this one is as good as [`Outcome::Unknown`]; anything else: the process has ended.
    pub fn ask(&self, ask: &Ask) -> Result<()> {
        let text = serde_json::to_vec(ask).map_err(|error| Error::said(format!("a probe cannot be written: {error}")))?;
        if text.len() > socket::MESSAGE_LIMIT {
            return Err(Error::call("sendmsg", "prober", libc::EMSGSIZE));
        }
        socket::send(&self.socket, &text, &[]).map_err(|error| error.doing("asking the prober"))
    }

    /// What has been answered since. An error: the process has ended or talks nonsense, so a new one must be started, and what was asked
    /// of this one will not be answered.
    pub fn answers(&self) -> Result<Vec<Answer>> {
        let mut answers = Vec::new();
        while answers.len() < ANSWERS_AT_ONCE {
            match socket::receive(&self.socket) {
                Ok((text, _)) if !text.is_empty() => match serde_json::from_slice(&text) {
                    Ok(answer) => answers.push(answer),
                    Err(error) => return Err(Error::said(format!("an answer of the prober makes no sense: {error}"))),
                },
                // The end is told again by the next call, after what came before it.
                Ok(_) if answers.is_empty() => return Err(self.ended()),
                Ok(_) => break,
                Err(error) if error.is(libc::EAGAIN) => break,
                Err(error) => return Err(error.doing("reading the prober's answers")),
            }
        }
        Ok(answers)
    }

    fn ended(&self) -> Error {
        Error::said(match self.child.try_wait() {
            Ok(Some(Exit::Signal(signal))) => format!("the prober was killed by {}", sys::process::signal_name(signal)),
            Ok(Some(Exit::Code(code))) => format!("the prober has ended with code {code}"),
            _ => "the prober has closed its socket".to_owned(),
        })
    }

    /// Kills and reaps the process; what it was asked is not answered.
    pub fn stop(self) {}
}

impl Drop for Prober {
    fn drop(&mut self) {
        // SIGKILL cannot be held back, so the wait is short; one that was reaped already is ECHILD.
        if self.child.signal(libc::SIGKILL).is_ok() {
            let _ = self.child.wait();
        }
    }
}

//! `minipod attach`: the main process of a container, from now on.
//!
//! ```text
//! container ──▶ supervisor ──▶ a pipe for each output ──▶ our stdout, stderr
//!     ▲            (keeps the log)
//!     └── its stdin, or its terminal (lent) ◀── our stdin: keys, but for ctrl-p ctrl-q; size changes
//! ```
//!
//! The session lasts as long as the connection to the supervisor is open. That the container ends, or is started anew, ends it too.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::Result;
use clap::Args;
use k8s_openapi::api::core::v1::{Container, Pod};
use nix::sys::signal::Signal;

use super::get::Refusal;
use super::streams::{DetachKeys, Fed, Feed};
use super::{need_root, pods};
use crate::error::Error;
use crate::pod::control::{self, Reply, Request};
use crate::pod::dir::PodDir;
use crate::pod::places::Places;
use crate::pod::{find_container, pod_spec};
use crate::sys::poll::{Poll, Signals};
use crate::sys::tty;

/// Join the main process of a container that runs: its output from now on, and with -i its input
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod attach web                     see what the first container writes from now on
  minipod attach -it shell -c sh         type to it: its manifest says `stdin: true` and `tty: true`
  echo hello | minipod attach -i filter  a line for its standard input

A terminal is left with ctrl-p ctrl-q, anything else with ctrl-c; the container goes on.
What was written before is in `minipod logs`; a process of your own is `minipod exec`.
With `stdinOnce: true` the container's input ends with the first session that had it.")]
pub struct AttachArgs {
    /// The pod, as NAME or pod/NAME
    #[arg(value_name = "POD")]
    pod: String,
    /// The container; by default the one of the annotation kubectl.kubernetes.io/default-container, or the first
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Pass our standard input on to the container, which must have `stdin: true`
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Our terminal is the container's, which must have `tty: true`
    #[arg(short = 't', long)]
    tty: bool,
    /// Print only what the container prints
    #[arg(short, long)]
    quiet: bool,
    /// The namespace of the pod
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
}

/// A session that the supervisor granted.
pub(super) struct Session {
    connection: OwnedFd,
    /// The container's stdout, and its stderr if it has no terminal.
    outputs: Vec<OwnedFd>,
    terminal: Option<OwnedFd>,
    /// Where our input goes.
    input: Option<OwnedFd>,
}

pub fn attach(args: &AttachArgs, places: &Places) -> Result<u8> {
    need_root()?;
    let name = pods::name_of(&args.pod)?;
    let pod = pods::find(places, &args.namespace, name)?;
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return Err(Refusal::client(format!("cannot attach a container in a completed pod; current phase is {phase}")).into());
    }
    let (container, note) = super::logs::choose(&pod, args.container.as_deref())?;
    let note_well = |text: &str| {
        if !args.quiet {
            eprintln!("{text}")
        }
    };
    if !args.quiet {
        eprint!("{note}");
    }
    let session = Session::open(&PodDir::new(places, &args.namespace, name), &container, args.stdin)?;
    let spec = find_container(pod_spec(&pod), &container).unwrap_or_default();
    complaints(args, &session, &spec).iter().for_each(|complaint| note_well(complaint));
    if args.stdin {
        note_well(
            "All commands and output from this session will be recorded in container logs, including credentials and sensitive information passed through the command prompt.",
        );
    }
    note_well("If you don't see a command prompt, try pressing enter.");
    let on_terminal = session.is_on_terminal();
    let code = session.carry(on_terminal)?;
    if on_terminal && code == 0 {
        resume(args, &pod, &container).iter().for_each(|line| note_well(line));
    }
    Ok(code)
}

/// What was asked for and cannot be had, in kubectl's words where it has some.
fn complaints(args: &AttachArgs, session: &Session, container: &Container) -> Vec<String> {
    let (name, mut said) = (&container.name, Vec::new());
    if args.tty && session.terminal.is_none() {
        said.push(format!("error: Unable to use a TTY - container {name} did not allocate one"));
    } else if args.tty && !tty::is_terminal(std::io::stdin()) {
        said.push("Unable to use a TTY - input is not a terminal or the right kind of file".into());
    }
    if args.stdin && session.input.is_none() {
        said.push(match container.stdin {
            Some(true) => format!("Unable to use the input - that of container {name} ended with its first session (stdinOnce: true)"),
            _ => format!("Unable to use the input - container {name} has none: its manifest does not say `stdin: true`"),
        });
    }
    said
}

/// How to come back, where the container is started again when it ends.
fn resume(args: &AttachArgs, pod: &Pod, container: &str) -> Option<String> {
    let again = pod_spec(pod).restart_policy.as_deref().unwrap_or("Always") == "Always";
    let namespace = if args.namespace == "default" { String::new() } else { format!(" -n {}", args.namespace) };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    again.then(|| format!("Session ended, resume using 'minipod attach {name} -c {container}{namespace} -i -t' command when the pod is running"))
}

const CONNECTION: u64 = 0;
const SIGNALS: u64 = 1;
const KEYS: u64 = 2;
const ROOM: u64 = 3;
const OUTPUTS: u64 = 4;

impl Session {
    fn open(dir: &PodDir, container: &str, stdin: bool) -> Result<Session> {
        let Some((reply, descriptors, connection)) = control::ask(dir, &Request::Attach { container: container.to_owned(), stdin })? else {
            return Err(Refusal::client(format!("unable to upgrade connection: container {container} not found in pod {}_{}", dir.name, dir.namespace)).into());
        };
        Session::of(reply, descriptors, connection)
    }

    /// The session that this answer grants.
    pub(super) fn of(reply: Reply, descriptors: Vec<OwnedFd>, connection: OwnedFd) -> Result<Session> {
        let (tty, stdin) = match reply {
            Reply::Attached { tty, stdin } => (tty, stdin),
            Reply::Refused { why } => return Err(Refusal::client(why).into()),
            _ => return Err(Error::said("the supervisor gave another answer than was asked for").into()),
        };
        let mut descriptors = descriptors.into_iter();
        let outputs = descriptors.by_ref().take(if tty { 1 } else { 2 }).collect();
        let lent = descriptors.next();
        let (terminal, input) = match (tty, lent) {
            (true, Some(terminal)) if stdin => (Some(terminal.try_clone()?), Some(terminal)),
            (true, terminal) => (terminal, None),
            (false, input) => (None, input),
        };
        Ok(Session { connection, outputs, terminal, input })
    }

    /// Whether our terminal becomes the container's.
    pub(super) fn is_on_terminal(&self) -> bool {
        self.terminal.is_some() && self.input.is_some() && tty::is_terminal(std::io::stdin())
    }

    /// Carries bytes until the container's outputs end, or we leave; then the exit code.
    pub(super) fn carry(self, on_terminal: bool) -> Result<u8> {
        let signals = Signals::take(&[Signal::SIGWINCH, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
        let stdin = std::io::stdin();
        let _raw = if on_terminal { Some(tty::Raw::new(stdin.as_fd())?) } else { None };
        if on_terminal {
            self.redraw()?;
        }
        let poll = Poll::new()?;
        poll.add(&self.connection, CONNECTION)?;
        poll.add(&signals, SIGNALS)?;
        (OUTPUTS..).zip(&self.outputs).try_for_each(|(token, output)| poll.add(output, token))?;
        let Session { connection, outputs, terminal, input } = self;
        let feed = Feed::new(input, KEYS, ROOM, &poll)?;
        let keys = on_terminal.then(DetachKeys::default);
        let open = outputs.len();
        Talk { connection, outputs, terminal: terminal.filter(|_| on_terminal), poll, signals, feed, keys, open, refused: None }.hold()
    }

    /// As kubectl: another size and back makes the program on the terminal draw its screen again.
    fn redraw(&self) -> Result<(), Error> {
        let (Some(terminal), size) = (&self.terminal, tty::size(std::io::stdin())?) else { return Ok(()) };
        tty::set_size(terminal, tty::Size { ws_row: size.ws_row.saturating_add(1), ws_col: size.ws_col.saturating_add(1), ..size })?;
        tty::set_size(terminal, size)
    }
}

/// A session under way.
struct Talk {
    connection: OwnedFd,
    outputs: Vec<OwnedFd>,
    /// The container's, if ours follows its size.
    terminal: Option<OwnedFd>,
    poll: Poll,
    signals: Signals,
    feed: Feed,
    /// On a terminal there are keys to leave it.
    keys: Option<DetachKeys>,
    /// How many outputs have not ended.
    open: usize,
    /// Why the supervisor ended the session.
    refused: Option<String>,
}

impl Talk {
    fn hold(mut self) -> Result<u8> {
        while self.open > 0 {
            for token in self.poll.wait(None)? {
                let left = match token {
                    CONNECTION => self.hear_supervisor()?,
                    SIGNALS => self.heed_signals()?,
                    KEYS | ROOM => self.pass_input()?,
                    output => self.show((output - OUTPUTS) as usize)?,
                };
                if let Some(code) = left {
                    return Ok(code);
                }
            }
        }
        self.refused.map_or(Ok(0), |why| Err(Refusal::client(why).into()))
    }

    fn hear_supervisor(&mut self) -> Result<Option<u8>, Error> {
        match control::receive::<Reply>(&self.connection)? {
            Some((Reply::Refused { why }, _)) => self.refused = Some(why),
            Some(_) => {}
            // The outputs end with it.
            None => self.poll.remove(&self.connection),
        }
        Ok(None)
    }

    fn heed_signals(&mut self) -> Result<Option<u8>, Error> {
        while let Some(signal) = self.signals.next() {
            match (signal, &self.terminal) {
                (libc::SIGWINCH, Some(terminal)) => tty::set_size(terminal, tty::size(std::io::stdin())?)?,
                (libc::SIGWINCH, None) => {}
                (signal, _) => return Ok(Some(128 + signal as u8)),
            }
        }
        Ok(None)
    }

    fn pass_input(&mut self) -> Result<Option<u8>, Error> {
        let (keys, mut left) = (&mut self.keys, false);
        let fed = self.feed.go_on(&self.poll, |typed| {
            let Some(keys) = keys else { return typed };
            let (passed, detach) = keys.scan(&typed);
            left = detach;
            passed
        })?;
        if fed == Fed::End {
            // A supervisor that is gone closes the outputs as well.
            let _ = control::send(&self.connection, &Request::EndInput {}, &[]);
        }
        Ok(left.then_some(0))
    }

    /// One turn of an output, the second of which is stderr.
    fn show(&mut self, at: usize) -> Result<Option<u8>, Error> {
        let mut buffer = [0; 32 * 1024];
        match tty::read(&self.outputs[at], &mut buffer)? {
            0 => {
                self.poll.remove(&self.outputs[at]);
                self.open -= 1;
            }
            n if at == 0 => tty::write_all(std::io::stdout(), &buffer[..n])?,
            n => tty::write_all(std::io::stderr(), &buffer[..n])?,
        }
        Ok(None)
    }
}

//! `minipod exec`: a further process in a running container.
//!
//! The supervisor lends the means (a pidfd, cgroup directories, the container's spec) and has no part in the rest: the process is our
//! child, and we carry the bytes between its pipes, or a terminal of the container, and our own streams.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Result;
use clap::Args;
use nix::sys::signal::Signal;
use oci_spec::runtime::Spec;

use super::get::Refusal;
use super::streams::Feed;
use super::{need_root, pods};
use crate::container::launch::launch;
use crate::container::plan::{self, Plan};
use crate::container::seccomp;
use crate::container::step::Hands;
use crate::error::Error;
use crate::pod::control::{self, Reply, Request};
use crate::pod::dir::PodDir;
use crate::pod::places::Places;
use crate::sys::poll::{Poll, Signals};
use crate::sys::process::{self, Child};
use crate::sys::{file, socket, tty};

/// Run a command in a container of a running pod
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod exec web -- ls /               in the first container
  minipod exec -it web -c shell -- sh    a shell on a terminal
  tar c . | minipod exec -i web -- tar x -C /data")]
pub struct ExecArgs {
    /// The pod, as NAME or pod/NAME
    #[arg(value_name = "POD")]
    pod: String,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<String>,
    /// The container; by default the one of the annotation kubectl.kubernetes.io/default-container, or the first
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Pass our standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// Print only what the command prints
    #[arg(short, long)]
    quiet: bool,
    /// The namespace of the pod
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
}

/// What the supervisor lends.
pub struct Means {
    pub spec: Spec,
    /// A pidfd.
    pub main: OwnedFd,
    pub cgroup: OwnedFd,
    pub limits: Vec<OwnedFd>,
}

pub fn exec(args: &ExecArgs, places: &Places) -> Result<u8> {
    need_root()?;
    if args.command.is_empty() {
        return Err(Refusal::client("you must specify at least one command for the container").into());
    }
    let name = pods::name_of(&args.pod)?;
    let pod = pods::find(places, &args.namespace, name)?;
    let (container, note) = super::logs::choose(&pod, args.container.as_deref())?;
    if !args.quiet {
        eprint!("{note}");
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return Err(Refusal::client(format!("cannot exec into a container in a completed pod; current phase is {phase}")).into());
    }
    let means = borrow(&PodDir::new(places, &args.namespace, name), &container)?;
    let terminal = args.tty
        && (tty::is_terminal(std::io::stdin()) || {
            eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
            false
        });
    let plan = plan_of(&means, args, terminal)?;
    let code = match if terminal { on_terminal(&plan, &means) } else { on_streams(&plan, &means, args.stdin) } {
        Ok(code) => code,
        Err(Unstarted { code, why }) => {
            eprintln!("error: {why}");
            code
        }
    };
    if code != 0 {
        eprintln!("command terminated with exit code {code}");
    }
    Ok(code as u8)
}

/// Asks the supervisor for them.
pub fn borrow(dir: &PodDir, container: &str) -> Result<Means> {
    let not_found = || Refusal::client(format!("Internal error occurred: unable to upgrade connection: container not found ({container:?})"));
    let Some((reply, descriptors, _)) = control::ask(dir, &Request::Exec { container: container.to_owned() })? else {
        return Err(not_found().into());
    };
    match reply {
        Reply::Running {} => {
            let mut descriptors = descriptors.into_iter();
            let (Some(main), Some(cgroup), Some(spec)) = (descriptors.next(), descriptors.next(), descriptors.next()) else {
                return Err(not_found().into());
            };
            let spec = file::read_whole(&spec, "config.json")?;
            let spec = serde_json::from_slice(&spec).map_err(|e| Error::said(format!("the container's spec is damaged: {e}")))?;
            Ok(Means { spec, main, cgroup, limits: descriptors.collect() })
        }
        Reply::Refused { why } => Err(Refusal::client(why).into()),
        _ => Err(not_found().into()),
    }
}

/// The container's own process part with another command; TERM only with a terminal.
fn plan_of(means: &Means, args: &ExecArgs, terminal: bool) -> Result<Plan, Error> {
    let mut process = means.spec.process().clone().ok_or_else(|| Error::said("the container's spec has no process"))?;
    let mut env = process.env().clone().unwrap_or_default();
    if terminal && !env.iter().any(|pair| pair.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
    }
    process.set_env(Some(env)).set_args(Some(args.command.clone())).set_terminal(Some(terminal));
    let profile = means.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let filter = profile.map(seccomp::compile).transpose()?;
    plan::compile_exec(&process, plan::host_root(&means.spec), filter.as_ref(), !means.limits.is_empty())
}

/// The command in the container, and the keeper that is its parent.
///
/// A PID namespace cannot end before the last process in it is reaped. Were we its parent, a reader who pauses our output (`exec … | less`)
/// would keep the container from ending. The keeper does nothing but wait for it.
struct Process {
    /// Ends with the command, and with its code.
    keeper: Child,
    command: OwnedFd,
}

/// The command did not run, or we could not go on: what a shell ends with, and why.
struct Unstarted {
    code: i32,
    why: String,
}

impl From<Error> for Unstarted {
    fn from(error: Error) -> Unstarted {
        Unstarted { code: if error.is(libc::EACCES) || error.is(libc::ENOEXEC) { 126 } else { 127 }, why: error.to_string() }
    }
}

fn start(plan: &Plan, means: &Means, hands: Hands<'_>) -> Result<Process, Unstarted> {
    let (ours, theirs) = socket::pair()?;
    let keeper = process::fork(|| keep(plan, means, hands, theirs.as_fd()))?;
    drop(theirs);
    let (why, mut command) = socket::receive(&ours)?;
    match command.pop() {
        Some(command) => Ok(Process { keeper, command }),
        None => Err(Unstarted { code: keeper.wait()?.code(), why: String::from_utf8_lossy(&why).into_owned() }),
    }
}

/// The keeper: starts the command, hands us its pidfd, ends as it ends.
fn keep(plan: &Plan, means: &Means, hands: Hands<'_>, caller: BorrowedFd<'_>) -> Result<Infallible, Error> {
    process::die_with_parent()?;
    process::new_session()?;
    match join_and_launch(plan, means, hands) {
        Ok(command) => {
            socket::send(caller, b"runs", &[command.as_fd()])?;
            process::close_others(0, &[command.as_fd()]);
            process::exit_now(command.wait()?.code())
        }
        Err(error) => {
            let Unstarted { code, why } = error.into();
            socket::send(caller, why.as_bytes(), &[])?;
            process::exit_now(code)
        }
    }
}

fn join_and_launch(plan: &Plan, means: &Means, hands: Hands<'_>) -> Result<Child, Error> {
    launch(plan, &Hands { holder: Some(means.main.as_fd()), limits: &means.limits, ..hands }, Some(means.cgroup.as_fd()))
}

/// Pipes to the command: what we were started with (a terminal, a file) is not handed into the container, where it could be opened anew.
fn on_streams(plan: &Plan, means: &Means, with_stdin: bool) -> Result<i32, Unstarted> {
    let ((out, out_in), (err, err_in)) = (process::pipe()?, process::pipe()?);
    let input = if with_stdin { Some(process::pipe()?) } else { None };
    let signals = Signals::take(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTSTP])?;
    let streams = [input.as_ref().map(|(theirs, _)| theirs.as_fd()), Some(out_in.as_fd()), Some(err_in.as_fd())];
    let started = start(plan, means, Hands { streams, ..Default::default() })?;
    drop((out_in, err_in));
    let mut poll = Poll::new()?;
    for (fd, token) in [(started.keeper.as_fd(), END), (signals.as_fd(), SIGNALS), (out.as_fd(), SCREEN), (err.as_fd(), COMPLAINTS)] {
        poll.add(fd, token)?;
    }
    let mut feed = Feed::new(input.map(|(_, ours)| ours), KEYS, ROOM, &poll)?;
    let mut ended = None;
    loop {
        let ready = poll.wait(if ended.is_some() { Some(0) } else { None })?;
        // What it wrote before it ended is in the pipes; for what a child of its writes later nobody waits.
        if let (Some(code), false) = (ended, ready.iter().any(|token| matches!(*token, SCREEN | COMPLAINTS))) {
            return Ok(code);
        }
        for token in ready {
            match token {
                SCREEN => copy(&poll, &out, std::io::stdout())?,
                COMPLAINTS => copy(&poll, &err, std::io::stderr())?,
                KEYS | ROOM => drop(feed.go_on(&poll, |piece| piece)?),
                SIGNALS => {
                    // The command is in a session of its own: what is meant for it must be passed on.
                    while let Some(signal) = signals.next() {
                        process::send_signal(&started.command, signal)?;
                    }
                }
                _ => {
                    ended = started.keeper.try_wait()?.map(|exit| exit.code());
                    poll.remove(&started.keeper);
                }
            }
        }
    }
}

/// One turn of an output; at its end it is no longer watched.
fn copy(poll: &Poll, from: &OwnedFd, to: impl AsFd) -> Result<(), Error> {
    let mut buffer = [0; 32 * 1024];
    match tty::read(from, &mut buffer)? {
        0 => poll.remove(from),
        n => tty::write_all(to, &buffer[..n])?,
    }
    Ok(())
}

/// A terminal of the container; ours is raw while it lasts.
fn on_terminal(plan: &Plan, means: &Means) -> Result<i32, Unstarted> {
    let stdin = std::io::stdin();
    let (ours, theirs) = socket::pair()?;
    let signals = Signals::take(&[Signal::SIGWINCH, Signal::SIGTERM, Signal::SIGHUP])?;
    let started = start(plan, means, Hands { terminal: Some(theirs.as_fd()), size: Some(tty::size(&stdin)?), ..Default::default() })?;
    // Without our copy of its end, a child that was killed before it had sent the terminal ends the waiting.
    drop(theirs);
    let terminal = socket::receive(&ours)?.1.pop().ok_or_else(|| Error::said("the command's terminal did not arrive"))?;
    let _raw = tty::Raw::new(stdin.as_fd())?;
    Ok(carry(&started, &terminal, stdin.as_fd(), &signals)?)
}

const END: u64 = 0;
const SIGNALS: u64 = 1;
const KEYS: u64 = 2;
const SCREEN: u64 = 3;
const COMPLAINTS: u64 = 4;
const ROOM: u64 = 5;

/// Keys go in and the screen comes out, until the command has ended and its last words are on the screen.
fn carry(started: &Process, terminal: &OwnedFd, keyboard: BorrowedFd<'_>, signals: &Signals) -> Result<i32, Error> {
    let mut poll = Poll::new()?;
    for (fd, token) in [(started.keeper.as_fd(), END), (signals.as_fd(), SIGNALS), (keyboard, KEYS), (terminal.as_fd(), SCREEN)] {
        poll.add(fd, token)?;
    }
    let stdout = std::io::stdout();
    let mut buffer = [0; 32 * 1024];
    let mut ended = None;
    loop {
        let ready = poll.wait(if ended.is_some() { Some(0) } else { None })?;
        if let (Some(code), false) = (ended, ready.contains(&SCREEN)) {
            return Ok(code);
        }
        for token in ready {
            match token {
                SCREEN => match tty::read(terminal, &mut buffer)? {
                    0 => poll.remove(terminal),
                    n => tty::write_all(&stdout, &buffer[..n])?,
                },
                KEYS => match tty::read(keyboard, &mut buffer)? {
                    0 => poll.remove(keyboard),
                    n => tty::write_all(terminal, &buffer[..n])?,
                },
                SIGNALS => {
                    while let Some(signal) = signals.next() {
                        match signal {
                            libc::SIGWINCH => tty::set_size(terminal, tty::size(keyboard)?)?,
                            signal => process::send_signal(&started.command, signal)?,
                        }
                    }
                }
                _ => {
                    ended = started.keeper.try_wait()?.map(|exit| exit.code());
                    poll.remove(&started.keeper);
                }
            }
        }
    }
}

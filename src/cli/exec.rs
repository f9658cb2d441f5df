//! `minipod exec`: a further process in a running container.
//!
//! The supervisor lends the means (a pidfd, cgroup directories, the container's spec) and has no part in the rest: the process is our
//! child, its streams are ours, or a terminal of the container that we carry the bytes of.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Result;
use clap::Args;
use nix::sys::signal::Signal;
use oci_spec::runtime::Spec;

use super::get::Refusal;
use super::{need_root, pods};
use crate::container::launch::launch;
use crate::container::plan::{self, Plan};
use crate::container::step::Hands;
use crate::error::Error;
use crate::pod::control::{self, Reply, Request};
use crate::pod::dir::PodDir;
use crate::pod::places::Places;
use crate::sys::poll::{Poll, Signals};
use crate::sys::process::{Child, Namespaces};
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
struct Means {
    spec: Spec,
    main: OwnedFd,
    cgroup: OwnedFd,
    limits: Vec<OwnedFd>,
}

pub fn exec(args: &ExecArgs, places: &Places) -> Result<u8> {
    need_root()?;
    if args.command.is_empty() {
        return Err(Refusal::client("you must specify at least one command for the container").into());
    }
    let name = args.pod.split_once('/').map_or(args.pod.as_str(), |(_, name)| name);
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
        Err(error) => {
            eprintln!("error: {error}");
            if error.is(libc::EACCES) || error.is(libc::ENOEXEC) { 126 } else { 127 }
        }
    };
    if code != 0 {
        eprintln!("command terminated with exit code {code}");
    }
    Ok(code as u8)
}

fn borrow(dir: &PodDir, container: &str) -> Result<Means> {
    let not_found = || Refusal::client(format!("Internal error occurred: unable to upgrade connection: container not found ({container:?})"));
    let Some((reply, descriptors, _)) = control::ask(dir, &Request::Exec { container: container.to_owned() })? else {
        return Err(not_found().into());
    };
    match reply {
        Reply::Running { spec } => {
            let spec = serde_json::from_str(&spec).map_err(|e| Error::said(format!("the container's spec is damaged: {e}")))?;
            let mut descriptors = descriptors.into_iter();
            let (Some(main), Some(cgroup)) = (descriptors.next(), descriptors.next()) else { return Err(not_found().into()) };
            Ok(Means { spec, main, cgroup, limits: descriptors.collect() })
        }
        Reply::Refused { why } => Err(Refusal::client(why).into()),
        Reply::Done {} => Err(not_found().into()),
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
    let all = Namespaces::MOUNT | Namespaces::PID | Namespaces::NET | Namespaces::IPC | Namespaces::UTS | Namespaces::CGROUP;
    plan::compile_exec(&process, all, !means.limits.is_empty())
}

fn hands(means: &Means) -> Hands<'_> {
    Hands { holder: Some(means.main.as_fd()), limits: &means.limits, ..Default::default() }
}

/// Our own streams are the command's.
fn on_streams(plan: &Plan, means: &Means, with_stdin: bool) -> Result<i32, Error> {
    let null = file::open("/dev/null", rustix::fs::OFlags::RDONLY)?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let input = if with_stdin { stdin.as_fd() } else { null.as_fd() };
    let signals = Signals::take(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
    let child = launch(plan, &Hands { streams: Some([input, stdout.as_fd(), stderr.as_fd()]), ..hands(means) }, Some(means.cgroup.as_fd()))?;
    let mut poll = Poll::new()?;
    poll.add(&child, 0)?;
    poll.add(&signals, 1)?;
    loop {
        poll.wait(None)?;
        // The command is in a session of its own: what is meant for it must be passed on.
        while let Some(signal) = signals.next() {
            child.signal(signal)?;
        }
        if let Some(exit) = child.try_wait()? {
            return Ok(exit.code());
        }
    }
}

/// A terminal of the container; ours is raw while it lasts.
fn on_terminal(plan: &Plan, means: &Means) -> Result<i32, Error> {
    let stdin = std::io::stdin();
    let (ours, theirs) = socket::pair()?;
    let signals = Signals::take(&[Signal::SIGWINCH, Signal::SIGTERM, Signal::SIGHUP])?;
    let child = launch(plan, &Hands { terminal: Some(theirs.as_fd()), size: Some(tty::size(&stdin)?), ..hands(means) }, Some(means.cgroup.as_fd()))?;
    let terminal = socket::receive(&ours)?.1.pop().ok_or_else(|| Error::said("the command's terminal did not arrive"))?;
    let _raw = tty::Raw::new(stdin.as_fd())?;
    carry(&child, &terminal, stdin.as_fd(), &signals)
}

const END: u64 = 0;
const SIGNALS: u64 = 1;
const KEYS: u64 = 2;
const SCREEN: u64 = 3;

/// Keys go in and the screen comes out, until the command has ended and its last words are on the screen.
fn carry(child: &Child, terminal: &OwnedFd, keyboard: BorrowedFd<'_>, signals: &Signals) -> Result<i32, Error> {
    let mut poll = Poll::new()?;
    for (fd, token) in [(child.as_fd(), END), (signals.as_fd(), SIGNALS), (keyboard, KEYS), (terminal.as_fd(), SCREEN)] {
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
                            signal => child.signal(signal)?,
                        }
                    }
                }
                _ => {
                    ended = child.try_wait()?.map(|exit| exit.code());
                    poll.remove(child);
                }
            }
        }
    }
}

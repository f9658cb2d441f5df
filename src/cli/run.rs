//! `minipod run` and `minipod apply`: manifests become pods and jobs.
//!
//! In the foreground, what happens is read from where everybody reads it, the pod's status and its logs; the only thing of our
//! own is a socket to the supervisor, whose closing (however we end) stops the pod. A job in the foreground is the same thing once
//! more, with a runner and many pods: `job`.

mod apply;
mod job;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use nix::sys::signal::Signal;

pub use self::apply::{ApplyArgs, apply};
use super::get::{Kind, Refusal, row};
use super::logs::follow::{Follower, From, Instance, Step};
use super::table::harmless;
use super::why::{self, in_words};
use super::{duration, logs, need_root, pods};
use crate::container::log::{Line, Stream};
use crate::error::Error;
use crate::image::Store;
use crate::manifest::{self, Loaded, Object};
use crate::pod::control::{self, Reply, Request};
use crate::pod::dir::PodDir;
use crate::pod::job as pod_job;
use crate::pod::places::Places;
use crate::pod::start::{self, Options, Refusal as Refused, Started};
use crate::pod::status;
use crate::sys::notify::Notify;
use crate::sys::poll::{Poll, Signals};

/// minipod itself could not run the pod: the code that env, timeout and container tools use for themselves.
pub const OWN_FAILURE: u8 = 125;
/// An init container failed.
const INIT_FAILED: u8 = 120;
/// activeDeadlineSeconds was over; timeout(1)'s code.
const DEADLINE: u8 = 124;

/// Run a pod or a job: in the foreground until it ends, or with -d in the background
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod run pod.yaml               show status changes and what the containers write; Ctrl-C stops gracefully, a second one without grace
  minipod run -d pod.yaml            start it and return; see `minipod get pods`
  kubectl get pod web -o yaml | minipod run -

The exit code of a run in the foreground is that of the app container (the first that failed, if there are several);
120 if an init container failed, 124 if activeDeadlineSeconds was over, 125 if minipod could not run the pod.
That of a job is 0 if it is complete, 124 if its activeDeadlineSeconds was over, and 1 if it failed otherwise or was stopped.")]
pub struct RunArgs {
    /// The manifest, YAML or JSON; - is standard input
    #[arg(value_name = "FILE", required_unless_present = "filename")]
    file: Option<PathBuf>,
    /// The manifest, as kubectl's -f; may be given several times
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    filename: Vec<PathBuf>,
    /// Return as soon as the pod or job is accepted
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// The namespace of objects whose manifest names none
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Go on where this machine cannot enforce a limit, with a warning
    #[arg(long)]
    allow_unenforced: bool,
    /// The longest wait before a restart (1s to 300s; without it 300s, and 10m before a job's next pod)
    #[arg(long, value_name = "DURATION", value_parser = max_backoff)]
    max_backoff: Option<u64>,
}

impl How {
    fn options(&self, foreground: bool) -> Options {
        Options { allow_unenforced: self.allow_unenforced, max_backoff_ms: self.max_backoff, foreground }
    }
}

/// KEP 5593's range, in milliseconds.
fn max_backoff(text: &str) -> std::result::Result<u64, String> {
    let seconds = duration::parse(text).ok_or_else(|| format!("{text:?} is not a duration; write 10s or 2m"))?.as_millis();
    u64::try_from(seconds).ok().filter(|ms| (1_000..=300_000).contains(ms)).ok_or_else(|| "must be between 1s and 300s".to_owned())
}

/// Reads a file of manifests, or standard input.
pub fn manifest_of(path: &Path) -> Result<Loaded> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).context("reading standard input")?;
        bytes
    } else {
        std::fs::read(path).map_err(|e| Error::io("open", path.display(), &e).doing("reading the manifest"))?
    };
    let loaded = manifest::read_bytes(&bytes, &path.display().to_string())?;
    loaded.warnings.iter().for_each(|warning| eprintln!("Warning: {warning}"));
    Ok(loaded)
}

/// A pod or a job in the foreground, or all in the background with -d.
pub fn run(args: &RunArgs, places: &Places) -> Result<u8> {
    let mut objects = apply::objects_of(args.file.iter().chain(&args.filename), &args.how)?;
    need_root()?;
    if args.detach {
        return objects.into_iter().try_for_each(|object| apply::start_one(places, &object, &args.how)).map(|()| 0);
    }
    let count = objects.iter().filter(|object| !apply::is_kept(object)).count();
    if count != 1 {
        bail!("the manifest has {count} pods and jobs, and a run in the foreground shows one; start all of it with `minipod apply -f`");
    }
    // The others are only kept. They come first, and stay when the pod has gone.
    let Some(object) = objects.pop() else { bail!("the manifest has no object") };
    let keep = || objects.iter().try_for_each(|kept| apply::made(places, kept, &args.how).map(|said| eprintln!("{said}")));
    let store = Store::open(places.images())?;
    let options = args.how.options(true);
    // In the background a missing image may still be brought in (ErrImagePull); here somebody waits for an end.
    match object {
        Object::Pod(pod) => {
            start::check_images(&store, &pod)?;
            keep()?;
            match start::start(places, *pod, &options) {
                Ok(Started { dir, pod, owner: Some(owner), .. }) => Foreground::new(places, dir, &pod, owner)?.watch(),
                Ok(_) => bail!("the supervisor gave no connection"),
                Err(Refused::AlreadyExists(pod)) => Err(already_exists(Kind::Pod, &pod.metadata).into()),
                Err(Refused::Failed(error)) => Err(error.into()),
            }
        }
        Object::Job(asked) => {
            start::check_images(&store, &pod_job::first_pod(&asked))?;
            keep()?;
            job::run(places, *asked, &options)
        }
        Object::ConfigMap(_) | Object::Secret(_) => bail!("there is nothing to run"),
    }
}

fn already_exists(kind: Kind, metadata: &ObjectMeta) -> Refusal {
    let name = metadata.name.as_deref().unwrap_or_default();
    let word = match kind {
        Kind::Pod => "pod",
        Kind::Job => "job",
        Kind::ConfigMap => "configmap",
        Kind::Secret => "secret",
    };
    Refusal::Server { reason: "AlreadyExists", message: format!("{} {name:?} already exists; `minipod delete {word} {name}` removes it", kind.plural()) }
}

const OWNER: u64 = 0;
const SIGNALS: u64 = 1;
const FILES: u64 = 2;

/// A pod that ends with us.
struct Foreground<'a> {
    places: &'a Places,
    dir: PodDir,
    owner: OwnedFd,
    signals: Signals,
    /// How often we were asked to stop.
    stops: u32,
    told: String,
    /// The warnings that were told.
    warned: BTreeSet<String>,
    /// The hints that were told: of which container (none: the pod), and which cause.
    hinted: BTreeSet<(Option<String>, &'static str)>,
    colours: Colours,
}

impl<'a> Foreground<'a> {
    fn new(places: &'a Places, dir: PodDir, pod: &Pod, owner: OwnedFd) -> Result<Foreground<'a>> {
        let signals = Signals::take(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
        Ok(Foreground {
            places,
            dir,
            owner,
            signals,
            stops: 0,
            told: String::new(),
            warned: BTreeSet::new(),
            hinted: BTreeSet::new(),
            colours: Colours::of(pod),
        })
    }

    /// Shows what happens until the pod has ended; then its exit code.
    fn watch(mut self) -> Result<u8> {
        let notify = Notify::new()?;
        notify.watch_dir(self.dir.path())?;
        let (places, dir) = (self.places, self.dir.clone());
        let look = move || match dir.read()? {
            Some(known) => logs::all_instances(&pods::place(places, dir.clone(), known.pod)),
            None => Ok(Default::default()),
        };
        let mut follower = Follower::new(notify, From::default(), look);
        let mut poll = Poll::new()?;
        poll.add(&self.owner, OWNER)?;
        poll.add(&self.signals, SIGNALS)?;
        poll.add(follower.notify(), FILES)?;
        let mut ended = false;
        loop {
            match follower.step()? {
                Step::Line(instance, line) => self.print(instance, &line)?,
                Step::End => break,
                Step::Wait if ended => break,
                Step::Wait => {
                    self.tell_status()?;
                    self.tell_warnings()?;
                    ended = self.wait(&mut poll, &mut follower)?;
                }
            }
        }
        self.finish()
    }

    /// Waits for something; true when the supervisor says that the pod has ended, or has gone itself.
    fn wait(&mut self, poll: &mut Poll, follower: &mut Follower<'_>) -> Result<bool> {
        let mut ended = false;
        for token in poll.wait(None)? {
            match token {
                // Not taken from the socket: `finish` hears it again, whatever ended the loop.
                OWNER => ended = true,
                SIGNALS => self.stop()?,
                _ => {}
            }
        }
        follower.look_again()?;
        Ok(ended)
    }

    /// The first time gracefully, the second time at once.
    fn stop(&mut self) -> Result<()> {
        while let Some(_signal) = self.signals.next() {
            self.stops += 1;
            let grace_seconds = (self.stops > 1).then_some(0);
            eprintln!("{}: stopping{}", self.dir.name, if self.stops > 1 { " without grace" } else { "; once more stops it without grace" });
            control::send(&self.owner, &Request::Stop { grace_seconds }, &[])?;
        }
        Ok(())
    }

    /// A line for each change of what `get` would show.
    fn tell_status(&mut self) -> Result<()> {
        let Some(known) = self.dir.read()? else { return Ok(()) };
        let row = row(&known.pod, Timestamp::now());
        let now = format!("{}  {}", row.status, row.ready);
        if self.told != now {
            let (on, off) = (self.colours.status.render(), self.colours.status.render_reset());
            eprintln!("{on}{}: {now}{off}", self.dir.name);
            self.told = now;
            if self.stops == 0 && !status::is_finished(&known.pod) {
                self.tell_hints(&known.pod)?;
            }
        }
        Ok(())
    }

    /// Each hint once, about what goes on and so might never come to an end.
    fn tell_hints(&mut self, pod: &Pod) -> Result<()> {
        for mut reason in self.reasons(pod)?.into_iter().filter(|reason| reason.goes_on) {
            let container = reason.container.clone();
            reason.hints.retain(|hint| self.hinted.insert((container.clone(), hint.cause)));
            if !reason.hints.is_empty() {
                self.tell_reason(&reason, false);
            }
        }
        Ok(())
    }

    fn reasons(&self, pod: &Pod) -> Result<Vec<why::Reason>> {
        Ok(why::reasons(pod, &self.dir.events()?, &pods::view(self.places, pod), Timestamp::now()))
    }

    fn tell_reason(&self, reason: &why::Reason, with_log: bool) {
        let whose = reason.container.as_ref().map_or("the pod".to_owned(), |name| format!("container {name}"));
        eprint!("{}: {whose} {}\n{}", self.dir.name, harmless(&reason.what), reason.details("  ", with_log));
    }

    /// A line for each new warning among the pod's events: why it waits, why a container did not start.
    fn tell_warnings(&mut self) -> Result<()> {
        for event in self.dir.events()?.iter().filter(|event| event.type_.as_deref() == Some("Warning")) {
            let message = event.message.as_deref().unwrap_or_default();
            if self.warned.insert(message.to_owned()) {
                eprintln!("{}: {}: {message}", self.dir.name, event.reason.as_deref().unwrap_or_default());
            }
        }
        Ok(())
    }

    fn print(&self, instance: &Instance, line: &Line<'_>) -> Result<()> {
        let style = self.colours.of_container(&instance.container);
        let mut text = Vec::with_capacity(line.content.len() + 32);
        if line.begins {
            write!(text, "{}[{}]{} ", style.render(), instance.container, style.render_reset())?;
        }
        text.extend_from_slice(line.content);
        if line.ends {
            text.push(b'\n');
        }
        match line.stream {
            Stream::Stdout => std::io::stdout().write_all(&text)?,
            Stream::Stderr => std::io::stderr().write_all(&text)?,
        }
        Ok(())
    }

    /// Waits for the supervisor's last word, reads the end, and lets the pod go.
    fn finish(mut self) -> Result<u8> {
        while !matches!(control::receive::<Reply>(&self.owner)?, Some((Reply::Done {}, _)) | None) {}
        self.tell_status()?;
        self.tell_warnings()?;
        let code = match self.dir.read()? {
            Some(known) if status::is_finished(&known.pod) => self.exit_code(&known.pod)?,
            _ => {
                start::delete(self.places, &self.dir, None, true)?;
                bail!("the supervisor of pod {} ended unexpectedly, and the pod with it; it is cleaned up", self.dir.name);
            }
        };
        let dir = self.dir.clone();
        // Closing it is what makes the supervisor remove the pod.
        drop(self.owner);
        dir.wait_until_gone()?;
        Ok(code)
    }

    /// What ended the pod, in words unless all went well, and its code.
    fn exit_code(&self, pod: &Pod) -> Result<u8> {
        let status = pod.status.clone().unwrap_or_default();
        let sidecars: Vec<String> = pod
            .spec
            .iter()
            .flat_map(|spec| spec.init_containers.iter().flatten())
            .filter(|c| c.restart_policy.as_deref() == Some("Always"))
            .map(|c| c.name.clone())
            .collect();
        let ended = |statuses: Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
            let statuses = statuses.unwrap_or_default().into_iter().filter(|status| !sidecars.contains(&status.name));
            statuses.filter_map(|status| Some((status.name, status.state?.terminated?))).collect::<Vec<_>>()
        };
        let (inits, apps) = (ended(status.init_container_statuses), ended(status.container_statuses));
        let in_order = |name: &str| pod.spec.as_ref().and_then(|spec| spec.containers.iter().position(|container| container.name == name));
        let init = inits.iter().find(|(_, end)| end.exit_code != 0);
        let app = apps.iter().filter(|(_, end)| end.exit_code != 0).min_by_key(|(name, _)| in_order(name));
        let (code, failed) = match (status.reason.as_deref(), init, app) {
            (Some("DeadlineExceeded"), _, _) => (DEADLINE, None),
            (_, Some(init), _) => (INIT_FAILED, Some(("init container", init))),
            (_, None, Some(app)) => (app.1.exit_code.clamp(1, 255) as u8, Some(("container", app))),
            // It was not taken in: the warning has told why.
            (Some(_), None, None) if status.phase.as_deref() == Some("Failed") => (1, None),
            (_, None, None) => (0, None),
        };
        let mut reasons = self.reasons(pod)?;
        if let Some((kind, (name, end))) = failed {
            eprintln!("{}: {kind} {name} {}", self.dir.name, harmless(&in_words(end)));
            if let Some(at) = reasons.iter().position(|reason| reason.container.as_ref() == Some(name)) {
                // The log of an only container stands right above.
                eprint!("{}", reasons.remove(at).details("  ", inits.len() + apps.len() + sidecars.len() > 1));
            }
        }
        reasons.iter().filter(|reason| code != 0 || !reason.hints.is_empty()).for_each(|reason| self.tell_reason(reason, false));
        Ok(code)
    }
}

/// A colour for each container, where the reader is a terminal.
struct Colours {
    status: Style,
    containers: BTreeMap<String, Style>,
}

impl Colours {
    fn of(pod: &Pod) -> Colours {
        const WHEEL: [AnsiColor; 6] = [AnsiColor::Cyan, AnsiColor::Green, AnsiColor::Yellow, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::BrightRed];
        let wanted = |stream: bool| stream && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let plain = Style::new();
        let names = logs::in_order(pod).into_iter().zip(WHEEL.iter().cycle());
        let containers = names.map(|(name, colour)| (name, if wanted(std::io::stdout().is_terminal()) { colour.on_default() } else { plain })).collect();
        Colours { status: if wanted(std::io::stderr().is_terminal()) { plain.dimmed() } else { plain }, containers }
    }

    fn of_container(&self, name: &str) -> Style {
        self.containers.get(name).copied().unwrap_or_default()
    }
}

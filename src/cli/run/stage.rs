//! What a run in the foreground shows and hears, be it a pod or a job with many.
//!
//! ```text
//! supervisor or runner ── socket ──▶ ended ┐
//! signals ─────────────────────────▶ stop  ├─ one wait ─▶ lines of the logs, then what is new of the status
//! files (inotify) ─────────────────▶ look  ┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::os::fd::OwnedFd;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use k8s_openapi::api::core::v1::{Event, Pod};
use nix::sys::signal::Signal;

use crate::cli::logs::follow::{Follower, From, Instance, Sight, Step};
use crate::cli::table::harmless;
use crate::cli::{logs, why};
use crate::container::log::{Line, Stream};
use crate::error;
use crate::pod::control::{self, Reply, Request};
use crate::sys::notify::Notify;
use crate::sys::poll::{Poll, Signals};

const OWNER: u64 = 0;
const SIGNALS: u64 = 1;
const FILES: u64 = 2;

/// What is shown.
pub(super) trait Subject {
    /// Watches what may change of it. Asked again after each change, before it is looked at: what is new must be watched first.
    fn watch(&self, notify: &Notify) -> Result<()>;
    /// Tells what is new of its status.
    fn tell(&mut self, stage: &mut Stage) -> Result<()>;
}

pub(super) struct Stage {
    /// Of the pod or the job.
    name: String,
    /// Whose closing, however we end, stops what is shown.
    owner: OwnedFd,
    signals: Signals,
    /// How often we were asked to stop.
    pub stops: u32,
    /// The last line of each pod and job, by name.
    told: BTreeMap<String, String>,
    warned: BTreeSet<String>,
    colours: Colours,
    /// A line of a log begins with its pod's name, too.
    many_pods: bool,
}

impl Stage {
    /// `pod` is one of those that will write, for the colours of its containers.
    pub fn new(name: &str, owner: OwnedFd, pod: &Pod, many_pods: bool) -> Result<Stage> {
        let signals = Signals::take(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
        let (told, warned) = Default::default();
        Ok(Stage { name: name.to_owned(), owner, signals, stops: 0, told, warned, colours: Colours::of(pod), many_pods })
    }

    /// Shows what happens until the end, and waits for the last word. `look` tells whose logs there are.
    pub fn show(&mut self, subject: &mut impl Subject, look: impl FnMut() -> error::Result<Sight>) -> Result<()> {
        let notify = Notify::new()?;
        subject.watch(&notify)?;
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
                    subject.tell(self)?;
                    ended = self.wait(&mut poll)?;
                    subject.watch(follower.notify())?;
                    follower.look_again()?;
                }
            }
        }
        while !matches!(control::receive::<Reply>(&self.owner)?, Some((Reply::Done {}, _)) | None) {}
        subject.tell(self)
    }

    /// True when the other side says that the end has come, or has gone itself.
    fn wait(&mut self, poll: &mut Poll) -> Result<bool> {
        let mut ended = false;
        for token in poll.wait(None)? {
            match token {
                // Not taken from the socket: it is heard again after the loop, whatever ended that.
                OWNER => ended = true,
                SIGNALS => self.stop()?,
                _ => {}
            }
        }
        Ok(ended)
    }

    /// The first time gracefully, the second time at once.
    fn stop(&mut self) -> Result<()> {
        while let Some(_signal) = self.signals.next() {
            self.stops += 1;
            let grace_seconds = (self.stops > 1).then_some(0);
            eprintln!("{}: stopping{}", self.name, if self.stops > 1 { " without grace" } else { "; once more stops it without grace" });
            match control::send(&self.owner, &Request::Stop { grace_seconds }, &[]) {
                // It has gone already.
                Err(error) if error.is(libc::EPIPE) => {}
                sent => sent?,
            }
        }
        Ok(())
    }

    /// A line for a change of what `get` would show; whether there was one.
    pub fn tell_status(&mut self, name: &str, line: String) -> bool {
        let is_new = self.told.get(name) != Some(&line);
        if is_new {
            let (on, off) = (self.colours.status.render(), self.colours.status.render_reset());
            eprintln!("{on}{name}: {line}{off}");
            self.told.insert(name.to_owned(), line);
        }
        is_new
    }

    /// A line for each new warning: why something waits, or did not start.
    pub fn tell_warnings(&mut self, name: &str, events: &[Event]) {
        for event in events.iter().filter(|event| event.type_.as_deref() == Some("Warning")) {
            let line = format!("{name}: {}: {}", event.reason.as_deref().unwrap_or_default(), event.message.as_deref().unwrap_or_default());
            if !self.warned.contains(&line) {
                eprintln!("{line}");
                self.warned.insert(line);
            }
        }
    }

    fn print(&self, instance: &Instance, line: &Line<'_>) -> Result<()> {
        let style = self.colours.of_container(&instance.container);
        let mut text = Vec::with_capacity(line.content.len() + 48);
        if line.begins {
            let pod = if self.many_pods { format!("{}/", instance.pod) } else { String::new() };
            write!(text, "{}[{pod}{}]{} ", style.render(), instance.container, style.render_reset())?;
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
}

/// Says what is wrong with a pod, in words.
pub(super) fn tell_reason(pod: &str, reason: &why::Reason) {
    let whose = reason.container.as_ref().map_or("the pod".to_owned(), |name| format!("container {name}"));
    eprint!("{pod}: {whose} {}\n{}", harmless(&reason.what), reason.details("  ", false));
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

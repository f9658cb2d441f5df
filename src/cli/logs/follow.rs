//! Reading logs while they are written.
//!
//! ```text
//!          ┌──────────────────────────────────────────────┐
//!          v                                              │ something changed
//! look: which instances are there, which still write?     │
//!          v                                              │
//! read every file to its end ── lines, oldest first ──> the caller
//!          v                                              │
//! all at rest: wait (inotify: log files, their directories, the pod's directory)
//! ```
//!
//! An instance that no longer wrote *before* its file was read to the end is done. Looking first, reading second and
//! waiting last is what loses nothing; a watch is set before the first read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::container::log::{Joiner, Line, Records, Stream};
use crate::error::Result;
use crate::sys::notify::Notify;

/// One run of a container, and where it writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub pod: String,
    pub container: String,
    /// The restart count of this run.
    pub number: u32,
    /// Its log file, which need not be there yet.
    pub path: PathBuf,
    /// Whether it may still write.
    pub running: bool,
}

/// What is known at one look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// All instances to be read; those that were there before may be named again, or not.
    pub instances: Vec<Instance>,
    /// No other instance will ever come.
    pub complete: bool,
}

/// From where on a log is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct From {
    /// So many records from the end; all without.
    pub tail: Option<u64>,
    /// Older records are dropped, those of this very moment are kept.
    pub since: Option<Timestamp>,
}

/// What a step of the follower comes to.
#[derive(Debug)]
pub enum Step<'a> {
    Line(&'a Instance, Line<'a>),
    /// All that there is was read: [`Follower::wait`], or poll [`Follower::notify`] beside other things.
    Wait,
    /// All instances have ended and no other will come.
    End,
}

/// Follows the logs of instances that come and go.
pub struct Follower<'a> {
    notify: Notify,
    look: Box<dyn FnMut() -> Result<Sight> + 'a>,
    from: From,
    sources: Vec<Source>,
    /// The highest instance seen of each container, so that one that is done is not read again.
    seen: BTreeMap<(String, String), u32>,
    complete: bool,
    /// Nothing was looked at since the last wait.
    stale: bool,
    /// The source whose line the caller has.
    given: Option<usize>,
    /// How many lines were not in the log format.
    pub garbage: u64,
}

impl fmt::Debug for Follower<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("sources", &self.sources).finish_non_exhaustive()
    }
}

/// An instance, its open log, and the line that is to be given out next.
#[derive(Debug)]
struct Source {
    instance: Instance,
    records: Option<Records>,
    joiner: Joiner,
    /// So many records may still come, if the tail was asked for of an instance that has ended.
    left: Option<u64>,
    next: Option<Next>,
    content: Vec<u8>,
    done: bool,
}

/// A [`Line`] whose content is in its source.
#[derive(Debug, Clone, Copy)]
struct Next {
    time: Timestamp,
    stream: Stream,
    begins: bool,
    ends: bool,
}

impl<'a> Follower<'a> {
    /// A follower of what `look` tells. Whatever can change its answer (the directory of `pod.json`) must be watched by
    /// `notify` already; the log files are watched here.
    pub fn new(notify: Notify, from: From, look: impl FnMut() -> Result<Sight> + 'a) -> Follower<'a> {
        Follower { notify, look: Box::new(look), from, sources: Vec::new(), seen: BTreeMap::new(), complete: false, stale: true, given: None, garbage: 0 }
    }

    /// The next line, the oldest of those that can be read now; or that there is none.
    pub fn step(&mut self) -> Result<Step<'_>> {
        if let Some(given) = self.given.take() {
            self.sources[given].next = None;
        }
        if self.stale {
            self.see()?;
        }
        for source in &mut self.sources {
            source.read(&self.notify, self.from)?;
        }
        for done in self.sources.extract_if(.., |source| source.done && source.next.is_none()) {
            self.garbage += done.records.map_or(0, |records| records.garbage);
        }
        let ready = self.sources.iter().enumerate().filter_map(|(index, source)| source.next.map(|next| (next.time, index)));
        let Some((_, index)) = ready.min() else {
            return Ok(if self.sources.is_empty() && self.complete { Step::End } else { Step::Wait });
        };
        self.given = Some(index);
        let source = &self.sources[index];
        // It is ready: see above.
        let Some(Next { time, stream, begins, ends }) = source.next else { return Ok(Step::Wait) };
        let line = Line { time, stream, begins, ends, content: &source.content };
        Ok(Step::Line(&source.instance, line))
    }

    /// Waits until something has changed.
    pub fn wait(&mut self) -> Result<()> {
        self.notify.wait(None)?;
        self.stale = true;
        Ok(())
    }

    /// Looks at everything again at the next step, without waiting: for a caller that polls [`Follower::notify`] itself.
    pub fn look_again(&mut self) -> Result<()> {
        self.notify.drain()?;
        self.stale = true;
        Ok(())
    }

    /// What to poll for reading while there is no line; then call [`Follower::wait`], which will not block.
    pub fn notify(&self) -> &Notify {
        &self.notify
    }

    /// Reads no more of a container.
    pub fn leave(&mut self, pod: &str, container: &str) {
        let leave = |source: &&mut Source| source.instance.pod == pod && source.instance.container == container;
        self.sources.iter_mut().filter(leave).for_each(|source| source.done = true);
        self.seen.insert((pod.to_owned(), container.to_owned()), u32::MAX);
    }

    fn see(&mut self) -> Result<()> {
        self.stale = false;
        let sight = (self.look)()?;
        self.complete = sight.complete;
        for instance in sight.instances {
            let key = (instance.pod.clone(), instance.container.clone());
            let same = |source: &&mut Source| (&source.instance.pod, &source.instance.container, source.instance.number) == (&key.0, &key.1, instance.number);
            if let Some(source) = self.sources.iter_mut().find(same) {
                source.instance.running = instance.running;
            } else if self.seen.get(&key).is_none_or(|seen| *seen < instance.number) {
                self.seen.insert(key, instance.number);
                self.sources.push(Source::new(instance));
            }
        }
        Ok(())
    }
}

impl Source {
    fn new(instance: Instance) -> Source {
        Source { instance, records: None, joiner: Joiner::default(), left: None, next: None, content: Vec::new(), done: false }
    }

    /// Reads up to the next line, unless one waits already.
    fn read(&mut self, notify: &Notify, from: From) -> Result<()> {
        if self.next.is_some() || self.done || !self.open(notify, from)? {
            return Ok(());
        }
        let end = !self.instance.running;
        let Some(records) = &mut self.records else { return Ok(()) };
        while self.left != Some(0) {
            let Some(record) = records.next(end)? else {
                if records.go_on()? {
                    watch_log(notify, &self.instance)?;
                    continue;
                }
                break;
            };
            self.left = self.left.map(|left| left - 1);
            if from.since.is_some_and(|since| record.time < since) {
                continue;
            }
            if let Some(line) = self.joiner.push(record) {
                self.next = Some(keep(line, &mut self.content));
                return Ok(());
            }
        }
        if end {
            self.next = self.joiner.rest().map(|line| keep(line, &mut self.content));
            self.done = self.next.is_none();
        }
        Ok(())
    }

    /// Opens the log once it is there. One that is missing after its instance has ended will never be.
    fn open(&mut self, notify: &Notify, from: From) -> Result<bool> {
        if self.records.is_some() {
            return Ok(true);
        }
        let path = &self.instance.path;
        let watched = watch_log(notify, &self.instance);
        let opened = watched.and_then(|()| Records::open(path));
        match opened {
            Ok(mut records) => {
                if let Some(tail) = from.tail {
                    records.seek_tail(tail)?;
                    self.left = (!self.instance.running).then_some(tail);
                }
                self.records = Some(records);
                Ok(true)
            }
            Err(error) if error.is(libc::ENOENT) => {
                self.done = !self.instance.running;
                if self.instance.running {
                    watch_nearest(notify, path)?;
                }
                // It may have come between the two looks; the watch now holds, so the last word is this one.
                Ok(self.instance.running && path.exists() && self.open(notify, from)?)
            }
            Err(error) => Err(error),
        }
    }
}

/// Its directory too: when the log is full, another file appears in its place.
fn watch_log(notify: &Notify, instance: &Instance) -> Result<()> {
    if !instance.running {
        return Ok(());
    }
    instance.path.parent().map_or(Ok(()), |dir| notify.watch_dir(dir))?;
    notify.watch_file(&instance.path)
}

fn keep(line: Line<'_>, content: &mut Vec<u8>) -> Next {
    content.clear();
    content.extend_from_slice(line.content);
    Next { time: line.time, stream: line.stream, begins: line.begins, ends: line.ends }
}

/// Watches the lowest directory above a missing file that is there: the next one to be made will wake us.
fn watch_nearest(notify: &Notify, path: &Path) -> Result<()> {
    let mut missing = path;
    loop {
        for dir in path.ancestors().skip(1) {
            match notify.watch_dir(dir) {
                Err(error) if error.is(libc::ENOENT) => missing = dir,
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        // Made before the watch above it held, so that nobody will tell: look again, deeper.
        if missing == path || !missing.exists() {
            return Ok(());
        }
        missing = path;
    }
}

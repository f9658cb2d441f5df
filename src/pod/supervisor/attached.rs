//! Those who are attached: they hear what a container writes, beside its log, and may have its input.
//!
//! ```text
//!                           ┌──▶ log
//! container ──▶ supervisor ─┤
//!     ▲                     └──▶ pipe ──▶ client          full: the rest is kept, and the container's output waits, as
//!     └───────── stdin, terminal (lent) ──── client        at a slow terminal; not read for PATIENCE: the client is left
//! ```
//!
//! The supervisor never waits for a client: it writes what the pipe takes. And a client can hold a container up only for a while. The
//! input does not pass through the supervisor at all: its descriptor is lent.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use jiff::Timestamp;

use super::{Source, Supervisor, container_of};
use crate::container::log::Stream;
use crate::error::Result;
use crate::lifecycle::C;
use crate::pod::control::{self, Reply};
use crate::pod::instance::Instance;
use crate::sys::poll::Poll;
use crate::sys::{process, tty};

/// So long, in milliseconds, a container may have to wait for a client that does not read.
const PATIENCE: u64 = 5000;
/// What a client may be behind without holding anything up, and what it can still read after the pod's end.
const ROOM: usize = 1 << 20;

/// A client that listens to one start of a container.
#[derive(Debug)]
pub struct Attached {
    /// The number of its connection.
    client: usize,
    /// It was lent the container's input.
    stdin: bool,
    outputs: Vec<Output>,
    /// Since when its pipes take nothing, in milliseconds; None: it has all.
    behind: Option<u64>,
    gone: bool,
}

#[derive(Debug)]
struct Output {
    stream: Stream,
    pipe: OwnedFd,
    /// What the pipe did not take yet.
    rest: Vec<u8>,
}

impl Attached {
    /// A listener to these streams, and the ends that it reads.
    fn new(client: usize, stdin: bool, streams: &[Stream]) -> Result<(Attached, Vec<OwnedFd>)> {
        let (mut outputs, mut ends) = (Vec::new(), Vec::new());
        for stream in streams {
            let (end, pipe) = process::pipe()?;
            process::widen_pipe(&pipe, ROOM);
            process::set_nonblocking(&pipe)?;
            outputs.push(Output { stream: *stream, pipe, rest: Vec::new() });
            ends.push(end);
        }
        Ok((Attached { client, stdin, outputs, behind: None, gone: false }, ends))
    }

    /// Passes on what a stream has said; never blocks.
    pub fn give(&mut self, stream: Stream, bytes: &[u8]) {
        self.outputs.iter_mut().filter(|output| output.stream == stream).for_each(|output| output.rest.extend_from_slice(bytes));
        self.flush();
    }

    fn flush(&mut self) {
        let mut moved = false;
        for output in self.outputs.iter_mut().filter(|output| !output.rest.is_empty()) {
            match tty::write(&output.pipe, &output.rest) {
                Ok(n) => {
                    output.rest.drain(..n);
                    moved = true;
                }
                Err(error) if error.is(libc::EAGAIN) => {}
                Err(_) => self.gone = true,
            }
        }
        let now = process::boot_millis();
        self.behind = match self.outputs.iter().all(|output| output.rest.is_empty()) {
            true => None,
            false if moved => Some(now),
            false => self.behind.or(Some(now)),
        };
    }

    fn is_behind_on(&self, stream: Stream) -> bool {
        self.outputs.iter().any(|output| output.stream == stream && !output.rest.is_empty())
    }

    /// When it is left, if it reads nothing until then.
    fn until(&self) -> Option<u64> {
        self.behind.map(|since| since + PATIENCE)
    }
}

impl Supervisor {
    /// Lets a client listen to a container from now on, and lends it the way to its input.
    pub(super) fn attach(&mut self, number: usize, client: &OwnedFd, container: &str, stdin: bool) -> Result<()> {
        let found = self.spec.find(container).and_then(|c| Some((c, self.instances[c.0].as_mut()?)));
        let Some((c, instance)) = found else {
            let why = format!("unable to upgrade connection: container {container} not found in pod {}_{}", self.ground.dir.name, self.ground.dir.namespace);
            return control::send(client, &Reply::Refused { why }, &[]);
        };
        let spec = container_of(&self.pod, c);
        let tty = spec.tty == Some(true);
        let terminal = instance.outputs.first().filter(|_| tty).map(|(_, terminal)| terminal.as_fd());
        let input = if tty { terminal.filter(|_| spec.stdin == Some(true)) } else { instance.stdin.as_ref().map(AsFd::as_fd) };
        let lent = stdin && input.is_some();
        let streams = if tty { &[Stream::Stdout][..] } else { &[Stream::Stdout, Stream::Stderr][..] };
        let (attached, ends) = match Attached::new(number, lent, streams) {
            Ok(made) => made,
            Err(error) => return control::send(client, &Reply::Refused { why: error.to_string() }, &[]),
        };
        // A terminal is lent for its size as well.
        let descriptors: Vec<BorrowedFd<'_>> = ends.iter().map(AsFd::as_fd).chain(if tty { terminal } else { input.filter(|_| lent) }).collect();
        control::send(client, &Reply::Attached { tty, stdin: lent }, &descriptors)?;
        instance.attached.push(attached);
        Ok(())
    }

    /// Reads one turn of an output.
    pub(super) fn pump(&mut self, c: C, stream: Stream) {
        let Some(instance) = &mut self.instances[c.0] else { return };
        let pumped = instance.pump(stream, Timestamp::now());
        if !instance.attached.is_empty() {
            self.settle(c);
        }
        self.complain_of(pumped.err());
    }

    /// Somebody reads again: it gets the rest.
    pub(super) fn make_room(&mut self, c: C) {
        if let Some(instance) = &mut self.instances[c.0] {
            instance.attached.iter_mut().for_each(Attached::flush);
            self.settle(c);
        }
    }

    /// When the next client is left that does not read.
    pub(super) fn patience(&self) -> Option<u64> {
        self.instances.iter().flatten().flat_map(|instance| &instance.attached).filter_map(Attached::until).min()
    }

    /// Leaves those who have not read for too long, and tells them so.
    pub(super) fn leave_late(&mut self) {
        let now = process::boot_millis();
        for c in (0..self.instances.len()).map(C) {
            let late = |listener: &Attached| listener.until().is_some_and(|until| until <= now);
            let Some(instance) = self.instances[c.0].as_mut().filter(|instance| instance.attached.iter().any(late)) else { continue };
            for listener in instance.attached.iter_mut().filter(|listener| late(listener)) {
                listener.gone = true;
                if let Some(Some(client)) = self.clients.get(listener.client) {
                    let why = format!("the output was not read for {} seconds, so the session was ended; the log has all of it", PATIENCE / 1000);
                    // Before its pipes are closed, so that it finds the reason when it finds their end.
                    let _ = control::send(client, &Reply::Refused { why }, &[]);
                }
            }
            self.settle(c);
        }
    }

    /// A client has closed its connection: what it listened to goes on without it.
    pub(super) fn detach(&mut self, client: usize) {
        self.end_input(client);
        self.await_no_more(client);
        for c in (0..self.instances.len()).map(C) {
            let Some(instance) = &mut self.instances[c.0] else { continue };
            let mut its = instance.attached.iter_mut().filter(|listener| listener.client == client).peekable();
            if its.peek().is_some() {
                its.for_each(|listener| listener.gone = true);
                self.settle(c);
            }
        }
    }

    /// stdinOnce: the input ends with the first who had it. A terminal has no end.
    pub(super) fn end_input(&mut self, client: usize) {
        for c in (0..self.instances.len()).map(C) {
            let once = container_of(&self.pod, c).stdin_once == Some(true);
            if let Some(instance) = self.instances[c.0].as_mut().filter(|_| once)
                && instance.attached.iter().any(|listener| listener.client == client && listener.stdin)
            {
                instance.stdin = None;
            }
        }
    }

    /// After any change: who has gone is forgotten, and an output is read unless somebody is behind on it.
    fn settle(&mut self, c: C) {
        let Some(instance) = &mut self.instances[c.0] else { return };
        instance.attached.iter().filter(|listener| listener.gone).for_each(|listener| {
            // Before they are closed: a child that is just being born may hold copies.
            listener.outputs.iter().for_each(|output| self.poll.remove(&output.pipe));
        });
        instance.attached.retain(|listener| !listener.gone);
        let watched = watch(&self.poll, c, instance);
        self.complain_of(watched.err());
    }
}

fn watch(poll: &Poll, c: C, instance: &Instance) -> Result<()> {
    for output in instance.attached.iter().flat_map(|listener| &listener.outputs) {
        poll.want(&output.pipe, Source::Room(c).token(), false, !output.rest.is_empty())?;
    }
    for (stream, output) in &instance.outputs {
        let waits = instance.attached.iter().any(|listener| listener.is_behind_on(*stream));
        poll.want(output, Source::Output(c, *stream).token(), !waits, false)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_gets_all_in_order_however_slowly_it_reads_and_is_behind_meanwhile() {
        let (mut listener, ends) = Attached::new(0, false, &[Stream::Stdout, Stream::Stderr]).unwrap();
        process::set_nonblocking(&ends[0]).unwrap();
        let said: Vec<u8> = (0..3 * ROOM).map(|n| (n % 251) as u8).collect();
        listener.give(Stream::Stdout, &said);
        assert!(listener.is_behind_on(Stream::Stdout) && !listener.is_behind_on(Stream::Stderr) && listener.until().is_some());
        let (mut heard, mut buffer) = (Vec::new(), vec![0; ROOM]);
        while heard.len() < said.len() {
            let n = tty::read(&ends[0], &mut buffer).unwrap();
            heard.extend_from_slice(&buffer[..n]);
            listener.flush();
        }
        assert!(heard == said, "what came is not what was said");
        assert!(listener.until().is_none() && !listener.gone);
    }

    #[test]
    fn a_listener_that_went_is_noticed_and_does_no_harm() {
        let (mut listener, ends) = Attached::new(0, false, &[Stream::Stdout]).unwrap();
        drop(ends);
        listener.give(Stream::Stdout, b"hello");
        assert!(listener.gone);
    }
}

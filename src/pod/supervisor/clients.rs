//! Those who ask: the owner of a foreground run, and whoever connects to the control socket.

use std::os::fd::{AsFd, OwnedFd};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Source, Supervisor, whole_seconds};
use crate::error::Result;
use crate::lifecycle::Event;
use crate::pod::control::{self, Reply, Request};
use crate::sys::socket;

impl Supervisor {
    pub(super) fn accept_client(&mut self) {
        match socket::accept(&self.listener) {
            // Asking is as much as being root in the pod; the directory keeps others out, and so do we.
            Ok(Some(client)) if socket::peer_uid(&client) == Ok(0) => {
                let number = self.clients.iter().position(Option::is_none).unwrap_or_else(|| {
                    self.clients.push(None);
                    self.clients.len() - 1
                });
                let watched = self.poll.add(&client, Source::Client(number).token());
                self.clients[number] = Some(client);
                self.complain_of(watched.err());
            }
            Ok(_) => {}
            Err(error) => self.complain_of(Some(error)),
        }
    }

    /// The owner may ask for a stop as a client may; that it has gone is a stop too.
    pub(super) fn hear_owner(&mut self) {
        let Some(owner) = self.owner.take() else { return };
        match control::receive::<Request>(&owner) {
            Ok(Some((Request::Stop { grace_seconds }, _))) => {
                self.owner = Some(owner);
                self.ask_stop(grace_seconds);
            }
            Ok(Some(_)) => self.owner = Some(owner),
            Ok(None) | Err(_) => self.ask_stop(None),
        }
    }

    pub(super) fn hear_client(&mut self, number: usize) {
        let Some(client) = self.clients[number].take() else { return };
        // Its question took memory as an action does.
        self.untrimmed = true;
        let answered = match control::receive::<Request>(&client) {
            Ok(Some((Request::Stop { grace_seconds }, _))) => {
                self.ask_stop(grace_seconds);
                control::send(&client, &Reply::Done {}, &[])
            }
            Ok(Some((Request::Exec { container }, _))) => self.lend(&client, &container),
            Ok(Some((Request::Attach { container, stdin }, _))) => self.attach(number, &client, &container, stdin),
            Ok(Some((Request::Debug { container, attach }, _))) => self.debug(number, &client, &container, attach),
            Ok(Some((Request::Resize { container, limits, requests }, _))) => {
                let answer = match self.resize(container.as_deref(), limits, requests) {
                    Ok(()) => Reply::Done {},
                    Err(error) => Reply::Refused { why: error.to_string() },
                };
                control::send(&client, &answer, &[])
            }
            Ok(Some((Request::EndInput {}, _))) => {
                self.end_input(number);
                control::send(&client, &Reply::Done {}, &[])
            }
            Ok(Some((Request::Network {}, _))) => self.lend_network(&client),
            Ok(None) => return self.detach(number),
            // Nothing was there after all.
            Err(error) if error.is(libc::EAGAIN) => Ok(()),
            Err(error) => control::send(&client, &Reply::Refused { why: error.to_string() }, &[]),
        };
        // A client that has gone meanwhile gets no answer, and its place is free again.
        match answered {
            Ok(()) => self.clients[number] = Some(client),
            Err(_) => self.detach(number),
        }
    }

    pub(super) fn ask_stop(&mut self, grace_seconds: Option<u64>) {
        self.removed_at_end = true;
        self.observe(Event::StopAsked { grace_seconds });
        if let Some(stop) = self.facts.stop {
            let seconds = i64::try_from(stop.until.saturating_sub(stop.at.mono) / 1000).unwrap_or(i64::MAX);
            self.pod.metadata.deletion_grace_period_seconds = Some(seconds);
            // A grace beyond the end of time gives the end of time.
            let at = Timestamp::from_millisecond(stop.at.wall).unwrap_or_default();
            let until = at.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
            self.pod.metadata.deletion_timestamp = Some(Time(whole_seconds(until)));
            self.unwritten = true;
        }
    }

    /// Gives a client what it needs to run a process in a container: its main process, its cgroups, its spec.
    pub(super) fn lend(&self, client: &OwnedFd, container: &str) -> Result<()> {
        let refused = |why: String| control::send(client, &Reply::Refused { why }, &[]);
        let Some(c) = self.spec.find(container) else { return refused(format!("container not found ({container:?})")) };
        let Some(instance) = &self.instances[c.0] else { return refused(format!("container not found ({container:?})")) };
        let limits = match instance.cgroup.join_files() {
            Ok(limits) => limits,
            Err(error) => return refused(error.to_string()),
        };
        let own = [instance.child.as_fd(), instance.cgroup.dir(), instance.spec.as_fd()];
        let descriptors: Vec<_> = own.into_iter().chain(limits.iter().map(AsFd::as_fd)).collect();
        control::send(client, &Reply::Running {}, &descriptors)
    }

    /// Gives a client the way into the pod's network namespace: the pause, which ends with it.
    fn lend_network(&self, client: &OwnedFd) -> Result<()> {
        match &self.sandbox {
            Some(sandbox) => control::send(client, &Reply::Network {}, &[sandbox.pause.as_fd()]),
            None => control::send(client, &Reply::Refused { why: "the pod has no network now".into() }, &[]),
        }
    }
}

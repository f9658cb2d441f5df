//! Ephemeral containers: added to the pod that lives, and told to whoever asked once they run.
//!
//! ```text
//! minipod debug ──▶ judged ──▶ into the Pod object ──▶ the engine says Start ──▶ spawned ──▶ attached, before a byte is read
//!                     └─▶ refused: nothing has changed              └──▶ failed: refused, but it stays in the pod
//! ```
//!
//! The answer waits for the start, so nothing of what the program writes can be lost between its start and the attaching.

use std::os::fd::OwnedFd;

use k8s_openapi::api::core::v1::EphemeralContainer;
use serde_json::Value;

use super::Supervisor;
use crate::error::{Error, Result};
use crate::lifecycle::{C, ContainerSpec, Event, Role, drain};
use crate::pod::control::{self, Reply};
use crate::pod::ground::{of_ephemeral, pod_spec};
use crate::pod::instance::must_pull;
use crate::sys::process::Child;

/// A client that added a container and waits for its start.
pub(super) struct Awaited {
    client: usize,
    c: C,
    attach: bool,
}

impl Supervisor {
    /// Adds an ephemeral container, or refuses it. The answer to the client follows with its start.
    pub(super) fn debug(&mut self, number: usize, client: &OwnedFd, container: &Value, attach: bool) -> Result<()> {
        match self.admit(container) {
            Ok(container) => {
                let c = self.add(container);
                self.awaited.push(Awaited { client: number, c, attach });
                Ok(())
            }
            Err(error) => control::send(client, &Reply::Refused { why: error.to_string() }, &[]),
        }
    }

    /// The container, if it may be added now. An added one can never be taken away again, so what cannot work is refused before.
    fn admit(&self, container: &Value) -> Result<EphemeralContainer> {
        let container: EphemeralContainer = crate::manifest::from_json(container).map_err(Error::said)?;
        let name = &container.name;
        if self.spec.find(name).is_some() {
            return Err(Error::said(format!("the pod has a container {name:?} already; an ephemeral container is never started again, so take another name")));
        }
        if self.facts.finished.is_some() || drain(&self.spec, &self.facts, super::now().mono).is_some_and(|drain| drain.ends) {
            return Err(Error::said("the pod is ending, nothing can be added to it any more"));
        }
        if let Some(target) = &container.target_container_name {
            let found = self.spec.find(target).filter(|c| self.spec.role(*c) != Role::Ephemeral);
            let c = found.ok_or_else(|| Error::said(format!("the target container {target:?} is not one of the pod's init or app containers")))?;
            if self.instances[c.0].is_none() {
                return Err(Error::said(format!("the target container {target:?} does not run now, so its processes cannot be joined")));
            }
        }
        must_pull(&self.ground.store, &of_ephemeral(&container))?;
        Ok(container)
    }

    fn add(&mut self, container: EphemeralContainer) -> C {
        self.spec.ephemerals.push(ContainerSpec::ephemeral(&container.name, container.image.as_deref().unwrap_or_default()));
        self.pod.spec.get_or_insert_default().ephemeral_containers.get_or_insert_default().push(container);
        self.unwritten = true;
        self.instances.push(None);
        self.observe(Event::EphemeralAdded);
        C(self.instances.len() - 1)
    }

    /// The main process of the container whose processes an ephemeral one wants to see.
    pub(super) fn target_of(&self, c: C) -> Result<Option<&Child>> {
        let ephemerals = pod_spec(&self.pod).ephemeral_containers.as_deref().unwrap_or_default();
        let asked = c.0.checked_sub(self.spec.containers.len()).and_then(|number| ephemerals[number].target_container_name.as_deref());
        let Some(target) = asked else { return Ok(None) };
        let instance = self.spec.find(target).and_then(|c| self.instances[c.0].as_ref());
        // Asked for again later, as it may come back.
        let missing = || Error::said(format!("unable to find target container {target:?}")).reason("CreateContainerConfigError");
        instance.map(|instance| Some(&instance.child)).ok_or_else(missing)
    }

    /// Tells those who wait for this start what came of it.
    pub(super) fn answer_awaiting(&mut self, event: &Event) {
        let (c, failure) = match event {
            Event::Spawned(c, _) => (*c, None),
            Event::StartFailed(c, failure) => (*c, Some(failure)),
            _ => return,
        };
        while let Some(at) = self.awaited.iter().position(|awaited| awaited.c == c) {
            let awaited = self.awaited.remove(at);
            let Some(client) = self.clients[awaited.client].take() else { continue };
            let container = super::container_of(&self.pod, c).into_owned();
            let answered = match failure {
                Some(failure) => {
                    let why = format!("container {} could not be started: {}: {}", container.name, failure.reason, failure.message);
                    control::send(&client, &Reply::Refused { why }, &[])
                }
                None if awaited.attach => self.attach(awaited.client, &client, &container.name, container.stdin == Some(true)),
                None => control::send(&client, &Reply::Done {}, &[]),
            };
            match answered {
                Ok(()) => self.clients[awaited.client] = Some(client),
                Err(_) => self.detach(awaited.client),
            }
        }
    }

    /// A client has gone; its container stays.
    pub(super) fn await_no_more(&mut self, client: usize) {
        self.awaited.retain(|awaited| awaited.client != client);
    }
}

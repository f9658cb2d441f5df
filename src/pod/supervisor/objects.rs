//! ConfigMaps, Secrets and claims come and change while a pod waits or runs: its volumes follow, its environment never does.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Volume;

use super::{Source, Supervisor, now, pod_spec};
use crate::error::Result;
use crate::lifecycle::Event;
use crate::pod::journal::Kind;
use crate::pod::objects::{Objects, asked_for, files};
use crate::sys::notify::Notify;
use crate::volume::{self, Payload};

impl Supervisor {
    /// Before the first look at them, so that no change is missed. Where it cannot be done, what waits is still tried again in time.
    pub(super) fn watch_objects(&mut self) {
        if !asked_for(pod_spec(&self.pod)) {
            return;
        }
        let watched = Notify::new().and_then(|notify| {
            Objects::new(&self.ground.places, &self.ground.dir.namespace).watch(&notify)?;
            self.poll.add(&notify, Source::Objects.token())?;
            Ok(notify)
        });
        match watched {
            Ok(notify) => self.objects = Some(notify),
            Err(error) => self.complain_of(Some(error.doing("watching ConfigMaps, Secrets and claims"))),
        }
    }

    /// The files of a volume that is made of some, as they should be now.
    pub(super) fn files_of(&self, volume: &Volume) -> Result<Payload> {
        let sources = Objects::new(&self.ground.places, &self.ground.dir.namespace);
        let token = |asked: &_| self.tokens.find(&self.ground.places.lib, &self.pod, asked, now());
        files::Origin { pod: &self.pod, sources: &sources, machine: self.ground.machine, token: &token }.files(volume)
    }

    /// Brings the volumes up to date, and lets what waits for an object look again. What has gone meanwhile stays in the volumes as it was.
    pub(super) fn hear_objects(&mut self) {
        let drained = self.objects.as_ref().map(Notify::drain);
        self.complain_of(drained.and_then(Result::err));
        self.update_volumes();
        self.untrimmed = true;
        self.observe(Event::LookAgain);
    }

    /// Gives the volumes other tokens, before those that they have expire.
    pub(super) fn renew_tokens(&mut self) {
        if self.tokens.expire(now().mono) {
            self.update_volumes();
            self.untrimmed = true;
        }
    }

    fn update_volumes(&mut self) {
        let mut failed = Vec::new();
        if let Some(volumes) = &self.volumes {
            for volume in pod_spec(&self.pod).volumes.iter().flatten().filter(|volume| volume::is_made(volume)) {
                let updated = self.files_of(volume).and_then(|files| volumes.update(&volume.name, &files));
                failed.extend(updated.err().map(|error| error.doing(format!("MountVolume.SetUp failed for volume {:?} ", volume.name))));
            }
        }
        for error in failed {
            self.journal.tell(Kind::Warning, "FailedMount", None, &error.to_string(), Timestamp::now());
        }
    }
}

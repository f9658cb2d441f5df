//! A pod in the foreground: changes of its status and what its containers write, until it has ended.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use anyhow::{Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::stage::{Stage, Subject, tell_reason};
use super::{DEADLINE, INIT_FAILED, already_exists};
use crate::cli::get::{Kind, row};
use crate::cli::table::harmless;
use crate::cli::why::{self, in_words};
use crate::cli::{logs, pods};
use crate::pod::dir::PodDir;
use crate::pod::places::Places;
use crate::pod::start::{self, Options, Refusal, Started};
use crate::pod::status;
use crate::sys::notify::Notify;

/// Runs a pod until it ends, and removes it; its exit code.
pub fn run(places: &Places, pod: Pod, options: &Options) -> Result<u8> {
    match start::start(places, pod, options) {
        Ok(Started { dir, pod, owner: Some(owner), .. }) => Foreground { places, dir, hinted: BTreeSet::new() }.watch(&pod, owner),
        Ok(_) => bail!("the supervisor gave no connection"),
        Err(Refusal::AlreadyExists(pod)) => Err(already_exists(Kind::Pod, &pod.metadata).into()),
        Err(Refusal::Failed(error)) => Err(error.into()),
    }
}

/// A pod that ends with us.
struct Foreground<'a> {
    places: &'a Places,
    dir: PodDir,
    /// The hints that were told: of which container (none: the pod), and which cause.
    hinted: BTreeSet<(Option<String>, &'static str)>,
}

impl Subject for Foreground<'_> {
    fn watch(&self, notify: &Notify) -> Result<()> {
        match notify.watch_dir(self.dir.path()) {
            // Its supervisor has died and somebody has cleaned up: the end is heard from the socket.
            Err(error) if error.is(libc::ENOENT) => Ok(()),
            watched => Ok(watched?),
        }
    }

    fn tell(&mut self, stage: &mut Stage) -> Result<()> {
        if let Some(known) = self.dir.read()? {
            let row = row(&known.pod, Timestamp::now());
            let is_new = stage.tell_status(&self.dir.name, format!("{}  {}", row.status, row.ready));
            if is_new && stage.stops == 0 && !status::is_finished(&known.pod) {
                self.tell_hints(&known.pod)?;
            }
        }
        stage.tell_warnings(&self.dir.name, &self.dir.events()?);
        Ok(())
    }
}

impl Foreground<'_> {
    fn watch(mut self, pod: &Pod, owner: OwnedFd) -> Result<u8> {
        let mut stage = Stage::new(&self.dir.name, owner, pod, false)?;
        let (places, dir) = (self.places, self.dir.clone());
        let look = || match dir.read()? {
            Some(known) => logs::all_instances(&pods::place(places, dir.clone(), known.pod)),
            None => Ok(Default::default()),
        };
        stage.show(&mut self, look)?;
        let code = match self.dir.read()? {
            Some(known) if status::is_finished(&known.pod) => self.exit_code(&known.pod)?,
            _ => {
                start::delete(self.places, &self.dir, None, true)?;
                bail!("the supervisor of pod {} ended unexpectedly, and the pod with it; it is cleaned up", self.dir.name);
            }
        };
        // Closing the socket is what makes the supervisor remove the pod.
        drop(stage);
        self.dir.wait_until_gone()?;
        Ok(code)
    }

    /// Each hint once, about what goes on and so might never come to an end.
    fn tell_hints(&mut self, pod: &Pod) -> Result<()> {
        for mut reason in self.reasons(pod)?.into_iter().filter(|reason| reason.goes_on) {
            let container = reason.container.clone();
            reason.hints.retain(|hint| self.hinted.insert((container.clone(), hint.cause)));
            if !reason.hints.is_empty() {
                tell_reason(&self.dir.name, &reason);
            }
        }
        Ok(())
    }

    fn reasons(&self, pod: &Pod) -> Result<Vec<why::Reason>> {
        Ok(why::reasons(pod, &self.dir.events()?, &pods::view(self.places, pod), Timestamp::now()))
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
        let ended = |statuses: Option<Vec<ContainerStatus>>| {
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
        reasons.iter().filter(|reason| code != 0 || !reason.hints.is_empty()).for_each(|reason| tell_reason(&self.dir.name, reason));
        Ok(code)
    }
}

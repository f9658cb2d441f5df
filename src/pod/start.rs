//! From a manifest to a supervised pod, and back to nothing.
//!
//! ```text
//! caller: claim the directory ─fork─▶ supervisor: session, mount namespace, ground, socket, first status
//!    ◀──────────── accepted, or refused with the reason and nothing left ─────────────┘
//! ```

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use rustix::fs::OFlags;

use super::admission::{self, Rejection};
use super::control::{self, Reply, Request};
use super::dir::{Claim, Dir, PodDir};
use super::ground::{CGROUP_PATIENCE, Ground, all_containers, pod_spec};
use super::image_volumes;
use super::instance::{leave_host, must_pull};
use super::objects::{claims, identity};
use super::places::Places;
use super::status;
use super::supervisor::{Desk, Supervisor};
use crate::cgroup::{self, Hierarchies};
use crate::container::log;
use crate::error::{Error, Result};
use crate::image::{Reference, Store};
use crate::network::Network;
use crate::sys::notify::Notify;
use crate::sys::process::Child;
use crate::sys::{file, process, removal, socket};

/// What the command line may say about how a pod is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Go on, with a warning, where the machine cannot enforce a limit.
    pub allow_unenforced: bool,
    /// The longest back-off (KEP 5593), in milliseconds.
    pub max_backoff_ms: Option<u64>,
    /// The pod lives as long as the owner's end of the returned socket is open.
    pub foreground: bool,
}

/// A pod that was accepted.
pub struct Started {
    pub dir: PodDir,
    pub pod: Pod,
    /// Its supervisor, a child of ours.
    pub supervisor: Child,
    /// With `foreground`: closing it stops and removes the pod; a message comes when the pod has ended.
    pub owner: Option<OwnedFd>,
}

/// Why a pod or a job was not started.
#[derive(Debug)]
pub enum Refusal<T> {
    /// One of this name is there.
    AlreadyExists(Box<T>),
    Failed(Error),
}

impl<T> From<Error> for Refusal<T> {
    fn from(error: Error) -> Refusal<T> {
        Refusal::Failed(error)
    }
}

/// Whether a pod that is there is what a manifest asks for.
pub fn is_same(known: &Pod, asked: &Pod) -> bool {
    let spec_but_node = |pod: &Pod| pod.spec.clone().map(|spec| PodSpec { node_name: None, ..spec });
    spec_but_node(known) == spec_but_node(asked) && known.metadata.labels == asked.metadata.labels && known.metadata.annotations == asked.metadata.annotations
}

/// Accepts a valid pod and starts its supervisor. What a dead supervisor of the same name left is cleaned up first.
pub fn start(places: &Places, mut pod: Pod, options: &Options) -> std::result::Result<Started, Refusal<Pod>> {
    identify(&mut pod)?;
    let dir = PodDir::new(places, pod.metadata.namespace.as_deref().unwrap_or("default"), pod.metadata.name.as_deref().unwrap_or_default());
    let Some(mut claim) = dir.claim()? else {
        let known = dir.read()?.map_or(pod, |known| known.pod);
        return Err(Refusal::AlreadyExists(Box::new(known)));
    };
    if let Some(left) = left_over(places, &dir)? {
        if let Some(pod) = left.pod.filter(status::is_finished) {
            return Err(Refusal::AlreadyExists(Box::new(pod)));
        }
        clear_leftovers(places, &dir, &left.uids)?;
        drop(claim);
        claim = dir.claim()?.ok_or_else(|| Error::said(format!("pod {:?} was taken by another run", dir.name)))?;
    }
    let (ours, theirs) = socket::pair()?;
    let supervisor = {
        let (places, dir, pod, options) = (places.clone(), dir.clone(), pod.clone(), options.clone());
        process::fork(move || supervise(&places, &dir, pod, claim, theirs, &options))?
    };
    match control::receive::<Reply>(&ours)? {
        Some((Reply::Done {}, _)) => Ok(Started { dir, pod, supervisor, owner: options.foreground.then_some(ours) }),
        Some((Reply::Refused { why }, _)) => {
            supervisor.wait()?;
            Err(Error::said(why).into())
        }
        _ => {
            let exit = supervisor.wait()?;
            Err(Error::said(format!("the supervisor ended before it had accepted the pod, with code {}", exit.code())).into())
        }
    }
}

/// The images that a pod's containers must pull before they start, those of their volumes too, each once. Errors: one that can never be had.
pub fn images_to_pull(store: &Store, pod: &Pod) -> Result<Vec<Reference>> {
    let mut references = Vec::new();
    for container in all_containers(pod_spec(pod)) {
        let volumes = image_volumes::as_containers(pod_spec(pod), container).into_iter().map(|(_, volume)| volume);
        for image in std::iter::once(container.clone()).chain(volumes) {
            references.extend(must_pull(store, &image).map_err(|e| e.container(&container.name))?);
        }
    }
    references.sort();
    references.dedup();
    Ok(references)
}

/// The most of generateName that a name takes over; five characters follow (`MaxGeneratedNameLength`).
pub(super) const LONGEST_PREFIX: usize = 58;

/// What the API server and the scheduler give a pod: uid, creation time, a name of its own for generateName, its node.
fn identify(pod: &mut Pod) -> Result<()> {
    identify_object(&mut pod.metadata)?;
    pod.spec.get_or_insert_default().node_name = Some(crate::sys::user::host_name());
    Ok(())
}

/// What the API server gives every object.
pub(super) fn identify_object(metadata: &mut ObjectMeta) -> Result<()> {
    metadata.uid = Some(identity::random()?);
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    metadata.creation_timestamp = Some(Time(now));
    metadata.generation = Some(1);
    if metadata.name.as_deref().unwrap_or_default().is_empty() {
        // apimachinery's names/generate.go: no vowels, nothing that looks like something else; 63 characters at most.
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let suffix: String = process::random_bytes::<5>()?.iter().map(|byte| LETTERS[usize::from(*byte) % LETTERS.len()] as char).collect();
        let prefix = metadata.generate_name.as_deref().unwrap_or_default();
        metadata.name = Some(format!("{}{suffix}", &prefix[..prefix.floor_char_boundary(LONGEST_PREFIX)]));
    }
    Ok(())
}

/// The supervisor's process, from its first moment.
fn supervise(places: &Places, dir: &PodDir, pod: Pod, claim: Claim, caller: OwnedFd, options: &Options) -> Result<Infallible> {
    process::close_others(3, &[claim.as_fd(), caller.as_fd()]);
    let judged = admission::judge(places, &pod);
    if let Ok(Some(rejection)) = &judged {
        return reject(rejection, dir, pod, &caller, options);
    }
    match judged.and_then(|_| prepare(places, dir, pod, claim, &caller, options)) {
        Ok(supervisor) => {
            let answered = control::send(&caller, &Reply::Done {}, &[]);
            // A caller that was killed meanwhile owns nothing any more; a foreground pod ends by itself when it looks.
            let _ = answered;
            drop(caller);
            supervisor.run();
            process::exit_now(0)
        }
        Err(error) => {
            let why = match error.hint() {
                Some(hint) => format!("{error}\nhint: {hint}"),
                None => error.to_string(),
            };
            // Before the answer: when the caller hears it, nothing is left.
            let _ = dir.remove();
            control::send(&caller, &Reply::Refused { why }, &[])?;
            process::exit_now(1)
        }
    }
}

/// The pod is there, has failed, and nothing looks after it. The owner of a foreground run reads that, then the pod goes.
fn reject(rejection: &Rejection, dir: &PodDir, pod: Pod, caller: &OwnedFd, options: &Options) -> Result<Infallible> {
    if let Err(error) = rejection.write(dir, pod) {
        let _ = dir.remove();
        control::send(caller, &Reply::Refused { why: error.to_string() }, &[])?;
        process::exit_now(1)
    }
    // Whoever does not listen any more owns nothing.
    let _ = control::send(caller, &Reply::Done {}, &[]);
    if options.foreground {
        let _ = control::send(caller, &Reply::Done {}, &[]);
        while matches!(control::receive::<Request>(caller), Ok(Some(_))) {}
        dir.remove()?;
    }
    process::exit_now(0)
}

fn prepare(places: &Places, dir: &PodDir, pod: Pod, claim: Claim, caller: &OwnedFd, options: &Options) -> Result<Supervisor> {
    process::set_name(c"minipod");
    process::new_session()?;
    claim.sign(dir)?;
    take_streams(dir, "supervisor.log")?;
    let host_mounts = leave_host()?;
    let desk = Desk::open(dir, options.foreground.then(|| file::duplicate(caller)).transpose()?)?;
    let (ground, unenforced) = Ground::prepare(places, dir, &pod, host_mounts, options.allow_unenforced)?;
    let mut supervisor = Supervisor::new(ground, pod, claim, desk, options.max_backoff_ms);
    unenforced.iter().for_each(|missing| supervisor.warn("Unenforced", &missing.to_string()));
    match supervisor.accept() {
        Ok(()) => Ok(supervisor),
        Err(error) => {
            supervisor.give_up();
            Err(error)
        }
    }
}

/// The caller's terminal is not ours: whoever waits for the end of its output would wait for us.
pub(super) fn take_streams(dir: &Dir, log: &str) -> Result<()> {
    let null = file::open("/dev/null", OFlags::RDWR)?;
    let log = file::open(dir.path().join(log), OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND)?;
    process::place_descriptor(&null, 0)?;
    process::place_descriptor(&null, 1)?;
    process::place_descriptor(&log, 2)
}

/// Asks for a pod to be stopped and removed, and waits until it is, if `wait`. None: there is no such pod.
pub fn delete(places: &Places, dir: &PodDir, grace_seconds: Option<u64>, wait: bool) -> Result<Option<()>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match control::ask(dir, &Request::Stop { grace_seconds })? {
            Some((Reply::Refused { why }, ..)) => return Err(Error::said(why)),
            Some((_, _, connection)) => {
                // It closes when the supervisor has ended.
                while wait && matches!(control::receive::<Reply>(&connection), Ok(Some(_))) {}
                return Ok(Some(()));
            }
            None => {}
        }
        // Nobody listens: it has finished, its supervisor died, or is on its way in or out.
        if left_over(places, dir)?.is_none() {
            return Ok(None);
        }
        if let Some(_claim) = dir.claim()? {
            if let Some(left) = left_over(places, dir)? {
                clear_leftovers(places, dir, &left.uids)?;
            }
            return Ok(Some(()));
        }
        if Instant::now() >= deadline {
            return Err(Error::said(format!("pod {:?} is being started or stopped for more than {} s; try again", dir.name, PATIENCE.as_secs())));
        }
        wait_for_change(dir)?;
    }
}

/// How long a supervisor may be on its way in or out.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until a socket comes or goes in a pod's directory; but a lock that is let go makes no event.
fn wait_for_change(dir: &PodDir) -> Result<()> {
    let notify = Notify::new()?;
    match notify.watch_dir(dir.path()) {
        Err(error) if error.is(libc::ENOENT) => Ok(()),
        watched => watched.and_then(|()| notify.wait(Some(Duration::from_millis(20)))).map(drop),
    }
}

/// What a pod that nobody looks after left.
struct LeftOver {
    /// None if it cannot be read any more.
    pod: Option<Pod>,
    uids: Vec<String>,
}

/// None: there is nothing. A pod whose object is damaged (the power failed) is told from others by the names of its logs.
fn left_over(places: &Places, dir: &PodDir) -> Result<Option<LeftOver>> {
    match dir.read() {
        Ok(known) => Ok(known.map(|known| LeftOver { uids: known.pod.metadata.uid.iter().cloned().collect(), pod: Some(known.pod) })),
        Err(_) => {
            let prefix = format!("{}_{}_", dir.namespace, dir.name);
            let names = std::fs::read_dir(places.log.join("pods")).into_iter().flatten().flatten().map(|entry| entry.file_name());
            let uids = names.filter_map(|name| Some(name.to_str()?.strip_prefix(&prefix)?.to_owned())).collect();
            Ok(Some(LeftOver { pod: None, uids }))
        }
    }
}

/// Removes what is left of a pod that nobody looks after: processes, cgroups, address, logs, directory.
fn clear_leftovers(places: &Places, dir: &PodDir, uids: &[String]) -> Result<()> {
    let hierarchies = Hierarchies::detect()?;
    let mut errors = Vec::new();
    for uid in uids {
        errors.extend(cgroup::clear_pod(&hierarchies, &places.cgroup, uid, CGROUP_PATIENCE));
        let logs = log::pod_dir(&places.log.join("pods"), &dir.namespace, &dir.name, uid)?;
        errors.extend(removal::remove_tree(&logs).err());
        errors.extend(claims::forget_owned(places, &dir.namespace, uid));
    }
    errors.extend(cgroup::remove_base(&hierarchies, &places.cgroup).err());
    let network = Network::open(&places.run, places.pod_range.parse()?)?;
    let alive = |name: &crate::network::PodName| !uids.contains(&name.uid) && PodDir::new(places, &name.namespace, &name.name).is_supervised();
    errors.extend(network.reclaim(&alive).err());
    errors.extend(dir.remove().err());
    errors.into_iter().next().map_or(Ok(()), |first| Err(first.doing(format!("cleaning up what is left of pod {}", dir.name))))
}

//! `minipod logs`: what containers wrote, while they run and after.
//!
//! Three choices, each with kubectl's or the kubelet's words when it cannot be made:
//!
//! ```text
//! container   -c, or the annotation kubectl.kubernetes.io/default-container, or the first   (choose)
//! instance    running or ended: that one; waiting: the one before; -p: the one before       (instance)
//! lines       --tail, --since, --limit-bytes; -f: until the instance ends                   (print)
//! ```

pub mod follow;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use self::follow::{Follower, From, Instance, Sight, Step};
use super::duration;
use super::get::{Kind, Refusal, Selector, read_pod};
use crate::container::log::{self, Line};
use crate::sys::notify::Notify;

/// Print what a container of a pod wrote.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  minipod logs web                    the first container of the pod, from the beginning
  minipod logs web -c init-db         a certain container, init containers too
  minipod logs web -p                 the run before this one: why did it crash?
  minipod logs web -f --tail 10       the last ten lines, and what follows
  minipod logs web --all-containers --prefix --since 5m
  minipod logs job/pi                 a pod of the job: one that runs, or else the newest")]
pub struct LogsArgs {
    /// The pod, as NAME or pod/NAME; or job/NAME for a pod of a job
    #[arg(value_name = "POD", required_unless_present = "selector")]
    pub pod: Option<String>,
    /// The container (as -c)
    #[arg(value_name = "CONTAINER")]
    pub inline_container: Option<String>,
    /// Print the logs of this container
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Go on with what is written from now on, until the container stops
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", default_value_t, hide_default_value = true, hide_possible_values = true)]
    pub follow: bool,
    /// Print the logs of the previous run of the container
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", default_value_t, hide_default_value = true, hide_possible_values = true)]
    pub previous: bool,
    /// Print only so many lines from the end; -1 means all, the default (10 with --selector)
    #[arg(long, value_name = "LINES", allow_negative_numbers = true)]
    pub tail: Option<i64>,
    /// Print only what is newer than this: 5s, 2m, 3h
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Print only what was written at this time (RFC 3339) or later
    #[arg(long, value_name = "TIME")]
    pub since_time: Option<String>,
    /// Put the time before each line
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", default_value_t, hide_default_value = true, hide_possible_values = true)]
    pub timestamps: bool,
    /// Print at most so many bytes of each container
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub limit_bytes: Option<i64>,
    /// Print the logs of all containers of the pod
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", default_value_t, hide_default_value = true, hide_possible_values = true)]
    pub all_containers: bool,
    /// Put [pod/NAME/CONTAINER] before each line
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", default_value_t, hide_default_value = true, hide_possible_values = true)]
    pub prefix: bool,
    /// Go on with the other containers when one cannot be read
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", default_value_t, hide_default_value = true, hide_possible_values = true)]
    pub ignore_errors: bool,
    /// The pods with these labels, instead of one by its name
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// With -f: follow at most so many containers at once
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    pub max_log_requests: usize,
    /// The namespace of the pod
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
}

/// A pod, and where it is on disk.
#[derive(Debug, Clone)]
pub struct Place {
    pub pod: Pod,
    /// The directory that holds its `pod.json`.
    pub state: PathBuf,
    /// The directory of all pods' logs (`log/pods`).
    pub logs: PathBuf,
}

impl Place {
    fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// The log of an instance, whether it is there or not.
    pub fn log(&self, container: &str, number: u32) -> crate::error::Result<PathBuf> {
        let metadata = &self.pod.metadata;
        let dir = log::pod_dir(&self.logs, metadata.namespace.as_deref().unwrap_or("default"), self.name(), metadata.uid.as_deref().unwrap_or_default())?;
        log::file(&dir, container, number)
    }
}

/// The names of a pod's containers with their kinds, as kubectl lists them.
pub fn container_names(pod: &Pod) -> String {
    let Some(spec) = &pod.spec else { return String::new() };
    let apps = spec.containers.iter().map(|container| container.name.clone());
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| format!("{} (ephem)", container.name));
    let inits = spec.init_containers.iter().flatten().map(|container| format!("{} (init)", container.name));
    apps.chain(ephemeral).chain(inits).collect::<Vec<_>>().join(", ")
}

/// The names of all containers, in the order in which their logs are printed.
pub fn in_order(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let inits = spec.init_containers.iter().flatten().map(|container| container.name.clone());
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| container.name.clone());
    inits.chain(spec.containers.iter().map(|container| container.name.clone())).chain(ephemeral).collect()
}

/// The container that is meant, and what is to be noted on standard error (with its newline) if it was not named. The
/// rule of `logs`, `exec`, `attach` and `cp` (`podcmd` and `logsforobject.go` of kubectl).
pub fn choose(pod: &Pod, named: Option<&str>) -> Result<(String, String), Refusal> {
    let names = in_order(pod);
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let mut note = String::new();
    let annotation = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get("kubectl.kubernetes.io/default-container"));
    let annotated = annotation.filter(|name| named.is_none() && !name.is_empty());
    if let Some(name) = annotated.filter(|name| !names.contains(name)) {
        note = format!("Default container name {name:?} not found in pod {pod_name}\n");
    }
    let known = annotated.filter(|name| names.contains(name)).map(String::as_str);
    if let Some(name) = named.or(known) {
        return match names.iter().any(|known| known == name) {
            true => Ok((name.to_owned(), note)),
            false => Err(Refusal::client(format!("container {name} is not valid for pod {pod_name} out of: {}", container_names(pod)))),
        };
    }
    let first = pod.spec.as_ref().and_then(|spec| spec.containers.first()).map(|container| container.name.clone());
    let first = first.ok_or_else(|| Refusal::client(format!("pod {pod_name} has no containers")))?;
    if names.len() > 1 {
        note += &format!("Defaulted container {first:?} out of: {}\n", container_names(pod));
    }
    Ok((first, note))
}

/// The status of a container of any kind.
pub fn status_of<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    all.into_iter().flat_map(|list| list.iter().flatten()).find(|status| status.name == container)
}

/// Which run of a container has the logs that are asked for, and whether it still runs (`validateContainerLogStatus` of
/// the kubelet). `exists` tells whether the log of a run is there: a run that failed before it began has none.
pub fn instance(pod: &Pod, container: &str, previous: bool, exists: impl Fn(u32) -> bool) -> Result<(u32, bool), Refusal> {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let refuse = |what: String| Err(Refusal::bad_request(what));
    let Some(status) = status_of(pod, container) else {
        return refuse(format!("container {container:?} in pod {pod_name:?} is not available"));
    };
    let state = status.state.clone().unwrap_or_default();
    let ended_before = status.last_state.as_ref().is_some_and(|last| last.terminated.is_some());
    let now = u32::try_from(status.restart_count).unwrap_or_default();
    // While a container waits to be started again, the count is still that of the run that ended.
    let before = if state.running.is_some() || state.terminated.is_some() { now.checked_sub(1) } else { Some(now) };
    let before = before.filter(|_| ended_before);
    if previous {
        return match before {
            Some(number) => Ok((number, false)),
            None => refuse(format!("previous terminated container {container:?} in pod {pod_name:?} not found")),
        };
    }
    if state.running.is_some() {
        return Ok((now, true));
    }
    if state.terminated.is_some() && exists(now) {
        return Ok((now, false));
    }
    if let Some(number) = before.filter(|number| state.terminated.is_none() || exists(*number)) {
        return Ok((number, false));
    }
    if state.terminated.is_some() {
        return refuse(format!("container {container:?} in pod {pod_name:?} is terminated"));
    }
    let Some(waiting) = state.waiting else {
        return refuse(format!("container {container:?} in pod {pod_name:?} is waiting to start - no logs yet"));
    };
    let why = match waiting.reason.as_deref().unwrap_or_default() {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        reason => reason,
    };
    refuse(format!("container {container:?} in pod {pod_name:?} is waiting to start: {why}"))
}

/// The options after all of them were checked together.
#[derive(Debug, Clone)]
struct Wanted<'a> {
    args: &'a LogsArgs,
    container: Option<&'a str>,
    from: From,
    limit: Option<u64>,
}

impl LogsArgs {
    /// The pod or job that is meant; none with a selector.
    pub fn named(&self) -> Result<Option<(Kind, &str)>, Refusal> {
        match self.pod.as_deref() {
            Some(_) if self.selector.is_some() => Err(Refusal::client("only a selector (-l) or a POD name is allowed")),
            Some(name) => match name.split_once('/').map(|(word, name)| (Kind::of(word), name)) {
                None => Ok(Some((Kind::Pod, name))),
                Some((Some(kind), name)) => Ok(Some((kind, name))),
                Some(_) => Err(Refusal::client(format!("there is no {name:?} here: name a pod as NAME or pod/NAME, a job as job/NAME"))),
            },
            None => Ok(None),
        }
    }

    /// The selector of `-l`; it takes everything without.
    pub fn selector(&self) -> Result<Selector, Refusal> {
        Selector::parse(self.selector.as_deref().unwrap_or_default())
    }

    fn wanted(&self, now: Timestamp) -> Result<Wanted<'_>, Refusal> {
        let refuse = |what: &str| Err(Refusal::client(what));
        if self.since_time.is_some() && self.since.is_some() {
            return refuse("at most one of `sinceTime` or `sinceSeconds` may be specified");
        }
        let container = self.container.as_deref().or(self.inline_container.as_deref());
        if let Some(name) = container.filter(|_| self.all_containers) {
            return refuse(&format!("--all-containers=true should not be specified with container name {name}"));
        }
        if self.container.is_some() && self.inline_container.is_some() {
            return refuse("only one of -c or an inline [CONTAINER] arg is allowed");
        }
        if self.limit_bytes.is_some_and(|limit| limit < 0) {
            return refuse("--limit-bytes must be greater than 0");
        }
        let mut since = None;
        if let Some(text) = &self.since {
            let Some(ago) = duration::parse(text) else { return refuse(&format!("--since: {text:?} is no duration like 5s, 2m or 1h30m")) };
            if ago.is_negative() {
                return refuse("--since must be greater than 0");
            }
            // As upstream, in whole seconds; zero is no limit.
            let seconds = (ago.as_millis() + 500) / 1000;
            let start = || now.checked_sub(jiff::SignedDuration::from_secs(i64::try_from(seconds).ok()?)).ok();
            since = (seconds > 0).then(start).flatten();
        }
        if let Some(text) = &self.since_time {
            let Ok(time) = text.parse() else { return refuse(&format!("--since-time: {text:?} is no time like 2026-03-07T09:05:00Z")) };
            since = Some(time);
        }
        let tail = match self.tail {
            Some(..-1) => return refuse("--tail must be greater than or equal to -1"),
            None if self.selector.is_some() => Some(10),
            tail => tail.and_then(|tail| u64::try_from(tail).ok()),
        };
        let limit = self.limit_bytes.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
        Ok(Wanted { args: self, container, from: From { tail, since }, limit })
    }

    /// Prints the logs of these pods to `out`, and notes to `notes`. With `-f` it returns when all containers have stopped.
    pub fn print(&self, places: &[Place], now: Timestamp, out: &mut dyn Write, notes: &mut dyn Write) -> anyhow::Result<()> {
        let wanted = self.wanted(now)?;
        let mut instances = Vec::new();
        for place in places {
            let containers = if self.all_containers {
                in_order(&place.pod)
            } else {
                let (container, note) = choose(&place.pod, wanted.container)?;
                notes.write_all(note.as_bytes())?;
                vec![container]
            };
            instances.extend(containers.into_iter().map(|container| (place, container)));
        }
        if self.follow && instances.len() > self.max_log_requests.max(1) {
            return Err(Refusal::client(format!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use --max-log-requests to increase the limit",
                instances.len(),
                self.max_log_requests
            ))
            .into());
        }
        match wanted.print(&instances, out, notes) {
            // The reader of our output has gone (`| head`): that is no failure of ours.
            Err(error) if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) => Ok(()),
            printed => printed,
        }
    }
}

impl Wanted<'_> {
    fn print(&self, containers: &[(&Place, String)], out: &mut dyn Write, notes: &mut dyn Write) -> anyhow::Result<()> {
        let mut found = Vec::new();
        for (place, container) in containers {
            match self.instance(place, container) {
                Ok(instance) => found.push((*place, instance)),
                Err(error) if self.args.ignore_errors => writeln!(notes, "error: {error}")?,
                Err(error) => {
                    // What comes before it is printed first, as upstream does.
                    self.all(&found, out, notes)?;
                    return Err(error);
                }
            }
        }
        self.all(&found, out, notes)
    }

    fn instance(&self, place: &Place, container: &str) -> anyhow::Result<Instance> {
        let exists = |number| place.log(container, number).is_ok_and(|path| path.exists());
        let (number, running) = instance(&place.pod, container, self.args.previous, exists)?;
        let path = place.log(container, number)?;
        Ok(Instance { pod: place.name().to_owned(), container: container.to_owned(), number, path, running: running && self.args.follow })
    }

    /// Following, all at once; else one after another.
    fn all(&self, instances: &[(&Place, Instance)], out: &mut dyn Write, notes: &mut dyn Write) -> anyhow::Result<()> {
        if self.args.follow {
            return self.some(instances, out, notes);
        }
        instances.chunks(1).try_for_each(|one| self.some(one, out, notes))
    }

    fn some(&self, instances: &[(&Place, Instance)], out: &mut dyn Write, notes: &mut dyn Write) -> anyhow::Result<()> {
        let notify = Notify::new()?;
        for (place, _) in instances.iter().filter(|(_, instance)| instance.running) {
            match notify.watch_dir(&place.state) {
                // The pod has gone in between: the first look will find that nothing runs.
                Err(error) if error.is(libc::ENOENT) => {}
                watched => watched?,
            }
        }
        let look = || {
            let instances = instances.iter().map(|(place, instance)| {
                let running = instance.running && still_runs(place, instance)?;
                Ok(Instance { running, ..instance.clone() })
            });
            Ok(Sight { instances: instances.collect::<crate::error::Result<_>>()?, complete: true })
        };
        let mut follower = Follower::new(notify, self.from, look);
        let mut left: BTreeMap<(String, String), u64> = BTreeMap::new();
        loop {
            let full = match follower.step()? {
                Step::End => break,
                Step::Wait => {
                    out.flush()?;
                    follower.wait()?;
                    continue;
                }
                Step::Line(instance, line) => match self.limit {
                    None => self.line(instance, line, &mut { u64::MAX }, out).map(|()| None)?,
                    Some(limit) => {
                        let key = (instance.pod.clone(), instance.container.clone());
                        let left = left.entry(key.clone()).or_insert(limit);
                        self.line(instance, line, left, out)?;
                        (*left == 0).then_some(key)
                    }
                },
            };
            if let Some((pod, container)) = full {
                follower.leave(&pod, &container);
            }
        }
        out.flush()?;
        if follower.garbage > 0 {
            writeln!(notes, "note: {} lines of the log are not in its format and were left out", follower.garbage)?;
        }
        Ok(())
    }

    /// One line, cut to the bytes that are left of its container's limit. The prefix does not count.
    fn line(&self, instance: &Instance, line: Line<'_>, left: &mut u64, out: &mut dyn Write) -> io::Result<()> {
        if self.args.prefix && line.begins {
            write!(out, "[pod/{}/{}] ", instance.pod, instance.container)?;
        }
        let time = if self.args.timestamps && line.begins { format!("{:.9} ", line.time) } else { String::new() };
        for piece in [time.as_bytes(), line.content, if line.ends { b"\n" } else { b"" }] {
            let length = piece.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            out.write_all(&piece[..length])?;
            *left -= length as u64;
        }
        Ok(())
    }
}

/// Whether a run is still the one that runs, by the pod's file. A pod that is gone, or another of its name, runs nothing of it.
fn still_runs(place: &Place, instance: &Instance) -> crate::error::Result<bool> {
    let Some(pod) = read_pod(&place.state.join("pod.json"))?.filter(|pod| pod.metadata.uid == place.pod.metadata.uid) else { return Ok(false) };
    let status = status_of(&pod, &instance.container);
    Ok(status.is_some_and(|status| {
        let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
        running && u32::try_from(status.restart_count) == Ok(instance.number)
    }))
}

/// All runs of all containers that have begun, for one who follows the whole pod; complete once its phase is final.
pub fn all_instances(place: &Place) -> crate::error::Result<Sight> {
    let mut instances = Vec::new();
    for container in in_order(&place.pod) {
        let Some(status) = status_of(&place.pod, &container) else { continue };
        let state = status.state.clone().unwrap_or_default();
        let ended = status.last_state.as_ref().is_some_and(|last| last.terminated.is_some());
        if state.running.is_none() && state.terminated.is_none() && !ended {
            continue;
        }
        let last = u32::try_from(status.restart_count).unwrap_or_default();
        for number in 0..=last {
            let path = place.log(&container, number)?;
            let running = number == last && state.running.is_some();
            instances.push(Instance { pod: place.name().to_owned(), container: container.clone(), number, path, running });
        }
    }
    let phase = place.pod.status.as_ref().and_then(|status| status.phase.as_deref());
    Ok(Sight { instances, complete: matches!(phase, Some("Succeeded" | "Failed")) })
}

//! One start of one container: image, user, mounts, cgroup, plan, process; its output until it ends; its last words.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use oci_spec::runtime::Process;

use super::attempt;
use super::compose::Whole;
use super::ground::{CGROUP_PATIENCE, Ground, pod_spec};
use super::handler;
use super::image_volumes;
use super::objects::environment::Origin;
use super::objects::{Objects, env_file};
use super::sandbox::{Sandbox, hostname};
use super::supervisor::attached::Attached;
use super::users::Users;
use crate::cgroup::{self, Cgroup, Limits, Unenforced};
use crate::container::launch::{self, Begun, launch};
use crate::container::log::{self, LogFile, Records, Stream};
use crate::container::plan::{self, Plan};
use crate::container::seccomp::Filter;
use crate::container::step::Hands;
use crate::error::{Error, Result};
use crate::image::{Image, Reference, Store};
use crate::lifecycle::{Ended, FailedAt, Failure, Ids};
use crate::sys::process::{self, Child, Exit};
use crate::sys::{file, mount, removal, socket, tty};
use crate::volume::Volumes;

/// A container's main process, and what it writes.
pub struct Instance {
    pub child: Child,
    pub cgroup: Cgroup,
    /// What is left to read; an ended stream is gone.
    pub outputs: Outputs,
    pub log: LogFile,
    pub log_path: PathBuf,
    /// The first step of its end.
    pub stop_signal: i32,
    /// The container's OCI runtime spec as it was started, for `exec`: sealed, in memory.
    pub spec: OwnedFd,
    /// What it wrote to its root is lost with it; the next start begins with the image again. Whoever reaps it removes this, when there is time.
    pub directory: PathBuf,
    /// What a further process in it starts from; kept only where probes or hooks will ask for one.
    process: Option<Box<Further>>,
    /// As long as it is open, nobody removes the image's layers.
    _image: OwnedFd,
    /// As long as it is open, the program's standard input has not ended. A terminal is its own input.
    pub stdin: Option<OwnedFd>,
    /// What of the machine it may use now; a resize changes it.
    pub resources: Option<ResourceRequirements>,
    pub limits: Limits,
    /// Who listens beside the log.
    pub attached: Vec<Attached>,
}

/// What a further process takes over from the main one: all but its command, the root of its user namespace, and the seccomp filter.
type Further = (Process, Option<u32>, Option<Filter>);
/// What a container writes, while it does.
type Outputs = Vec<(Stream, OwnedFd)>;
/// The most that is read from one stream before the others get their turn.
const TURN: usize = 64 * 1024;
/// fs.pipe-max-size as it is unless root changes it.
const LARGEST_PIPE: usize = 1 << 20;
/// §24.
const MESSAGE_BYTES: u64 = 4096;
const LOG_MESSAGE_LINES: u64 = 80;
const LOG_MESSAGE_BYTES: usize = 2048;

/// Whether a container's image must be asked for at its registry before a start, by its pull policy; that name then. An image that was
/// imported by hand is what its name means on this machine, also under Always, which asks only for what came from a registry.
pub fn must_pull(store: &Store, container: &Container) -> Result<Option<Reference>> {
    let (reference, found) = look_for_image(store, container)?;
    let present = found.is_some_and(|image| !image.pulled || container.image_pull_policy.as_deref() != Some("Always"));
    Ok(if present { None } else { Some(reference) })
}

/// The image of a container in the store.
pub fn find_image(store: &Store, container: &Container) -> Result<Image> {
    let (_, found) = look_for_image(store, container)?;
    let name = container.image.as_deref().unwrap_or_default();
    let missing = || Error::said(format!("image {name:?} is not in the store; `minipod image pull` or `minipod image import` brings it in"));
    found.ok_or_else(|| missing().reason("ErrImagePull"))
}

/// What a container's image is called, and what the store has under that name. Nothing is an error if it must not be pulled.
fn look_for_image(store: &Store, container: &Container) -> Result<(Reference, Option<Image>)> {
    let name = container.image.as_deref().unwrap_or_default();
    let reference = Reference::parse(name).map_err(|e| e.reason("InvalidImageName"))?;
    let found = store.find(&reference)?;
    if found.is_none() && container.image_pull_policy.as_deref() == Some("Never") {
        return Err(Error::said(format!("Container image {name:?} is not present with pull policy of Never")).reason("ErrImageNeverPull"));
    }
    Ok((reference, found))
}

/// What a start of a container needs of its pod.
pub struct Home<'a> {
    pub ground: &'a Ground,
    pub sandbox: &'a Sandbox,
    pub volumes: &'a Volumes,
    pub pod: &'a Pod,
}

/// Where a failed start failed is told by its reason (§10).
pub fn failure_of(error: &Error) -> Failure {
    let reason = error.reason.unwrap_or("RunContainerError");
    let at = match reason {
        "ErrImagePull" | "ErrImageNeverPull" | "InvalidImageName" | "ImageInspectError" => FailedAt::Image,
        "CreateContainerConfigError" | "CreateContainerError" => FailedAt::Config,
        _ => FailedAt::Run,
    };
    Failure { at, reason: reason.to_owned(), message: error.to_string(), image: None }
}

/// What asks a container to end (KEP 4960): `lifecycle.stopSignal`, else its image's STOPSIGNAL, else SIGTERM.
fn stop_signal(container: &Container, image: &Image) -> i32 {
    let of_container = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    [of_container, image.stop_signal.as_deref()].into_iter().flatten().find_map(process::signal_number).unwrap_or(libc::SIGTERM)
}

/// Starts a container, in the PID namespace of `target` if there is one. `restart` is its restart count and names its log, and `spare`
/// a directory that an earlier start has left. What of its limits could not be set is told beside it.
pub fn start(home: &Home<'_>, container: &Container, target: Option<&Child>, restart: u32, spare: Option<&Path>) -> Result<(Instance, Ids, Vec<Unenforced>)> {
    let ground = home.ground;
    let image = find_image(&ground.store, container)?;
    let hold = ground.store.hold(&image)?;
    image_volumes::show(ground, home.pod, container)?;
    let stop_signal = stop_signal(container, &image);
    let ids = Ids {
        image: image.reference.to_string(),
        image_id: image.image_id(),
        container_id: format!("minipod://{}", random_id()?),
        stop_signal: process::signal_name(stop_signal),
    };
    let directory = ground.attempt(&container.name, restart);
    attempt::furnish(ground, &directory, spare)?;
    let log_path = log::file(&ground.logs, &container.name, restart)?;
    let log = LogFile::open(&log_path)?;
    // As the kubelet: the run before is kept for `logs -p`, older ones are not.
    if let Some(old) = restart.checked_sub(2) {
        log::rotation::remove(&log::file(&ground.logs, &container.name, old)?);
    }
    let limits = cgroup::limits::of_container(pod_spec(home.pod), container);
    let (own_cgroup, unenforced) = ground.cgroup.container(&container.name, restart, &limits)?;
    match launch_in(home, container, target, &image, &directory, &own_cgroup) {
        Ok((Launched { child, outputs, stdin }, spec, process)) => {
            let process = handler::executes(container).then(|| process.map(Box::new)).flatten();
            let attached = Vec::new();
            let resources = container.resources.clone();
            let instance = Instance {
                child,
                cgroup: own_cgroup,
                outputs,
                log,
                log_path,
                stop_signal,
                spec,
                directory,
                process,
                _image: hold,
                stdin,
                resources,
                limits,
                attached,
            };
            Ok((instance, ids, unenforced))
        }
        Err(error) => {
            own_cgroup.remove(CGROUP_PATIENCE);
            // The end of the pod removes what cannot be removed now.
            let _ = removal::remove_tree(&directory);
            Err(error)
        }
    }
}

/// Composes the plan, keeps the spec for `exec`, and walks the plan in the container's cgroup.
fn launch_in(
    home: &Home<'_>,
    container: &Container,
    target: Option<&Child>,
    image: &Image,
    directory: &Path,
    own_cgroup: &Cgroup,
) -> Result<(Launched, OwnedFd, Option<Further>)> {
    let ground = home.ground;
    ground.hold_to_devices(container, own_cgroup)?;
    let join_files = own_cgroup.join_files()?;
    let origin = Origin {
        pod: home.pod,
        sources: &Objects::new(&ground.places, &ground.dir.namespace),
        machine: ground.machine,
        file: &|asked| env_file::read(home.volumes.source(&asked.volume_name)?, &asked.path),
    };
    let whole = Whole {
        pod: home.pod,
        origin: &origin,
        container,
        image,
        mount_points: &ground.store.mount_points()?,
        scene: &ground.scene(),
        attempt: directory,
        hostname: &hostname(ground, home.pod),
        volumes: &|name| home.volumes.source(name).map(Path::to_owned),
        pause: Some(home.sandbox.pause.pid),
        target: target.map(|target| target.pid),
        users: ground.users.as_ref().map(|users| users.first),
        cgroup: own_cgroup.path(),
        cgroup_mount: ground.hierarchies.unified(),
        limited: !join_files.is_empty(),
        node_memory: ground.machine.memory,
        seccomp: &ground.places.seccomp(),
    };
    let (spec, plan) = whole.compose()?;
    let text = serde_json::to_vec(&spec).map_err(|e| Error::said(format!("the OCI runtime spec: {e}")))?;
    let kept = process::sealed_file("config.json", &text)?;
    let launched = launch_with_streams(&plan, home, target, own_cgroup, &join_files, container)?;
    Ok((launched, kept, spec.process().clone().map(|process| (process, plan::host_root(&spec), plan.filter().cloned()))))
}

/// 64 hexadecimal digits, as every runtime's ids.
fn random_id() -> Result<String> {
    Ok(process::random_bytes::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A process and our ends of its streams.
struct Launched {
    child: Child,
    outputs: Outputs,
    stdin: Option<OwnedFd>,
}

/// stdout and stderr are a pipe each, or one terminal. stdin is /dev/null; with `stdin: true` a pipe that nobody has written to yet, so
/// that the program waits for it as it does in a cluster until somebody attaches.
fn launch_with_streams(plan: &Plan, home: &Home<'_>, target: Option<&Child>, cgroup: &Cgroup, limits: &[OwnedFd], container: &Container) -> Result<Launched> {
    let users = home.ground.users.as_ref().map(Users::namespace);
    let hands = Hands { holder: Some(home.sandbox.pause.as_fd()), pid_holder: target.map(AsFd::as_fd), users, limits, ..Default::default() };
    let launched = if container.tty == Some(true) {
        let (ours, theirs) = socket::pair()?;
        let child = launch(plan, &Hands { terminal: Some(theirs.as_fd()), ..hands }, Some(cgroup.dir()))?;
        // Without our copy of its end, a child that was killed before it had sent the terminal ends the waiting.
        drop(theirs);
        let Some(end) = socket::receive(&ours)?.1.pop() else {
            child.signal(libc::SIGKILL)?;
            child.wait()?;
            return Err(Error::said("the container's terminal did not arrive"));
        };
        Launched { child, outputs: vec![(Stream::Stdout, end)], stdin: None }
    } else {
        let ((out, out_in), (err, err_in)) = (process::pipe()?, process::pipe()?);
        let (input, stdin) = match container.stdin {
            Some(true) => process::pipe().map(|(input, ours)| (Some(input), Some(ours)))?,
            _ => (None, None),
        };
        let streams = [input.as_ref().map(AsFd::as_fd), Some(out_in.as_fd()), Some(err_in.as_fd())];
        let child = launch(plan, &Hands { streams, ..hands }, Some(cgroup.dir()))?;
        Launched { child, outputs: vec![(Stream::Stdout, out), (Stream::Stderr, err)], stdin }
    };
    launched.outputs.iter().try_for_each(|(_, output)| process::set_nonblocking(output))?;
    Ok(launched)
}

impl Instance {
    /// Begins a further process in the container, as `exec` does; what it says on stdout and stderr goes to `output`. Its plan comes with
    /// it: whoever wants to know why it failed needs both.
    pub fn begin(&self, command: &[String], output: BorrowedFd<'_>) -> Result<(Plan, Begun)> {
        let (mut process, users, filter) = self.process.as_deref().cloned().ok_or_else(|| Error::said("the container's process is not known"))?;
        process.set_args(Some(command.to_vec())).set_terminal(Some(false));
        let limits = self.cgroup.join_files()?;
        let plan = plan::compile_exec(&process, users, filter.as_ref(), !limits.is_empty())?;
        let hands = Hands { holder: Some(self.child.as_fd()), streams: [None, Some(output), Some(output)], limits: &limits, ..Default::default() };
        let begun = launch::begin(&plan, &hands, Some(self.cgroup.dir()))?;
        Ok((plan, begun))
    }

    /// Reads what a stream has for one turn and logs it. False: the stream has ended and is gone.
    pub fn pump(&mut self, stream: Stream, now: Timestamp) -> Result<bool> {
        let Some(at) = self.outputs.iter().position(|(of, _)| *of == stream) else { return Ok(false) };
        let mut buffer = [0; TURN];
        match tty::read(&self.outputs[at].1, &mut buffer) {
            Ok(0) => {
                self.outputs.remove(at);
                self.log.end(stream, now).map(|()| false)
            }
            Ok(n) => self.take(stream, &buffer[..n], now).map(|()| true),
            Err(error) if error.is(libc::EAGAIN) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) -> Result<()> {
        // The log first: what somebody was shown is in it.
        let logged = self.log.take(stream, bytes, now);
        self.attached.iter_mut().for_each(|listener| listener.give(stream, bytes));
        logged
    }

    /// The main process has ended: ends whatever is left of the container, logs the rest of its output, and tells its end in
    /// Kubernetes' words. The error, if any, is of the log: the end is told all the same.
    pub fn finish(mut self, container: &Container, exit: Exit, now: Timestamp) -> (Ended, Vec<Error>) {
        let mut errors = Vec::new();
        let oom = self.cgroup.oom_kills().unwrap_or(0) > 0;
        errors.extend(self.cgroup.kill().err());
        errors.extend(self.drain(now).err());
        let code = exit.code();
        let reason = match (oom, code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        let message = self.last_words(container, code != 0);
        errors.extend(self.cgroup.remove(CGROUP_PATIENCE));
        (Ended { code, signal: None, reason: reason.into(), message }, errors)
    }

    /// Reads what the pipes still hold, which is at most what the largest pipe takes: a process outside the container that got hold of a
    /// pipe (by a shared PID namespace) and goes on writing does not keep us.
    fn drain(&mut self, now: Timestamp) -> Result<()> {
        let mut buffer = [0; TURN];
        let mut all = Ok(());
        for (stream, output) in std::mem::take(&mut self.outputs) {
            let mut taken = 0;
            while taken < LARGEST_PIPE
                && let Ok(n @ 1..) = tty::read(&output, &mut buffer)
            {
                all = all.and(self.take(stream, &buffer[..n], now));
                taken += n;
            }
            all = all.and(self.log.end(stream, now));
        }
        all
    }

    /// §24: the end of the termination message file; with FallbackToLogsOnError, of the log.
    fn last_words(&self, container: &Container, failed: bool) -> String {
        let said = file::read_tail(self.directory.join(attempt::MESSAGE), MESSAGE_BYTES).unwrap_or_default();
        if !said.is_empty() || !failed || container.termination_message_policy.as_deref() != Some("FallbackToLogsOnError") {
            return String::from_utf8_lossy(&said).into_owned();
        }
        last_lines(&self.log_path).unwrap_or_default()
    }
}

/// The text of the last lines of a log, as much as a termination message may take.
fn last_lines(path: &Path) -> Result<String> {
    let mut records = Records::open(path)?;
    records.seek_tail(LOG_MESSAGE_LINES)?;
    let mut text = Vec::new();
    while let Some(record) = records.next(true)? {
        text.extend_from_slice(record.content);
        if !record.partial {
            text.push(b'\n');
        }
    }
    let start = text.len().saturating_sub(LOG_MESSAGE_BYTES);
    Ok(String::from_utf8_lossy(&text[start..]).into_owned())
}

/// Makes the supervisor's mount namespace: what it mounts is seen by its containers and by nobody else. Returns the host's.
pub fn leave_host() -> Result<OwnedFd> {
    let host = process::own_mount_namespace()?;
    process::unshare(process::Namespaces::MOUNT)?;
    mount::leave_host_propagation()?;
    Ok(host)
}

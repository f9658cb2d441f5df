//! How a container ended, in words, and the usual causes of an end.

use k8s_openapi::api::core::v1::ContainerStateTerminated;

use super::Whole;
use super::seen::{Role, Seen};
use crate::cli::events;
use crate::sys::process::signal_name;

/// `ended with exit code 137 (killed by SIGKILL): OOMKilled: its last words`.
pub fn in_words(end: &ContainerStateTerminated) -> String {
    let (code, reason) = (end.exit_code, end.reason.as_deref().unwrap_or_default());
    let meaning = match (code, reason) {
        (_, "ContainerStatusUnknown") => " (a stand-in: nobody saw its end)".to_owned(),
        (128, "StartError") => " (its program was never started)".to_owned(),
        (126, _) => " (a shell may not execute the command)".to_owned(),
        (127, _) => " (a shell did not find the command)".to_owned(),
        (129..=192, _) => format!(" (killed by {})", signal_name(code - 128)),
        _ => String::new(),
    };
    let said = |text: &str| if text.is_empty() { String::new() } else { format!(": {text}") };
    let reason = Some(reason).filter(|reason| !matches!(*reason, "Error" | "Completed")).unwrap_or_default();
    format!("ended with exit code {code}{meaning}{}{}", said(reason), said(end.message.as_deref().unwrap_or_default().trim()))
}

/// Killed because memory ran out.
pub fn memory(seen: &Seen<'_>) -> Option<Vec<String>> {
    seen.end().filter(|end| end.reason.as_deref() == Some("OOMKilled"))?;
    let limit = seen.container.resources.as_ref().and_then(|resources| resources.limits.as_ref()?.get("memory"));
    let in_memory = seen.container.volume_mounts.iter().flatten().find(|mount| {
        let volume = seen.spec.volumes.iter().flatten().find(|volume| volume.name == mount.name);
        volume.and_then(|volume| volume.empty_dir.as_ref()?.medium.as_deref()) == Some("Memory")
    });
    let counted = in_memory.map(|mount| format!("What is written to {} counts too: its emptyDir is in memory.", mount.mount_path));
    let (what, next) = match limit {
        Some(limit) => (
            format!("It wanted more memory than its limit of {} allows, so the kernel killed it.", limit.0),
            "Raise resources.limits.memory, or make the program use less: a smaller heap or cache, fewer workers.",
        ),
        None => (
            "The kernel killed it because memory ran out; it has no limit of its own, so it was the pod's or the machine's.".to_owned(),
            "Give the containers resources.limits.memory, so that the one that takes too much is the one that is killed.",
        ),
    };
    Some([what].into_iter().chain(counted).chain([next.to_owned()]).collect())
}

/// Asked to stop, it went on until its grace was over.
pub fn grace(seen: &Seen<'_>) -> Option<Vec<String>> {
    let of_pod = seen.spec.termination_grace_period_seconds.unwrap_or(30);
    let grace = seen.pod.metadata.deletion_grace_period_seconds.filter(|_| seen.is_being_deleted()).unwrap_or(of_pod);
    let signal = seen.status.and_then(|status| status.stop_signal.as_deref()).unwrap_or("SIGTERM");
    let word = signal.trim_start_matches("SIG");
    let next = format!("A program that is PID 1 must handle {signal} itself. In a shell script use `trap 'exit 0' {word}`, or `exec` the program at the end.");
    if seen.running().is_some() && seen.is_being_deleted() {
        let asked = seen.now.duration_since(events::last_seen(seen.told("Killing", "Stopping container")?)?).as_secs();
        let what = format!("It was asked to stop {asked}s ago and still runs; {grace}s after that it is killed.");
        return (2..=grace).contains(&asked).then(|| vec![what, next]);
    }
    let end = seen.end().filter(|end| end.exit_code == 137 && end.reason.as_deref() != Some("OOMKilled"))?;
    let waited = end.finished_at.as_ref()?.0.duration_since(seen.asked_to_end(end)?).as_secs();
    // The end is told in whole seconds, cut off.
    (grace > 0 && waited >= grace - 1).then(|| {
        let what = format!("It was asked to stop and did not, so it was killed when its grace of {grace}s was over.");
        vec![what, next, "If it only needs longer to end well, raise terminationGracePeriodSeconds.".to_owned()]
    })
}

/// Killed and started again because a probe failed.
pub fn liveness(seen: &Seen<'_>) -> Option<Vec<String>> {
    seen.end()?;
    let (kind, next) = if seen.told("Killing", "failed liveness probe").is_some() {
        ("Liveness", "If it is slow to start, give it a startupProbe; if it is slow to answer, raise timeoutSeconds or failureThreshold.")
    } else {
        seen.told("Killing", "failed startup probe")?;
        ("Startup", "If it needs longer to start, raise the failureThreshold of its startupProbe: it may take failureThreshold x periodSeconds.")
    };
    let probe = if kind == "Liveness" { &seen.container.liveness_probe } else { &seen.container.startup_probe };
    let times = probe.as_ref().and_then(|probe| probe.failure_threshold).unwrap_or(3);
    let what = format!("Its {} probe failed {times} times in a row, so it was killed, to be started again if its restartPolicy says so.", kind.to_lowercase());
    let said = seen.probe_said(kind).map(|said| format!("The probe said last: {said}"));
    Some([what].into_iter().chain(said).chain([next.to_owned()]).collect())
}

/// A shell that could not do as it was told.
pub fn command(seen: &Seen<'_>) -> Option<Vec<String>> {
    let end = seen.end().filter(|end| matches!(end.exit_code, 126 | 127))?;
    let image = seen.image();
    let line = seen.logged(&["not found", "permission denied", "no such file", "is a directory", "cannot execute"]);
    let named = line.and_then(refused_by_shell);
    let what = match (end.exit_code, named) {
        (127, Some(name)) => format!("Image {image} has no `{name}` in its $PATH (or what the first line of that script names is missing)."),
        (127, None) => format!("A command of its script is not in image {image}: the last lines of its log name it."),
        (_, Some(name)) => format!("`{name}` is there, but may not be executed by the container's user."),
        (_, None) => "A command of its script is there, but may not be executed by the container's user.".to_owned(),
    };
    let next = match end.exit_code {
        127 => "Correct the name in command or args, or take an image that has it.",
        _ => "Make it executable where it comes from (chmod +x), or give it to an interpreter: `sh FILE`.",
    };
    Some(vec![what, next.to_owned()])
}

/// `NAME` of `sh: NAME: not found`, `bash: line 1: NAME: command not found`, `/run.sh: 3: NAME: Permission denied`.
fn refused_by_shell(line: &str) -> Option<&str> {
    let parts: Vec<&str> = line.split(": ").collect();
    let [before @ .., _why] = parts.as_slice() else { return None };
    before.last().copied().filter(|name| before.len() > 1 && !name.is_empty() && !name.contains(' '))
}

/// A tool that is smaller than its namesake.
pub fn option(seen: &Seen<'_>) -> Option<Vec<String>> {
    let line = seen.logged(&["invalid option", "unrecognized option", "unknown option", "illegal option"])?;
    (seen.role == Role::Init || seen.trouble().is_some()).then(|| {
        let what = format!("The tool in image {} does not know an option that it is given: {}", seen.image(), line.trim());
        vec![what, "The tools of busybox and alpine have fewer options: leave it out, ask in another way, or take an image with the full tool.".to_owned()]
    })
}

/// It ended well, and is started again each time.
pub fn done(seen: &Seen<'_>) -> Option<Vec<String>> {
    let end = seen.end().filter(|end| end.exit_code == 0)?;
    let comes_back = seen.role != Role::Init && seen.restart_policy() == "Always" && !seen.is_being_deleted() && !seen.pod_is_over();
    if !comes_back || seen.asked_to_end(end).is_some() {
        return None;
    }
    let what = "It ended with 0: its work is done, yet restartPolicy Always starts it again each time.".to_owned();
    Some(match seen.role {
        Role::Sidecar => vec![
            what,
            "A sidecar must run as long as the pod: keep its program in the foreground.".to_owned(),
            "If it only prepares something, remove `restartPolicy: Always` from it: then it is a plain init container.".to_owned(),
        ],
        _ => vec![
            what,
            "For work that ends, write `restartPolicy: OnFailure` (or Never), or make it a Job.".to_owned(),
            "If it is a server, keep it in the foreground: a program that makes itself a daemon ends for its container.".to_owned(),
        ],
    })
}

/// The pod took longer than it may.
pub(super) fn deadline(whole: &Whole<'_>) -> Option<Vec<String>> {
    whole.pod.status.as_ref().filter(|status| status.reason.as_deref() == Some("DeadlineExceeded"))?;
    let seconds = whole.pod.spec.as_ref()?.active_deadline_seconds?;
    let killed = whole.containers.iter().filter(|seen| seen.terminated().is_some_and(|end| end.exit_code != 0)).map(Seen::name);
    let killed: Vec<&str> = killed.collect();
    let until = if killed.is_empty() { String::new() } else { format!(" What had not ended well by then: {}.", killed.join(", ")) };
    Some(vec![
        format!("was stopped: it ran longer than its activeDeadlineSeconds of {seconds}"),
        format!("All containers were stopped after {seconds}s, image and init time included.{until}"),
        "Raise spec.activeDeadlineSeconds, or find out what took so long in the logs.".to_owned(),
    ])
}

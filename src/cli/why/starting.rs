//! Why a container cannot be started: its image, its program, what it needs beside it.

use super::Whole;
use super::seen::Seen;
use crate::cli::events;

/// The image is not there.
pub fn image(seen: &Seen<'_>) -> Option<Vec<String>> {
    let (reason, message) = seen.refusal().filter(|_| seen.waiting().is_some())?;
    let image = seen.image();
    let what = match reason {
        "InvalidImageName" => format!("{image:?} is no name of an image; write NAME, NAME:TAG or NAME@sha256:DIGEST."),
        "ErrImageNeverPull" => format!("Image {image} is not in the store, and imagePullPolicy Never forbids to fetch it."),
        "ErrImagePull" | "ImagePullBackOff" if message.contains("not in the store") => format!("Image {image} is not in the store of this machine."),
        "ErrImagePull" | "ImagePullBackOff" => format!("Image {image} could not be fetched from its registry."),
        _ => return None,
    };
    let similar = similar(image, &seen.view.images);
    let similar = (!similar.is_empty()).then(|| format!("The store has: {}.", similar.join(", ")));
    let next = "Correct the name, or bring the image in with `minipod image pull` or `minipod image import FILE`; `minipod image ls` shows what is there.";
    Some([what].into_iter().chain(similar).chain([next.to_owned()]).collect())
}

/// Images that may have been meant: the same name with another tag or registry, or a slip of the keyboard away.
fn similar(image: &str, known: &[String]) -> Vec<String> {
    let short = |name: &str| {
        let name = name.split('@').next().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned();
        name.split(':').next().unwrap_or_default().to_owned()
    };
    let wanted = short(image);
    let near = |name: &&String| {
        let name = short(name);
        name == wanted || strsim::damerau_levenshtein(&name, &wanted) <= wanted.chars().count() / 4
    };
    known.iter().filter(near).take(3).cloned().collect()
}

/// The program is not in the image, or is none.
pub fn program(seen: &Seen<'_>) -> Option<Vec<String>> {
    let (_, message) = seen.refusal()?;
    let call = message.find("exec").map(|at| &message[at..]).filter(|rest| rest.starts_with("execve") || rest.starts_with("exec: "))?;
    let path = call.split('"').nth(1)?;
    let image = seen.image();
    let has: &[String] = seen.view.programs.get(seen.name()).map_or(&[], Vec::as_slice);
    let others: Vec<&str> = has.iter().map(String::as_str).filter(|program| *program != path).collect();
    let others = (!others.is_empty()).then(|| format!("The image has {}.", others.join(", ")));
    let next = match seen.view.images_with_program.get(seen.name()) {
        Some(images) if !images.is_empty() => format!("Correct command, or take an image that has it; of those in the store: {}.", images.join(", ")),
        _ => "Correct command, or take an image that has it.".to_owned(),
    };
    if call.contains("ENOENT") && has.iter().any(|program| program == path) {
        let what = format!("{path} is in image {image}, but what it needs to run is not: the interpreter of its first line (#!), or its loader.");
        return Some([what].into_iter().chain(others).chain(["Take an image that has that, too.".to_owned()]).collect());
    }
    if call.contains("ENOENT") || call.contains("not found") {
        let place = if path.contains('/') { "" } else { " in its $PATH" };
        return Some([format!("Image {image} has no {path}{place}.")].into_iter().chain(others).chain([next]).collect());
    }
    if call.contains("EACCES") {
        let what = format!("{path} is there, but the container's user may not execute it (or it is a directory, or on a volume without exec).");
        return Some(vec![what, "Make it executable where it comes from (chmod +x), or give it to an interpreter: command: [sh, FILE].".to_owned()]);
    }
    call.contains("ENOEXEC").then(|| {
        let what = format!("{path} is no program for this machine: built for another architecture, or a script without a first line `#!/bin/sh`.");
        vec![what, "Take the image for this architecture, or give the script to its interpreter: command: [sh, FILE].".to_owned()]
    })
}

/// Something that its description names is missing or forbids the start.
pub fn config(seen: &Seen<'_>) -> Option<Vec<String>> {
    let (reason, message) = seen.refusal()?;
    if !matches!(reason, "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") {
        return None;
    }
    let lower = message.to_lowercase();
    if lower.contains("runasnonroot") || lower.contains("non-root") || lower.contains("non-numeric user") {
        return Some(vec![
            format!("It must not run as root, but image {} runs as root, or as a user without a number.", seen.image()),
            "Set securityContext.runAsUser to the number of a user other than 0, or leave out runAsNonRoot.".to_owned(),
        ]);
    }
    let kind = ["configmap", "secret"].into_iter().find(|kind| lower.contains(kind))?;
    let kind = if kind == "secret" { "Secret" } else { "ConfigMap" };
    let (what, next) = if lower.contains("key") {
        (format!("It asks for a key that the {kind} does not have."), "Correct the key, add it to the object, or write `optional: true` beside it.")
    } else {
        (
            format!("It needs a {kind} that is not there."),
            "Put the object into the same file as the pod (with a line `---` between), or write `optional: true` beside its name.",
        )
    };
    Some(vec![what, next.to_owned()])
}

/// The pod stands before its first container: a volume or the network is not to be had.
pub(super) fn mount(whole: &Whole<'_>) -> Option<Vec<String>> {
    let begun = whole.containers.iter().any(|seen| seen.running().is_some() || seen.end().is_some());
    let is =
        |event: &&&k8s_openapi::api::core::v1::Event| matches!(event.reason.as_deref(), Some("FailedMount" | "FailedScheduling" | "FailedCreatePodSandBox"));
    let sorted = events::sorted(whole.events);
    let event = sorted.iter().filter(|_| !begun).rfind(is)?;
    let message = event.message.as_deref().unwrap_or_default().trim();
    let next = if message.contains("hostPath") {
        "Make the path on this machine, correct it, or write `type: DirectoryOrCreate` beside it. minipod tries again by itself."
    } else if message.contains("persistentvolumeclaim") {
        "Make the claim (`minipod apply -f FILE`, also of the same file), or correct claimName. minipod goes on as soon as it is there."
    } else if message.contains("configmap") || message.contains("secret") {
        "Make the object (`minipod apply -f FILE`), correct its name or key, or write `optional: true` beside it. minipod goes on as soon as it is there."
    } else {
        "Nothing starts before that is right; minipod tries again by itself. `minipod delete pod` gives up."
    };
    Some(vec![format!("cannot begin: {}: {message}", event.reason.as_deref().unwrap_or_default()), next.to_owned()])
}

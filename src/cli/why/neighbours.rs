//! Causes that lie between containers: they share one network, their volumes, and the pod's life.

use k8s_openapi::api::core::v1::{Container, Volume, VolumeMount};

use super::Whole;
use super::command::paths;
use super::seen::{Role, Seen};
use super::view::Owner;
use crate::pod::all_containers;

/// What programs say when a port is taken (EADDRINUSE, bind(2)).
pub const IN_USE: &[&str] = &["address already in use", "eaddrinuse", "address in use", "port is already allocated"];
/// What they say when a file is not there.
const NO_FILE: &[&str] = &["no such file", "can't open", "cannot open", "can't access", "does not exist", "enoent"];

/// A port that is taken, and by whom.
pub fn port(seen: &Seen<'_>) -> Option<Vec<String>> {
    let line = seen.logged(IN_USE)?;
    let declared = |container: &Container| container.ports.iter().flatten().map(|port| port.container_port).collect::<Vec<_>>();
    let own = declared(seen.container);
    let port = port_in(line).or(match own[..] {
        [one] => u16::try_from(one).ok(),
        _ => None,
    });
    let host = seen.spec.host_network == Some(true);
    let mut holders: Vec<String> = Vec::new();
    for listener in seen.view.listeners.iter().filter(|listener| port.is_none_or(|port| port == listener.port)) {
        let holder = match &listener.owner {
            Owner::Container(name) if name == seen.name() && port.is_some() => "a process of this container itself".to_owned(),
            Owner::Container(name) if name == seen.name() => continue,
            Owner::Container(name) => format!("container {name}"),
            Owner::Process { pid, name } if port.is_some() => format!("{name} (process {pid} of this machine)"),
            Owner::Unknown if port.is_some() => "somebody whose process cannot be seen".to_owned(),
            _ => continue,
        };
        let holder = if port.is_some() { holder } else { format!("{holder} (port {})", listener.port) };
        if !holders.contains(&holder) {
            holders.push(holder);
        }
    }
    // One that runs has got it meanwhile, unless somebody else is seen to have it.
    if holders.is_empty() && seen.running().is_some() && seen.end().is_none() {
        return None;
    }
    let what = port.map_or("A port that it wants".to_owned(), |port| format!("Port {port}"));
    let same = all_containers(seen.spec).filter(|other| other.name != seen.name() && port.is_some_and(|port| declared(other).contains(&port.into())));
    let same: Vec<&str> = same.map(|other| other.name.as_str()).collect();
    let what = match (holders.is_empty(), port) {
        (false, Some(_)) => format!("{what} is taken: {} listens on it.", holders.join(" and ")),
        (false, None) => format!("{what} is taken. In this network listen: {}.", holders.join(", ")),
        (true, _) if !same.is_empty() => format!("{what} was taken. Container {} names the same port among its containerPorts.", same.join(" and ")),
        (true, _) => format!("{what} was taken; by whom is not known, as nobody holds it now."),
    };
    let next = match host {
        true => "With hostNetwork the pod has the machine's ports: stop the other, choose another port, or leave out hostNetwork.",
        false => "All containers of a pod share one network (localhost): give each a port of its own.",
    };
    Some(vec![what, next.to_owned()])
}

/// The port that such a line names: `0.0.0.0:80`, `:::3000`, `port 8080`.
pub fn port_in(line: &str) -> Option<u16> {
    let words: Vec<&str> = line.split([' ', '\t', '"', '\'', '(', ')', ',', '=']).filter(|word| !word.is_empty()).collect();
    let addresses = words.iter().find_map(|word| {
        let (before, port) = word.trim_end_matches([':', '.', ';']).rsplit_once(':')?;
        let is_time = before.len() >= 2 && port.len() == 2 && before[before.floor_char_boundary(before.len() - 2)..].chars().all(|c| c.is_ascii_digit());
        let is_address = !before.contains(|c: char| c.is_ascii_digit()) || before.contains(['.', ']']) || before.contains("::");
        port.parse().ok().filter(|port| *port > 0 && is_address && (!is_time || before.contains('.')))
    });
    let after_port = || words.windows(2).find(|two| two[0].eq_ignore_ascii_case("port")).and_then(|two| two[1].trim_end_matches([':', '.', ';']).parse().ok());
    addresses.or_else(after_port)
}

/// It looks for a file where its volume is not.
pub fn volume(seen: &Seen<'_>) -> Option<Vec<String>> {
    let complaint = seen.logged(NO_FILE);
    let failed = seen.end().is_some_and(|end| !matches!(end.exit_code, 0 | 126..));
    let mut named = paths(seen.container);
    named.extend(complaint.into_iter().flat_map(paths_in));
    named.iter().find_map(|path| match mount_over(seen.container, path) {
        None if complaint.is_some() || failed => not_mounted_here(seen, path),
        None => None,
        Some(mount) => {
            let empty = seen.view.empty_volumes.contains(&mount.name);
            if complaint.is_some() || empty { mounted_elsewhere(seen, path, mount) } else { None }
        }
    })
}

/// A path that is in a volume of another container, and not here.
fn not_mounted_here(seen: &Seen<'_>, path: &str) -> Option<Vec<String>> {
    let (other, mount) = others(seen).find_map(|other| {
        let mount = mount_over(other, path)?;
        Some((other, mount))
    })?;
    let (volume, at) = (&mount.name, &mount.mount_path);
    Some(match seen.container.volume_mounts.iter().flatten().find(|own| own.name == *volume) {
        Some(own) => vec![
            format!("It looks for {path}, but here volume {volume} is mounted at {}; at {at} it is in container {}.", own.mount_path, other.name),
            format!("Use {}, or set the mountPath of {volume} to {at} here, too.", moved(path, at, &own.mount_path)),
        ],
        None => vec![
            format!("It looks for {path}, which is in volume {volume} of container {}, and not mounted here.", other.name),
            format!("Add to its volumeMounts: {{name: {volume}, mountPath: {at}}}."),
        ],
    })
}

/// A path in a volume where others do not write: they have the volume elsewhere, or another volume at the same place.
fn mounted_elsewhere(seen: &Seen<'_>, path: &str, mount: &VolumeMount) -> Option<Vec<String>> {
    let (volume, at) = (&mount.name, &mount.mount_path);
    if !is_empty_dir(seen, volume) {
        return None;
    }
    for other in others(seen) {
        let shared = other.volume_mounts.iter().flatten().find(|theirs| theirs.name == *volume);
        let written = paths(other).into_iter().find(|path| is_under(path, at) && mount_over(other, path).is_none());
        if let (Some(shared), Some(written)) = (shared, written) {
            return Some(vec![
                format!(
                    "It looks for {path}. Container {} names {written}, but there volume {volume} is mounted at {}: that file is not in it.",
                    other.name, shared.mount_path
                ),
                format!("In {} use {}, or mount {volume} at {at}.", other.name, moved(&written, at, &shared.mount_path)),
            ]);
        }
    }
    let alone =
        |name: &str| all_containers(seen.spec).filter(|container| container.volume_mounts.iter().flatten().any(|mount| mount.name == name)).count() == 1;
    let (other, theirs) = others(seen).find_map(|other| {
        let theirs = other.volume_mounts.iter().flatten().find(|theirs| theirs.mount_path == *at && theirs.name != *volume)?;
        Some((other, theirs))
    })?;
    (alone(volume) && is_empty_dir(seen, &theirs.name)).then(|| {
        vec![
            format!("It looks for {path} in volume {volume}, which nobody else mounts; container {} has another volume at {at}: {}.", other.name, theirs.name),
            format!("If both mean the same files, mount one volume in both: write name: {} here.", theirs.name),
        ]
    })
}

fn others<'a>(seen: &Seen<'a>) -> impl Iterator<Item = &'a Container> {
    let name = seen.name();
    all_containers(seen.spec).filter(move |other| other.name != name)
}

fn is_empty_dir(seen: &Seen<'_>, name: &str) -> bool {
    let volume: Option<&Volume> = seen.spec.volumes.iter().flatten().find(|volume| volume.name == name);
    volume.is_some_and(|volume| volume.empty_dir.is_some())
}

/// The mount of a container in which a path lies.
fn mount_over<'a>(container: &'a Container, path: &str) -> Option<&'a VolumeMount> {
    container.volume_mounts.iter().flatten().filter(|mount| is_under(path, &mount.mount_path)).max_by_key(|mount| mount.mount_path.len())
}

fn is_under(path: &str, dir: &str) -> bool {
    let dir = dir.trim_end_matches('/');
    path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path below `from` as a path below `to`.
fn moved(path: &str, from: &str, to: &str) -> String {
    format!("{}{}", to.trim_end_matches('/'), path.strip_prefix(from.trim_end_matches('/')).unwrap_or_default())
}

/// Absolute paths in a line of a log.
fn paths_in(line: &str) -> Vec<String> {
    let words = line.split([' ', '\t', '"', '\'', '(', ')', ',', '=', '`', '‘', '’']).map(|word| word.trim_end_matches([':', '.', ';', '/']));
    words.filter(|word| word.starts_with('/') && word.len() > 1).map(str::to_owned).collect()
}

/// A container that serves the others keeps the pod, though their work is done.
pub(super) fn classic_sidecar(whole: &Whole<'_>) -> Option<Vec<String>> {
    let apps: Vec<&Seen<'_>> = whole.containers.iter().filter(|seen| seen.role == Role::App).collect();
    let first = apps.first()?;
    if first.is_being_deleted() || first.pod_is_over() || apps.iter().any(|seen| seen.restart_policy() == "Always") {
        return None;
    }
    let (ended, left): (Vec<&Seen<'_>>, Vec<&Seen<'_>>) = apps.into_iter().partition(|seen| seen.terminated().is_some_and(|end| end.exit_code == 0));
    if ended.is_empty() || left.is_empty() || left.iter().any(|seen| seen.running().is_none()) {
        return None;
    }
    let names = |all: &[&Seen<'_>]| all.iter().map(|seen| seen.name()).collect::<Vec<_>>().join(" and ");
    let (ended, left) = (names(&ended), names(&left));
    Some(vec![
        format!("goes on only because {left} still runs; {ended} has ended with 0"),
        format!("If {left} only serves {ended}, make it a native sidecar, which ends with the pod's work. Two lines do it:"),
        format!("move {left} from `containers:` to `initContainers:`, and add `restartPolicy: Always` to it."),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_from_what_programs_say() {
        let table = [
            ("2026/03/07 10:00:12 [emerg] 1#1: bind() to 0.0.0.0:80 failed (98: Address already in use)", Some(80)),
            ("nginx: [emerg] bind() to [::]:8080 failed (98: Address already in use)", Some(8080)),
            ("Error: listen EADDRINUSE: address already in use :::3000", Some(3000)),
            ("listen tcp :8080: bind: address already in use", Some(8080)),
            ("2026-03-07T10:00:12 listen tcp 127.0.0.1:9090: bind: address already in use", Some(9090)),
            ("Port 5000 is in use: address already in use", Some(5000)),
            ("OSError: [Errno 98] Address already in use: ('0.0.0.0', 8000)", None),
            ("10:00:12 nc: bind: Address already in use", None),
        ];
        for (line, port) in table {
            assert_eq!(port_in(line), port, "{line}");
        }
    }
}

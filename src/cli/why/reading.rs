//! What [`super::reasons`] must know of the machine, read from it: only what the pod's state makes worth reading, and what cannot be
//! read is left out. Pids are only looked at here, never signalled, so that one may be reused meanwhile costs a wrong word at most.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Service};
use rustix::fs::OFlags;

use super::command::{Wait, waits_for};
use super::neighbours::IN_USE;
use super::seen::{Role, Seen, has_settled};
use super::view::{Listener, Owner, Peer, View};
use crate::cli::logs::{self, Place};
use crate::container::log::{Joiner, Records};
use crate::image::{Image, Reference, Store};
use crate::network::dns::Services;
use crate::pod::dir;
use crate::pod::objects;
use crate::pod::objects::services::Selected;
use crate::pod::places::Places;
use crate::pod::{all_containers, pod_spec};
use crate::sys::file::{self, Within};
use crate::volume;

/// Lines of each log that are looked through.
const TAIL: u64 = 20;
/// Where an image has its programs.
const BIN: &[&str] = &["bin", "usr/bin", "usr/local/bin", "sbin", "usr/sbin"];
/// What a person may have meant who asks for a shell that is not there.
const SHELLS: &[&str] = &["sh", "bash", "ash"];

/// What there is to know around a pod.
pub fn view(places: &Places, place: &Place, now: Timestamp) -> View {
    let pod = &place.pod;
    let spec = pod_spec(pod);
    let mut view = View { empty_volumes: empty_volumes(place), ..View::default() };
    let ephemeral = super::ephemeral(pod);
    for container in all_containers(spec).chain(&ephemeral) {
        view.logs.insert(container.name.clone(), tail(place, &container.name, now).unwrap_or_default());
    }
    let (mut peers, mut listeners, mut images) = (false, false, false);
    let mut without_program = Vec::new();
    for seen in Seen::all(pod, &ephemeral, &[], &view, now) {
        let stands = seen.role == Role::Init && (seen.running().is_some() || seen.waiting().is_some());
        peers |= stands && matches!(waits_for(seen.container), Some(Wait::Host { .. }));
        listeners |= seen.logged(IN_USE).is_some();
        let Some((reason, message)) = seen.refusal() else { continue };
        images |= reason.contains("Image");
        if let Some(path) = message.contains("exec").then(|| message.split('"').nth(1)).flatten() {
            without_program.push((seen.container.clone(), path.to_owned()));
        }
    }
    if images || !without_program.is_empty() {
        programs(places, &without_program, &mut view);
    }
    if listeners || peers {
        let processes = Processes::read();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        view.listeners = if listeners { processes.listeners(uid, spec.host_network == Some(true)) } else { Vec::new() };
        if peers {
            (view.peers, view.services) = (others(places, uid, &processes), services(places));
        }
    }
    view
}

/// The last lines of the run that ended last, else of the one that runs; of one that has settled, always that.
fn tail(place: &Place, container: &str, now: Timestamp) -> Option<Vec<String>> {
    let exists = |number| place.log(container, number).is_ok_and(|path| path.exists());
    let status = logs::status_of(&place.pod, container)?;
    let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
    let before = (running && !has_settled(status, now))
        .then(|| logs::instance(&place.pod, container, true, exists).ok())
        .flatten()
        .filter(|(number, _)| exists(*number));
    let (number, _) = before.or_else(|| logs::instance(&place.pod, container, false, exists).ok())?;
    let mut records = Records::open(place.log(container, number).ok()?).ok()?;
    records.seek_tail(TAIL).ok()?;
    let (mut joiner, mut lines) = (Joiner::default(), vec![String::new()]);
    while let Ok(Some(record)) = records.next(true) {
        let Some(line) = joiner.push(record) else { continue };
        if let Some(last) = lines.last_mut() {
            last.push_str(&String::from_utf8_lossy(line.content));
        }
        if line.ends {
            lines.push(String::new());
        }
    }
    if let (Some(line), Some(last)) = (joiner.rest(), lines.last_mut()) {
        last.push_str(&String::from_utf8_lossy(line.content));
    }
    lines.retain(|line| !line.trim().is_empty());
    Some(lines)
}

/// A tmpfs is mounted where only the supervisor sees it, so of a volume in memory nothing is said.
fn empty_volumes(place: &Place) -> Vec<String> {
    let all = pod_spec(&place.pod).volumes.iter().flatten();
    let on_disk = all.filter(|volume| volume.empty_dir.as_ref().is_some_and(|empty| empty.medium.as_deref().unwrap_or_default().is_empty()));
    let is_empty = |name: &str| {
        let path = volume::source_of(pod_spec(&place.pod), &place.state.join("volumes"), name).ok()?;
        Some(fs::read_dir(path).ok()?.next().is_none())
    };
    on_disk.filter(|volume| is_empty(&volume.name) == Some(true)).map(|volume| volume.name.clone()).collect()
}

/// What the images have, for each container whose program (beside it) was not found.
fn programs(places: &Places, wanted: &[(Container, String)], view: &mut View) {
    let Ok(images) = Store::open(places.images()).and_then(|store| store.list()) else { return };
    view.images = images.iter().map(|image| image.reference.familiar()).collect();
    for (container, path) in wanted {
        let name = path.rsplit('/').next().unwrap_or_default();
        let own = Reference::parse(container.image.as_deref().unwrap_or_default()).ok();
        let own = own.and_then(|own| images.iter().find(|image| image.reference == own));
        if let Some(image) = own {
            let mut has: BTreeSet<String> = SHELLS.iter().copied().chain([name]).filter_map(|name| place_of(image, name)).collect();
            has.extend(Some(path.clone()).filter(|path| path.starts_with('/') && is_in(image, &path[1..])));
            view.programs.insert(container.name.clone(), has.into_iter().collect());
        }
        let have = images.iter().filter(|image| Some(&image.id) != own.map(|own| &own.id) && place_of(image, name).is_some());
        view.images_with_program.insert(container.name.clone(), have.map(|image| image.reference.familiar()).take(3).collect());
    }
}

/// Where an image has a program of that name, by the usual $PATH.
fn place_of(image: &Image, name: &str) -> Option<String> {
    BIN.iter().map(|dir| format!("{dir}/{name}")).find(|path| !name.is_empty() && is_in(image, path)).map(|path| format!("/{path}"))
}

/// Whether a path shows in an image. What a layer has hidden (overlayfs' device 0:0) is not there.
fn is_in(image: &Image, path: &str) -> bool {
    for layer in image.layers.iter().rev() {
        let Ok(root) = file::open_dir(image.layers_dir().join(layer)) else { continue };
        if let Ok(found) = file::open_within(&root, path, Within::Root, OFlags::PATH | OFlags::NOFOLLOW, 0) {
            return file::stat(&found).is_ok_and(|stat| !(stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0));
        }
    }
    false
}

fn services(places: &Places) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for kept in objects::all(places).unwrap_or_default() {
        for name in kept.all::<Service>().unwrap_or_default().into_iter().filter_map(|service| service.metadata.name) {
            let pods = Selected::new(places).find(kept.namespace(), &name).map_or(0, |endpoints| endpoints.pods.len());
            all.insert(format!("{name}.{}", kept.namespace()), pods);
        }
    }
    all
}

/// The other pods that run, and where they listen.
fn others(places: &Places, uid: &str, processes: &Processes) -> Vec<Peer> {
    let pods = dir::all(places).unwrap_or_default().into_iter().filter_map(|dir| dir.read().ok().flatten()).filter(|known| known.supervised);
    let peer = |pod: Pod| {
        let (metadata, spec, status) = (pod.metadata, pod.spec?, pod.status?);
        let name = metadata.name?;
        let uid = metadata.uid?;
        let hostname = spec.hostname.unwrap_or_else(|| name.clone());
        let host_and_subdomain = spec.subdomain.map(|subdomain| format!("{hostname}.{subdomain}"));
        let ports = processes.of_pod(&uid).first().map(|(pid, _)| listening(*pid).into_keys().collect::<BTreeSet<u16>>().into_iter().collect());
        Some(Peer { namespace: metadata.namespace.unwrap_or_default(), name, host_and_subdomain, ip: status.pod_ip?, ports })
    };
    pods.map(|known| known.pod).filter(|pod| pod.metadata.uid.as_deref() != Some(uid)).filter_map(peer).collect()
}

/// The processes of this machine with their places in cgroup2, as at one moment.
struct Processes(BTreeMap<u32, String>);

impl Processes {
    fn read() -> Processes {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let cgroup = |pid: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
            Some((pid, text.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned()))
        };
        Processes(pids.filter_map(cgroup).collect())
    }

    /// Those of a pod, each with its container; the pause has none.
    fn of_pod(&self, uid: &str) -> Vec<(u32, Option<&str>)> {
        let part = format!("/pod{uid}/");
        let own = self.0.iter().filter(|_| !uid.is_empty()).filter_map(|(pid, path)| Some((*pid, path.split_once(&part)?.1)));
        // `web-1`: a container's name and the number of its start.
        own.map(|(pid, rest)| (pid, rest.split('/').next().and_then(|cgroup| cgroup.rsplit_once('-')).map(|(name, _)| name))).collect()
    }

    /// Who listens in a pod's network. Beyond the pod's own processes one looks only if it has the machine's network.
    fn listeners(&self, uid: &str, host_network: bool) -> Vec<Listener> {
        let own = self.of_pod(uid);
        let Some((first, _)) = own.first() else { return Vec::new() };
        let sockets = listening(*first);
        let wanted: BTreeSet<u64> = sockets.values().flatten().copied().collect();
        let mut owners: BTreeMap<u64, Owner> = BTreeMap::new();
        if host_network {
            for pid in self.0.keys() {
                let name = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
                sockets_of(*pid, &wanted).into_iter().for_each(|inode| drop(owners.insert(inode, Owner::Process { pid: *pid, name: name() })));
            }
        }
        for (pid, container) in &own {
            let Some(container) = container else { continue };
            sockets_of(*pid, &wanted).into_iter().for_each(|inode| drop(owners.insert(inode, Owner::Container((*container).to_owned()))));
        }
        let each = sockets.into_iter().flat_map(|(port, inodes)| inodes.into_iter().map(move |inode| (port, inode)));
        each.map(|(port, inode)| Listener { port, owner: owners.get(&inode).cloned().unwrap_or(Owner::Unknown) }).collect()
    }
}

/// The TCP ports on which somebody listens in the network of a process, with the sockets' inodes (proc_pid_net(5)).
fn listening(pid: u32) -> BTreeMap<u16, Vec<u64>> {
    const LISTEN: &str = "0A";
    let mut found: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("net").join(table)).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(&LISTEN), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9)) else { continue };
            let port = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
            if let (Some(port), Ok(inode)) = (port, inode.parse()) {
                found.entry(port).or_default().push(inode);
            }
        }
    }
    found
}

/// Which of these sockets a process holds.
fn sockets_of(pid: u32, wanted: &BTreeSet<u64>) -> Vec<u64> {
    let held = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode = |link: std::path::PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    held.filter_map(inode).filter(|inode| wanted.contains(inode)).collect()
}

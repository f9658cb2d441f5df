//! What is known of the machine around a pod, as data.

use std::collections::BTreeMap;

/// What a judgement needs beyond the pod's object and its events. All of it may be missing: then less is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The last lines of each container's log: of the run that ended last, else of the one that runs.
    pub logs: BTreeMap<String, Vec<String>>,
    /// Who listens in the pod's network; with hostNetwork that is the machine's.
    pub listeners: Vec<Listener>,
    /// The other pods.
    pub peers: Vec<Peer>,
    /// How many pods each Service leads to now, by `NAME.NAMESPACE`.
    pub services: BTreeMap<String, usize>,
    /// The names of the images in the store.
    pub images: Vec<String>,
    /// By container: programs that its image has, of those that one might have meant.
    pub programs: BTreeMap<String, Vec<String>>,
    /// By container: images of the store that have the program that its own lacks.
    pub images_with_program: BTreeMap<String, Vec<String>>,
    /// emptyDir volumes on disk in which there is nothing.
    pub empty_volumes: Vec<String>,
}

/// A TCP socket that waits for connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub port: u16,
    pub owner: Owner,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A container of the pod.
    Container(String),
    /// A process outside the pod.
    Process {
        pid: u32,
        name: String,
    },
    Unknown,
}

/// Another pod, by the names under which it can be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    pub namespace: String,
    pub name: String,
    /// `HOSTNAME.SUBDOMAIN`, of a pod with a subdomain.
    pub host_and_subdomain: Option<String>,
    pub ip: String,
    /// The TCP ports at which it listens; None if that cannot be seen.
    pub ports: Option<Vec<u16>>,
}

impl View {
    /// The Service that a pod of `namespace` means by `host`: its name, its namespace, how many pods it leads to.
    pub fn service(&self, host: &str, namespace: &str) -> Option<(&str, &str, usize)> {
        let host = without_domain(host);
        let found = self.services.get_key_value(&format!("{host}.{namespace}")).or_else(|| self.services.get_key_value(host));
        found.and_then(|(name, pods)| name.split_once('.').map(|(name, namespace)| (name, namespace, *pods)))
    }
}

/// The part of a name that pods choose.
fn without_domain(host: &str) -> &str {
    let host = host.trim_end_matches('.');
    host.strip_suffix(".svc.cluster.local").or_else(|| host.strip_suffix(".svc")).unwrap_or(host)
}

impl Peer {
    /// Whether a pod of `namespace` means this one by `host`: an address, or a name as the pods' DNS knows it.
    pub fn is_called(&self, host: &str, namespace: &str) -> bool {
        let host = without_domain(host);
        let here = self.namespace == namespace;
        let is = |name: &str| host.strip_prefix(name).is_some_and(|rest| (rest.is_empty() && here) || rest.strip_prefix('.') == Some(self.namespace.as_str()));
        host == self.ip || is(&self.name) || self.host_and_subdomain.as_deref().is_some_and(is)
    }
}

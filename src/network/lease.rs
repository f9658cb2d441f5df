//! Which pod has which address: one file for each, in a directory that all minipods of a root share.
//!
//! ```text
//! RUN/network/lock            taken for every change; holds the address that was given last
//! RUN/network/leases/10.77.0.5   {"namespace":"default","name":"web","uid":"…","veth":"mp0a4d0005-91c2", …}
//! ```
//!
//! A lease appears whole (link(2)) and is never changed, so readers need no lock. It outlives a supervisor that was
//! killed: whoever finds that its pod is gone may take it back.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::range::Range;
use crate::error::{Error, Result};
use crate::sys::{file, net};

/// A pod, as its network knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodName {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// Its hostname, short.
    pub hostname: String,
    /// `spec.subdomain`: with one the pod also has the name `HOSTNAME.SUBDOMAIN.NAMESPACE.svc.cluster.local`.
    pub subdomain: Option<String>,
}

impl PodName {
    /// `HOSTNAME.SUBDOMAIN`, for a pod with a subdomain.
    pub fn host_and_subdomain(&self) -> Option<String> {
        self.subdomain.as_ref().map(|subdomain| format!("{}.{subdomain}", self.hostname))
    }
}

/// What a lease's file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    #[serde(flatten)]
    pub pod: PodName,
    /// The range that the address is of.
    pub range: Range,
    /// The link that leads to the pod.
    pub veth: String,
}

/// The leases of one root.
#[derive(Debug, Clone)]
pub struct Leases {
    dir: PathBuf,
}

impl Leases {
    /// The leases beneath `dir`, which is made if it is missing.
    pub fn open(dir: &Path) -> Result<Leases> {
        let leases = Leases { dir: dir.to_owned() };
        std::fs::create_dir_all(leases.given()).map_err(|e| Error::io("mkdir", leases.given().display(), &e))?;
        Ok(leases)
    }

    fn given(&self) -> PathBuf {
        self.dir.join("leases")
    }

    /// Keeps all other minipods of this root from changing leases while the guard lives.
    pub fn lock(&self) -> Result<Locked<'_>> {
        let path = self.dir.join("lock");
        let lock = file::open(&path, OFlags::CREATE | OFlags::RDWR)?;
        file::lock(&lock).map_err(|e| e.doing(format!("locking {}", path.display())))?;
        Ok(Locked { leases: self, lock: File::from(lock) })
    }

    /// Every lease; one whose file cannot be read has no pod. In the order of addresses.
    pub fn all(&self) -> Result<Vec<(Ipv4Addr, Option<Lease>)>> {
        let mut all: Vec<_> = self.addresses()?.into_iter().map(|ip| (ip, self.read(ip))).collect();
        all.sort_by_key(|(ip, _)| *ip);
        Ok(all)
    }

    /// The lease of an address, if it is given and can be read.
    pub fn read(&self, ip: Ipv4Addr) -> Option<Lease> {
        serde_json::from_slice(&std::fs::read(self.path(ip)).ok()?).ok()
    }

    fn addresses(&self) -> Result<Vec<Ipv4Addr>> {
        let entries = std::fs::read_dir(self.given()).map_err(|e| Error::io("open", self.given().display(), &e))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    fn path(&self, ip: Ipv4Addr) -> PathBuf {
        self.given().join(ip.to_string())
    }
}

/// The leases, while nobody else may change them.
pub struct Locked<'a> {
    leases: &'a Leases,
    lock: File,
}

impl Locked<'_> {
    /// Gives the pod an address of `range`: the next one after the last given that is free, so that an address which just
    /// became free rests as long as possible; caches and connections of its last pod are forgotten by then.
    /// None if all are given.
    pub fn take(&mut self, range: &Range, pod: &PodName) -> Result<Option<(Ipv4Addr, Lease)>> {
        let first = self.last_given().and_then(|ip| range.number_of(ip)).map_or(0, |number| number + 1);
        let next = self.leases.dir.join("next");
        // One that a killed minipod left may be linked to a lease: writing into it would change that.
        let _ = std::fs::remove_file(&next);
        let _scratch = Scratch(&next);
        for ip in (0..range.capacity()).map(|n| range.pod(first + n)) {
            if self.leases.path(ip).exists() {
                continue;
            }
            let lease = Lease { pod: pod.clone(), range: *range, veth: veth_of(ip)? };
            let text = serde_json::to_vec(&lease).map_err(|e| Error::said(format!("writing the lease of {ip}: {e}")))?;
            std::fs::write(&next, text).map_err(|e| Error::io("write", next.display(), &e))?;
            self.set_last_given(ip)?;
            match std::fs::hard_link(&next, self.leases.path(ip)) {
                Ok(()) => return Ok(Some((ip, lease))),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("link", self.leases.path(ip).display(), &error)),
            }
        }
        Ok(None)
    }

    /// Takes a lease back, if it is still the one of this link; an address given anew is left alone. A lease that cannot
    /// be read belongs to nobody (`veth` None).
    pub fn give_back(&mut self, ip: Ipv4Addr, veth: Option<&str>) -> Result<()> {
        if self.leases.read(ip).map(|lease| lease.veth).as_deref() != veth {
            return Ok(());
        }
        match std::fs::remove_file(self.leases.path(ip)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("unlink", self.leases.path(ip).display(), &error)),
            _ => Ok(()),
        }
    }

    /// How many addresses of the range are given.
    pub fn count(&self, range: &Range) -> Result<usize> {
        Ok(self.leases.addresses()?.into_iter().filter(|ip| range.contains(*ip)).count())
    }

    fn last_given(&mut self) -> Option<Ipv4Addr> {
        let mut text = String::new();
        self.lock.read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }

    fn set_last_given(&mut self, ip: Ipv4Addr) -> Result<()> {
        let written = self.lock.rewind().and_then(|()| self.lock.set_len(0)).and_then(|()| writeln!(self.lock, "{ip}"));
        written.map_err(|e| Error::io("write", self.leases.dir.join("lock").display(), &e))
    }
}

/// A file that goes away again.
struct Scratch<'a>(&'a Path);

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}

/// The name of the link to an address: the address in hex, so that two roots with different ranges never meet, and a random
/// end, because the link that the address had before may still be dying with its namespace. 15 characters, as many as a
/// link's name may have.
fn veth_of(ip: Ipv4Addr) -> Result<String> {
    Ok(format!("mp{:08x}-{:04x}", u32::from(ip), net::random_u16()?))
}

/// Answers which pod has which address, again and again: it reads the leases anew only when they have changed.
pub struct Names {
    leases: Leases,
    seen: Option<SystemTime>,
    pods: Vec<(Ipv4Addr, PodName)>,
}

impl Names {
    pub(super) fn new(leases: Leases) -> Names {
        Names { leases, seen: None, pods: Vec::new() }
    }

    /// Every pod that has an address now, in the order of addresses. Empty if the leases cannot be read.
    pub fn pods(&mut self) -> &[(Ipv4Addr, PodName)] {
        let changed = std::fs::metadata(self.leases.given()).and_then(|meta| meta.modified()).ok();
        if changed.is_none() || changed != self.seen {
            self.pods = self.leases.all().unwrap_or_default().into_iter().filter_map(|(ip, lease)| Some((ip, lease?.pod))).collect();
            // A directory's time moves in ticks of up to 10 ms: a second change within one would go unseen, so a young
            // time is not relied on.
            self.seen = changed.filter(|time| time.elapsed().is_ok_and(|age| age > Duration::from_millis(100)));
        }
        &self.pods
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn pod(name: &str) -> PodName {
        PodName { namespace: "default".into(), name: name.into(), uid: format!("uid-{name}"), hostname: name.into(), subdomain: None }
    }

    fn leases() -> (tempfile::TempDir, Leases) {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::open(&dir.path().join("network")).unwrap();
        (dir, leases)
    }

    fn take(leases: &Leases, range: &Range, name: &str) -> Option<(Ipv4Addr, Lease)> {
        leases.lock().unwrap().take(range, &pod(name)).unwrap()
    }

    #[test]
    fn an_address_that_became_free_is_the_last_to_be_given_again() {
        let (_dir, leases) = leases();
        let range: Range = "10.9.8.0/29".parse().unwrap();
        let (first, lease) = take(&leases, &range, "a").unwrap();
        leases.lock().unwrap().give_back(first, Some(&lease.veth)).unwrap();
        let given: Vec<_> = (0..5).map(|n| take(&leases, &range, &n.to_string()).unwrap().0).collect();
        assert_eq!((given[4], given.iter().collect::<HashSet<_>>().len()), (first, 5));
        assert_eq!(take(&leases, &range, "b"), None, "used up");
    }

    #[test]
    fn a_lease_given_anew_is_not_taken_back_by_its_last_holder() {
        let (_dir, leases) = leases();
        let range: Range = "10.9.8.0/30".parse().unwrap();
        let (ip, old) = take(&leases, &range, "old").unwrap();
        leases.lock().unwrap().give_back(ip, Some(&old.veth)).unwrap();
        let (_, new) = take(&leases, &range, "new").unwrap();
        leases.lock().unwrap().give_back(ip, Some(&old.veth)).unwrap();
        assert_eq!(leases.read(ip), Some(new));
    }

    #[test]
    fn many_at_once_never_get_the_same_address() {
        let (_dir, leases) = leases();
        let range: Range = "10.9.8.0/25".parse().unwrap();
        let taken: Vec<Ipv4Addr> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..5)
                .map(|w| {
                    scope.spawn({
                        let leases = &leases;
                        let range = &range;
                        move || (0..25).map(|n| take(leases, range, &format!("{w}-{n}")).unwrap().0).collect::<Vec<_>>()
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().collect::<HashSet<_>>().len(), 125);
        assert_eq!(take(&leases, &range, "more"), None);
        assert_eq!(leases.all().unwrap().len(), 125, "and nothing else lies there");
    }

    #[test]
    fn names_follow_every_change_and_skip_what_cannot_be_read() {
        let (dir, leases) = leases();
        let mut names = Names::new(leases.clone());
        for n in 0..20 {
            let (ip, lease) = take(&leases, &Range::DEFAULT, &n.to_string()).unwrap();
            assert_eq!(names.pods(), [(ip, lease.pod.clone())]);
            leases.lock().unwrap().give_back(ip, Some(&lease.veth)).unwrap();
            assert_eq!(names.pods(), []);
        }
        std::fs::write(dir.path().join("network/leases/10.77.9.9"), "{").unwrap();
        std::fs::write(dir.path().join("network/leases/README"), "no address").unwrap();
        assert_eq!(names.pods(), []);
        assert_eq!(leases.all().unwrap(), [(Ipv4Addr::new(10, 77, 9, 9), None)]);
        leases.lock().unwrap().give_back(Ipv4Addr::new(10, 77, 9, 9), None).unwrap();
        assert_eq!(leases.all().unwrap(), []);
    }
}

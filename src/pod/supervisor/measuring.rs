//! Volumes that may not grow at will: an emptyDir on disk with a `sizeLimit`.
//!
//! ```text
//! every 10 s   fork ─▶ count the blocks of each volume ─▶ pipe ─▶ compare ─▶ too large: the pod is evicted
//! ```
//!
//! No file system keeps such a limit. As with the kubelet, a pod that goes beyond it is evicted (`localStorageEviction` in `eviction_manager.go`). A volume
//! may hold a million files, so another process counts them, and the loop goes on meanwhile.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use jiff::Timestamp;

use super::source::Source;
use super::{Supervisor, now, pod_spec};
use crate::error::{Error, Result};
use crate::lifecycle::Event;
use crate::pod::journal::Kind;
use crate::sys::process::{self, Child};
use crate::sys::tree::disk_use;
use crate::volume::Bounded;

/// From one measurement to the next, in milliseconds (`monitoringInterval` of the eviction manager).
const PERIOD: u64 = 10_000;

#[derive(Debug, Default)]
pub(super) struct Measuring {
    volumes: Vec<Bounded>,
    /// When they are measured next, in monotonic milliseconds.
    next: Option<u64>,
    under_way: Option<(Child, OwnedFd)>,
}

impl Measuring {
    pub(super) fn deadline(&self) -> Option<u64> {
        self.next.filter(|_| self.under_way.is_none())
    }

    pub(super) fn of(volumes: Vec<Bounded>, now: u64) -> Measuring {
        let next = (!volumes.is_empty()).then(|| now + PERIOD);
        Measuring { volumes, next, under_way: None }
    }

    fn begin(&self) -> Result<(Child, OwnedFd)> {
        let (answer, into) = process::pipe()?;
        let paths: Vec<PathBuf> = self.volumes.iter().map(|volume| volume.path.clone()).collect();
        let child = process::fork(move || {
            process::die_with_parent()?;
            // What cannot be counted is not held against the pod.
            let sizes: String = paths.iter().map(|path| format!("{}\n", disk_use(path).unwrap_or(0))).collect();
            File::from(into).write_all(sizes.as_bytes()).map_err(|error| Error::io("write", "a pipe", &error))?;
            process::exit_now(0)
        });
        child.map(|child| (child, answer)).map_err(|error| error.doing("measuring volumes"))
    }

    /// The first volume that is too large, by the sizes in their order.
    fn exceeded(&self, sizes: &str) -> Option<&Bounded> {
        let sizes = sizes.lines().filter_map(|line| line.parse::<u64>().ok());
        self.volumes.iter().zip(sizes).find(|(volume, size)| *size > volume.bytes).map(|(volume, _)| volume)
    }
}

/// As the kubelet says it, with the blank at its end (`emptyDirMessageFmt`).
fn message(volume: &Bounded) -> String {
    format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", volume.name, volume.limit)
}

impl Supervisor {
    /// Sets out to watch over the volumes, which have been set up.
    pub(super) fn watch_volumes(&mut self) {
        let bounded = self.volumes.as_ref().map(|volumes| volumes.bounded(pod_spec(&self.pod)));
        self.measuring = Measuring::of(bounded.unwrap_or_default(), now().mono);
    }

    /// Begins to measure, if it is time.
    pub(super) fn measure_volumes(&mut self) {
        if self.measuring.deadline().is_none_or(|next| next > now().mono) {
            return;
        }
        let begun = self.measuring.begin().and_then(|(child, answer)| {
            self.poll.add(&answer, Source::Measured.token())?;
            self.measuring.under_way = Some((child, answer));
            Ok(())
        });
        self.measuring.next = Some(now().mono + PERIOD);
        self.complain_of(begun.err());
    }

    /// The sizes are there: one write, and then the end of whoever has counted.
    pub(super) fn hear_measured(&mut self) {
        let Some((child, answer)) = self.measuring.under_way.take() else { return };
        self.poll.remove(&answer);
        let mut sizes = String::new();
        let read = File::from(answer).read_to_string(&mut sizes).map_err(|error| Error::io("read", "a pipe", &error));
        self.complain_of(read.map(drop).and_then(|()| child.wait().map(drop)).err());
        if let Some(message) = self.measuring.exceeded(&sizes).map(message) {
            self.measuring.next = None;
            self.journal.tell(Kind::Warning, "Evicted", None, &message, Timestamp::now());
            self.observe(Event::Evicted { message });
        }
        self.untrimmed = true;
    }

    pub(super) fn stop_measuring(&mut self) {
        self.measuring.next = None;
        if let Some((child, answer)) = self.measuring.under_way.take() {
            self.poll.remove(&answer);
            let ended = child.signal(libc::SIGKILL).and_then(|()| child.wait().map(drop));
            self.complain_of(ended.err());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_volume_that_is_too_large_is_named() {
        let bounded = |name: &str, bytes| Bounded { name: name.into(), path: PathBuf::new(), limit: "1Mi".into(), bytes };
        let measuring = Measuring::of(vec![bounded("a", 10), bounded("b", 20), bounded("c", 30)], 5);
        assert_eq!(measuring.deadline(), Some(5 + PERIOD));
        assert!(measuring.exceeded("10\n20\n30\n").is_none() && measuring.exceeded("").is_none());
        assert_eq!(message(measuring.exceeded("10\n21\n31\n").unwrap()), "Usage of EmptyDir volume \"b\" exceeds the limit \"1Mi\". ");
        assert_eq!(Measuring::of(Vec::new(), 5).deadline(), None);
    }
}

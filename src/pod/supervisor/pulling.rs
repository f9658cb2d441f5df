//! A start whose images must be asked for first, its own and those of its volumes: another process does it, and the start goes on when it
//! has ended.

use std::collections::VecDeque;

use super::source::Source;
use super::{Supervisor, container_of, now};
use crate::error::{Error, Result};
use crate::image::Reference;
use crate::image::login::Logins;
use crate::image::pull::{Ask, Puller, Word};
use crate::lifecycle::{C, Event, FailedAt, Failure};
use crate::pod::ground::pod_spec;
use crate::pod::image_volumes;
use crate::pod::instance::{failure_of, must_pull};
use crate::pod::journal::Kind;
use crate::pod::objects::logins::secret_logins;

/// A pull under way, and the start that waits for it.
pub(super) struct Pulling {
    start: Start,
    image: String,
    puller: Puller,
    /// On the monotonic clock, in milliseconds.
    since: u64,
}

/// A start that waits for images.
struct Start {
    c: C,
    restart: u32,
    /// The container's own image is, or was, among them.
    own: bool,
    /// As they are named, and what comes after the one that is pulled now.
    rest: VecDeque<(String, Reference)>,
}

impl Supervisor {
    /// Begins to pull the images of a start that must be. None: the start can go on.
    pub(super) fn begin_pull(&mut self, c: C, restart: u32) -> Option<Event> {
        match self.images_to_pull(c) {
            Ok((_, rest)) if rest.is_empty() => None,
            Ok((own, rest)) => Some(self.pull_next(Start { c, restart, own, rest }).map_or(Event::Starting(c), |failed| failed)),
            Err(error) => Some(self.not_pulled(c, failure_of(&error.reason("ErrImagePull")))),
        }
    }

    /// Whether the container's own image is the first of them, and all of them.
    fn images_to_pull(&self, c: C) -> Result<(bool, VecDeque<(String, Reference)>)> {
        let container = container_of(&self.pod, c).into_owned();
        let mut images = VecDeque::new();
        // What is shown already stays what it is.
        let volumes = image_volumes::as_containers(pod_spec(&self.pod), &container).into_iter();
        let volumes: Vec<_> = volumes.filter(|(name, _)| !self.ground.image_volumes.borrow().contains_key(name)).map(|(_, volume)| volume).collect();
        let own = must_pull(&self.ground.store, &container)?;
        let is_own = own.is_some();
        images.extend(own.map(|reference| (container.image.clone().unwrap_or_default(), reference)));
        for volume in volumes {
            let asked = must_pull(&self.ground.store, &volume)?.filter(|asked| images.iter().all(|(_, known)| known != asked));
            images.extend(asked.map(|reference| (volume.image.unwrap_or_default(), reference)));
        }
        Ok((is_own, images))
    }

    /// Pulls the next image of a start. What comes of it, if it could not even begin.
    fn pull_next(&mut self, mut start: Start) -> Option<Event> {
        let (c, (image, reference)) = (start.c, start.rest.pop_front()?);
        self.tell_of(c, Kind::Normal, "Pulling", &format!("Pulling image {image:?}"));
        let failed = |error: Error| Failure { image: Some(image.clone()), ..failure_of(&error.reason("ErrImagePull")) };
        let ask = Ask { reference, settings: self.ground.places.registries.clone(), secrets: self.secret_logins(c) };
        let begun = Puller::start(&self.ground.store, &ask).and_then(|puller| {
            self.poll.add(&puller, Source::Pull(c).token())?;
            self.pulls.push(Pulling { start, image: image.clone(), puller, since: now().mono });
            Ok(())
        });
        begun.map_err(failed).err().map(|failure| self.not_pulled(c, failure))
    }

    fn not_pulled(&mut self, c: C, failure: Failure) -> Event {
        self.tell_failed_start(c, false, &failure);
        Event::StartFailed(c, failure)
    }

    /// The logins of the pod's imagePullSecrets. One that cannot be read is told, and the pull goes on without it (`pkg/kubelet/kubelet_pods.go`).
    fn secret_logins(&mut self, c: C) -> Logins {
        let (logins, unread) = secret_logins(&self.ground.places, &self.pod);
        if !unread.is_empty() {
            let names = unread.join(", ");
            let message = format!("Unable to retrieve some image pull secrets ({names}); attempting to pull the image may not succeed.");
            self.tell_of(c, Kind::Warning, "FailedToRetrieveImagePullSecret", &message);
        }
        logins
    }

    /// The puller of a container has something to say.
    pub(super) fn hear_pull(&mut self, c: C) {
        let Some(at) = self.pulls.iter().position(|pulling| pulling.start.c == c) else { return };
        let last = self.pulls[at].puller.words().into_iter().rfind(|word| matches!(word, Word::Pulled { .. } | Word::Failed { .. }));
        let Some(last) = last else { return };
        let Pulling { start, image, puller, since } = self.pulls.remove(at);
        self.poll.remove(&puller);
        drop(puller);
        self.untrimmed = true;
        let event = match last {
            Word::Pulled { bytes, .. } => {
                let took = duration(now().mono.saturating_sub(since));
                let message = format!("Successfully pulled image {image:?} in {took} ({took} including waiting). Image size: {bytes} bytes.");
                self.tell_of(c, Kind::Normal, "Pulled", &message);
                match start.rest.is_empty() {
                    true => self.start(c, start.restart, start.own),
                    false => match self.pull_next(start) {
                        Some(failed) => failed,
                        None => return,
                    },
                }
            }
            Word::Failed { message } => self.not_pulled(c, Failure { at: FailedAt::Image, reason: "ErrImagePull".into(), message, image: Some(image) }),
            _ => return,
        };
        self.act_upon(event);
    }

    /// Gives a pull up; nothing of it is left.
    pub(super) fn abort_pull(&mut self, c: C) -> Event {
        for pulling in self.pulls.extract_if(.., |pulling| pulling.start.c == c) {
            self.poll.remove(&pulling.puller);
        }
        Event::Aborted(c)
    }
}

/// As Go writes a duration in milliseconds: 850ms, 1.2s, 1m2.5s, 0s.
fn duration(ms: u64) -> String {
    let (minutes, rest) = (ms / 60_000, ms % 60_000);
    let fraction = format!(".{:03}", rest % 1000);
    let seconds = format!("{}{}s", rest / 1000, fraction.trim_end_matches('0').trim_end_matches('.'));
    match (minutes, ms) {
        (_, 0) => "0s".to_owned(),
        (_, ..1000) => format!("{ms}ms"),
        (0, _) => seconds,
        (..60, _) => format!("{minutes}m{seconds}"),
        _ => format!("{}h{}m{seconds}", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_as_go_does() {
        for (ms, text) in
            [(0, "0s"), (850, "850ms"), (1000, "1s"), (1200, "1.2s"), (12_345, "12.345s"), (60_000, "1m0s"), (62_500, "1m2.5s"), (3_723_004, "1h2m3.004s")]
        {
            assert_eq!(duration(ms), text);
        }
    }
}

//! A start whose image must be asked for first: another process does it, and the start goes on when it has ended.

use super::source::Source;
use super::{Supervisor, container_of, now};
use crate::image::login::Logins;
use crate::image::pull::{Ask, Puller, Word};
use crate::lifecycle::{C, Event, FailedAt, Failure};
use crate::pod::instance::{failure_of, must_pull};
use crate::pod::journal::Kind;
use crate::pod::objects::logins::secret_logins;

/// A pull under way, and the start that waits for it.
pub(super) struct Pulling {
    c: C,
    restart: u32,
    puller: Puller,
    /// On the monotonic clock, in milliseconds.
    since: u64,
}

impl Supervisor {
    /// Begins to pull the image of a start, if it must be. None: the start can go on.
    pub(super) fn begin_pull(&mut self, c: C, restart: u32) -> Option<Event> {
        let begun = match must_pull(&self.ground.store, &container_of(&self.pod, c)) {
            Ok(None) => return None,
            Ok(Some(reference)) => {
                let image = self.spec.container(c).image.clone();
                self.tell_of(c, Kind::Normal, "Pulling", &format!("Pulling image {image:?}"));
                let ask = Ask { reference, settings: self.ground.places.registries.clone(), secrets: self.secret_logins(c) };
                Puller::start(&self.ground.store, &ask).and_then(|puller| {
                    self.poll.add(&puller, Source::Pull(c).token())?;
                    self.pulls.push(Pulling { c, restart, puller, since: now().mono });
                    Ok(())
                })
            }
            Err(error) => Err(error),
        };
        Some(match begun {
            Ok(()) => Event::Starting(c),
            Err(error) => self.not_pulled(c, failure_of(&error.reason("ErrImagePull"))),
        })
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
        let Some(at) = self.pulls.iter().position(|pulling| pulling.c == c) else { return };
        let last = self.pulls[at].puller.words().into_iter().rfind(|word| matches!(word, Word::Pulled { .. } | Word::Failed { .. }));
        let Some(last) = last else { return };
        let Pulling { restart, puller, since, .. } = self.pulls.remove(at);
        self.poll.remove(&puller);
        drop(puller);
        self.untrimmed = true;
        let event = match last {
            Word::Pulled { bytes, .. } => {
                let took = duration(now().mono.saturating_sub(since));
                let image = self.spec.container(c).image.clone();
                let message = format!("Successfully pulled image {image:?} in {took} ({took} including waiting). Image size: {bytes} bytes.");
                self.tell_of(c, Kind::Normal, "Pulled", &message);
                self.start(c, restart, true)
            }
            Word::Failed { message } => self.not_pulled(c, Failure { at: FailedAt::Image, reason: "ErrImagePull".into(), message }),
            _ => return,
        };
        self.act_upon(event);
    }

    /// Gives a pull up; nothing of it is left.
    pub(super) fn abort_pull(&mut self, c: C) -> Event {
        for pulling in self.pulls.extract_if(.., |pulling| pulling.c == c) {
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

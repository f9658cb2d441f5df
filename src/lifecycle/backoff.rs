//! When a container that ended may be started again (CrashLoopBackOff).
//!
//! ```text
//! start  end  start  end ....10s.... start  end ........20s........ start  …  300 s at most
//! ```
//!
//! The first restart is immediate. Then the wait doubles from 10 s, measured from the end. An instance that lived more than ten
//! minutes begins a new series. It applies to every end, good or bad, of every role (`doBackOff` in `kuberuntime_manager.go`,
//! client-go's `flowcontrol.Backoff`).
//!
//! A kill by a probe or for a resize is different: the kubelet kills and restarts in one go, so its back-off looks at the end *before* the one it
//! just caused. That is why the first two restarts after probe kills are immediate, and only the third waits.

use super::facts::Exit;

/// The longest wait, in milliseconds, unless the node is set to less.
pub const MAX_MS: u64 = 300_000;
/// The first wait, in milliseconds, unless the longest is shorter.
pub const FIRST_MS: u64 = 10_000;
/// An instance that lived longer than this (milliseconds) begins a new series. Fixed upstream, whatever the longest wait is.
pub const STABLE_MS: u64 = 600_000;

/// A container's series of restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Backoff {
    /// The wait after the next end, in milliseconds; 0: there is no series.
    pub delay: u64,
    /// When the last restart of the series was (monotonic milliseconds).
    pub at: u64,
}

impl Backoff {
    fn holds(self, end: u64) -> bool {
        self.delay > 0 && end.saturating_sub(self.at) <= STABLE_MS
    }

    /// The earliest moment for a restart after `exit`, the end before which was `last`.
    pub fn due(self, exit: &Exit, last: Option<&Exit>) -> u64 {
        let end = exit.finished.mono;
        let seen = match (exit.sentenced, last) {
            (false, _) => end,
            (true, Some(before)) => before.finished.mono,
            (true, None) => return end,
        };
        let waits = self.holds(seen) && end.saturating_sub(seen) < self.delay;
        if waits { end.saturating_add(self.delay) } else { end }
    }

    /// The series after a restart at `now` that followed `exit`.
    pub fn next(self, exit: &Exit, last: Option<&Exit>, max: u64, now: u64) -> Backoff {
        let end = exit.finished.mono;
        let seen = match (exit.sentenced, last) {
            (true, None) => return self,
            // It waited, so the kubelet's next look saw the end itself.
            (true, Some(before)) if self.due(exit, last) == end => before.finished.mono,
            _ => end,
        };
        let delay = if self.holds(seen) { self.delay.saturating_mul(2).min(max) } else { FIRST_MS.min(max) };
        Backoff { delay, at: now }
    }
}

//! When a pod that failed may be replaced (`pkg/controller/job/backoff_utils.go`).
//!
//! The wait doubles with each failure since the last success: 10, 20, 40 … seconds, ten minutes at most, from the last failure on.
//! (The documentation says six minutes; the code says ten since 1.28.) Failures that podFailurePolicy ignores make others wait as
//! well. With backoffLimitPerIndex each index has a series of its own.

use super::facts::{Facts, Made};
use super::spec::Spec;

/// The wait after the first failure, in milliseconds.
pub const FIRST_MS: u64 = 10_000;
/// The longest wait, in milliseconds, unless it is set to less.
pub const MAX_MS: u64 = 600_000;
/// The longest wait after a pod could not even be made (`MaxJobApiBackOff`); the first is a second.
const MAX_REFUSED_MS: u64 = 60_000;

fn doubled(first: u64, times: u32, max: u64) -> u64 {
    first.checked_shl(times.min(32)).unwrap_or(u64::MAX).min(max)
}

fn wait(spec: &Spec, failures: u32) -> u64 {
    failures.checked_sub(1).map_or(0, |before| doubled(FIRST_MS, before, spec.max_backoff))
}

/// The earliest moment for a replacement, over all pods.
pub(super) fn due(spec: &Spec, facts: &Facts) -> u64 {
    let last_success = facts.pods.iter().filter(|pod| pod.has_succeeded()).filter_map(|pod| pod.ended).max();
    let since = |pod: &&Made| pod.has_failed(spec) && last_success.is_none_or(|success| pod.failed_at() > success);
    let failures: Vec<u64> = facts.pods.iter().filter(since).map(Made::failed_at).collect();
    failures.iter().max().map_or(0, |last| last.saturating_add(wait(spec, failures.len().try_into().unwrap_or(u32::MAX))))
}

/// The earliest moment for a replacement of the last failed pod of an index.
pub(super) fn due_after(spec: &Spec, last: &Made) -> u64 {
    let (counted, ignored) = last.earlier_failures;
    last.failed_at().saturating_add(wait(spec, counted.saturating_add(ignored).saturating_add(1)))
}

/// The earliest moment to try again to make a pod, after that was refused so many times, the last time at `at`.
pub(super) fn due_refused(times: u32, at: u64) -> u64 {
    at.saturating_add(doubled(1000, times.saturating_sub(1), MAX_REFUSED_MS))
}

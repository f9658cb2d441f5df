//! The rows of a Job (batch/v1). Those of its pod template are the Pod's.

use super::{Row, SERVER, done, no_effect, refused};

#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    done("", "spec"),
    no_effect("", "status", SERVER),

    done("spec", "template completions parallelism completionMode backoffLimit backoffLimitPerIndex maxFailedIndexes activeDeadlineSeconds \
                  podFailurePolicy successPolicy podReplacementPolicy suspend ttlSecondsAfterFinished"),
    refused("spec", "selector", "is made from the job's uid; leave it out"),
    refused("spec", "manualSelector", "a job's pods are those that it made").but(&["false"]),
    refused("spec", "managedBy", "there is no other controller").but(&["\"kubernetes.io/job-controller\""]),
    done("spec.template", "metadata spec"),
    done("spec.podFailurePolicy", "rules"),
    done("spec.podFailurePolicy.rules[]", "action onExitCodes onPodConditions"),
    done("spec.podFailurePolicy.rules[].onExitCodes", "containerName operator values"),
    done("spec.podFailurePolicy.rules[].onPodConditions[]", "type status"),
    done("spec.successPolicy", "rules"),
    done("spec.successPolicy.rules[]", "succeededCount succeededIndexes"),
];

/// Objects in which a misplaced field is looked for.
pub const LANDMARKS: &[&str] = &["", "metadata", "spec", "spec.template", "spec.podFailurePolicy.rules[]", "spec.successPolicy.rules[]"];

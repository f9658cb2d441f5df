//! The rows of what makes pods of a template and keeps them (apps/v1). Those of the template are the Pod's.

use super::{Row, SERVER, done, no_effect, refused};

const ONCE: &str = "the pods are made once; nothing updates them";
const FORGOTTEN: &str = "no earlier template is remembered";
const UNCOUNTED: &str = "nothing counts the pods that are available";

/// What all of them have.
#[rustfmt::skip]
pub const COMMON: &[Row] = &[
    done("", "spec"),
    no_effect("", "status", SERVER),
    done("spec", "selector template"),
    done("spec.selector", "matchLabels matchExpressions"),
    done("spec.selector.matchLabels", "*"),
    done("spec.selector.matchExpressions[]", "key operator values"),
    done("spec.template", "metadata spec"),
    no_effect("spec", "minReadySeconds", UNCOUNTED).but(&["0"]),
];

#[rustfmt::skip]
pub const DEPLOYMENT: &[Row] = &[
    done("spec", "replicas"),
    no_effect("spec", "strategy", ONCE),
    no_effect("spec", "revisionHistoryLimit", FORGOTTEN),
    no_effect("spec", "progressDeadlineSeconds", ONCE),
    refused("spec", "paused", "there is nothing to pause").but(&["false"]),
];

pub const REPLICA_SET: &[Row] = &[done("spec", "replicas")];

#[rustfmt::skip]
pub const STATEFUL_SET: &[Row] = &[
    done("spec", "replicas serviceName ordinals volumeClaimTemplates persistentVolumeClaimRetentionPolicy"),
    no_effect("spec", "podManagementPolicy", "all pods start at once").but(&["\"Parallel\""]),
    no_effect("spec", "updateStrategy", ONCE),
    no_effect("spec", "revisionHistoryLimit", FORGOTTEN),
    done("spec.ordinals", "start"),
    done("spec.persistentVolumeClaimRetentionPolicy", "whenDeleted"),
    no_effect("spec.persistentVolumeClaimRetentionPolicy", "whenScaled", "nothing scales it").but(&["\"Retain\""]),
    done("spec.volumeClaimTemplates[]", "apiVersion kind metadata spec"),
    no_effect("spec.volumeClaimTemplates[]", "status", SERVER),
    done("spec.volumeClaimTemplates[].metadata", "name labels annotations"),
    no_effect("spec.volumeClaimTemplates[].metadata", "generateName namespace uid resourceVersion generation creationTimestamp deletionTimestamp \
              deletionGracePeriodSeconds managedFields selfLink ownerReferences finalizers", SERVER),
];

#[rustfmt::skip]
pub const DAEMON_SET: &[Row] = &[
    no_effect("spec", "updateStrategy", ONCE),
    no_effect("spec", "revisionHistoryLimit", FORGOTTEN),
];

/// Objects in which a misplaced field is looked for.
pub const LANDMARKS: &[&str] = &["", "metadata", "spec", "spec.selector", "spec.template"];

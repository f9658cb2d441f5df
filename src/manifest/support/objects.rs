//! The rows of a ConfigMap and of a Secret (core/v1).

use super::{Row, SERVER, done, no_effect};

#[rustfmt::skip]
pub const CONFIG_MAP: &[Row] = &[
    done("", "apiVersion kind metadata data binaryData immutable"),
    done("metadata", "name generateName namespace labels annotations"),
    no_effect("metadata", "uid resourceVersion generation creationTimestamp deletionTimestamp deletionGracePeriodSeconds managedFields selfLink", SERVER),
    no_effect("metadata", "ownerReferences finalizers", "no controller looks at it"),
    done("metadata.labels", "*"),
    done("metadata.annotations", "*"),
    done("data", "*"),
    done("binaryData", "*"),
];

#[rustfmt::skip]
pub const SECRET: &[Row] = &[
    done("", "apiVersion kind metadata data stringData immutable type"),
    done("metadata", "name generateName namespace labels annotations"),
    no_effect("metadata", "uid resourceVersion generation creationTimestamp deletionTimestamp deletionGracePeriodSeconds managedFields selfLink", SERVER),
    no_effect("metadata", "ownerReferences finalizers", "no controller looks at it"),
    done("metadata.labels", "*"),
    done("metadata.annotations", "*"),
    done("data", "*"),
    done("stringData", "*"),
];

/// Objects in which a misplaced field is looked for.
pub const LANDMARKS: &[&str] = &["", "metadata"];

//! The rows of what is kept for pods: ConfigMap, Secret, PersistentVolumeClaim, Service (core/v1).

use super::{ONE_DIRECTORY, Row, SERVER, done, no_effect, refused};

#[rustfmt::skip]
pub const CONFIG_MAP: &[Row] = &[
    done("", "data binaryData immutable"),
    done("data", "*"),
    done("binaryData", "*"),
];

#[rustfmt::skip]
pub const SECRET: &[Row] = &[
    done("", "data stringData immutable type"),
    done("data", "*"),
    done("stringData", "*"),
];

/// Objects in which a misplaced field is looked for.
pub const LANDMARKS: &[&str] = &["", "metadata"];

/// Of a PersistentVolumeClaim.
#[rustfmt::skip]
pub const CLAIM: &[Row] = &[
    done("", "spec"),
    no_effect("", "status", SERVER),
    done("spec", "accessModes resources volumeMode"),
    no_effect("spec", "storageClassName volumeAttributesClassName volumeName selector", ONE_DIRECTORY),
    refused("spec", "dataSource dataSourceRef", "nothing here copies volumes"),
    done("spec.resources", "requests limits"),
    done("spec.resources.requests", "*"),
    done("spec.resources.limits", "*"),
];

pub const CLAIM_LANDMARKS: &[&str] = &["", "metadata", "spec", "spec.resources"];

/// Of a Service.
#[rustfmt::skip]
pub const SERVICE: &[Row] = &[
    done("", "spec"),
    no_effect("", "status", SERVER),
    done("spec", "selector ports type externalName publishNotReadyAddresses"),
    no_effect("spec", "clusterIP", NO_ADDRESS).but(&["\"None\""]),
    no_effect("spec", "clusterIPs", NO_ADDRESS),
    no_effect("spec", "ipFamilies ipFamilyPolicy", "pods have one IPv4 address"),
    no_effect("spec", "sessionAffinity", NO_ADDRESS).but(&["\"None\""]),
    no_effect("spec", "sessionAffinityConfig internalTrafficPolicy trafficDistribution", NO_ADDRESS),
    no_effect("spec", "externalIPs externalTrafficPolicy healthCheckNodePort allocateLoadBalancerNodePorts loadBalancerClass loadBalancerIP \
                       loadBalancerSourceRanges", NOT_OUTSIDE),
    done("spec.selector", "*"),
    done("spec.ports[]", "name port protocol targetPort"),
    no_effect("spec.ports[]", "appProtocol", "nothing here looks at what is sent"),
    no_effect("spec.ports[]", "nodePort", NOT_OUTSIDE).but(&["0"]),
];

pub const SERVICE_LANDMARKS: &[&str] = &["", "metadata", "spec", "spec.ports[]"];

const NO_ADDRESS: &str = "a Service has no address of its own here: its name resolves to its pods";
const NOT_OUTSIDE: &str = "a Service is known to pods alone; reach one from outside with `minipod port-forward` or a hostPort";

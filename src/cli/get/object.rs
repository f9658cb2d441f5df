//! One object that is only kept as a line of `get`: `printConfigMap`, `printSecret`, `printPersistentVolumeClaim` and `printService` in `pkg/printers/internalversion/printers.go`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Kind, Line, Listed};
use crate::cli::duration;

/// The cells of an object that is only kept. Never what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRow {
    namespace: String,
    /// The cells before the age.
    cells: Vec<String>,
    age: String,
    /// Those after it, if all are shown.
    wide: Vec<String>,
}

impl Listed for ConfigMap {
    type Row = ObjectRow;
    const OF: Kind = Kind::ConfigMap;
    const HEADERS: &'static [&'static str] = &["NAME", "DATA", "AGE"];
    const WIDE_HEADERS: &'static [&'static str] = ConfigMap::HEADERS;

    fn row(&self, now: Timestamp) -> ObjectRow {
        let keys = self.data.iter().flatten().count() + self.binary_data.iter().flatten().count();
        row(&self.metadata, vec![keys.to_string()], vec![], now)
    }
}

impl Listed for Secret {
    type Row = ObjectRow;
    const OF: Kind = Kind::Secret;
    const HEADERS: &'static [&'static str] = &["NAME", "TYPE", "DATA", "AGE"];
    const WIDE_HEADERS: &'static [&'static str] = Secret::HEADERS;

    fn row(&self, now: Timestamp) -> ObjectRow {
        row(&self.metadata, vec![self.type_.clone().unwrap_or_default(), self.data.iter().flatten().count().to_string()], vec![], now)
    }
}

impl Listed for PersistentVolumeClaim {
    type Row = ObjectRow;
    const OF: Kind = Kind::PersistentVolumeClaim;
    const HEADERS: &'static [&'static str] = &["NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS MODES", "STORAGECLASS", "VOLUMEATTRIBUTESCLASS", "AGE"];
    const WIDE_HEADERS: &'static [&'static str] =
        &["NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS MODES", "STORAGECLASS", "VOLUMEATTRIBUTESCLASS", "AGE", "VOLUMEMODE"];

    fn row(&self, now: Timestamp) -> ObjectRow {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let cells = vec![
            status.phase.unwrap_or_default(),
            spec.volume_name.unwrap_or_default(),
            status.capacity.and_then(|capacity| capacity.get("storage").map(|size| size.0.clone())).unwrap_or_default(),
            access_modes(status.access_modes.as_deref().unwrap_or_default()),
            spec.storage_class_name.unwrap_or_default(),
            spec.volume_attributes_class_name.unwrap_or_else(|| "<unset>".into()),
        ];
        row(&self.metadata, cells, vec![spec.volume_mode.unwrap_or_else(|| "<unset>".into())], now)
    }
}

/// `GetAccessModesAsString`.
pub fn access_modes(modes: &[String]) -> String {
    let known = [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    known.iter().filter(|(mode, _)| modes.iter().any(|have| have == mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

impl Listed for Service {
    type Row = ObjectRow;
    const OF: Kind = Kind::Service;
    const HEADERS: &'static [&'static str] = &["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"];
    const WIDE_HEADERS: &'static [&'static str] = &["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"];

    fn row(&self, now: Timestamp) -> ObjectRow {
        let spec = self.spec.clone().unwrap_or_default();
        let joined = |all: Vec<String>| if all.is_empty() { "<none>".to_owned() } else { all.join(",") };
        let port = |port: &k8s_openapi::api::core::v1::ServicePort| format!("{}/{}", port.port, port.protocol.as_deref().unwrap_or("TCP"));
        let ports = joined(spec.ports.iter().flatten().map(port).collect());
        let selector = joined(spec.selector.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect());
        let text = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "<none>".into());
        let cells = vec![spec.type_.unwrap_or_default(), text(spec.cluster_ip), text(spec.external_name), ports];
        row(&self.metadata, cells, vec![selector], now)
    }
}

fn row(metadata: &ObjectMeta, cells: Vec<String>, wide: Vec<String>, now: Timestamp) -> ObjectRow {
    ObjectRow {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        cells: metadata.name.iter().cloned().chain(cells).collect(),
        age: duration::since(metadata.creation_timestamp.as_ref().map(|time| time.0), now),
        wide,
    }
}

impl Line for ObjectRow {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn cells(&self, wide: bool) -> Vec<&str> {
        let after: &[String] = if wide { &self.wide } else { &[] };
        self.cells.iter().chain([&self.age]).chain(after).map(String::as_str).collect()
    }

    fn same_but_for_age(&self, other: &ObjectRow) -> bool {
        (&self.namespace, &self.cells, &self.wide) == (&other.namespace, &other.cells, &other.wide)
    }
}

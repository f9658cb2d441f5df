//! What is kept for pods in `describe` (`describeConfigMap` and its like). Of a secret only the sizes are told.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Text, annotations, plain};
use crate::cli::get::access_modes;
use crate::cli::table::Columns;
use crate::network::dns::Endpoints;

fn head(metadata: &ObjectMeta) -> Text {
    let mut text = Text::default();
    text.field(0, "Name", Some(plain(&metadata.name)));
    text.field(0, "Namespace", Some(plain(&metadata.namespace)));
    text.list("Labels", metadata.labels.iter().flatten().map(|(key, value)| format!("{key}={value}")));
    annotations(&mut text, metadata.annotations.as_ref());
    text
}

pub fn config_map(map: &ConfigMap) -> String {
    let mut text = head(&map.metadata);
    text.at(0, format_args!("\nData\n====\n"));
    for (key, value) in map.data.iter().flatten() {
        text.at(0, format_args!("{key}:\n----\n{value}\n\n"));
    }
    text.at(0, format_args!("\nBinaryData\n====\n"));
    for (key, bytes) in map.binary_data.iter().flatten() {
        text.at(0, format_args!("{key}: {} bytes\n", bytes.0.len()));
    }
    text.at(0, format_args!("\n"));
    text.field(0, "Events", Some("<none>"));
    Columns::of_describe().align(&text.out)
}

pub fn secret(secret: &Secret) -> String {
    let mut text = head(&secret.metadata);
    text.at(0, format_args!("\n"));
    text.field(0, "Type", Some(plain(&secret.type_)));
    text.at(0, format_args!("\nData\n====\n"));
    secret.data.iter().flatten().for_each(|(key, bytes)| text.field(0, key, Some(format_args!("{} bytes", bytes.0.len()))));
    Columns::of_describe().align(&text.out)
}

/// `describePersistentVolumeClaim`.
pub fn claim(claim: &PersistentVolumeClaim, users: &[String]) -> String {
    let (spec, status) = (claim.spec.clone().unwrap_or_default(), claim.status.clone().unwrap_or_default());
    let mut text = Text::default();
    text.field(0, "Name", Some(plain(&claim.metadata.name)));
    text.field(0, "Namespace", Some(plain(&claim.metadata.namespace)));
    text.field(0, "StorageClass", Some(plain(&spec.storage_class_name)));
    text.field(0, "Status", Some(plain(&status.phase)));
    text.field(0, "Volume", Some(plain(&spec.volume_name)));
    text.list("Labels", claim.metadata.labels.iter().flatten().map(|(key, value)| format!("{key}={value}")));
    annotations(&mut text, claim.metadata.annotations.as_ref());
    let capacity = status.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
    text.field(0, "Capacity", Some(capacity.map_or("", |size| size.0.as_str())));
    text.field(0, "Access Modes", Some(access_modes(status.access_modes.as_deref().unwrap_or_default())));
    text.field(0, "VolumeMode", Some(plain(&spec.volume_mode)));
    text.list("Used By", users.iter().cloned());
    text.field(0, "Events", Some("<none>"));
    Columns::of_describe().align(&text.out)
}

/// `describeService`.
pub fn service(service: &Service, endpoints: &Endpoints) -> String {
    let spec = service.spec.clone().unwrap_or_default();
    let mut text = head(&service.metadata);
    text.list("Selector", spec.selector.iter().flatten().map(|(key, value)| format!("{key}={value}")));
    text.field(0, "Type", Some(plain(&spec.type_)));
    text.field(0, "IP", Some(plain(&spec.cluster_ip)));
    text.field(0, "External Name", spec.external_name.as_ref());
    for port in spec.ports.iter().flatten() {
        let (name, protocol) = (port.name.as_deref().filter(|name| !name.is_empty()).unwrap_or("<unset>"), port.protocol.as_deref().unwrap_or("TCP"));
        text.field(0, "Port", Some(format_args!("{name}  {}/{protocol}", port.port)));
        let (target, number) = match &port.target_port {
            Some(IntOrString::Int(number)) => (number.to_string(), Some(*number)),
            Some(IntOrString::String(name)) => (name.clone(), None),
            None => (port.port.to_string(), Some(port.port)),
        };
        text.field(0, "TargetPort", Some(format_args!("{target}/{protocol}")));
        let address = |ip: &std::net::Ipv4Addr| number.map_or_else(|| ip.to_string(), |number| format!("{ip}:{number}"));
        text.field(0, "Endpoints", Some(endpoints.pods.iter().map(|(ip, _)| address(ip)).collect::<Vec<_>>().join(",")));
    }
    text.field(0, "Events", Some("<none>"));
    Columns::of_describe().align(&text.out)
}

//! ConfigMaps and Secrets in `describe` (`describeConfigMap`, `describeSecret`). Of a secret only the sizes are told.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Text, annotations, plain};
use crate::cli::table::Columns;

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

//! What a pod can be told of itself: its fields, and the resources of its containers (`pkg/fieldpath`, `pkg/api/v1/resource/helpers.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::error::{Error, Result};
use crate::manifest::{Quantity, subscripted};

/// What this machine has for pods: a limit that is not set is as high as that.
#[derive(Debug, Clone, Copy)]
pub struct Allocatable {
    pub cpus: u64,
    /// In bytes.
    pub memory: u64,
    /// In bytes.
    pub storage: u64,
}

/// A field of the pod; empty if it is not set (yet). Errors: a path that no pod has.
pub fn field(pod: &Pod, path: &str) -> Result<String> {
    let (metadata, spec, status) = (&pod.metadata, pod.spec.as_ref(), pod.status.as_ref());
    let text = |field: Option<&String>| Ok(field.cloned().unwrap_or_default());
    if let Some((map, key)) = subscripted(path) {
        let map = match map {
            "metadata.labels" => &metadata.labels,
            "metadata.annotations" => &metadata.annotations,
            _ => return Err(unknown(path)),
        };
        return text(map.as_ref().and_then(|map| map.get(key)));
    }
    match path {
        "metadata.name" => text(metadata.name.as_ref()),
        "metadata.namespace" => text(metadata.namespace.as_ref()),
        "metadata.uid" => text(metadata.uid.as_ref()),
        "metadata.labels" => Ok(lines(metadata.labels.as_ref())),
        "metadata.annotations" => Ok(lines(metadata.annotations.as_ref())),
        "spec.nodeName" => text(spec.and_then(|spec| spec.node_name.as_ref())),
        // The API server gives every pod one.
        "spec.serviceAccountName" => Ok(spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_else(|| "default".into())),
        "status.hostIP" => text(status.and_then(|status| status.host_ip.as_ref())),
        "status.podIP" => text(status.and_then(|status| status.pod_ip.as_ref())),
        "status.hostIPs" => Ok(joined(status.and_then(|status| status.host_ips.as_ref()).into_iter().flatten().map(|ip| ip.ip.as_str()))),
        "status.podIPs" => Ok(joined(status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten().map(|ip| ip.ip.as_str()))),
        _ => Err(unknown(path)),
    }
}

fn unknown(path: &str) -> Error {
    Error::said(format!("unsupported fieldPath: {path}"))
}

fn joined<'a>(ips: impl Iterator<Item = &'a str>) -> String {
    ips.collect::<Vec<_>>().join(",")
}

/// `key="value"`, one to a line, by key (`FormatMap`).
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value))).collect::<Vec<_>>().join("\n")
}

/// As Go's `strconv.Quote`.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            control if control.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(control))),
            control if control.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A limit or a request of a container in units of the divisor, rounded up. A request that is not set is 0; a limit is as high as that of
/// the pod as a whole, or as what the machine has.
pub fn resource(pod: &Pod, container: &Container, asked: &ResourceFieldSelector, machine: Allocatable) -> Result<String> {
    let unknown = || Error::said(format!("unsupported container resource : {}", asked.resource));
    let (list, name) = asked.resource.split_once('.').ok_or_else(unknown)?;
    let resources = container.resources.as_ref();
    let whole = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let given = |list: Option<&BTreeMap<String, _>>| list.and_then(|list| list.get(name)).cloned();
    let text = match list {
        "limits" => given(resources.and_then(|resources| resources.limits.as_ref())).or_else(|| given(whole.and_then(|whole| whole.limits.as_ref()))),
        "requests" => given(resources.and_then(|resources| resources.requests.as_ref())),
        _ => return Err(unknown()),
    };
    let amount = text.and_then(|text| Quantity::parse(&text.0).ok()).filter(|amount| *amount != Quantity::ZERO);
    let divisor = asked.divisor.as_ref().and_then(|text| Quantity::parse(&text.0).ok()).filter(|divisor| *divisor != Quantity::ZERO);
    let is_limit = list == "limits";
    // A CPU is counted in thousandths, all else in bytes.
    let (amount, all, divisor) = match name {
        "cpu" => (amount.map(Quantity::milli_cpus), machine.cpus.saturating_mul(1000), divisor.map_or(1000, Quantity::milli_cpus)),
        "memory" => (amount.map(Quantity::bytes), machine.memory, divisor.map_or(1, Quantity::bytes)),
        "ephemeral-storage" => (amount.map(Quantity::bytes), machine.storage, divisor.map_or(1, Quantity::bytes)),
        huge if huge.starts_with("hugepages-") => (amount.map(Quantity::bytes), 0, divisor.map_or(1, Quantity::bytes)),
        _ => return Err(unknown()),
    };
    let amount = amount.map_or(if is_limit { all } else { 0 }, |amount| u64::try_from(amount).unwrap_or(0));
    Ok(amount.div_ceil(u64::try_from(divisor).unwrap_or(1).max(1)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "shop", "uid": "u-1", "labels": {"b": "2", "a": "one"}, "annotations": {"x.y/note": "two\nlines \"é\"\u{1}"}},
            "spec": {"containers": [], "nodeName": "n"},
            "status": {"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}], "hostIP": "192.0.2.1", "hostIPs": [{"ip": "192.0.2.1"}]},
        }))
        .unwrap()
    }

    #[test]
    fn each_field_has_its_text() {
        for (path, value) in [
            ("metadata.name", "p"),
            ("metadata.namespace", "shop"),
            ("metadata.uid", "u-1"),
            ("metadata.labels['a']", "one"),
            ("metadata.labels['none']", ""),
            ("metadata.annotations['x.y/note']", "two\nlines \"é\"\u{1}"),
            ("metadata.labels", "a=\"one\"\nb=\"2\""),
            ("metadata.annotations", "x.y/note=\"two\\nlines \\\"é\\\"\\x01\""),
            ("spec.nodeName", "n"),
            ("spec.serviceAccountName", "default"),
            ("status.podIP", "10.0.0.2"),
            ("status.podIPs", "10.0.0.2,fd00::2"),
            ("status.hostIP", "192.0.2.1"),
            ("status.hostIPs", "192.0.2.1"),
        ] {
            assert_eq!(field(&pod(), path).unwrap(), value, "{path}");
        }
        assert!(field(&pod(), "status.phase").is_err() && field(&pod(), "metadata.name['a']").is_err());
    }

    #[test]
    fn a_resource_is_divided_and_rounded_up_and_an_unset_limit_is_all_there_is() {
        let container: Container = serde_json::from_value(json!({
            "name": "c", "resources": {"limits": {"cpu": "1250m", "memory": "64Mi"}, "requests": {"memory": "1500k"}}
        }))
        .unwrap();
        let bare = Container::default();
        let machine = Allocatable { cpus: 4, memory: 8 << 30, storage: 3 };
        for (container, resource_name, divisor, value) in [
            (&container, "limits.cpu", None, "2"),
            (&container, "limits.cpu", Some("0"), "2"),
            (&container, "limits.cpu", Some("1m"), "1250"),
            (&container, "limits.memory", None, "67108864"),
            (&container, "limits.memory", Some("1Mi"), "64"),
            (&container, "limits.memory", Some("1M"), "68"),
            (&container, "requests.memory", Some("1Mi"), "2"),
            (&container, "requests.cpu", None, "0"),
            (&bare, "limits.cpu", None, "4"),
            (&bare, "limits.memory", Some("1Gi"), "8"),
            (&bare, "limits.ephemeral-storage", None, "3"),
            (&bare, "limits.hugepages-2Mi", None, "0"),
        ] {
            let asked: ResourceFieldSelector = serde_json::from_value(json!({"resource": resource_name, "divisor": divisor})).unwrap();
            assert_eq!(resource(&pod(), container, &asked, machine).unwrap(), value, "{resource_name} {divisor:?}");
        }
        let asked = ResourceFieldSelector { resource: "limits.pods".into(), ..Default::default() };
        assert!(resource(&pod(), &bare, &asked, machine).is_err());
        let mut limited = pod();
        limited.spec.as_mut().unwrap().resources = serde_json::from_value(json!({"limits": {"cpu": "1500m"}})).unwrap();
        let asked: ResourceFieldSelector = serde_json::from_value(json!({"resource": "limits.cpu", "divisor": "1m"})).unwrap();
        assert_eq!(resource(&limited, &bare, &asked, machine).unwrap(), "1500", "the limit of the pod as a whole");
    }
}

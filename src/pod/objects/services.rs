//! Services: the name of the pods that a selector matches. What the EndpointSlice controller knows is read from the pods themselves, at
//! the moment somebody asks for the name.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use serde::Deserialize;

use super::{Kept, Objects};
use crate::network::dns::{Endpoints, Port, Services};
use crate::pod::dir::{PodDir, names, read_json};
use crate::pod::places::Places;
use crate::sys::process;

impl Kept for Service {
    const PLURAL: &'static str = "services";
    const MODE: u32 = 0o644;

    fn same_content(&self, other: &Service) -> bool {
        self.spec == other.spec
    }

    /// Every Service with pods is headless: a cluster's own addresses mean nothing here.
    fn settle(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if spec.type_.as_deref() != Some("ExternalName") {
            (spec.cluster_ip, spec.cluster_ips) = (Some("None".into()), Some(vec!["None".into()]));
        }
    }
}

/// Finds the pods of Services.
#[derive(Debug)]
pub struct Selected {
    places: Places,
}

/// What of a pod's object says whether a Service leads to it. Not the whole Pod: this is read for every pod with every question.
#[derive(Debug, Deserialize)]
struct Seen {
    metadata: SeenMetadata,
    #[serde(default)]
    status: SeenStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SeenMetadata {
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    deletion_timestamp: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct SeenStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<Ipv4Addr>,
    #[serde(default)]
    conditions: Vec<SeenCondition>,
}

#[derive(Debug, Deserialize)]
struct SeenCondition {
    r#type: String,
    status: String,
}

impl Seen {
    /// The rules of the EndpointSlice controller: an address, not ended, and ready unless that does not matter.
    fn endpoint(&self, spec: &ServiceSpec) -> Option<Ipv4Addr> {
        let selected = spec.selector.iter().flatten().all(|(key, value)| self.metadata.labels.get(key) == Some(value));
        let ended = matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let ready = self.metadata.deletion_timestamp.is_none() && self.status.conditions.iter().any(|it| it.r#type == "Ready" && it.status == "True");
        self.status.pod_ip.filter(|_| selected && !ended && (ready || spec.publish_not_ready_addresses == Some(true)))
    }
}

impl Selected {
    pub fn new(places: &Places) -> Selected {
        Selected { places: places.clone() }
    }
}

impl Services for Selected {
    /// What cannot be read is as if it were not there: whoever asks will ask again.
    fn find(&self, namespace: &str, name: &str) -> Option<Endpoints> {
        let service: Service = Objects::new(&self.places, namespace).read(name).ok()??;
        let spec = service.spec.unwrap_or_default();
        if spec.type_.as_deref() == Some("ExternalName") {
            return Some(Endpoints { external_name: spec.external_name, ..Default::default() });
        }
        let ports = spec.ports.iter().flatten().filter_map(Port::of).collect();
        // One without a selector has the endpoints that somebody gives it; nobody can here.
        if spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
            return Some(Endpoints { ports, ..Default::default() });
        }
        let endpoint = |pod: String| {
            let dir = PodDir::new(&self.places, namespace, &pod);
            let ip = read_json::<Seen>(&dir.path().join("pod.json")).ok()??.endpoint(&spec)?;
            // One whose supervisor was killed has not told its end.
            dir.is_supervised().then_some((ip, pod))
        };
        let mut pods: Vec<_> = names(&self.places.pods().join(namespace)).unwrap_or_default().into_iter().filter_map(endpoint).collect();
        // Most clients take the first: each question begins with another pod, as a cluster's DNS does it.
        let first = process::random_bytes::<1>().map_or(0, |[byte]| usize::from(byte));
        let count = pods.len().max(1);
        pods.rotate_left(first % count);
        Some(Endpoints { pods, ports, external_name: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(labels: Value, ready: &str, more: Value) -> Seen {
        let mut status = json!({ "phase": "Running", "podIP": "10.77.0.2", "conditions": [{ "type": "Ready", "status": ready }] });
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({ "metadata": { "labels": labels }, "spec": {}, "status": status })).unwrap()
    }

    #[test]
    fn a_service_leads_to_ready_pods_that_its_selector_matches() {
        let spec = |publish: bool| ServiceSpec {
            selector: Some([("app".to_owned(), "w".to_owned())].into()),
            publish_not_ready_addresses: Some(publish),
            ..Default::default()
        };
        let mine = json!({ "app": "w", "tier": "x" });
        for (pod, ready_only, any) in [
            (pod(mine.clone(), "True", json!({})), true, true),
            (pod(mine.clone(), "False", json!({})), false, true),
            (pod(json!({ "app": "other" }), "True", json!({})), false, false),
            (pod(json!({}), "True", json!({})), false, false),
            (pod(mine.clone(), "True", json!({ "phase": "Succeeded" })), false, false),
            (pod(mine, "True", json!({ "podIP": null })), false, false),
        ] {
            assert_eq!((pod.endpoint(&spec(false)).is_some(), pod.endpoint(&spec(true)).is_some()), (ready_only, any), "{pod:?}");
        }
    }
}

//! What minipod does with each field of an object: one table for each kind, three verdicts.
//!
//! ```text
//! Done            the field does what Kubernetes says
//! NoEffect(why)   accepted, and says why it means nothing on one machine
//! Refused(why)    a fault before anything starts; values that equal the default are fine
//! ```
//!
//! A row that is not `Done` decides everything beneath it. The table is also the list of the fields there are: "did you
//! mean" reads it, and a test compares it with Kubernetes' own types. `spec.containers[]` stands for init containers too.
//!
//! A kind may hold a template of another: of a Pod, of a claim. What is in it is judged by that kind's own rows, so nothing can be right
//! in one and wrong in the other.

mod fields;
mod job;
mod objects;
mod workload;

use serde_json::Value;

use super::fault::{Findings, Kind};
use super::path::Step;
use super::tree::{Node, Place};

pub use fields::Field;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Done,
    NoEffect(&'static str),
    Refused(&'static str),
}

/// A set of fields of one object with one verdict.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The object: `spec.containers[].ports[]`; empty for the top.
    pub under: &'static str,
    /// Field names, blank separated; `*` is any key of a map, `hugepages-*` any that begins so.
    pub fields: &'static str,
    pub verdict: Verdict,
    /// When a field that is not `Done` may be set all the same, in silence.
    pub fine: Fine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fine {
    Never,
    /// These values (as JSON) change nothing.
    Values(&'static [&'static str]),
}

const fn done(under: &'static str, fields: &'static str) -> Row {
    Row { under, fields, verdict: Verdict::Done, fine: Fine::Never }
}

const fn no_effect(under: &'static str, fields: &'static str, why: &'static str) -> Row {
    Row { under, fields, verdict: Verdict::NoEffect(why), fine: Fine::Never }
}

const fn refused(under: &'static str, fields: &'static str, why: &'static str) -> Row {
    Row { under, fields, verdict: Verdict::Refused(why), fine: Fine::Never }
}

impl Row {
    const fn but(mut self, values: &'static [&'static str]) -> Row {
        self.fine = Fine::Values(values);
        self
    }
}

const NO_SELINUX: &str = "minipod gives no SELinux labels";
const SERVER: &str = "filled by the server";
const ONE_NODE: &str = "there is one node, and every pod runs on it";
const NO_SCHEDULER: &str = "there is no scheduler";
const ONE_DIRECTORY: &str = "a claim is a directory of its own on this machine";

const CONTAINER: &str = "spec.containers[]";
const SECURITY: &str = "spec.containers[].securityContext";
const POD_SECURITY: &str = "spec.securityContext";
/// Of each kind of probe, and of each `httpGet`.
const PROBE: &str =
    "exec httpGet tcpSocket grpc initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold terminationGracePeriodSeconds";
const HTTP_GET: &str = "path port host scheme httpHeaders";

const FIELD_REF: &str = "apiVersion fieldPath";
const RESOURCE_FIELD_REF: &str = "containerName resource divisor";
/// An item of a volume made of a ConfigMap or a Secret; one made of the pod itself.
const KEY_TO_PATH: &str = "key path mode";
const DOWNWARD_FILE: &str = "path mode fieldRef resourceFieldRef";

/// The rows of one kind of object.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Those of every object first.
    parts: &'static [&'static [Row]],
    /// Objects in which a misplaced field is looked for.
    landmarks: &'static [&'static str],
    /// What is another kind's beneath them, unless the table says something itself.
    templates: &'static [Template],
}

/// A place that holds another kind of object.
#[derive(Debug, Clone, Copy)]
struct Template {
    /// With the dot after it: `spec.template.`.
    at: &'static str,
    kind: &'static str,
    table: &'static Table,
}

const POD_TEMPLATE: Template = Template { at: "spec.template.", kind: "Pod", table: &POD };

const CLAIM_TEMPLATE: Template = Template { at: "spec.volumeClaimTemplates[].", kind: "PersistentVolumeClaim", table: &CLAIM };
const EPHEMERAL: Template = Template { at: "spec.volumes[].ephemeral.volumeClaimTemplate.", ..CLAIM_TEMPLATE };

pub const POD: Table = Table { parts: &[OBJECT, TABLE], landmarks: LANDMARKS, templates: &[EPHEMERAL] };
pub const JOB: Table = Table { parts: &[OBJECT, job::TABLE], landmarks: job::LANDMARKS, templates: &[POD_TEMPLATE] };
pub const CONFIG_MAP: Table = Table { parts: &[OBJECT, objects::CONFIG_MAP], landmarks: objects::LANDMARKS, templates: &[] };
pub const SECRET: Table = Table { parts: &[OBJECT, objects::SECRET], landmarks: objects::LANDMARKS, templates: &[] };
pub const CLAIM: Table = Table { parts: &[OBJECT, objects::CLAIM], landmarks: objects::CLAIM_LANDMARKS, templates: &[] };
pub const SERVICE: Table = Table { parts: &[OBJECT, objects::SERVICE], landmarks: objects::SERVICE_LANDMARKS, templates: &[] };
pub const DEPLOYMENT: Table = workload(&[OBJECT, workload::COMMON, workload::DEPLOYMENT], &[POD_TEMPLATE]);
pub const REPLICA_SET: Table = workload(&[OBJECT, workload::COMMON, workload::REPLICA_SET], &[POD_TEMPLATE]);
pub const STATEFUL_SET: Table = workload(&[OBJECT, workload::COMMON, workload::STATEFUL_SET], &[POD_TEMPLATE, CLAIM_TEMPLATE]);
pub const DAEMON_SET: Table = workload(&[OBJECT, workload::COMMON, workload::DAEMON_SET], &[POD_TEMPLATE]);

const fn workload(parts: &'static [&'static [Row]], templates: &'static [Template]) -> Table {
    Table { parts, landmarks: workload::LANDMARKS, templates }
}

/// Every kind that is read.
pub const KINDS: &[(&str, Table)] = &[
    ("Pod", POD),
    ("Job", JOB),
    ("ConfigMap", CONFIG_MAP),
    ("Secret", SECRET),
    ("PersistentVolumeClaim", CLAIM),
    ("Service", SERVICE),
    ("Deployment", DEPLOYMENT),
    ("ReplicaSet", REPLICA_SET),
    ("StatefulSet", STATEFUL_SET),
    ("DaemonSet", DAEMON_SET),
];

/// What every object has.
#[rustfmt::skip]
const OBJECT: &[Row] = &[
    done("", "apiVersion kind metadata"),
    done("metadata", "name generateName namespace labels annotations"),
    no_effect("metadata", "uid resourceVersion generation creationTimestamp deletionTimestamp deletionGracePeriodSeconds managedFields selfLink", SERVER),
    no_effect("metadata", "ownerReferences finalizers", "no controller looks at it"),
    done("metadata.labels", "*"),
    done("metadata.annotations", "*"),
];

#[rustfmt::skip]
const TABLE: &[Row] = &[
    done("", "spec"),
    no_effect("", "status", SERVER),

    done("spec", "containers initContainers volumes restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds hostNetwork resources \
                  hostPID hostIPC hostUsers shareProcessNamespace hostname hostnameOverride subdomain setHostnameAsFQDN hostAliases dnsPolicy dnsConfig \
                  securityContext os imagePullSecrets"),
    done("spec.imagePullSecrets[]", "name"),
    no_effect("spec", "affinity nodeSelector nodeName tolerations topologySpreadConstraints overhead", ONE_NODE),
    no_effect("spec", "schedulerName priority priorityClassName preemptionPolicy", NO_SCHEDULER).but(&["\"default-scheduler\"", "0"]),
    no_effect("spec", "serviceAccount serviceAccountName", "there is no API server to be known to; only a serviceAccountToken bears its name")
        .but(&["\"default\""]),
    no_effect("spec", "automountServiceAccountToken", "there is no API server: a token is mounted where a volume asks for one, and nowhere else").but(&["false"]),
    no_effect("spec", "enableServiceLinks", "a Service has no address of its own here").but(&["true", "false"]),
    no_effect("spec", "runtimeClassName", "minipod is the only runtime"),
    refused("spec", "ephemeralContainers", "cannot be set on create"),
    refused("spec", "readinessGates", "nothing here would ever set such a condition"),
    refused("spec", "schedulingGates schedulingGroup", "nothing here would ever open it: the pod would not start"),
    refused("spec", "resourceClaims", "there is no driver for it"),
    refused("spec.os", "name", "only linux runs here").but(&["\"linux\""]),

    done("spec.hostAliases[]", "ip hostnames"),
    done("spec.dnsConfig", "nameservers searches options"),
    done("spec.dnsConfig.options[]", "name value"),

    done("spec.resources", "limits requests"),
    refused("spec.resources", "claims", "there is no driver for it"),
    done("spec.resources.limits", "cpu memory hugepages-*"),
    refused("spec.resources.limits", "*", "only cpu, memory and huge pages are supported"),
    done("spec.resources.requests", "cpu memory hugepages-*"),
    refused("spec.resources.requests", "*", "only cpu, memory and huge pages are supported"),

    done(POD_SECURITY, "runAsUser runAsGroup supplementalGroups seccompProfile appArmorProfile"),
    done(POD_SECURITY, "runAsNonRoot supplementalGroupsPolicy fsGroup fsGroupChangePolicy sysctls"),
    refused(POD_SECURITY, "seLinuxOptions", NO_SELINUX),
    no_effect(POD_SECURITY, "seLinuxChangePolicy", "there are no SELinux options"),
    refused(POD_SECURITY, "windowsOptions", "only linux runs here"),
    done("spec.securityContext.sysctls[]", "name value"),
    done("spec.securityContext.seccompProfile", "type localhostProfile"),
    done("spec.securityContext.appArmorProfile", "type localhostProfile"),

    done(CONTAINER, "name image imagePullPolicy command args workingDir ports env envFrom volumeMounts resources restartPolicy restartPolicyRules \
                     terminationMessagePath terminationMessagePolicy stdin stdinOnce tty securityContext lifecycle livenessProbe readinessProbe \
                     startupProbe resizePolicy"),
    done("spec.containers[].resizePolicy[]", "resourceName restartPolicy"),
    refused(CONTAINER, "volumeDevices", "raw block volumes are not supported"),
    done("spec.containers[].livenessProbe", PROBE),
    done("spec.containers[].livenessProbe.exec", "command"),
    done("spec.containers[].livenessProbe.httpGet", HTTP_GET),
    done("spec.containers[].livenessProbe.httpGet.httpHeaders[]", "name value"),
    done("spec.containers[].livenessProbe.tcpSocket", "host port"),
    done("spec.containers[].livenessProbe.grpc", "port service"),
    done("spec.containers[].readinessProbe", PROBE),
    done("spec.containers[].readinessProbe.exec", "command"),
    done("spec.containers[].readinessProbe.httpGet", HTTP_GET),
    done("spec.containers[].readinessProbe.httpGet.httpHeaders[]", "name value"),
    done("spec.containers[].readinessProbe.tcpSocket", "host port"),
    done("spec.containers[].readinessProbe.grpc", "port service"),
    done("spec.containers[].startupProbe", PROBE),
    done("spec.containers[].startupProbe.exec", "command"),
    done("spec.containers[].startupProbe.httpGet", HTTP_GET),
    done("spec.containers[].startupProbe.httpGet.httpHeaders[]", "name value"),
    done("spec.containers[].startupProbe.tcpSocket", "host port"),
    done("spec.containers[].startupProbe.grpc", "port service"),
    done("spec.containers[].lifecycle", "postStart preStop stopSignal"),
    done("spec.containers[].lifecycle.postStart", "exec httpGet sleep"),
    refused("spec.containers[].lifecycle.postStart", "tcpSocket", "no kubelet can run it"),
    done("spec.containers[].lifecycle.postStart.exec", "command"),
    done("spec.containers[].lifecycle.postStart.httpGet", HTTP_GET),
    done("spec.containers[].lifecycle.postStart.httpGet.httpHeaders[]", "name value"),
    done("spec.containers[].lifecycle.postStart.sleep", "seconds"),
    done("spec.containers[].lifecycle.preStop", "exec httpGet sleep"),
    refused("spec.containers[].lifecycle.preStop", "tcpSocket", "no kubelet can run it"),
    done("spec.containers[].lifecycle.preStop.exec", "command"),
    done("spec.containers[].lifecycle.preStop.httpGet", HTTP_GET),
    done("spec.containers[].lifecycle.preStop.httpGet.httpHeaders[]", "name value"),
    done("spec.containers[].lifecycle.preStop.sleep", "seconds"),
    done("spec.containers[].ports[]", "name containerPort protocol hostPort hostIP"),
    done("spec.containers[].env[]", "name value valueFrom"),
    done("spec.containers[].env[].valueFrom", "fieldRef resourceFieldRef configMapKeyRef secretKeyRef fileKeyRef"),
    done("spec.containers[].env[].valueFrom.fieldRef", FIELD_REF),
    done("spec.containers[].env[].valueFrom.resourceFieldRef", RESOURCE_FIELD_REF),
    done("spec.containers[].env[].valueFrom.configMapKeyRef", "name key optional"),
    done("spec.containers[].env[].valueFrom.secretKeyRef", "name key optional"),
    done("spec.containers[].env[].valueFrom.fileKeyRef", "volumeName path key optional"),
    done("spec.containers[].envFrom[]", "prefix configMapRef secretRef"),
    done("spec.containers[].envFrom[].configMapRef", "name optional"),
    done("spec.containers[].envFrom[].secretRef", "name optional"),
    done("spec.containers[].volumeMounts[]", "name mountPath readOnly subPath subPathExpr"),
    done("spec.containers[].volumeMounts[]", "mountPropagation recursiveReadOnly"),
    done("spec.containers[].resources", "limits requests"),
    refused("spec.containers[].resources", "claims", "there is no driver for it"),
    done("spec.containers[].resources.limits", "cpu memory hugepages-*"),
    no_effect("spec.containers[].resources.limits", "ephemeral-storage", "what a container writes to its disk is not limited"),
    refused("spec.containers[].resources.limits", "*", "only cpu, memory and huge pages are supported"),
    done("spec.containers[].resources.requests", "cpu memory hugepages-*"),
    no_effect("spec.containers[].resources.requests", "ephemeral-storage", ONE_NODE),
    refused("spec.containers[].resources.requests", "*", "only cpu, memory and huge pages are supported"),
    done("spec.containers[].restartPolicyRules[]", "action exitCodes"),
    done("spec.containers[].restartPolicyRules[].exitCodes", "operator values"),
    done(SECURITY, "runAsUser runAsGroup capabilities readOnlyRootFilesystem allowPrivilegeEscalation seccompProfile appArmorProfile \
                     privileged runAsNonRoot procMount"),
    refused(SECURITY, "seLinuxOptions", NO_SELINUX),
    refused(SECURITY, "windowsOptions", "only linux runs here"),
    done("spec.containers[].securityContext.capabilities", "add drop"),
    done("spec.containers[].securityContext.seccompProfile", "type localhostProfile"),
    done("spec.containers[].securityContext.appArmorProfile", "type localhostProfile"),

    done("spec.volumes[]", "name emptyDir hostPath configMap secret downwardAPI projected image persistentVolumeClaim ephemeral"),
    done("spec.volumes[].image", "reference pullPolicy"),
    done("spec.volumes[].persistentVolumeClaim", "claimName readOnly"),
    done("spec.volumes[].ephemeral", "volumeClaimTemplate"),
    done("spec.volumes[].ephemeral.volumeClaimTemplate", "metadata spec"),
    done("spec.volumes[].ephemeral.volumeClaimTemplate.metadata", "labels annotations"),
    no_effect("spec.volumes[].ephemeral.volumeClaimTemplate.metadata", "name generateName namespace uid resourceVersion generation creationTimestamp \
              deletionTimestamp deletionGracePeriodSeconds managedFields selfLink ownerReferences finalizers", SERVER),
    done("spec.volumes[].emptyDir", "medium sizeLimit"),
    done("spec.volumes[].hostPath", "path type"),
    done("spec.volumes[].configMap", "name items defaultMode optional"),
    done("spec.volumes[].configMap.items[]", KEY_TO_PATH),
    done("spec.volumes[].secret", "secretName items defaultMode optional"),
    done("spec.volumes[].secret.items[]", KEY_TO_PATH),
    done("spec.volumes[].downwardAPI", "items defaultMode"),
    done("spec.volumes[].downwardAPI.items[]", DOWNWARD_FILE),
    done("spec.volumes[].downwardAPI.items[].fieldRef", FIELD_REF),
    done("spec.volumes[].downwardAPI.items[].resourceFieldRef", RESOURCE_FIELD_REF),
    done("spec.volumes[].projected", "sources defaultMode"),
    done("spec.volumes[].projected.sources[]", "configMap secret downwardAPI serviceAccountToken"),
    done("spec.volumes[].projected.sources[].serviceAccountToken", "path audience expirationSeconds"),
    done("spec.volumes[].projected.sources[].configMap", "name items optional"),
    done("spec.volumes[].projected.sources[].configMap.items[]", KEY_TO_PATH),
    done("spec.volumes[].projected.sources[].secret", "name items optional"),
    done("spec.volumes[].projected.sources[].secret.items[]", KEY_TO_PATH),
    done("spec.volumes[].projected.sources[].downwardAPI", "items"),
    done("spec.volumes[].projected.sources[].downwardAPI.items[]", DOWNWARD_FILE),
    done("spec.volumes[].projected.sources[].downwardAPI.items[].fieldRef", FIELD_REF),
    done("spec.volumes[].projected.sources[].downwardAPI.items[].resourceFieldRef", RESOURCE_FIELD_REF),
    refused("spec.volumes[].projected.sources[]", "clusterTrustBundle podCertificate", "there is no cluster that would issue it"),
    refused("spec.volumes[]", "awsElasticBlockStore azureDisk azureFile cephfs cinder csi fc flexVolume flocker gcePersistentDisk gitRepo glusterfs \
                               iscsi nfs photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume",
            "network and cloud volumes are not supported"),
];

/// Those of a Pod.
const LANDMARKS: &[&str] = &[
    "",
    "metadata",
    "spec",
    CONTAINER,
    "spec.containers[].ports[]",
    "spec.containers[].volumeMounts[]",
    "spec.containers[].resources",
    "spec.containers[].resources.limits",
    SECURITY,
    "spec.containers[].securityContext.capabilities",
    POD_SECURITY,
    "spec.volumes[]",
    "spec.dnsConfig",
];

impl Table {
    /// The table that judges an object, and its name there.
    fn home<'u>(&self, under: &'u str) -> (Table, &'u str) {
        let template = self.templates.iter().find_map(|template| Some((template.table, under.strip_prefix(template.at)?)));
        match template {
            Some((table, rest)) if !self.rows().any(|row| row.under == under) => table.home(rest),
            _ => (*self, under),
        }
    }

    pub fn is_landmark(&self, object: &str) -> bool {
        let (table, object) = self.home(object);
        table.landmarks.contains(&object)
    }

    pub fn rows(&self) -> impl Iterator<Item = &'static Row> + use<> {
        self.parts.iter().copied().flatten()
    }

    /// The field names of an object.
    pub fn fields(&self, under: &str) -> impl Iterator<Item = &'static str> {
        let (table, under) = self.home(under);
        table.rows().filter(move |row| row.under == under).flat_map(|row| row.fields.split_whitespace()).filter(|field| !field.ends_with('*'))
    }

    /// The objects that have a field of this name, the shallow ones of the kind itself first.
    pub fn homes(&self, name: &str) -> Vec<String> {
        let having = self.rows().filter(|row| row.fields.split_whitespace().any(|field| field == name)).map(|row| row.under.to_owned());
        // A template has no `apiVersion` and the like: what stands at an object's top is its `metadata` and its `spec`.
        let below = self.templates.iter().flat_map(|template| template.table.homes(name).into_iter().map(move |under| (template.at, under)));
        having.chain(below.filter(|(_, under)| !under.is_empty()).map(|(at, under)| format!("{at}{under}"))).collect()
    }

    /// The row that judges a field. A named field comes before `*`.
    pub fn row(&self, under: &str, name: &str) -> Option<&'static Row> {
        let (table, under) = self.home(under);
        let find = |fits: &dyn Fn(&str) -> bool| table.rows().find(|row| row.under == under && row.fields.split_whitespace().any(fits));
        let begins = |field: &str| field != "*" && field.strip_suffix('*').is_some_and(|start| name.starts_with(start));
        find(&|field| field == name).or_else(|| find(&begins)).or_else(|| find(&|field| field == "*"))
    }
}

/// The object at a path, as the table names it.
pub fn pattern(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Index(_) => text.push_str("[]"),
            Step::Field(name) | Step::Key(name) | Step::Within(name) => push_field(&mut text, name),
        }
    }
    text
}

fn push_field(text: &mut String, name: &str) {
    if !text.is_empty() {
        text.push('.');
    }
    text.push_str(match name {
        "initContainers" | "ephemeralContainers" if text == "spec." || text.ends_with(".spec.") => "containers",
        name => name,
    });
}

/// Judges every field that a manifest sets: what is refused becomes a fault, what has no effect a warning.
pub fn judge(tree: &Place, table: &Table, findings: &mut Findings) {
    Judge { table, findings }.walk(tree, &mut Vec::new(), &mut String::new());
}

struct Judge<'a, 't> {
    table: &'a Table,
    findings: &'a mut Findings<'t>,
}

impl Judge<'_, '_> {
    fn walk(&mut self, place: &Place, steps: &mut Vec<Step>, under: &mut String) {
        let length = under.len();
        match &place.node {
            Node::Scalar(_) => {}
            Node::List(items) => {
                under.push_str("[]");
                for (index, item) in items.iter().enumerate() {
                    steps.push(Step::Index(index));
                    self.walk(item, steps, under);
                    steps.pop();
                }
            }
            Node::Map(entries) => {
                for entry in entries.iter().filter(|entry| is_set(&entry.value)) {
                    steps.push(Step::Field(entry.key.clone()));
                    let row = self.table.row(under, &entry.key);
                    if row.is_none_or(|row| row.verdict == Verdict::Done) {
                        push_field(under, &entry.key);
                        self.walk(&entry.value, steps, under);
                    } else if let Some(row) = row
                        && !row.allows(&entry.value)
                    {
                        tell(row, steps, self.findings);
                    }
                    under.truncate(length);
                    steps.pop();
                }
            }
        }
        under.truncate(length);
    }
}

/// Whether a value is more than an absent field: Kubernetes treats null, an empty list and an empty string as absent.
fn is_set(place: &Place) -> bool {
    match &place.node {
        Node::Scalar(Value::Null) => false,
        Node::Scalar(Value::String(text)) => !text.is_empty(),
        Node::List(items) => !items.is_empty(),
        Node::Scalar(_) | Node::Map(_) => true,
    }
}

impl Row {
    fn allows(&self, place: &Place) -> bool {
        match self.fine {
            Fine::Never => false,
            Fine::Values(values) => match &place.node {
                Node::Scalar(value) => values.contains(&value.to_string().as_str()),
                Node::List(_) | Node::Map(_) => false,
            },
        }
    }
}

fn tell(row: &Row, steps: &[Step], findings: &mut Findings) {
    match row.verdict {
        Verdict::Done | Verdict::NoEffect(SERVER) => {}
        Verdict::NoEffect(why) => findings.no_effect(steps, why),
        Verdict::Refused(why) => {
            findings.add(steps.to_vec(), Kind::NotSupported, None, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_judged_once() {
        for (_, table) in KINDS {
            let mut seen = std::collections::HashSet::new();
            for row in table.rows() {
                for field in row.fields.split_whitespace() {
                    assert!(seen.insert((row.under, field)), "{}.{field} stands twice", row.under);
                }
            }
        }
    }

    #[test]
    fn init_containers_are_judged_as_containers() {
        let path = |name: &str| [Step::Field("spec".into()), Step::Field(name.into()), Step::Index(2), Step::Field("ports".into())];
        assert_eq!(pattern(&path("initContainers")), "spec.containers[].ports");
        assert_eq!(pattern(&path("containers")), "spec.containers[].ports");
    }

    #[test]
    fn a_template_is_judged_as_the_pod_that_it_will_be() {
        assert_eq!(JOB.row("spec.template.spec", "hostPID").map(|row| row.verdict), POD.row("spec", "hostPID").map(|row| row.verdict));
        assert!(JOB.row("spec", "containers").is_none());
        assert!(JOB.fields("spec.template.spec.containers[]").any(|field| field == "image"));
        let claim = "spec.volumes[].ephemeral.volumeClaimTemplate";
        for (table, claim) in [(POD, claim), (JOB, &format!("spec.template.{claim}")), (STATEFUL_SET, "spec.volumeClaimTemplates[]")] {
            assert_eq!(table.row(&format!("{claim}.spec"), "dataSource").map(|row| row.verdict), CLAIM.row("spec", "dataSource").map(|row| row.verdict));
            assert_ne!(table.row(&format!("{claim}.metadata"), "namespace").map(|row| row.verdict), Some(Verdict::Done), "{claim}");
        }
    }

    #[test]
    fn every_landmark_is_an_object_of_the_table() {
        for (_, table) in KINDS {
            assert!(table.landmarks.iter().all(|landmark| table.fields(landmark).next().is_some()));
        }
    }
}

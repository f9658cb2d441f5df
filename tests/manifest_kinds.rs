//! Claims, Services and workloads: the API server's rules in its words, and what is said where one machine differs.

mod judged;

use judged::{expect, faults};
use minipod::manifest::{self, Object};

fn warnings(text: &str) -> Vec<String> {
    manifest::read(text, "f").unwrap_or_else(|faults| panic!("{faults}")).warnings.iter().map(ToString::to_string).collect()
}

fn claim(spec: &str) -> String {
    format!("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: c}}\nspec: {spec}\n")
}

fn service(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {spec}\n")
}

fn workload(kind: &str, more: &str, template: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: web}}\nspec:\n  selector: {{matchLabels: {{app: w}}}}\n  {more}\n  template:\n    \
         metadata: {{labels: {{app: w}}}}\n    spec: {{containers: [{{name: c, image: i}}], {template}}}\n"
    )
}

#[test]
fn a_claim_says_how_much_and_for_whom() {
    expect(&claim("{accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}"), &[]);
    expect(&claim("{}"), &["spec.accessModes: Required value: at least 1 access mode is required", "spec.resources[storage]: Required value"]);
    expect(&claim("{accessModes: [RWO], resources: {requests: {storage: 1Gi}}}"), &["spec.accessModes: Unsupported value: \"RWO\": supported values:"]);
    expect(
        &claim("{accessModes: [ReadWriteOncePod, ReadWriteOnce], resources: {requests: {storage: 0}}}"),
        &[
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            "spec.resources.requests[storage]: Invalid value: \"0\": must be greater than zero",
        ],
    );
    expect(&claim("{accessModes: [ReadWriteOnce], volumeMode: Block, resources: {requests: {storage: 1}}}"), &["spec.volumeMode: raw block volumes"]);
    let class = warnings(&claim("{accessModes: [ReadWriteOnce], storageClassName: fast, resources: {requests: {storage: 1Gi}}}"));
    assert!(class.len() == 1 && class[0].starts_with("spec.storageClassName: has no effect here: "), "{class:?}");
}

#[test]
fn a_volume_names_its_claim_or_makes_one() {
    let pod = |volume: &str| {
        let container = "{name: c, image: i, volumeMounts: [{name: v, mountPath: /v}]}";
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{container}], volumes: [{{name: v, {volume}}}]}}\n")
    };
    let lacking = "spec.containers[0].volumeMounts[0].name: Not found";
    expect(&pod("persistentVolumeClaim: {claimName: c, readOnly: true}"), &[]);
    expect(&pod("persistentVolumeClaim: {}"), &[lacking, "spec.volumes[0].persistentVolumeClaim.claimName: Required value"]);
    expect(&pod("ephemeral: {}"), &[lacking, "spec.volumes[0].ephemeral.volumeClaimTemplate: Required value"]);
    expect(
        &pod("ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce]}}}"),
        &[lacking, "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value"],
    );
}

#[test]
fn a_service_is_headless_and_says_where_that_shows() {
    let text = service("{selector: {app: w}, clusterIP: None, ports: [{port: 80}]}");
    assert_eq!(warnings(&text), [""; 0]);
    let loaded = manifest::read(&text, "f").unwrap();
    let [Object::Service(kept)] = loaded.objects.as_slice() else { panic!("{loaded:?}") };
    let spec = kept.spec.as_ref().unwrap();
    assert_eq!(
        (spec.cluster_ip.as_deref(), spec.type_.as_deref(), spec.ports.as_ref().unwrap()[0].protocol.as_deref()),
        (Some("None"), Some("ClusterIP"), Some("TCP"))
    );
    for (spec, said) in [
        ("{selector: {app: w}, ports: [{port: 80, targetPort: 8080}]}", "spec.ports[0].targetPort: nothing translates port 80: connect to port 8080 itself"),
        ("{selector: {app: w}, ports: [{port: 80, targetPort: http}]}", "spec.ports[0].targetPort: nothing translates port 80: connect to the port that"),
        ("{selector: {app: w}, type: NodePort, ports: [{port: 80}]}", "spec.type: NodePort has no effect here"),
        ("{selector: {app: w}, type: ClusterIP, sessionAffinity: ClientIP, ports: [{port: 80}]}", "spec.sessionAffinity: has no effect here"),
        ("{selector: {app: w}, ports: [{port: 80, appProtocol: http}]}", "spec.ports[0].appProtocol: has no effect here"),
        ("{selector: {app: w}, clusterIP: 10.0.0.1, ports: [{port: 80}]}", "spec.clusterIP: has no effect here"),
        ("{ports: [{port: 80}]}", "spec.selector: without it the name resolves to nothing"),
    ] {
        let told = warnings(&service(spec));
        assert!(told.len() == 1 && told[0].starts_with(said), "{told:?}");
    }
    assert_eq!(warnings(&service("{type: ExternalName, externalName: example.org}")), [""; 0]);
    for (spec, said) in [
        ("{type: ExternalName}", "spec.externalName: Required value"),
        ("{type: ExternalName, externalName: a_b}", "spec.externalName: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain"),
        ("{type: ExternalName, externalName: a, clusterIP: None}", "spec.clusterIPs: Forbidden: may not be set for ExternalName services"),
        ("{selector: {app: w}}", "spec.ports: Required value"),
        ("{selector: {app: w}, ports: [{port: 80, nodePort: 30080}]}", "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"),
        (
            "{selector: {app: w}, type: NodePort, clusterIP: None, ports: [{port: 80}]}",
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort",
        ),
    ] {
        expect(&service(spec), &[said]);
    }
    expect(
        &service("{selector: {app: w}, ports: [{port: 0}, {name: a, port: 80}, {name: a, port: 80, protocol: ICMP}]}"),
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[0].targetPort: Invalid value: 0",
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535",
            "spec.ports[2].name: Duplicate value: \"a\"",
            "spec.ports[2].protocol: Unsupported value: \"ICMP\"",
        ],
    );
}

#[test]
fn a_workload_is_judged_as_the_pods_that_it_makes() {
    for kind in ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"] {
        expect(&workload(kind, "", ""), &[]);
        let told = warnings(&workload(kind, "", ""));
        assert_eq!(told, ["spec.replicas: one pod is made once: no controller is here that would replace, update or scale"]);
        expect(&workload(kind, "", "restartPolicy: Never"), &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""]);
        expect(&workload(kind, "", "dnsPolicy: None"), &["spec.template.spec.dnsConfig: Required value"]);
    }
    expect(&workload("Deployment", "replicas: -1", ""), &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]);
    expect(&workload("Deployment", "replicas: 2000000000", ""), &["spec.replicas: at most 1000 on one machine"]);
    expect(&workload("Deployment", "selektor: {}", ""), &["unknown field \"spec.selektor\""]);
    expect(&workload("Deployment", "", "").replace("matchLabels: {app: w}", ""), &["spec.selector: Required value"]);
    let other = workload("Deployment", "", "").replace("matchLabels: {app: w}", "matchExpressions: [{key: app, operator: NotIn, values: [w]}]");
    expect(&other, &["spec.template.metadata.labels: Invalid value: {\"app\": \"w\"}: `selector` does not match template `labels`"]);
    let told = warnings(&workload("Deployment", "replicas: 2\n  strategy: {type: Recreate}", ""));
    assert!(told.len() == 2 && told[0].starts_with("spec.strategy: has no effect here") && told[1].contains("2 pods are made once"), "{told:?}");
}

#[test]
fn a_template_of_claims_is_judged_as_a_claim() {
    let templates = "volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce]}}, {spec: {accessModes: [ReadWriteOnce], \
                     resources: {requests: {storage: 1Gi}}}}]";
    let found = faults(&workload("StatefulSet", templates, ""));
    for said in ["spec.volumeClaimTemplates[0].spec.resources[storage]: Required value", "spec.volumeClaimTemplates[1].metadata.name: Required value"] {
        assert!(found.iter().any(|found| found.starts_with(said)), "{found:#?}");
    }
}

#[test]
fn a_cron_job_is_refused_with_what_to_do() {
    let found = faults("apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\nspec: {schedule: '* * * * *'}\n");
    assert!(found.len() == 1 && found[0].contains("kind CronJob is not supported") && found[0].contains("make its jobTemplate a Job"), "{found:?}");
}

//! ConfigMaps and Secrets, and what pods ask of them: the API server's rules in its words.

mod judged;

use judged::{expect, faults};
use minipod::manifest::{self, Object};

fn map(rest: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\n{rest}")
}

fn secret(rest: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n{rest}")
}

fn pod(container: &str, volumes: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers: [{{name: c, image: i, {container}}}]\n  volumes: {volumes}\n")
}

fn env(source: &str) -> String {
    pod(&format!("env: [{{name: A, valueFrom: {source}}}]"), "[{name: e}, {name: h, hostPath: {path: /}}]")
}

#[test]
fn string_data_becomes_data_and_overrides_it() {
    let text = secret("data: {a: b25l, b: dHdv}\nstringData: {b: three, c: '1'}\n");
    let loaded = manifest::read(&text, "f").unwrap();
    let [Object::Secret(secret)] = loaded.objects.as_slice() else { panic!("{loaded:?}") };
    let data: Vec<_> = secret.data.iter().flatten().map(|(key, bytes)| (key.as_str(), std::str::from_utf8(&bytes.0).unwrap())).collect();
    assert_eq!(data, [("a", "one"), ("b", "three"), ("c", "1")]);
    assert_eq!((secret.string_data.as_ref(), secret.type_.as_deref()), (None, Some("Opaque")));
    assert_eq!(secret.metadata.namespace.as_deref(), Some("default"));
}

#[test]
fn objects_stand_beside_pods_in_files_and_lists() {
    let text = format!(
        "{}---\n{}---\napiVersion: v1\nkind: List\nitems: [{{apiVersion: v1, kind: ConfigMap, metadata: {{name: other}}}}]\n",
        map("data: {a: b}\n"),
        pod("", "[]")
    );
    let loaded = manifest::read(&text, "f").unwrap();
    assert!(matches!(loaded.objects.as_slice(), [Object::ConfigMap(_), Object::Pod(_), Object::ConfigMap(_)]), "{loaded:?}");
}

#[test]
fn keys_and_values_follow_their_rules() {
    expect(&map("data: {a.b-c_D: x}\nbinaryData: {b: AAEC}\nimmutable: true\n"), &[]);
    expect(&map("data: {a/b: x}"), &["data[a/b]: Invalid value: \"a/b\": a valid config key must consist of"]);
    expect(&map("data: {..: x}"), &["data[..]: Invalid value: \"..\": must not be '..'"]);
    expect(&map("data: {..a: x}"), &["data[..a]: Invalid value: \"..a\": must not start with '..'"]);
    expect(
        &map("data: {a: x}\nbinaryData: {a: AAEC}"),
        &["data[a]: Invalid value: \"a\": duplicate of key present in binaryData", "binaryData[a]: Invalid value: \"a\": duplicate of key present in data"],
    );
    expect(&map("data: {a: 1}"), &["data.a: wrong type: 1: must be a string, not a number"]);
    expect(&map("daata: {a: x}"), &["unknown field \"daata\""]);
    expect(&map("binaryData: {a: '%'}"), &["binaryData.a: wrong type"]);
    expect(&map(&format!("data: {{a: {}}}", "x".repeat((1 << 20) + 1))), &["data: Too long: may not be more than 1048576 bytes"]);
    expect(&secret("stringData: {a b: x}"), &["data[a b]: Invalid value: \"a b\": a valid config key"]);
    expect(&secret("type: kubernetes.io/tls\nstringData: {tls.crt: x}"), &["data[tls.key]: Required value"]);
    expect(&secret("type: kubernetes.io/basic-auth"), &["data[username]: Required value", "data[password]: Required value"]);
}

#[test]
fn what_a_variable_is_taken_from_is_judged() {
    expect(&env("{fieldRef: {fieldPath: status.podIP}}"), &[]);
    expect(&env("{fieldRef: {fieldPath: \"metadata.labels['a.b/c']\"}}"), &[]);
    let of = "spec.containers[0].env[0].valueFrom.";
    for (source, said) in [
        ("{fieldRef: {}}", "fieldRef.fieldPath: Required value"),
        (
            "{fieldRef: {fieldPath: metadata.foo}}",
            "fieldRef.fieldPath: Invalid value: \"metadata.foo\": error converting fieldPath: field label not supported: metadata.foo",
        ),
        ("{fieldRef: {fieldPath: metadata.labels}}", "fieldRef.fieldPath: Unsupported value: \"metadata.labels\": supported values: \"metadata.name\""),
        (
            "{fieldRef: {fieldPath: \"spec.nodeName['a']\"}}",
            "fieldRef.fieldPath: Invalid value: \"spec.nodeName['a']\": error converting fieldPath: field label does not support",
        ),
        ("{fieldRef: {fieldPath: \"metadata.labels['-']\"}}", "fieldRef: Invalid value: \"-\": name part must consist of"),
        (
            "{fieldRef: {apiVersion: v2, fieldPath: metadata.name}}",
            "fieldRef.fieldPath: Invalid value: \"metadata.name\": error converting fieldPath: unsupported pod version: v2",
        ),
        ("{resourceFieldRef: {resource: limits.gpu}}", "resourceFieldRef.resource: Unsupported value: \"limits.gpu\": supported values: \"limits.cpu\""),
        (
            "{resourceFieldRef: {resource: limits.cpu, divisor: 2}}",
            "resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported",
        ),
        (
            "{resourceFieldRef: {resource: limits.memory, divisor: 1m}}",
            "resourceFieldRef.divisor: Invalid value: \"limits.memory\": only divisor's values 1, 1k",
        ),
        ("{configMapKeyRef: {name: m}}", "configMapKeyRef.key: Required value"),
        ("{configMapKeyRef: {key: k}}", "configMapKeyRef.name: Required value"),
        ("{secretKeyRef: {name: s, key: ../k}}", "secretKeyRef.key: Invalid value: \"../k\""),
        ("{fileKeyRef: {volumeName: none, path: f, key: K}}", "fileKeyRef.volumeName: Not found: \"none\""),
        ("{fileKeyRef: {volumeName: h, path: f, key: K}}", "fileKeyRef.volumeName: Invalid value: \"h\": the referenced volume must be of type emptyDir"),
        ("{fileKeyRef: {volumeName: e, path: ../f, key: K}}", "fileKeyRef.path: Invalid value: \"../f\": must not contain '..'"),
    ] {
        let found = faults(&env(source));
        assert!(found.iter().any(|found| found.starts_with(&format!("{of}{said}"))), "{source}: {found:#?}");
    }
    let all = "spec.containers[0].envFrom";
    for (source, said) in [
        ("{prefix: P_}", format!("{all}: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`")),
        ("{configMapRef: {name: a}, secretRef: {name: b}}", format!("{all}: Invalid value: \"\": may not have more than one field specified at a time")),
        ("{secretRef: {}}", format!("{all}[0].secretRef.name: Required value")),
        ("{prefix: 'P=', configMapRef: {name: a}}", format!("{all}[0].prefix: Invalid value: \"P=\": a valid environment variable name")),
    ] {
        expect(&pod(&format!("envFrom: [{source}]"), "[]"), &[&said]);
    }
}

#[test]
fn volumes_of_objects_are_judged() {
    expect(&pod("", "[{name: v, configMap: {name: m, defaultMode: 0400, items: [{key: k, path: a/b, mode: 256}]}}]"), &[]);
    expect(
        &pod("", "[{name: v, projected: {sources: [{secret: {name: s}}, {downwardAPI: {items: [{path: file, fieldRef: {fieldPath: metadata.name}}]}}]}}]"),
        &[],
    );
    let v = "spec.volumes[0].";
    for (volume, said) in [
        ("configMap: {}", "configMap.name: Required value"),
        ("secret: {}", "secret.secretName: Required value"),
        ("secret: {secretName: s, defaultMode: 512}", "secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive"),
        ("configMap: {name: m, items: [{path: p}]}", "configMap.items[0].key: Required value"),
        ("configMap: {name: m, items: [{key: k}]}", "configMap.items[0].path: Required value"),
        ("configMap: {name: m, items: [{key: k, path: /p}]}", "configMap.items[0].path: Invalid value: \"/p\": must be a relative path"),
        ("configMap: {name: m, items: [{key: k, path: a/../..}]}", "configMap.items[0].path: Invalid value: \"a/../..\": must not contain '..'"),
        ("configMap: {name: m, items: [{key: k, path: ..data}]}", "configMap.items[0].path: Invalid value: \"..data\": must not start with '..'"),
        ("downwardAPI: {items: [{path: p}]}", "downwardAPI.items[0]: Required value: one of fieldRef and resourceFieldRef is required"),
        (
            "downwardAPI: {items: [{path: p, fieldRef: {fieldPath: status.podIP}}]}",
            "downwardAPI.items[0].fieldRef.fieldPath: Unsupported value: \"status.podIP\"",
        ),
        ("downwardAPI: {items: [{path: p, resourceFieldRef: {resource: limits.cpu}}]}", "downwardAPI.items[0].resourceFieldRef.containerName: Required value"),
        (
            "projected: {sources: [{configMap: {name: m, items: [{key: k, path: p}]}}, {secret: {name: s, items: [{key: k, path: p}]}}]}",
            "projected: Invalid value: \"s\": conflicting duplicate paths",
        ),
        (
            "projected: {sources: [{configMap: {name: m}, secret: {name: s}}]}",
            "projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
        ),
    ] {
        let found = faults(&pod("", &format!("[{{name: v, {volume}}}]")));
        assert!(found.iter().any(|found| found.starts_with(&format!("{v}{said}"))), "{volume}: {found:#?}");
    }
    for (token, said) in [
        ("{}", "serviceAccountToken.path: Required value"),
        ("{path: t, expirationSeconds: 599}", "serviceAccountToken.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"),
        ("{path: t, expirationSeconds: 4294967297}", "Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds"),
        ("{path: ../t}", "serviceAccountToken.path: Invalid value: \"../t\": must not contain '..'"),
        ("{path: t}", "serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set"),
    ] {
        let found = faults(&pod("", &format!("[{{name: v, projected: {{sources: [{{serviceAccountToken: {token}}}]}}}}]")));
        assert!(found.iter().any(|found| found.contains(said)), "{token}: {found:#?}");
    }
}

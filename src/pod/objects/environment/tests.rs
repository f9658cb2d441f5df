use super::*;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};

/// Two ConfigMaps and a Secret.
struct Known;

impl Sources for Known {
    fn config_map(&self, name: &str) -> Result<Option<ConfigMap>> {
        let data = match name {
            "one" => json!({"A": "1a", "B": "1b", "odd.key-name": "odd"}),
            "two" => json!({"B": "2b", "C": "$(A)"}),
            _ => return Ok(None),
        };
        Ok(Some(serde_json::from_value(json!({"metadata": {"name": name}, "data": data, "binaryData": {"BIN": "AAEC"}})).unwrap()))
    }

    fn secret(&self, name: &str) -> Result<Option<Secret>> {
        let data = json!({"pw": "b3BlbnNlc2FtZQ==", "bytes": "//79", "nul": "YQBi"});
        Ok((name == "hidden").then(|| serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).unwrap()))
    }
}

fn of(container: Value) -> Result<Environment> {
    let mut container: Value = container;
    container["name"] = json!("c");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "shop", "labels": {"a": "one"}}, "spec": {"containers": [container]}
    }))
    .unwrap();
    let file = |asked: &FileKeySelector| Ok((asked.path == "env").then(|| "K='from file'\n".to_owned()));
    let origin = Origin { pod: &pod, sources: &Known, machine: Allocatable { cpus: 2, memory: 1 << 30, storage: 0 }, file: &file };
    origin.environment(&pod.spec.as_ref().unwrap().containers[0])
}

/// Demands that a container has just these variables.
#[track_caller]
fn has(container: Value, expected: &[(&str, &str)]) {
    let expected: Environment = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(of(container).unwrap(), expected);
}

#[test]
fn later_sources_override_earlier_ones_with_their_prefixes_and_env_overrides_all() {
    has(
        json!({"envFrom": [{"configMapRef": {"name": "one"}}, {"configMapRef": {"name": "two"}}]}),
        &[("A", "1a"), ("B", "2b"), ("C", "$(A)"), ("odd.key-name", "odd")],
    );
    has(
        json!({"envFrom": [{"prefix": "P_", "configMapRef": {"name": "two"}}], "env": [{"name": "P_B", "value": "mine"}, {"name": "X", "value": "$(P_B)+$(P_C)"}]}),
        &[("P_B", "mine"), ("P_C", "$(A)"), ("X", "mine+$(A)")],
    );
}

#[test]
fn a_value_sees_what_stands_before_it_and_is_read_once() {
    has(
        json!({"env": [
            {"name": "A", "value": "one"}, {"name": "B", "value": "$(A)-two"}, {"name": "C", "value": "$$(A) $(LATER) $(NONE) $$ $x $(A"},
            {"name": "LATER", "value": "later"}, {"name": "EMPTY", "value": ""}, {"name": "D", "value": "[$(EMPTY)]"}, {"name": "A", "value": "again-$(A)"},
            {"name": "E", "value": "$(A)$(HOSTNAME)$(C)"},
        ]}),
        &[
            ("A", "again-one"),
            ("B", "one-two"),
            ("C", "$(A) $(LATER) $(NONE) $ $x $(A"),
            ("LATER", "later"),
            ("EMPTY", ""),
            ("D", "[]"),
            ("E", "again-one$(HOSTNAME)$(A) $(LATER) $(NONE) $ $x $(A"),
        ],
    );
}

#[test]
fn keys_fields_resources_and_files_become_variables() {
    has(
        json!({"env": [
            {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "one", "key": "A"}}},
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "pw"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "FILE", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "env", "key": "K"}}},
            {"name": "RAW", "valueFrom": {"configMapKeyRef": {"name": "two", "key": "C"}}},
        ]}),
        &[("KEY", "1a"), ("PW", "opensesame"), ("LABEL", "one"), ("CPU", "2"), ("FILE", "from file"), ("RAW", "$(A)")],
    );
}

#[test]
fn what_is_optional_and_missing_is_absent_and_not_empty() {
    has(
        json!({
            "envFrom": [{"configMapRef": {"name": "none", "optional": true}}, {"secretRef": {"name": "none", "optional": true}}, {"configMapRef": {"name": "two"}}],
            "env": [
                {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "one", "key": "none", "optional": true}}},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "none", "key": "none", "optional": true}}},
                {"name": "F", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "none", "key": "K", "optional": true}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": true}}},
            ],
        }),
        &[("B", "2b"), ("C", "$(A)")],
    );
}

#[test]
fn what_is_missing_is_told_in_the_kubelets_words() {
    let key = |source: &str, name: &str, key: &str| json!({"env": [{"name": "X", "valueFrom": {source: {"name": name, "key": key}}}]});
    for (container, said) in [
        (json!({"envFrom": [{"configMapRef": {"name": "nowhere"}}]}), "configmap \"nowhere\" not found"),
        (json!({"envFrom": [{"secretRef": {"name": "nowhere"}}]}), "secret \"nowhere\" not found"),
        (key("configMapKeyRef", "nowhere", "k"), "configmap \"nowhere\" not found"),
        (key("configMapKeyRef", "one", "none"), "couldn't find key none in ConfigMap shop/one"),
        (key("secretKeyRef", "hidden", "none"), "couldn't find key none in Secret shop/hidden"),
        (
            json!({"env": [{"name": "X", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "env", "key": "none"}}}]}),
            "environment variable key \"none\" not found in file \"env\"",
        ),
        (key("secretKeyRef", "hidden", "bytes"), "key bytes in Secret shop/hidden is not UTF-8, so it cannot be a variable; use a volume"),
        (key("secretKeyRef", "hidden", "nul"), "the value of X holds a NUL byte, which no environment variable can"),
    ] {
        let error = of(container).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.reason), (said, Some("CreateContainerConfigError")));
    }
}

#[test]
fn a_sub_path_expression_needs_all_its_variables_and_stays_inside() {
    let env: Environment = [("POD", "p"), ("EMPTY", ""), ("UP", ".."), ("ROOT", "/tmp")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    for (expression, expected) in [
        ("$(POD)/logs", Ok("p/logs")),
        ("$$(POD)", Ok("$(POD)")),
        ("$(NONE)", Err("missing value for NONE")),
        ("a/$(EMPTY)", Err("missing value for EMPTY")),
        ("$(UP)", Err("unable to provision SubPath `..`: must not contain '..'")),
        ("$(POD)/$(UP)/x", Err("unable to provision SubPath `p/../x`: must not contain '..'")),
        ("$(ROOT)", Err("error SubPath `/tmp` must not be an absolute path")),
    ] {
        let path = expanded_path(expression, &env).map_err(|error| error.to_string());
        assert_eq!(path.as_deref().map_err(String::as_str), expected, "{expression}");
    }
}

//! What Go's `omitempty` leaves out: a field that a manifest sets to nothing is not in the object that a cluster stores.
//!
//! A field that is a pointer in Go keeps its zero (`runAsNonRoot: false`), a plain one loses it (`hostNetwork: false`); an
//! empty object stays (`emptyDir: {}`), an empty map goes (`labels: {}`). So the plain fields are listed here, without those
//! that a default has filled.

use serde_json::Value;

/// Lists that are printed though they are empty.
const KEPT_LISTS: &[&str] = &["containers", "sources", "nodeSelectorTerms", "rules", "values"];
/// Maps whose keys are the user's: nothing below them is a field.
const MAPS: &[&str] = &["labels", "annotations", "nodeSelector", "limits", "requests", "matchLabels", "overhead", "data", "binaryData", "stringData"];
/// Booleans, numbers and texts.
const PLAIN: &[&str] = &[
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "stdin",
    "stdinOnce",
    "tty",
    "readOnly",
    "hostPort",
    "initialDelaySeconds",
    "generateName",
    "hostname",
    "subdomain",
    "nodeName",
    "serviceAccountName",
    "serviceAccount",
    "priorityClassName",
    "workingDir",
    "hostIP",
    "host",
    "subPath",
    "subPathExpr",
    "prefix",
    "medium",
    "containerName",
    "effect",
];

/// Removes what says nothing from an object's JSON, and from all below it.
pub fn remove(value: &mut Value) {
    below(value, "");
}

/// `of` is the field that the value is of; that of a list, for its items.
fn below(value: &mut Value, of: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| below(item, of)),
        Value::Object(fields) => {
            // The value of a variable is plain; that of a header or of a sysctl is always there.
            let of_variable = |name: &str, value: &Value| of == "env" && name == "value" && value == "";
            fields.retain(|name, value| !says_nothing(name, value) && !of_variable(name, value));
            fields.iter_mut().filter(|(name, _)| !MAPS.contains(&name.as_str())).for_each(|(name, value)| below(value, name));
        }
        _ => {}
    }
}

fn says_nothing(name: &str, value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty() && !KEPT_LISTS.contains(&name),
        Value::Object(fields) => fields.is_empty() && MAPS.contains(&name),
        value => PLAIN.contains(&name) && (value == false || value == 0 || value == ""),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_says_nothing_goes_and_what_is_a_pointer_stays() {
        let mut object = json!({ "metadata": { "labels": {}, "name": "a" }, "spec": {
            "hostNetwork": false, "volumes": [], "nodeSelector": { "hostname": "" }, "hostUsers": false, "securityContext": {},
            "containers": [{ "name": "a", "stdin": false, "env": [{ "name": "X", "value": "" }], "ports": [{ "containerPort": 1, "hostPort": 0 }],
                "livenessProbe": { "httpGet": { "httpHeaders": [{ "name": "h", "value": "" }] } }, "resources": { "limits": {} } }] } });
        remove(&mut object);
        assert_eq!(
            object,
            json!({ "metadata": { "name": "a" }, "spec": { "nodeSelector": { "hostname": "" }, "hostUsers": false, "securityContext": {},
                "containers": [{ "name": "a", "env": [{ "name": "X" }], "ports": [{ "containerPort": 1 }],
                    "livenessProbe": { "httpGet": { "httpHeaders": [{ "name": "h", "value": "" }] } }, "resources": {} }] } })
        );
    }
}

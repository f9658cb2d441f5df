//! Manifests of cases: small busybox pods whose containers tell a common story.

use serde_json::{Value, json};

/// Defines `say`: one line `UPTIME NAME WORDS` at the end of the story. Appending is atomic, so the lines are in true order.
const SAY: &str = "say() { read -r up idle </proc/uptime; echo \"$up NAME $*\" >>/story/lines; }; ";

/// Starts, stays for so many seconds, ends with `code`.
pub fn once(stay: &str, code: i32) -> String {
    format!("say Starting; sleep {stay}; say Exiting; exit {code}")
}

/// Runs until it is told to stop, then takes `stay` seconds to end with `code`.
pub fn serve(stay: &str, code: i32) -> String {
    format!("trap 'say Term; sleep {stay}; say Exiting; exit {code}' TERM; say Started; sleep 100000 & wait")
}

/// Says it started, then does nothing until the case lets it go on by [`World::touch`](crate::world::World::touch).
pub fn until(file: &str, code: i32) -> String {
    format!("say Starting; {}; say Exiting; exit {code}", await_file(file))
}

/// A shell command that returns when `file` is in the story's directory.
pub fn await_file(file: &str) -> String {
    format!("until [ -e /story/{file} ]; do sleep 0.02; done")
}

/// A shell command that returns when the story has a line with `words`.
pub fn await_line(words: &str) -> String {
    format!("until grep -q '{words}' /story/lines; do sleep 0.02; done")
}

/// An exec handler of a probe or hook of the container `name`; `say` is known to it.
pub fn exec(name: &str, script: &str) -> Value {
    json!({ "exec": { "command": ["sh", "-c", format!("{}{script}", SAY.replace("NAME", name))] } })
}

/// A pod manifest in the making. Every container mounts the story's directory at /story.
pub struct Pod {
    name: String,
    object: Value,
}

impl Pod {
    /// An empty pod with `restartPolicy` `policy`.
    pub fn new(name: &str, policy: &str) -> Pod {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
            "spec": {
                "restartPolicy": policy,
                "terminationGracePeriodSeconds": 10,
                "volumes": [{ "name": "story", "hostPath": { "path": "STORY", "type": "Directory" } }],
                "initContainers": [], "containers": [],
            },
        });
        Pod { name: name.to_owned(), object }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn container(mut self, list: &str, name: &str, script: &str) -> Pod {
        let container = json!({
            "name": name, "image": "busybox", "command": ["sh", "-c", format!("{}{script}", SAY.replace("NAME", name))],
            "volumeMounts": [{ "name": "story", "mountPath": "/story" }],
        });
        self.object["spec"][list].as_array_mut().expect("made as an array").push(container);
        self
    }

    /// A plain init container.
    pub fn init(self, name: &str, script: &str) -> Pod {
        self.container("initContainers", name, script)
    }

    /// A native sidecar.
    pub fn sidecar(self, name: &str, script: &str) -> Pod {
        self.init(name, script).with(name, "restartPolicy", json!("Always"))
    }

    pub fn app(self, name: &str, script: &str) -> Pod {
        self.container("containers", name, script)
    }

    /// Sets a field of a container.
    pub fn with(mut self, container: &str, field: &str, value: Value) -> Pod {
        self.find(container)[field] = value;
        self
    }

    /// Sets a field of the spec.
    pub fn spec(mut self, field: &str, value: Value) -> Pod {
        self.object["spec"][field] = value;
        self
    }

    /// Adds a volume and mounts it at `path` of each container named.
    pub fn volume(mut self, name: &str, source: Value, mounts: &[(&str, &str)]) -> Pod {
        let mut volume = source;
        volume["name"] = json!(name);
        self.object["spec"]["volumes"].as_array_mut().expect("made as an array").push(volume);
        for (container, path) in mounts {
            let mounts = self.find(container)["volumeMounts"].as_array_mut().expect("made as an array");
            mounts.push(json!({ "name": name, "mountPath": path }));
        }
        self
    }

    fn find(&mut self, container: &str) -> &mut Value {
        let spec = self.object["spec"].as_object_mut().expect("made as an object");
        let lists = spec.iter_mut().filter(|(key, _)| key.ends_with("ontainers")).filter_map(|(_, list)| list.as_array_mut());
        lists.flatten().find(|c| c["name"] == container).unwrap_or_else(|| panic!("no container {container}"))
    }

    /// The manifest, for a story kept in `story`. JSON is YAML.
    pub fn manifest(&self, story: &str) -> String {
        let mut object = self.object.clone();
        object["spec"]["volumes"][0]["hostPath"]["path"] = json!(story);
        format!("{object:#}\n")
    }
}

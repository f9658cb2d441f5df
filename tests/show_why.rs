//! Why a pod is not well, in words: one row for each cause, keyed by a sentence.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use minipod::cli::get::pod_of;
use minipod::cli::why::{Listener, Owner, Peer, View, reasons, section};
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-03-07T10:00:00Z".parse().unwrap()
}

const A_MINUTE_AGO: &str = "2026-03-07T09:59:00Z";

/// What a row begins with; each changes it.
struct Case {
    pod: Value,
    events: Vec<Event>,
    view: View,
}

fn ended(code: i32, reason: &str, message: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason, "message": message, "startedAt": A_MINUTE_AGO, "finishedAt": "2026-03-07T09:59:40Z"}})
}

fn runs() -> Value {
    json!({"running": {"startedAt": A_MINUTE_AGO}})
}

fn waits(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

impl Case {
    fn new(policy: &str) -> Case {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {"restartPolicy": policy, "terminationGracePeriodSeconds": 10, "initContainers": [], "containers": [], "volumes": []},
            "status": {"phase": "Running", "initContainerStatuses": [], "containerStatuses": []},
        });
        Case { pod, events: Vec::new(), view: View::default() }
    }

    fn one(policy: &str, state: Value) -> Case {
        Case::new(policy).app("app", "serve", state)
    }

    fn add(mut self, list: &str, statuses: &str, name: &str, script: &str, state: Value) -> Case {
        let ready = state.get("running").is_some();
        self.pod["spec"][list].as_array_mut().unwrap().push(json!({"name": name, "image": "busybox", "command": ["sh", "-c", script]}));
        let status = json!({"name": name, "image": "busybox", "imageID": "", "ready": ready, "started": ready, "restartCount": 0, "state": state});
        self.pod["status"][statuses].as_array_mut().unwrap().push(status);
        self
    }

    fn app(self, name: &str, script: &str, state: Value) -> Case {
        self.add("containers", "containerStatuses", name, script, state)
    }

    fn init(self, name: &str, script: &str, state: Value) -> Case {
        self.add("initContainers", "initContainerStatuses", name, script, state)
    }

    fn ephemeral(self, name: &str, script: &str, state: Value) -> Case {
        self.set("/spec/ephemeralContainers", json!([])).set("/status/ephemeralContainerStatuses", json!([])).add(
            "ephemeralContainers",
            "ephemeralContainerStatuses",
            name,
            script,
            state,
        )
    }

    fn set(mut self, pointer: &str, value: Value) -> Case {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        self.pod.pointer_mut(parent).unwrap()[field] = value;
        self
    }

    /// The app has ended like this before, so many times.
    fn last(self, times: i32, state: Value) -> Case {
        self.set("/status/containerStatuses/0/lastState", state).set("/status/containerStatuses/0/restartCount", times.into())
    }

    fn event(mut self, path: &str, reason: &str, message: &str, at: &str) -> Case {
        let event =
            json!({"metadata": {}, "reason": reason, "message": message, "firstTimestamp": at, "lastTimestamp": at, "involvedObject": {"fieldPath": path}});
        self.events.push(serde_json::from_value(event).unwrap());
        self
    }

    fn log(mut self, container: &str, lines: &[&str]) -> Case {
        self.view.logs.insert(container.to_owned(), lines.iter().map(|line| (*line).to_owned()).collect());
        self
    }

    fn with(mut self, change: impl FnOnce(&mut View)) -> Case {
        change(&mut self.view);
        self
    }

    fn told(&self) -> String {
        let pod: Pod = pod_of(self.pod.clone()).unwrap();
        let reasons = reasons(&pod, &self.events, &self.view, now());
        for hint in reasons.iter().flat_map(|reason| &reason.hints) {
            assert!((1..=3).contains(&hint.lines.len()), "{}: {:?}", hint.cause, hint.lines);
        }
        section(&reasons)
    }
}

const APP: &str = "spec.containers{app}";

/// An emptyDir `shared` mounted at these places.
fn shared(case: Case, mounts: &[(usize, &str, &str)]) -> Case {
    let mut case = case.set("/spec/volumes", json!([{"name": "shared", "emptyDir": {}}, {"name": "other", "emptyDir": {}}]));
    for (container, volume, path) in mounts {
        case = case.set(&format!("/spec/containers/{container}/volumeMounts"), json!([{"name": volume, "mountPath": path}]));
    }
    case
}

fn peer(ports: Option<Vec<u16>>) -> Peer {
    Peer { namespace: "default".into(), name: "db".into(), ip: "10.77.0.3".into(), ports, ..Peer::default() }
}

/// A sentence, the case, and words that must be told.
#[rustfmt::skip]
fn table() -> Vec<(&'static str, Case, &'static [&'static str])> {
    let wait = "until nc -z db 5432; do sleep 1; done";
    let listener = |port, owner| Listener { port, owner };
    let holder = || Owner::Container("holder".into());
    vec![
        ("an exit code of a signal is told with its name", Case::one("Never", ended(139, "Error", "")), &["app: ended with exit code 139 (killed by SIGSEGV)\n"]),
        ("SIGKILL and SIGTERM too", Case::one("Never", ended(143, "Error", "")).app("b", "x", ended(137, "Error", "")), &["143 (killed by SIGTERM)", "137 (killed by SIGKILL)"]),
        ("the last lines of its log are shown, and no more than five", Case::one("Never", ended(1, "Error", "")).log("app", &["1", "2", "3", "4", "5", "6\x1b[2J"]), &["exit code 1", "log:\n      | 2\n", "| 6^[[2J\n"]),
        ("its own last words are shown", Case::one("Never", ended(3, "Error", "no config")), &["ended with exit code 3: no config"]),
        ("a crash loop says how it ended, how often, and that it waits",
            Case::one("Always", waits("CrashLoopBackOff", "back-off 10s")).last(4, ended(1, "Error", "")), &["ended with exit code 1, and was started again 4 times; now it waits for the next start (CrashLoopBackOff)"]),
        ("one that runs again says how it ended before", Case::one("Always", runs()).last(1, ended(1, "Error", "")), &["app: runs, but before that ended with exit code 1, and was started again once"]),

        ("out of memory names the limit", Case::one("Never", ended(137, "OOMKilled", "")).set("/spec/containers/0/resources", json!({"limits": {"memory": "64Mi"}})), &["137 (killed by SIGKILL): OOMKilled", "limit of 64Mi", "resources.limits.memory"]),
        ("out of memory without a limit says so", Case::one("Never", ended(137, "OOMKilled", "")), &["no limit of its own"]),
        ("a volume in memory counts", Case::one("Never", ended(137, "OOMKilled", ""))
            .set("/spec/volumes", json!([{"name": "v", "emptyDir": {"medium": "Memory"}}])).set("/spec/containers/0/volumeMounts", json!([{"name": "v", "mountPath": "/scratch"}])), &["What is written to /scratch counts too"]),
        ("an image that is not in the store: similar names", Case::one("Never", waits("ErrImagePull", "it is not in the store")).set("/spec/containers/0/image", "busibox:1".into())
            .with(|view| view.images = vec!["busybox:latest".into(), "nginx:latest".into()]), &["cannot be started: ErrImagePull", "Image busibox:1 is not in the store", "The store has: busybox:latest.", "minipod image pull"]),
        ("a back-off of a pull too", Case::one("Never", waits("ImagePullBackOff", "Back-off pulling image: 503")), &["could not be fetched"]),
        ("an image that must not be fetched", Case::one("Never", waits("ErrImageNeverPull", "")), &["imagePullPolicy Never forbids"]),
        ("a name that is none", Case::one("Never", waits("InvalidImageName", "")).set("/spec/containers/0/image", "Bad Name".into()), &["\"Bad Name\" is no name of an image"]),
        ("a missing program: what the image has, and who has the program", Case::one("Never", ended(128, "StartError", "execve \"/bin/bash\": ENOENT (No such file or directory)"))
            .with(|view| { view.programs.insert("app".into(), vec!["/bin/sh".into()]); view.images_with_program.insert("app".into(), vec!["toolbox:latest".into()]); }),
            &["128 (its program was never started)", "Image busybox has no /bin/bash.", "The image has /bin/sh.", "of those in the store: toolbox:latest."]),
        ("a program that is not in $PATH", Case::one("Never", ended(128, "StartError", "exec: \"curl\": executable file not found in $PATH")), &["has no curl in its $PATH"]),
        ("a program without its interpreter", Case::one("Never", ended(128, "StartError", "execve \"/run.sh\": ENOENT (No such file or directory)"))
            .with(|view| drop(view.programs.insert("app".into(), vec!["/run.sh".into()]))), &["/run.sh is in image busybox, but what it needs to run is not"]),
        ("a program that may not be executed", Case::one("Never", ended(128, "StartError", "execve \"/etc/passwd\": EACCES (Permission denied)")), &["may not execute it", "chmod +x"]),
        ("a program of another machine", Case::one("Never", ended(128, "StartError", "execve \"/app\": ENOEXEC (Exec format error)")), &["no program for this machine"]),
        ("a shell's 127 names what it did not find", Case::one("Never", ended(127, "Error", "")).log("app", &["sh: foo: not found"]), &["127 (a shell did not find the command)", "no `foo` in its $PATH"]),
        ("a shell's 126 names what it may not execute", Case::one("Never", ended(126, "Error", "")).log("app", &["sh: /x.sh: Permission denied"]), &["126 (a shell may not execute the command)", "`/x.sh` is there"]),
        ("an option that the tool does not know", Case::one("Never", ended(1, "Error", "")).log("app", &["nc: invalid option -- 'z'", "usage"]), &["does not know an option that it is given: nc: invalid option -- 'z'"]),
        ("a ConfigMap that is not there", Case::one("Never", waits("CreateContainerConfigError", "configmap \"settings\" not found")), &["needs a ConfigMap that is not there", "the same file"]),
        ("a key that a Secret does not have", Case::one("Never", waits("CreateContainerConfigError", "couldn't find key x in Secret default/s")), &["a key that the Secret does not have"]),
        ("a user that must not be root", Case::one("Never", waits("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")), &["runAsUser"]),
        ("a claim that is not there", Case::one("Never", waits("ContainerCreating", "")).event("", "FailedScheduling", "0/1 nodes are available: persistentvolumeclaim \"d\" not found.", A_MINUTE_AGO), &["the pod: cannot begin: FailedScheduling: 0/1", "Make the claim"]),
        ("a hostPath that is not there", Case::one("Never", waits("ContainerCreating", "")).event("", "FailedMount", "hostPath type check failed: /x is not a directory", A_MINUTE_AGO), &["the pod: cannot begin: FailedMount: hostPath", "DirectoryOrCreate"]),

        ("work that ends, under Always", Case::one("Always", waits("CrashLoopBackOff", "")).last(2, ended(0, "Completed", "")), &["ended with exit code 0", "OnFailure", "Job"]),
        ("work that ended a moment ago, under Always", Case::one("Always", ended(0, "Completed", "")), &["its work is done"]),
        ("a sidecar that does not stay", Case::one("Never", runs()).init("s", "true", ended(0, "Completed", "")).set("/spec/initContainers/0/restartPolicy", "Always".into()), &["s: ended with exit code 0", "A sidecar must run as long as the pod"]),
        ("a port that a neighbour has", Case::one("Never", ended(1, "Error", "")).app("holder", "x", runs()).log("app", &["bind() to 0.0.0.0:80 failed (98: Address already in use)"])
            .with(|view| view.listeners = vec![listener(80, holder()), listener(81, Owner::Unknown)]), &["Port 80 is taken: container holder listens on it.", "share one network"]),
        ("a port that the log does not name, of one with a containerPort", Case::one("Never", ended(1, "Error", "")).set("/spec/containers/0/ports", json!([{"containerPort": 81}])).app("holder", "x", runs())
            .log("app", &["nc: bind: Address already in use"]).with(|view| view.listeners = vec![listener(81, holder())]), &["Port 81 is taken: container holder"]),
        ("a port that nobody names", Case::one("Never", ended(1, "Error", "")).log("app", &["nc: bind: Address already in use"]).with(|view| view.listeners = vec![listener(81, holder())]),
            &["A port that it wants is taken. In this network listen: container holder (port 81)."]),
        ("a port whose holder is gone, but is declared", Case::one("Never", ended(1, "Error", "")).app("b", "x", ended(0, "Completed", "")).set("/spec/containers/1/ports", json!([{"containerPort": 3000}]))
            .log("app", &["Error: listen EADDRINUSE: address already in use :::3000"]), &["Port 3000 was taken. Container b names the same port"]),
        ("a port of the machine", Case::one("Never", ended(1, "Error", "")).set("/spec/hostNetwork", true.into()).log("app", &["listen tcp :22: bind: address already in use"])
            .with(|view| view.listeners = vec![listener(22, Owner::Process { pid: 7, name: "sshd".into() })]), &["sshd (process 7 of this machine) listens on it", "leave out hostNetwork"]),
        ("a volume that is mounted elsewhere here", shared(Case::one("Always", runs()).app("writer", "x", runs()).set("/spec/containers/0/command", json!(["tail", "-F", "/var/log/a.log"]))
            .log("app", &["tail: can't open '/var/log/a.log': No such file or directory"]), &[(0, "shared", "/logs"), (1, "shared", "/var/log")]), &["volume shared is mounted at /logs; at /var/log it is in container writer", "Use /logs/a.log"]),
        ("a volume that is not mounted here", shared(Case::one("Never", ended(1, "Error", "")).app("writer", "x", runs()).log("app", &["cat: can't open '/data/x': No such file"]), &[(1, "shared", "/data")]), &["not mounted here", "{name: shared, mountPath: /data}"]),
        ("a writer that misses the volume", shared(Case::new("Always").app("app", "cat /data/x", runs()).app("writer", "date >/data/x", runs()), &[(0, "shared", "/data"), (1, "shared", "/out")])
            .with(|view| view.empty_volumes = vec!["shared".into()]), &["Container writer names /data/x, but there volume shared is mounted at /out", "In writer use /out/x"]),
        ("two volumes at one place", shared(Case::new("Always").app("app", "cat /data/x", runs()).app("writer", "date >/data/x", runs()), &[(0, "shared", "/data"), (1, "other", "/data")])
            .with(|view| view.empty_volumes = vec!["shared".into()]), &["container writer has another volume at /data: other", "write name: other here"]),
        ("a classic sidecar keeps the pod", Case::one("OnFailure", ended(0, "Completed", "")).app("proxy", "x", runs()), &["the pod: goes on only because proxy still runs; app has ended with 0", "initContainers:", "`restartPolicy: Always`"]),
        ("an init container waits for a pod that is not there", Case::one("Always", waits("PodInitializing", "")).init("i", wait, runs()).log("i", &["nc: bad address 'db'"]), &["i: has run for 60s", "waits for db:5432", "the name does not resolve", "Start a pod or a Service of that name"]),
        ("an init container waits for a Service that leads nowhere", Case::one("Always", waits("PodInitializing", "")).init("i", wait, runs()).with(|view| view.services = [("db.default".to_owned(), 0)].into()), &["Service db is there, but no pod that its selector matches is ready", "describe svc db`"]),
        ("an init container waits for a port that nobody has", Case::one("Always", waits("PodInitializing", "")).init("i", wait, runs()).with(|view| view.peers = vec![peer(Some(vec![80]))]), &["Pod db is there (10.77.0.3), but nothing in it listens on port 5432."]),
        ("an init container waits for its own pod", Case::one("Always", waits("PodInitializing", "")).init("i", "until wget -q http://localhost:8080/; do sleep 1; done", runs()), &["That is this pod itself", "sidecar"]),
        ("an init container waits for a file", Case::one("Always", waits("PodInitializing", "")).init("i", "until [ -f /x/ready ]; do sleep 1; done", runs()), &["waits for the file /x/ready"]),
        ("an init container keeps failing", Case::one("Always", waits("PodInitializing", "")).init("i", "nc -z db 5432", waits("CrashLoopBackOff", "")).set("/status/initContainerStatuses/0/lastState", ended(1, "Error", "")), &["It keeps failing", "waits for db:5432"]),

        ("one that is never ready says what the probe said", Case::one("Always", runs()).set("/spec/containers/0/readinessProbe", json!({"httpGet": {"port": 80}})).set("/status/containerStatuses/0/ready", false.into())
            .event(APP, "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 500", A_MINUTE_AGO), &["app: has run for 60s, and is not ready", "said last: HTTP probe failed with statuscode: 500"]),
        ("one that its liveness probe killed", Case::one("Always", runs()).last(1, ended(137, "Error", "")).event(APP, "Unhealthy", "Liveness probe failed: timeout", "2026-03-07T09:59:20Z")
            .event(APP, "Killing", "Container app failed liveness probe, will be restarted", "2026-03-07T09:59:39Z"), &["liveness probe failed 3 times in a row", "said last: timeout", "startupProbe"]),
        ("one that did not hear SIGTERM", Case::one("Never", ended(137, "Error", "")).event(APP, "Killing", "Stopping container app", "2026-03-07T09:59:30Z"), &["its grace of 10s was over", "trap"]),
        ("one that does not hear SIGTERM now", Case::one("Always", runs()).set("/metadata/deletionTimestamp", "2026-03-07T10:00:05Z".into()).set("/metadata/deletionGracePeriodSeconds", 10.into())
            .event(APP, "Killing", "Stopping container app", "2026-03-07T09:59:55Z"), &["asked to stop 5s ago"]),
        ("one that did not hear its own stop signal", Case::one("Never", ended(137, "Error", "")).set("/status/containerStatuses/0/stopSignal", "SIGQUIT".into())
            .event(APP, "Killing", "Stopping container app", "2026-03-07T09:59:30Z"), &["must handle SIGQUIT itself", "trap 'exit 0' QUIT`"]),
        ("an ephemeral container of which a command is missing", Case::one("Always", runs()).ephemeral("look", "strace -p 1", ended(127, "Error", "")).log("look", &["sh: strace: not found"]),
            &["look: ended with exit code 127 (a shell did not find the command)", "| sh: strace: not found", "has no `strace` in its $PATH"]),
        ("an ephemeral container whose program is not there", Case::one("Always", runs()).ephemeral("look", "", ended(128, "StartError", "exec: \"bash\": executable file not found in $PATH"))
            .set("/spec/ephemeralContainers/0/stdin", true.into()).set("/spec/ephemeralContainers/0/tty", true.into()), &["look: ended with exit code 128 (its program was never started)"]),
        ("an ephemeral container without its image", Case::one("Always", runs()).ephemeral("look", "", waits("ErrImagePull", "image \"tools\" is not there")), &["look: cannot be started: ErrImagePull: image"]),
        ("a deadline", Case::one("Never", ended(143, "Error", "")).set("/spec/activeDeadlineSeconds", 5.into()).set("/status/reason", "DeadlineExceeded".into()).set("/status/phase", "Failed".into()), &["the pod: was stopped: it ran longer than its activeDeadlineSeconds of 5", "by then: app."]),
    ]
}

#[test]
fn each_cause_is_told_with_what_to_do() {
    let mut faults = String::new();
    for (sentence, case, words) in table() {
        let told = case.told();
        for word in words.iter().filter(|word| !told.contains(**word)) {
            faults += &format!("{sentence}: no {word:?} in {told}\n");
        }
    }
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn a_pod_that_is_well_gives_nothing() {
    let stopped = |code| Case::one("Never", ended(code, "Error", "")).event(APP, "Killing", "Stopping container app", "2026-03-07T09:59:39Z");
    let log = &["GET /missing 404 no such file", "sh: x: not found"];
    let table = [
        ("it runs", Case::one("Always", runs()).log("app", log)),
        ("it has done its work", Case::one("Never", ended(0, "Completed", "")).set("/status/phase", "Succeeded".into())),
        (
            "work under Always, but being deleted",
            Case::one("Always", ended(0, "Completed", "")).set("/metadata/deletionTimestamp", "2026-03-07T10:00:05Z".into()),
        ),
        ("it was looked into", Case::one("Always", runs()).ephemeral("look", "x", ended(0, "Completed", "")).log("look", log)),
        ("it is being looked into", Case::one("Always", runs()).ephemeral("look", "x", runs())),
        (
            "it was looked into from a terminal, and what was typed last failed",
            Case::one("Always", runs())
                .ephemeral("look", "x", ended(127, "Error", ""))
                .set("/spec/ephemeralContainers/0/stdin", true.into())
                .set("/spec/ephemeralContainers/0/tty", true.into()),
        ),
        ("it is being created", Case::one("Always", waits("ContainerCreating", ""))),
        (
            "its init container runs for a moment",
            Case::one("Always", waits("PodInitializing", "")).init("i", "nc -z db 1", json!({"running": {"startedAt": "2026-03-07T09:59:55Z"}})),
        ),
        ("it was asked to stop, and did", stopped(143)),
        ("it was asked to stop, and killed itself in time", stopped(137)),
        (
            "it failed once, and has run well since",
            Case::one("Always", json!({"running": {"startedAt": "2026-03-07T09:49:00Z"}})).last(1, ended(1, "Error", "")),
        ),
        (
            "it got its port at the second try",
            Case::one("Always", runs())
                .log("app", &["bind() to 0.0.0.0:80 failed (98: Address already in use)"])
                .with(|view| view.listeners = vec![Listener { port: 81, owner: Owner::Unknown }]),
        ),
        ("two servers", Case::one("OnFailure", runs()).app("b", "x", runs())),
        ("two of which one failed and comes back", Case::one("OnFailure", runs()).app("b", "x", runs()).log("b", log)),
        (
            "it is ready now",
            Case::one("Always", runs()).set("/spec/containers/0/readinessProbe", json!({})).event(APP, "Unhealthy", "Readiness probe failed: x", A_MINUTE_AGO),
        ),
        (
            "a volume in which there is nothing yet",
            shared(Case::one("Always", runs()).app("b", "x", runs()), &[(0, "shared", "/a"), (1, "shared", "/b")])
                .with(|view| view.empty_volumes = vec!["shared".into()]),
        ),
    ];
    for (sentence, case) in table {
        assert_eq!(case.told(), "", "{sentence}");
    }
}

#[test]
fn a_pod_is_called_as_its_dns_calls_it() {
    let peer = Peer { namespace: "shop".into(), name: "db".into(), host_and_subdomain: Some("db-0.pg".into()), ip: "10.77.0.3".into(), ports: None };
    for (host, namespace, is) in [
        ("db", "shop", true),
        ("db", "default", false),
        ("db.shop", "default", true),
        ("db.shop.svc.cluster.local", "default", true),
        ("db.shop.svc", "x", true),
        ("db-0.pg.shop", "default", true),
        ("db-0.pg", "shop", true),
        ("10.77.0.3", "x", true),
        ("dbx", "shop", false),
        ("db.other", "shop", false),
    ] {
        assert_eq!(peer.is_called(host, namespace), is, "{host} from {namespace}");
    }
}

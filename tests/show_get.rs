//! `get`: pods and events as kubectl prints them (`tests/data/show`).

use clap::Parser;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use minipod::cli::get::{Answer, EventWatch, GetArgs, Refusal, Watch, job_row, pod_of, row};
use serde_json::{Value, json};

#[derive(Parser)]
struct Get {
    #[command(flatten)]
    args: GetArgs,
}

fn get(words: &str) -> GetArgs {
    Get::try_parse_from(std::iter::once("get").chain(words.split_whitespace())).unwrap().args
}

fn now() -> Timestamp {
    "2026-03-07T10:00:00Z".parse().unwrap()
}

/// A running pod of one container.
fn pod(namespace: &str, name: &str) -> Pod {
    pod_of(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-03-07T09:54:30Z", "labels": {"app": name}, "managedFields": [{"manager": "x"}]},
        "spec": {"nodeName": "node-1", "containers": [{"name": "app", "image": "nginx"}]},
        "status": {"phase": "Running", "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}], "containerStatuses": [
            {"name": "app", "image": "nginx", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}}]},
    }))
    .unwrap()
}

fn answer(words: &str, pods: &[Pod]) -> Answer {
    get(words).pods(pods.to_vec(), now()).unwrap()
}

#[test]
fn sta_01_each_status_has_the_cells_of_upstream() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("data/show/rows.json")).unwrap();
    assert!(rows.len() >= 30);
    let mut faults = String::new();
    for case in rows {
        let shown = row(&pod_of(case["pod"].clone()).unwrap(), now());
        let expected = ["ready", "status", "restarts"].map(|cell| case[cell].as_str().unwrap().to_owned());
        if [&shown.ready, &shown.status, &shown.restarts] != [&expected[0], &expected[1], &expected[2]] {
            faults += &format!("{}: {} {} {}, not {expected:?}\n", case["about"], shown.ready, shown.status, shown.restarts);
        }
        assert_eq!(shown.age, "<unknown>");
    }
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn sta_02_a_table_has_kubectls_columns() {
    let expected =
        "NAME       READY   STATUS    RESTARTS   AGE\ndatabase   1/1     Running   0          5m30s\nweb        1/1     Running   0          5m30s\n";
    let pods = [pod("default", "web"), pod("default", "database"), pod("shop", "cart")];
    assert_eq!(answer("pods", &pods), Answer { stdout: expected.to_owned(), stderr: String::new(), code: 0 });
    assert_eq!(answer("po --no-headers web", &pods).stdout, "web   1/1   Running   0     5m30s\n");
    assert_eq!(answer("pods -n shop", &pods).stdout, "NAME   READY   STATUS    RESTARTS   AGE\ncart   1/1     Running   0          5m30s\n");
}

#[test]
fn sta_03_the_age_of_a_restart_is_shown_beside_the_count() {
    let mut pod = serde_json::to_value(pod("default", "web")).unwrap();
    pod["status"]["containerStatuses"][0]["restartCount"] = 3.into();
    pod["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 1, "finishedAt": "2026-03-07T09:59:48Z"}});
    let table = answer("pods", &[pod_of(pod).unwrap()]).stdout;
    assert_eq!(table, "NAME   READY   STATUS    RESTARTS      AGE\nweb    1/1     Running   3 (12s ago)   5m30s\n");
}

#[test]
fn sta_04_a_pod_being_deleted_is_terminating_unless_it_is_over() {
    let mut pod = serde_json::to_value(pod("default", "web")).unwrap();
    pod["metadata"]["deletionTimestamp"] = "2026-03-07T10:00:30Z".into();
    assert_eq!(row(&pod_of(pod.clone()).unwrap(), now()).status, "Terminating");
    pod["status"]["phase"] = "Succeeded".into();
    pod["status"]["containerStatuses"][0]["state"] = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    assert_eq!(row(&pod_of(pod).unwrap(), now()).status, "Completed");
}

#[test]
fn sta_07_wide_adds_four_columns_and_all_namespaces_one() {
    let expected = "\
NAMESPACE   NAME   READY   STATUS    RESTARTS   AGE     IP         NODE     NOMINATED NODE   READINESS GATES
default     web    1/1     Running   0          5m30s   10.0.0.7   node-1   <none>           <none>
shop        cart   1/1     Running   0          5m30s   10.0.0.7   node-1   <none>           <none>
";
    assert_eq!(answer("pods -A -o wide", &[pod("shop", "cart"), pod("default", "web")]).stdout, expected);
}

#[test]
fn readiness_gates_are_counted_and_absent_things_are_none() {
    let pod = pod_of(json!({
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "a"}], "readinessGates": [{"conditionType": "x/one"}, {"conditionType": "x/two"}, {"conditionType": "x/three"}]},
        "status": {"phase": "Pending", "conditions": [{"type": "x/one", "status": "True"}, {"type": "x/two", "status": "False"}]},
    }));
    let row = row(&pod.unwrap(), now());
    assert_eq!([row.ip, row.node, row.nominated, row.gates], ["<none>", "<none>", "<none>", "1/3"]);
}

#[test]
fn what_is_not_there_is_told_as_the_server_does() {
    let missing = answer("pods web nope", &[pod("default", "web")]);
    assert!(missing.stdout.contains("web "));
    assert_eq!((missing.stderr.as_str(), missing.code), ("Error from server (NotFound): pods \"nope\" not found\n", 1));
    let nothing = answer("pods", &[pod("shop", "cart")]);
    assert_eq!(nothing, Answer { stdout: String::new(), stderr: "No resources found in default namespace.\n".to_owned(), code: 0 });
    assert_eq!(answer("pods -A", &[]).stderr, "No resources found\n");
    assert_eq!(answer("pods nope -o json", &[]).stdout, "");
}

#[test]
fn labels_select() {
    let pods = [pod("default", "web"), pod("default", "database")];
    assert_eq!(answer("pods -l app!=web -o name", &pods).stdout, "pod/database\n");
    assert_eq!(answer("pods -l app -o name", &pods).stdout, "pod/database\npod/web\n");
}

#[test]
fn one_pod_by_name_is_the_object_and_anything_else_a_list() {
    let pods = [pod("default", "web"), pod("default", "database")];
    let one: Value = serde_json::from_str(&answer("pod/web -o json", &pods).stdout).unwrap();
    assert_eq!((one["kind"].as_str(), one["metadata"]["name"].as_str()), (Some("Pod"), Some("web")));
    assert!(one["metadata"].get("managedFields").is_none());
    let all: Value = serde_json::from_str(&answer("pods -o json", &pods).stdout).unwrap();
    assert_eq!((all["kind"].as_str(), all["apiVersion"].as_str(), all["items"].as_array().unwrap().len()), (Some("List"), Some("v1"), 2));
    let none: Value = serde_json::from_str(&answer("pods -o json", &[]).stdout).unwrap();
    assert_eq!(none["items"], json!([]));
}

#[test]
fn json_and_yaml_say_the_same_and_come_back_as_the_pod() {
    let mut pod = serde_json::to_value(pod("default", "web")).unwrap();
    pod["metadata"]["annotations"] = json!({"long": "x ".repeat(100), "lines": "one\ntwo\n", "number": "0123", "no": "no", "time": "2026-03-07T10:00:00Z", "tab": "a\tb", "colon": "a: b", "hash": "# x"});
    let pods = [pod_of(pod).unwrap()];
    let json: Value = serde_json::from_str(&answer("pod/web -o json", &pods).stdout).unwrap();
    let text = answer("pod/web -o yaml", &pods).stdout;
    let yaml: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(json, yaml, "{text}");
    assert!(text.starts_with("apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n"), "{text}");
    assert!(text.contains("  containers:\n  - image: nginx\n    name: app\n"), "{text}");
    assert_eq!(pod_of(yaml).unwrap().status, pods[0].status);
}

#[test]
fn a_watch_prints_only_what_changed_and_keeps_its_columns() {
    let args = get("pods -w");
    let mut watch = Watch::new(&args);
    assert_eq!(watch.update(Vec::new(), now()).unwrap(), "");
    let web = pod("default", "web-frontend");
    assert_eq!(
        watch.update(vec![web.clone()], now()).unwrap(),
        "NAME           READY   STATUS    RESTARTS   AGE\nweb-frontend   1/1     Running   0          5m30s\n"
    );
    let later = now() + jiff::SignedDuration::from_secs(60);
    assert_eq!(watch.update(vec![web.clone()], later).unwrap(), "", "an older pod is no other pod");
    assert_eq!(watch.update(vec![pod("default", "db"), web.clone()], later).unwrap(), "db             1/1     Running   0          6m30s\n");
    let mut deleted = web;
    deleted.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(later));
    assert_eq!(watch.update(vec![pod("default", "db"), deleted], later).unwrap(), "web-frontend   1/1     Terminating   0          6m30s\n");
    assert_eq!(watch.update(vec![pod("default", "db")], later).unwrap(), "");
}

#[test]
fn files_are_rendered_whatever_holds_the_pods() {
    let dir = tempfile::tempdir().unwrap();
    let object = serde_json::to_value(pod("default", "single")).unwrap();
    std::fs::write(dir.path().join("single.json"), object.to_string()).unwrap();
    let mut bare = object.clone();
    bare.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
    bare["metadata"]["name"] = "listed".into();
    std::fs::write(dir.path().join("list.json"), json!({"kind": "PodList", "apiVersion": "v1", "items": [bare]}).to_string()).unwrap();
    let yaml = answer("pods -o yaml", &[pod("shop", "of-yaml")]).stdout + "---\n" + &answer("pods -A -o yaml", &[pod("shop", "of-yaml")]).stdout;
    let mut args = get("pods --from-file a b -");
    args.from_file = vec![dir.path().join("single.json"), dir.path().join("list.json"), "-".into()];
    let shown = args.render_files(&mut yaml.as_bytes(), now()).unwrap();
    assert_eq!(
        shown.stdout,
        "NAME      READY   STATUS    RESTARTS   AGE\nlisted    1/1     Running   0          5m30s\nsingle    1/1     Running   0          5m30s\nof-yaml   1/1     Running   0          5m30s\n"
    );
    args.namespace = Some("shop".to_owned());
    assert_eq!(args.render_files(&mut yaml.as_bytes(), now()).unwrap().stdout.lines().count(), 2);
    args.from_file = vec!["-".into()];
    for (text, fault) in [
        ("kind: Service\napiVersion: v1\n", "this is a Service, not a Pod"),
        ("- 1\n", "no Kubernetes object"),
        ("{", "reading -"),
        ("kind: Pod\nmetadata: {name: x}\nspec: {containers: 5}\n", "pod x: "),
    ] {
        let error = args.render_files(&mut text.as_bytes(), now()).unwrap_err().to_string();
        assert!(error.contains(fault), "{text:?}: {error}");
    }
}

#[test]
fn a_request_that_makes_no_sense_is_refused_with_one_line() {
    let table = [
        ("pods web -l app=web", "error: name cannot be provided when a selector is specified"),
        ("pods web -A", "error: a resource cannot be retrieved by name across all namespaces"),
        (
            "nodes",
            "error: the server doesn't have a resource type \"nodes\"; there are pods, jobs, configmaps, secrets, persistentvolumeclaims, services and events",
        ),
        ("deploy", "error: of a deploy only its pods are kept: `minipod get pods -l LABELS`, `minipod delete -f FILE`"),
        ("node/web", "error: there is no \"node/web\" here: name pods as pod/NAME, jobs as job/NAME"),
        ("pods -w -o json", "error: --watch prints a table: leave out --output, or use -o wide"),
        ("pods -l a=b=c", "error: unable to parse requirement: \"a=b=c\" in selector \"a=b=c\""),
    ];
    for (words, line) in table {
        assert_eq!(get(words).pods(Vec::new(), now()).map_err(|refusal: Refusal| refusal.to_string()), Err(line.to_owned()), "{words}");
    }
}

fn job(changes: Value) -> Job {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "pi", "namespace": "default", "creationTimestamp": "2026-03-07T09:00:00Z" },
        "spec": {
            "completions": 3, "parallelism": 2,
            "selector": { "matchLabels": { "batch.kubernetes.io/controller-uid": "u" } },
            "template": { "spec": { "containers": [{ "name": "a", "image": "perl" }, { "name": "b", "image": "busybox" }] } },
        },
        "status": { "startTime": "2026-03-07T09:00:00Z", "succeeded": 1 },
    });
    for (part, fields) in changes.as_object().unwrap() {
        fields.as_object().unwrap().iter().for_each(|(field, value)| job[part][field] = value.clone());
    }
    serde_json::from_value(job).unwrap()
}

#[test]
fn a_job_is_a_line_as_kubectl_prints_it() {
    let table = get("jobs -o wide").jobs(vec![job(json!({}))], "2026-03-07T09:00:30Z".parse().unwrap()).unwrap().stdout;
    assert_eq!(
        table,
        "NAME   STATUS    COMPLETIONS   DURATION   AGE   CONTAINERS   IMAGES         SELECTOR\n\
         pi     Running   1/3           30s        30s   a,b          perl,busybox   batch.kubernetes.io/controller-uid=u\n"
    );
    assert_eq!(get("job pi -o name").jobs(vec![job(json!({}))], now()).unwrap().stdout, "job.batch/pi\n");
    assert_eq!(get("jobs no").jobs(Vec::new(), now()).unwrap().stderr, "Error from server (NotFound): jobs.batch \"no\" not found\n");
}

#[test]
fn the_status_of_a_job_is_the_first_condition_that_counts() {
    let with = |types: &[&str], metadata: Value| {
        let all: Vec<Value> = types.iter().map(|type_| json!({ "type": type_, "status": "True" })).collect();
        job_row(&job(json!({ "status": { "conditions": all }, "metadata": metadata })), now()).status
    };
    for (types, expected) in [
        (&[][..], "Running"),
        (&["SuccessCriteriaMet"], "SuccessCriteriaMet"),
        (&["SuccessCriteriaMet", "Complete"], "Complete"),
        (&["FailureTarget"], "FailureTarget"),
        (&["FailureTarget", "Failed"], "Failed"),
        (&["Suspended"], "Suspended"),
    ] {
        assert_eq!(with(types, json!({})), expected);
    }
    assert_eq!(with(&["Suspended"], json!({ "deletionTimestamp": "2026-03-07T09:00:00Z" })), "Terminating");
    let queue = |parallelism: i32| job_row(&job(json!({ "spec": { "completions": null, "parallelism": parallelism } })), now()).completions;
    assert_eq!((queue(1), queue(4)), ("1/1".to_owned(), "1/1 of 4".to_owned()));
    let ended = job(json!({ "status": { "completionTime": "2026-03-07T09:02:05Z" } }));
    assert_eq!(job_row(&ended, now()).duration, "2m5s");
}

#[test]
fn a_hostile_name_cannot_break_the_table() {
    let mut pod = pod("default", "web");
    pod.status.as_mut().unwrap().reason = Some("\x1b[31mred\nNAME".to_owned());
    pod.status.as_mut().unwrap().container_statuses = None;
    let table = answer("pods", &[pod]).stdout;
    assert_eq!(table.lines().count(), 2);
    assert!(table.contains("^[[31mred...") && !table.contains('\x1b'), "{table}");
}

fn event(pod: &str, reason: &str, last: &str, count: i32) -> Event {
    serde_json::from_value(json!({
        "metadata": {"name": format!("{pod}.{reason}"), "namespace": "default"}, "type": "Warning", "reason": reason, "message": "back-off\nsecond line ", "count": count,
        "firstTimestamp": "2026-03-07T09:50:00Z", "lastTimestamp": last, "source": {"component": "minipod"},
        "involvedObject": {"kind": "Pod", "name": pod, "namespace": "default", "fieldPath": "spec.containers{app}"},
    }))
    .unwrap()
}

#[test]
fn events_of_one_pod_are_chosen_by_its_name() {
    let events = [event("web", "BackOff", "2026-03-07T09:59:30Z", 7), event("db", "Pulled", "2026-03-07T09:50:00Z", 1)];
    let names = |words: &str| get(words).events(&events, now()).map(|answer| answer.stdout).map_err(|refusal| refusal.to_string());
    assert_eq!(names("events --for pod/web -o name"), Ok("event/web.BackOff\n".to_owned()));
    assert_eq!(names("events --for Pod/db -o name"), Ok("event/db.Pulled\n".to_owned()));
    assert_eq!(names("events --for pod/none"), Ok(String::new()));
    assert_eq!(names("events --for web"), Err("error: --for must be in resource/name form: pod/NAME".to_owned()));
    assert!(get("pods --for pod/web").what().is_err());
    let json: Value = serde_json::from_str(&names("events --for pod/web -o json").unwrap()).unwrap();
    let yaml: Value = serde_saphyr::from_str(&names("events --for pod/web -o yaml").unwrap()).unwrap();
    assert_eq!(json, yaml);
    assert_eq!((&json["kind"], &json["items"][0]["reason"], json["items"].as_array().unwrap().len()), (&json!("List"), &json!("BackOff"), 1));
}

#[test]
fn a_watch_of_events_prints_those_that_are_new_or_came_once_more() {
    let args = get("events -w --for pod/web");
    let mut watch = EventWatch::new(&args);
    assert_eq!(watch.update(&[], now()).unwrap(), "");
    let (first, again) = (event("web", "BackOff", "2026-03-07T09:59:30Z", 1), event("web", "BackOff", "2026-03-07T10:00:00Z", 2));
    let other = event("db", "Pulled", "2026-03-07T09:50:00Z", 1);
    assert_eq!(
        watch.update(&[first.clone(), other.clone()], now()).unwrap(),
        "LAST SEEN   TYPE      REASON    OBJECT    MESSAGE\n30s         Warning   BackOff   pod/web   back-off...\n"
    );
    assert_eq!(watch.update(&[first, other.clone()], now()).unwrap(), "");
    assert_eq!(watch.update(&[again, other], now()).unwrap(), "0s          Warning   BackOff   pod/web   back-off...\n");
    assert!(get("events -w -o json").what().is_err());
}

#[test]
fn events_are_listed_oldest_first() {
    let event = |reason: &str, last: &str, count: i32| event("web", reason, last, count);
    let events = [event("BackOff", "2026-03-07T09:59:30Z", 7), event("Pulled", "2026-03-07T09:50:00Z", 1)];
    let table = get("events").events(&events, now()).unwrap().stdout;
    assert_eq!(
        table,
        "LAST SEEN   TYPE      REASON    OBJECT    MESSAGE\n10m         Warning   Pulled    pod/web   back-off...\n30s         Warning   BackOff   pod/web   back-off...\n"
    );
    let wide = get("events -o wide --no-headers").events(&events[..1], now()).unwrap().stdout;
    assert_eq!(wide, "30s   Warning   BackOff   pod/web   spec.containers{app}   minipod   back-off...   10m   7     web.BackOff\n");
    assert_eq!(get("events -n shop").events(&events, now()).unwrap().stderr, "No resources found in shop namespace.\n");
}

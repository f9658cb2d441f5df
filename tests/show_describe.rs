//! `describe`: goldens in `tests/data/show`. With UPDATE_GOLDENS=1 they are written anew: read the difference before committing.

use std::path::PathBuf;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use minipod::cli::describe::{DescribeArgs, describe};
use minipod::cli::get::pod_of;
use minipod::cli::why::View;
use serde_json::{Value, json};

fn data(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/data/show", name].iter().collect()
}

fn read(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(data(name)).unwrap()).unwrap()
}

fn now() -> Timestamp {
    "2026-03-07T10:00:00Z".parse().unwrap()
}

fn same_as_golden(name: &str, text: &str) {
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(data(name), text).unwrap();
    }
    let golden = std::fs::read_to_string(data(name)).unwrap();
    let differing = text.lines().zip(golden.lines()).find(|(shown, expected)| shown != expected);
    assert_eq!(differing, None, "first differing line of {name}");
    assert_eq!(text, golden);
}

fn rich() -> (Pod, Vec<Event>) {
    (pod_of(read("rich.json")).unwrap(), serde_json::from_value(read("rich.events.json")).unwrap())
}

#[test]
fn dsc_01_a_rich_pod_is_described_as_upstream_does() {
    let (pod, events) = rich();
    same_as_golden("rich.txt", &describe(&pod, &events, now()));
}

#[test]
fn dsc_02_a_crash_loop_shows_the_wait_the_last_end_and_repeated_events() {
    let (pod, events) = rich();
    let text = describe(&pod, &events, now());
    let state = "\
    State:           Waiting
      Reason:        CrashLoopBackOff
    Last State:      Terminated
      Reason:        Error
      Message:       no config
      Exit Code:     139
      Signal:        11
      Started:       Sat, 07 Mar 2026 09:58:00 +0000
      Finished:      Sat, 07 Mar 2026 09:58:01 +0000
    Ready:           False
    Restart Count:   4
";
    assert!(text.contains(state), "{text}");
    assert!(text.contains("  Warning  BackOff    12s (x4 over 90s)   minipod  spec.containers{web}: Back-off restarting"), "{text}");
    assert!(text.ends_with("in pod shop_store(0c7e)\n"), "the newest event comes last");
    assert!(!text.contains('\x1b'), "nothing of the pod drives the terminal");
}

#[test]
fn a_pod_that_is_hardly_there_is_described_too() {
    let pod = pod_of(
        json!({"metadata": {"name": "bare", "namespace": "default"}, "spec": {"containers": [{"name": "app"}]}, "status": {"phase": "Pending", "qosClass": "BestEffort"}}),
    );
    same_as_golden("bare.txt", &describe(&pod.unwrap(), &[], now()));
}

#[test]
fn a_pod_being_deleted_says_since_when() {
    let pod = |phase: &str| {
        pod_of(json!({
            "metadata": {"name": "p", "deletionTimestamp": "2026-03-07T09:59:00Z", "deletionGracePeriodSeconds": 30},
            "spec": {"containers": []}, "status": {"phase": phase, "reason": "DeadlineExceeded", "message": "Pod was active too long"}}))
        .unwrap()
    };
    let text = describe(&pod("Running"), &[], now());
    assert!(
        text.contains("\nStatus:                    Terminating (lasts 60s)\nTermination Grace Period:  30s\nReason:                    DeadlineExceeded\n"),
        "{text}"
    );
    assert!(describe(&pod("Failed"), &[], now()).contains("\nStatus:       Failed\nReason:       DeadlineExceeded\nMessage:      Pod was active too long\n"));
}

#[test]
fn pods_are_described_by_name_or_by_its_beginning() {
    #[derive(clap::Parser)]
    struct Describe {
        #[command(flatten)]
        args: DescribeArgs,
    }
    let pod = |name: &str, namespace: &str| {
        let pod = pod_of(json!({"metadata": {"name": name, "namespace": namespace, "labels": {"app": name}}, "spec": {"containers": [{"name": "app"}]}}));
        (pod.unwrap(), Vec::new())
    };
    let pods = [pod("web-2", "default"), pod("web", "default"), pod("web-1", "default"), pod("cart", "shop")];
    let names = |words: &str| {
        let args = <Describe as clap::Parser>::try_parse_from(std::iter::once("describe").chain(words.split_whitespace())).unwrap().args;
        let answer = args.pods(&pods, &|_| View::default(), now()).unwrap();
        let names = answer.stdout.lines().filter_map(|line| line.strip_prefix("Name:")).map(|name| name.trim().to_owned()).collect::<Vec<_>>();
        (names.join(" "), answer.stderr, answer.code)
    };
    assert_eq!(names("pod web"), ("web".into(), "".into(), 0));
    assert_eq!(names("pod web-"), ("web-1 web-2".into(), "".into(), 0));
    assert_eq!(names("pods"), ("web web-1 web-2".into(), "".into(), 0));
    assert_eq!(names("pods -l app=web-1"), ("web-1".into(), "".into(), 0));
    assert_eq!(names("pod/cart -n shop"), ("cart".into(), "".into(), 0));
    assert_eq!(names("pod cart web"), ("web".into(), "Error from server (NotFound): pods \"cart\" not found\n".into(), 1));
    assert_eq!(names("pods -n empty"), ("".into(), "No resources found in empty namespace.\n".into(), 0));
}

#[test]
fn every_kind_of_volume_is_named() {
    let sources = read("volumes.json");
    let volumes: Vec<Value> = sources.as_object().unwrap().iter().map(|(kind, source)| json!({"name": kind.to_lowercase(), kind: source})).collect();
    let pod = pod_of(json!({"metadata": {"name": "p"}, "spec": {"containers": [], "volumes": volumes}}));
    let text = describe(&pod.unwrap(), &[], now());
    assert!(!text.contains("<unknown>"), "{text}");
    same_as_golden("volumes.txt", &text);
}

#[test]
fn a_job_is_described_as_kubectl_does() {
    let job = serde_json::from_value(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "pi", "namespace": "default", "labels": { "app": "pi" } },
        "spec": {
            "completions": 3, "parallelism": 2, "completionMode": "Indexed", "suspend": false, "backoffLimit": 6, "activeDeadlineSeconds": 90,
            "selector": { "matchLabels": { "batch.kubernetes.io/controller-uid": "u" } },
            "template": {
                "metadata": { "labels": { "job-name": "pi" } },
                "spec": {
                    "containers": [{ "name": "a", "image": "perl", "command": ["perl"], "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }],
                    "volumes": [{ "name": "v", "emptyDir": {} }],
                },
            },
        },
        "status": {
            "startTime": "2026-03-07T09:00:00Z", "completionTime": "2026-03-07T09:00:20Z",
            "succeeded": 3, "failed": 1, "ready": 0, "completedIndexes": "0-2",
        },
    }))
    .unwrap();
    let args = DescribeArgs { what: vec!["job".to_owned(), "pi".to_owned()], namespace: "default".to_owned(), selector: None };
    let expected = "\
Name:                     pi
Namespace:                default
Selector:                 batch.kubernetes.io/controller-uid=u
Labels:                   app=pi
Annotations:              <none>
Parallelism:              2
Completions:              3
Completion Mode:          Indexed
Suspend:                  false
Backoff Limit:            6
Start Time:               Sat, 07 Mar 2026 09:00:00 +0000
Completed At:             Sat, 07 Mar 2026 09:00:20 +0000
Duration:                 20s
Active Deadline Seconds:  90s
Pods Statuses:            0 Active (0 Ready) / 3 Succeeded / 1 Failed
Completed Indexes:        0-2
Pod Template:
  Labels:  job-name=pi
  Containers:
   a:
    Image:      perl
    Port:       <none>
    Host Port:  <none>
    Command:
      perl
    Environment:  <none>
    Mounts:
      /v from v (rw)
  Volumes:
   v:
    Type:          EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:        
    SizeLimit:     <unset>
  Node-Selectors:  <none>
  Tolerations:     <none>
Events:            <none>
";
    assert_eq!(args.jobs(&[(job, Vec::new())], now()).unwrap().stdout, expected);
}

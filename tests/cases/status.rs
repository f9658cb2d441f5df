//! The status column, from live pods and from files.

use std::fs;

use serde_json::{Value, json};

use crate::pod::{Pod, await_file, once, serve};
use crate::process::poll;
use crate::world::{container, restarts, rows as rows_of};
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("STA-01", |world| {
        // Upstream's own rows, through the program; the ages in them are of another day, so RESTARTS is compared up to its age.
        let table = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/show/rows.json")).expect("part of the repository");
        let mut rows: Vec<Value> = serde_json::from_str(&table).expect("a list of rows");
        for (at, row) in rows.iter_mut().enumerate() {
            row["pod"]["apiVersion"] = json!("v1");
            row["pod"]["kind"] = json!("Pod");
            row["pod"]["metadata"]["name"] = json!(format!("p{at}"));
            row["pod"]["metadata"]["namespace"] = json!("default");
        }
        let pods: Vec<&Value> = rows.iter().map(|row| &row["pod"]).collect();
        let file = world.file(&json!({ "apiVersion": "v1", "kind": "List", "items": pods }).to_string());
        let told = world.minipod(&["get", "pods", "--from-file", &file]).ok();
        assert!(rows.len() >= 30);
        for (at, row) in rows.iter().enumerate() {
            let shown = rows_of(&told, &format!("p{at}")).pop().unwrap_or_else(|| panic!("no row of p{at} in {told}"));
            let count = |restarts: &str| restarts.split(' ').next().unwrap_or_default().to_owned();
            let told = [shown.ready, shown.status, count(&shown.restarts)].map(Value::String);
            let wanted = [row["ready"].clone(), row["status"].clone(), json!(count(row["restarts"].as_str().unwrap_or_default()))];
            assert_eq!(told, wanted, "{}", row["about"]);
        }
    }),
    case("STA-02", |world| {
        // A host directory that is not there yet holds the pod in creation for as long as the case wants.
        let late = world.path("late");
        let pod = Pod::new("p", "Always").app("a", &serve("0", 0)).volume(
            "late",
            json!({ "hostPath": { "path": late.display().to_string(), "type": "Directory" } }),
            &[("a", "/late")],
        );
        world.apply(&pod);
        let row = world.wait_row("p", "0/1", "ContainerCreating");
        assert_eq!(row.restarts, "0");
        fs::create_dir(&late).expect("our own directory");
        world.wait_row("p", "1/1", "Running");
    }),
    case("STA-03", |world| {
        let app = "say Starting; [ $(grep -c 'a Starting' /story/lines) -gt 3 ] || exit 1; trap 'exit 0' TERM; sleep 100000 & wait";
        world.apply_with(&Pod::new("p", "Always").app("a", app), &["--max-backoff", "1s"]);
        world.wait("p", "3 restarts", |pod| restarts(pod, "a") == 3 && container(pod, "a")["ready"] == true);
        // The age grows by whole seconds from the last end, so the row must at some moment say 3 s.
        let age = |text: &str| text.strip_prefix("3 (")?.strip_suffix("s ago)")?.parse::<u64>().ok();
        let row = world.row("p");
        assert_eq!((&*row.ready, &*row.status), ("1/1", "Running"));
        let first = age(&row.restarts).unwrap_or_else(|| panic!("RESTARTS is {:?}", row.restarts));
        let grown = poll(crate::process::seconds(10), || age(&world.row("p").restarts).filter(|age| *age >= first + 2));
        assert!(grown.is_some(), "the age does not grow");
    }),
    case("STA-04", |world| {
        let app = format!("trap 'say Term; {}; exit 0' TERM; say Started; sleep 100000 & wait", await_file("go"));
        world.apply(&Pod::new("p", "Always").app("a", &app).spec("terminationGracePeriodSeconds", json!(60)));
        world.wait_story("a Started");
        let delete = world.start(&["delete", "pod", "p"]);
        world.wait_row("p", "1/1", "Terminating");
        world.touch("go");
        delete.wait().ok();

        world.apply(&Pod::new("done", "Never").app("b", &once("0", 0)));
        let mut done = world.wait_phase("done", "Succeeded");
        done["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        done["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        let file = world.file(&done.to_string());
        let table = world.minipod(&["get", "pods", "--from-file", &file]).ok();
        let cells: Vec<&str> = table.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        assert_eq!(cells[..4], ["done", "0/1", "Completed", "0"], "{table}");
    }),
    case("STA-W1", |world| {
        // A watch in a second terminal sees all stages, and `-o` gives the object in Kubernetes' shape.
        let watch = world.start(&["get", "pods", "-w"]);
        world.apply(&Pod::new("p", "Always").init("i", &format!("say In; {}", await_file("go"))).sidecar("s", &serve("0", 0)).app("a", &serve("0", 0)));
        world.wait_story("i In");
        watch.wait_for("Init:0/2");
        world.touch("go");
        world.wait_ready("p");
        watch.wait_for("2/2");
        world.delete("p");
        watch.wait_for("Terminating");
        drop(watch);
        world.minipod(&["get", "pods", "p"]).fails_with(&["p", "not found"]);
    }),
    case("STA-07", |world| {
        let pod = Pod::new("p", "Always").init("z", &once("0", 0)).sidecar("s", &serve("0", 0)).init("i", &once("0", 0));
        world.apply(&pod.app("b", &serve("0", 0)).app("a", &serve("0", 0)));
        let pod = world.wait_ready("p");
        let address = pod["status"]["podIP"].as_str().expect("a ready pod has one").to_owned();
        let json = world.get("p");
        assert_eq!((&json["kind"], &json["metadata"]["name"], &json["status"]["phase"]), (&json!("Pod"), &json!("p"), &json!("Running")));
        let names = |list: &Value| list.as_array().map_or(vec![], |all| all.iter().map(|c| c["name"].clone()).collect());
        assert_eq!(names(&json["status"]["containerStatuses"]), ["a", "b"], "statuses are sorted by name");
        assert_eq!(names(&json["spec"]["containers"]), ["b", "a"], "the spec keeps its order");
        assert_eq!(names(&json["status"]["initContainerStatuses"]), ["z", "s", "i"], "those of init containers keep the spec's order");
        let types: Vec<&str> = json["status"]["conditions"].as_array().expect("there are some").iter().filter_map(|c| c["type"].as_str()).collect();
        assert_eq!(types, ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]);
        // The same object, whichever way it is written.
        let yaml = world.minipod(&["get", "pods", "p", "-o", "yaml"]).ok();
        let of_yaml: Value = serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{error} in {yaml}"));
        assert_eq!(of_yaml, json);
        assert_eq!(world.minipod(&["get", "pods", "-o", "name"]).ok(), "pod/p\n");
        let wide = world.minipod(&["get", "pods", "-o", "wide"]).ok();
        let cells = |line: usize| wide.lines().nth(line).unwrap_or_default().split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
        assert_eq!(cells(0), ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"]);
        let (row, node) = (cells(1), pod["spec"]["nodeName"].as_str().expect("it runs on a node"));
        assert_eq!(row[..4], ["p", "3/3", "Running", "0"], "{wide}");
        assert_eq!(row[5..], [address.as_str(), node, "<none>", "<none>"], "{wide}");
    }),
];

//! Jobs: how many pods are made, what their ends mean, and who takes them away.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::examples::example;
use crate::pod::{Pod, await_file, once, serve};
use crate::process::{poll, seconds};
use crate::world::{World, condition};
use crate::{Case, case};

/// A Job manifest whose template is this pod.
fn manifest(world: &World, name: &str, spec: Value, pod: &Pod) -> String {
    let pod: Value = serde_json::from_str(&pod.manifest(&world.path("story").display().to_string())).expect("made as JSON");
    let mut job = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name }, "spec": spec });
    job["spec"]["template"] = json!({ "spec": pod["spec"] });
    world.file(&format!("{job:#}\n"))
}

/// Starts a job in the background, with a short back-off.
#[track_caller]
fn apply(world: &World, name: &str, spec: Value, pod: &Pod) -> String {
    let file = manifest(world, name, spec, pod);
    assert_eq!(world.minipod(&["apply", "-f", &file, "--max-backoff", "1s"]).ok(), format!("job.batch/{name} created\n"));
    file
}

/// The cells of the job's line, without its age.
#[track_caller]
fn row(world: &World, name: &str) -> Vec<String> {
    let out = world.start(&["get", "jobs", name]).wait().ok();
    let line = out.lines().nth(1).unwrap_or_else(|| panic!("no row in {out}"));
    line.split_whitespace().take(3).map(str::to_owned).collect()
}

fn reason(job: &Value, of: &str) -> String {
    condition(job, of)["reason"].as_str().unwrap_or_default().to_owned()
}

fn phases(world: &World) -> Vec<String> {
    world.pods().iter().map(|(_, pod)| pod["status"]["phase"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The pid of the process that looks after the job.
fn runner(world: &World, name: &str) -> Pid {
    let lock = std::fs::read_to_string(world.root().join("lib/jobs/default").join(name).join("lock")).expect("a job that runs has a lock");
    Pid::from_raw(lock.trim().parse().expect("a pid"))
}

#[track_caller]
fn wait_gone(world: &World, name: &str) {
    let gone = poll(seconds(20), || (!world.root().join("lib/jobs/default").join(name).exists()).then_some(()));
    assert!(gone.is_some(), "the job is still there");
}

pub const CASES: &[Case] = &[
    case("JOB-01", |world| {
        apply(world, "j", json!({ "backoffLimit": 2 }), &Pod::new("p", "Never").app("a", &once("0", 1)));
        let job = world.wait_job("j", "Failed");
        assert_eq!((reason(&job, "Failed"), reason(&job, "FailureTarget")), ("BackoffLimitExceeded".into(), "BackoffLimitExceeded".into()));
        assert_eq!((&job["status"]["failed"], phases(world)), (&json!(3), vec!["Failed".to_owned(); 3]));
        // Each replacement waits; a lower bound holds on any machine.
        let starts = world.moments("a Starting");
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= 0.9), "{starts:?}");
        assert_eq!(row(world, "j"), ["j", "Failed", "0/1"]);
        let told = world.minipod(&["describe", "job", "j"]).ok();
        for text in ["0 Active (0 Ready) / 0 Succeeded / 3 Failed", "SuccessfulCreate", "Job has reached the specified backoff limit", "   a:\n    Image:"] {
            assert!(told.contains(text), "no {text:?} in {told}");
        }
        world.minipod(&["delete", "job/j"]).ok();
        world.assert_nothing_left();
    }),
    case("JOB-02", |world| {
        let app = format!("{}; echo $JOB_COMPLETION_INDEX of $(hostname)", once("0.1", 0).replace("; exit 0", ""));
        let spec = json!({ "completions": 3, "parallelism": 2, "completionMode": "Indexed" });
        apply(world, "j", spec, &Pod::new("p", "Never").app("a", &app));
        let job = world.wait_job("j", "Complete");
        assert_eq!((&job["status"]["completedIndexes"], &job["status"]["succeeded"]), (&json!("0-2"), &json!(3)));
        let mut pods = world.pods();
        pods.sort_by(|(a, _), (b, _)| a.cmp(b));
        assert_eq!(pods.len(), 3);
        for (index, (name, pod)) in pods.iter().enumerate() {
            assert!(name.starts_with(&format!("j-{index}-")), "{name}");
            assert_eq!(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"], index.to_string());
            assert_eq!(pod["metadata"]["labels"]["batch.kubernetes.io/job-name"], "j");
            assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], job["metadata"]["uid"]);
            assert_eq!(world.minipod(&["logs", name]).ok(), format!("{index} of j-{index}\n"));
        }
        assert_eq!(world.minipod(&["get", "jobs", "-o", "name"]).ok(), "job.batch/j\n");
        let logs = world.minipod(&["logs", "job/j"]);
        assert!(logs.err.contains("Found 3 pods, using pod/j-"), "{}", logs.err);
    }),
    case("JOB-03", |world| {
        let pod = Pod::new("p", "Never")
            .sidecar("s", &serve("0", 0))
            .app("a", &format!("until grep -q 's Started' /story/lines; do sleep 0.02; done; {}", once("0", 0)));
        apply(world, "native", json!({}), &pod);
        world.wait_job("native", "Complete");
        world.assert_order(&["a Exiting", "s Term", "s Exiting"]);
        world.minipod(&["delete", "job", "native"]).ok();
        let pod = Pod::new("p", "Never").app("b", &once("0", 0)).app("loop", &serve("0", 0));
        apply(world, "classic", json!({}), &pod);
        world.wait_story("loop Started");
        let told = poll(seconds(20), || Some(world.start(&["describe", "job", "classic"]).wait().ok()).filter(|text| text.contains("ContainerRunsOn")));
        let told = told.expect("describe says why the job does not end");
        assert!(told.contains("container b has completed, but loop runs on"), "{told}");
        assert_eq!(row(world, "classic"), ["classic", "Running", "0/1"]);
        assert!(world.moments("loop Term").is_empty());
        world.minipod(&["delete", "job", "classic"]).ok();
        world.assert_order(&["loop Term", "loop Exiting"]);
        world.assert_nothing_left();
    }),
    case("JOB-04", |world| {
        // OnFailure: the pod restarts in place, and its restarts are the failures.
        let twice = "say Starting; [ $(grep -c 'a Starting' /story/lines) -ge 2 ]";
        apply(world, "j", json!({ "backoffLimit": 2 }), &Pod::new("p", "OnFailure").app("a", twice));
        world.wait_job("j", "Complete");
        assert_eq!((world.pods().len(), world.moments("a Starting").len()), (1, 2));
        world.minipod(&["delete", "job", "j"]).ok();
        apply(world, "k", json!({ "backoffLimit": 2 }), &Pod::new("p", "OnFailure").app("b", &once("0", 1)));
        let job = world.wait_job("k", "Failed");
        assert_eq!(reason(&job, "Failed"), "BackoffLimitExceeded");
        let gone = poll(seconds(10), || world.pods().is_empty().then_some(()));
        assert!(gone.is_some(), "the pod that still restarted was deleted");
    }),
    case("JOB-05", |world| {
        let file = manifest(world, "j", json!({}), &Pod::new("p", "Always").app("a", &once("0", 0)));
        for words in [["run", &file], ["apply", "-f"]] {
            let words = if words[0] == "run" { words.to_vec() } else { vec!["apply", "-f", &file] };
            let told = "The Job \"j\" is invalid: spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"";
            world.minipod(&words).fails_with(&[told]);
        }
        world.assert_silent("a");
        world.assert_nothing_left();
    }),
    case("JOB-06", |world| {
        let file = manifest(world, "j", json!({ "activeDeadlineSeconds": 1 }), &Pod::new("p", "Never").app("a", &serve("0", 0)));
        let done = world.minipod(&["run", &file]);
        assert_eq!(done.code, 124, "{}", done.err);
        assert!(done.err.contains("DeadlineExceeded: Job was active longer than specified deadline"), "{}", done.err);
        world.assert_order(&["a Started", "a Term", "a Exiting"]);
        world.assert_nothing_left();
    }),
    case("JOB-07", |world| {
        // In the foreground: the output of all pods, and the end as exit code; then nothing is left.
        let app = "echo pod $JOB_COMPLETION_INDEX; [ $JOB_COMPLETION_INDEX = 0 ] || sleep 0.1";
        let file = manifest(world, "j", json!({ "completions": 2, "completionMode": "Indexed" }), &Pod::new("p", "Never").app("a", app));
        let done = world.minipod(&["run", &file]);
        assert_eq!(done.code, 0, "{}", done.err);
        for index in 0..2 {
            let line = done.out.lines().find(|line| line.ends_with(&format!("/a] pod {index}")));
            assert!(line.is_some_and(|line| line.starts_with(&format!("[j-{index}-"))), "{}", done.out);
        }
        assert!(done.err.contains("j: Complete  2/2"), "{}", done.err);
        world.assert_nothing_left();
        // However the command ends, the job ends with it.
        for signal in [Signal::SIGINT, Signal::SIGKILL] {
            let name = format!("k{}", signal as i32);
            let file = manifest(world, &name, json!({}), &Pod::new("p", "Never").app(&name, &serve("0", 0)));
            let run = world.start(&["run", &file]);
            world.wait_story(&format!("{name} Started"));
            run.signal(signal);
            let done = run.wait();
            assert_eq!(done.code, if signal == Signal::SIGINT { 1 } else { 137 }, "{}", done.err);
            wait_gone(world, &name);
            world.assert_order(&[&format!("{name} Term"), &format!("{name} Exiting")]);
            world.assert_nothing_left();
        }
    }),
    case("JOB-08", |world| {
        // A runner that is killed leaves what tells the truth, and what the next command takes away.
        let file = apply(world, "j", json!({ "parallelism": 2, "completions": 2 }), &Pod::new("p", "Never").app("a", &serve("0", 0)));
        poll(seconds(20), || (world.moments("a Started").len() == 2).then_some(())).expect("two pods");
        kill(runner(world, "j"), Signal::SIGKILL).expect("it runs");
        let lost = poll(seconds(10), || Some(row(world, "j")).filter(|row| row[1] == "Failed"));
        assert!(lost.is_some(), "a job without a runner has failed: {:?}", row(world, "j"));
        let job: Value = serde_json::from_str(&world.minipod(&["get", "job", "j", "-o", "json"]).ok()).expect("JSON");
        assert_eq!((reason(&job, "Failed").as_str(), &job["status"]["active"]), ("RunnerLost", &json!(2)), "its pods go on");
        assert!(world.moments("a Term").is_empty());
        // The next run of the name clears it away first.
        world.minipod(&["run", "-d", &file]).ok();
        assert_eq!(world.moments("a Exiting").len(), 2);
        poll(seconds(20), || (world.moments("a Started").len() == 4).then_some(())).expect("two new pods");
        kill(runner(world, "j"), Signal::SIGKILL).expect("it runs");
        poll(seconds(10), || (row(world, "j")[1] == "Failed").then_some(())).expect("lost again");
        // Even one that cannot be read any more goes with its pods.
        std::fs::write(world.root().join("lib/jobs/default/j/job.json"), "").expect("it is there");
        world.minipod(&["delete", "job", "j"]).ok();
        assert_eq!(world.moments("a Exiting").len(), 4);
        world.assert_nothing_left();
    }),
    case("JOB-09", |world| {
        apply(world, "j", json!({ "ttlSecondsAfterFinished": 0 }), &Pod::new("p", "Never").app("a", &once("0", 0)));
        wait_gone(world, "j");
        world.assert_order(&["a Exiting"]);
        world.assert_nothing_left();
    }),
    case("JOB-10", |world| {
        let pod = Pod::new("p", "Never").app("a", &format!("say Starting; {}; say Exiting", await_file("go")));
        apply(world, "j", json!({ "suspend": true }), &pod);
        assert_eq!(row(world, "j"), ["j", "Suspended", "0/1"]);
        world.assert_silent("a");
        let configured = |suspend: bool| {
            let file = manifest(world, "j", json!({ "suspend": suspend }), &pod);
            assert_eq!(world.minipod(&["apply", "-f", &file]).ok(), "job.batch/j configured\n");
        };
        configured(false);
        world.wait_story("a Starting");
        configured(true);
        let gone = poll(seconds(20), || world.pods().is_empty().then_some(()));
        assert!(gone.is_some(), "a suspended job has no pods");
        assert_eq!(row(world, "j"), ["j", "Suspended", "0/1"]);
        configured(false);
        world.touch("go");
        let job = world.wait_job("j", "Complete");
        assert_eq!(job["status"]["failed"], Value::Null, "who was suspended has not failed");
        let events = world.minipod(&["get", "events"]).ok();
        assert!(events.contains("job/j") && events.contains("Job resumed"), "{events}");
    }),
    case("JOB-11", |world| {
        let policy = json!({ "rules": [
            { "action": "Ignore", "onExitCodes": { "operator": "In", "values": [3] } },
            { "action": "FailJob", "onExitCodes": { "containerName": "a", "operator": "In", "values": [42] } },
        ] });
        let app = "say Starting; [ $(grep -c 'a Starting' /story/lines) -ge 2 ] && exit 42; exit 3";
        apply(world, "j", json!({ "backoffLimit": 0, "podFailurePolicy": policy }), &Pod::new("p", "Never").app("a", app));
        let job = world.wait_job("j", "Failed");
        assert_eq!((reason(&job, "Failed").as_str(), &job["status"]["failed"]), ("PodFailurePolicy", &json!(1)), "the first is ignored");
        // An index may fail for good, and the others go on.
        let app = "[ $JOB_COMPLETION_INDEX != 1 ]";
        let spec = json!({ "completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 1 });
        apply(world, "k", spec, &Pod::new("p", "Never").app("b", app));
        let job = world.wait_job("k", "Failed");
        let status = &job["status"];
        assert_eq!((reason(&job, "Failed").as_str(), &status["failedIndexes"], &status["completedIndexes"]), ("FailedIndexes", &json!("1"), &json!("0,2")));
        // Enough is enough.
        let app = format!("[ $JOB_COMPLETION_INDEX = 0 ] || {{ {}; }}", serve("0", 0));
        let policy = json!({ "rules": [{ "succeededIndexes": "0" }] });
        let spec = json!({ "completions": 2, "parallelism": 2, "completionMode": "Indexed", "successPolicy": policy });
        apply(world, "l", spec, &Pod::new("p", "Never").app("c", &app));
        let job = world.wait_job("l", "Complete");
        assert_eq!((reason(&job, "Complete").as_str(), &job["status"]["completedIndexes"]), ("SuccessPolicy", &json!("0")));
    }),
    case("JOB-12", |world| {
        let done = world.minipod(&["run", &example("job.yaml")]);
        assert_eq!(done.code, 0, "{}", done.err);
        assert!(done.out.contains("/log-shipper] line 3"), "{}", done.out);
        world.minipod(&["apply", "-f", &example("job-classic-sidecar.yaml")]).ok();
        let watch = world.start(&["get", "jobs", "-w"]);
        watch.wait_for("report-classic");
        let told = poll(seconds(20), || Some(world.start(&["describe", "job", "report-classic"]).wait().ok()).filter(|text| text.contains("ContainerRunsOn")));
        assert!(told.is_some(), "describe says why the job does not end");
        world.minipod(&["delete", "-f", &example("job-classic-sidecar.yaml")]).ok();
        drop(watch);
        world.assert_nothing_left();
    }),
    case("JOB-13", |world| {
        let created = world.start(&["wait", "job/j", "--for=create"]);
        apply(world, "j", json!({}), &Pod::new("p", "Never").app("a", &await_file("go")));
        assert_eq!(created.wait().ok(), "job.batch/j condition met\n");
        let late = world.minipod(&["wait", "jobs", "--all", "--for=condition=complete", "--timeout=0"]);
        late.fails_with(&["error: timed out waiting for the condition on jobs.batch/j"]);
        let waits = [
            world.start(&["wait", "job", "j", "--for=condition=Complete", "--timeout=1m"]),
            world.start(&["wait", "job/j", "--for=jsonpath={.status.succeeded}=1", "--timeout=1m"]),
        ];
        let never = world.start(&["wait", "job/j", "--for=condition=Failed", "--timeout=1m"]);
        world.touch("go");
        for wait in waits {
            assert_eq!(wait.wait().ok(), "job.batch/j condition met\n");
        }
        let never = never.wait();
        never.fails_with(&["error: job.batch/j: the job is complete, so condition Failed=True can no longer come true"]);
        assert_eq!(never.code, 3);
        let gone = world.start(&["wait", "jobs", "j", "--for=delete", "--timeout=1m"]);
        world.minipod(&["delete", "job", "j"]).ok();
        assert!(["", "job.batch/j condition met\n"].contains(&gone.wait().ok().as_str()));
        world.minipod(&["wait", "job/j", "--for=condition=Complete"]).fails_with(&["jobs.batch \"j\" not found"]);
        world.assert_nothing_left();
    }),
];

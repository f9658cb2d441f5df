//! `logs`: which container, which run, which lines; and following, without a poll.

use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc;

use clap::Parser;
use jiff::Timestamp;
use minipod::cli::get::{pod_of, read_pod};
use minipod::cli::logs::follow::{Follower, From, Sight, Step};
use minipod::cli::logs::{LogsArgs, Place, all_instances};
use minipod::container::log::{LogFile, Stream};
use minipod::sys::file::write_atomically;
use minipod::sys::notify::Notify;
use serde_json::{Value, json};

#[derive(Parser)]
struct Logs {
    #[command(flatten)]
    args: LogsArgs,
}

fn logs(words: &str) -> LogsArgs {
    Logs::try_parse_from(std::iter::once("logs").chain(words.split_whitespace())).unwrap().args
}

fn now() -> Timestamp {
    "2026-03-07T10:00:00Z".parse().unwrap()
}

/// `seconds` before [`now`].
fn ago(seconds: i64) -> Timestamp {
    now() - jiff::SignedDuration::from_secs(seconds)
}

/// A pod's directories, with its file and what its containers wrote.
struct Pod {
    root: tempfile::TempDir,
    object: Value,
}

fn status(name: &str, count: u32, state: Value, last: Value) -> Value {
    json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": count, "state": state, "lastState": last})
}

fn running() -> Value {
    json!({"running": {}})
}

fn ended(code: i32) -> Value {
    json!({"terminated": {"exitCode": code}})
}

fn waiting(reason: &str) -> Value {
    json!({"waiting": {"reason": reason}})
}

impl Pod {
    /// With an init container `i`, the apps `a` and `b` and an ephemeral container `e`.
    fn new(statuses: Vec<Value>) -> Pod {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "default", "uid": "u", "annotations": {}},
            "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}], "ephemeralContainers": [{"name": "e"}]},
            "status": {"phase": "Running", "containerStatuses": statuses},
        });
        let pod = Pod { root: tempfile::tempdir().unwrap(), object };
        std::fs::create_dir(pod.state()).unwrap();
        pod.save();
        pod
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    fn save(&self) {
        write_atomically(self.state().join("pod.json"), self.object.to_string().as_bytes(), 0o600).unwrap();
    }

    fn place(&self) -> Place {
        Place { pod: pod_of(self.object.clone()).unwrap(), state: self.state(), logs: self.root.path().join("logs") }
    }

    fn log(&self, container: &str, number: u32) -> LogFile {
        LogFile::open(self.place().log(container, number).unwrap()).unwrap()
    }

    fn wrote(&self, container: &str, number: u32, text: &str) {
        self.log(container, number).take(Stream::Stdout, text.as_bytes(), ago(0)).unwrap();
    }

    /// What `logs WORDS` prints on standard output and standard error, or the line that it fails with.
    fn print(&self, words: &str) -> Result<(String, String), String> {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let printed = logs(words).print(&[self.place()], now(), &mut out, &mut notes);
        printed.map_err(|error| error.to_string())?;
        Ok((String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap()))
    }

    fn out(&self, words: &str) -> String {
        self.print(words).unwrap().0
    }
}

const OUT_OF: &str = "a, b, e (ephem), i (init)";

#[test]
fn log_01_the_first_container_is_printed_and_the_others_are_named() {
    let mut pod = Pod::new(vec![status("a", 0, running(), json!({})), status("b", 0, running(), json!({}))]);
    pod.object["status"]["initContainerStatuses"] = json!([status("i", 0, ended(0), json!({}))]);
    for name in ["a", "b", "i"] {
        pod.wrote(name, 0, &format!("by {name}\n"));
    }
    assert_eq!(pod.print("p").unwrap(), ("by a\n".to_owned(), format!("Defaulted container \"a\" out of: {OUT_OF}\n")));
    assert_eq!(pod.print("p -c b").unwrap(), ("by b\n".to_owned(), String::new()));
    assert_eq!(pod.print("pod/p i").unwrap(), ("by i\n".to_owned(), String::new()));
    assert_eq!(pod.print("p -c x").unwrap_err(), format!("error: container x is not valid for pod p out of: {OUT_OF}"));
    pod.object["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/default-container": "b"});
    assert_eq!(pod.print("p").unwrap(), ("by b\n".to_owned(), String::new()));
    pod.object["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/default-container": "zz"});
    assert_eq!(pod.print("p").unwrap().1, format!("Default container name \"zz\" not found in pod p\nDefaulted container \"a\" out of: {OUT_OF}\n"));
}

#[test]
fn log_02_a_container_that_never_started_says_why() {
    let table = [
        ("PodInitializing", "PodInitializing"),
        ("ContainerCreating", "ContainerCreating"),
        ("ErrImagePull", "image can't be pulled"),
        ("ImagePullBackOff", "trying and failing to pull image"),
        ("CreateContainerConfigError", "CreateContainerConfigError"),
    ];
    for (reason, why) in table {
        let pod = Pod::new(vec![status("a", 0, waiting(reason), json!({}))]);
        let line = format!("Error from server (BadRequest): container \"a\" in pod \"p\" is waiting to start: {why}");
        assert_eq!(pod.print("p -c a").unwrap_err(), line);
    }
    let pod = Pod::new(vec![status("a", 0, json!({}), json!({})), status("b", 0, ended(128), json!({}))]);
    assert!(pod.print("p -c a").unwrap_err().ends_with("is waiting to start - no logs yet"));
    assert!(pod.print("p -c b").unwrap_err().ends_with("container \"b\" in pod \"p\" is terminated"));
    assert!(pod.print("p -c e").unwrap_err().ends_with("container \"e\" in pod \"p\" is not available"));
}

#[test]
fn log_03_lines_are_taken_from_the_end_by_age_and_by_bytes() {
    let pod = Pod::new(vec![status("a", 0, running(), json!({}))]);
    let mut log = pod.log("a", 0);
    for (line, seconds) in [(1, 30), (2, 10), (3, 5), (4, 4), (5, 0)] {
        let stream = if line % 2 == 0 { Stream::Stderr } else { Stream::Stdout };
        log.take(stream, format!("line {line}\n").as_bytes(), ago(seconds)).unwrap();
    }
    assert_eq!(pod.out("p a --tail 3"), "line 3\nline 4\nline 5\n");
    assert_eq!(pod.out("p a --tail=0"), "");
    assert_eq!(pod.out("p a --tail=-1 --limit-bytes 10"), "line 1\nlin");
    assert_eq!(pod.out("p a --since 5s"), "line 3\nline 4\nline 5\n", "a line of exactly that age is kept");
    assert_eq!(pod.out("p a --since-time 2026-03-07T09:59:56Z"), "line 4\nline 5\n");
    assert_eq!(pod.out("p a --since 5s --tail 1 --timestamps"), "2026-03-07T10:00:00.000000000Z line 5\n");
    assert_eq!(pod.out("p a --tail 1 --timestamps --limit-bytes 12"), "2026-03-07T1");
    assert_eq!(pod.out("p a --tail 2 --prefix"), "[pod/p/a] line 4\n[pod/p/a] line 5\n");
}

#[test]
fn log_03_long_lines_are_whole_and_unfinished_ones_have_no_newline() {
    let pod = Pod::new(vec![status("a", 0, ended(0), json!({}))]);
    let long = "x".repeat(100_000);
    let mut log = pod.log("a", 0);
    log.take(Stream::Stdout, format!("{long}\nprompt> ").as_bytes(), now()).unwrap();
    log.end(Stream::Stdout, now()).unwrap();
    assert_eq!(pod.out("p a --prefix"), format!("[pod/p/a] {long}\n[pod/p/a] prompt> "));
    assert_eq!(pod.out("p a --timestamps").matches("2026-03-07T10:00:00.000000000Z ").count(), 2);
    assert_eq!(pod.out("p a --tail 1"), "prompt> ", "a part counts as a line of the file");
    assert_eq!(pod.out("p a --tail 2").len(), 100_000 % (16 * 1024) + 1 + "prompt> ".len());
}

#[test]
fn log_04_all_containers_come_one_after_another_inits_first() {
    let mut pod = Pod::new(vec![status("a", 0, running(), json!({})), status("b", 0, running(), json!({}))]);
    pod.object["status"]["initContainerStatuses"] = json!([status("i", 0, ended(0), json!({}))]);
    for name in ["a", "b", "i"] {
        pod.wrote(name, 0, &format!("one\ntwo of {name}\n"));
    }
    let failing = pod.print("p --all-containers").unwrap_err();
    assert!(failing.contains("container \"e\" in pod \"p\" is not available"), "{failing}");
    let (out, notes) = pod.print("p --all-containers=true --prefix --ignore-errors --tail 1").unwrap();
    assert_eq!(out, "[pod/p/i] two of i\n[pod/p/a] two of a\n[pod/p/b] two of b\n");
    assert!(notes.contains("\"e\""), "{notes}");
    let too_many = pod.print("p --all-containers -f --max-log-requests 3").unwrap_err();
    assert_eq!(
        too_many,
        "error: you are attempting to follow 4 log streams, but maximum allowed concurrency is 3, use --max-log-requests to increase the limit"
    );
}

#[test]
fn log_05_the_run_that_is_meant_is_found() {
    let pod = |status: Value| {
        let pod = Pod::new(vec![status]);
        for number in 0..3 {
            pod.wrote("a", number, &format!("run {number}\n"));
        }
        pod
    };
    let in_third_run = pod(status("a", 2, running(), ended(1)));
    assert_eq!((in_third_run.out("p a").as_str(), in_third_run.out("p a -p").as_str()), ("run 2\n", "run 1\n"));
    let in_back_off = pod(status("a", 2, waiting("CrashLoopBackOff"), ended(1)));
    assert_eq!((in_back_off.out("p a").as_str(), in_back_off.out("p a -p").as_str()), ("run 2\n", "run 2\n"));
    let just_ended = pod(status("a", 2, ended(1), ended(1)));
    assert_eq!((just_ended.out("p a").as_str(), just_ended.out("p a --previous").as_str()), ("run 2\n", "run 1\n"));
    let never_began = pod(status("a", 3, ended(128), ended(1)));
    assert_eq!(never_began.out("p a"), "run 2\n", "a run without a log shows the one before");
    let first = pod(status("a", 0, running(), json!({})));
    assert_eq!(first.print("p a -p").unwrap_err(), "Error from server (BadRequest): previous terminated container \"a\" in pod \"p\" not found");
}

#[test]
fn options_that_contradict_are_refused_in_upstreams_words() {
    let pod = Pod::new(vec![status("a", 0, running(), json!({}))]);
    let table = [
        ("p --all-containers=true -c a", "error: --all-containers=true should not be specified with container name a"),
        ("p --since 1s --since-time 2026-03-07T09:00:00Z", "error: at most one of `sinceTime` or `sinceSeconds` may be specified"),
        ("p a -c b", "error: only one of -c or an inline [CONTAINER] arg is allowed"),
        ("p --tail -2", "error: --tail must be greater than or equal to -1"),
        ("p --limit-bytes -1", "error: --limit-bytes must be greater than 0"),
        ("p --since -5s", "error: --since must be greater than 0"),
        ("p --since 5", "error: --since: \"5\" is no duration like 5s, 2m or 1h30m"),
        ("p --since-time now", "error: --since-time: \"now\" is no time like 2026-03-07T09:05:00Z"),
    ];
    for (words, line) in table {
        assert_eq!(pod.print(words).unwrap_err(), line, "{words}");
    }
    assert_eq!(logs("p -l app=web").named().unwrap_err().to_string(), "error: only a selector (-l) or a POD name is allowed");
    assert_eq!(logs("-l app=web").named(), Ok(None));
    assert!(Logs::try_parse_from(["logs"]).is_err());
    let args = logs("-fp web --timestamps=false --prefix=true");
    assert!(args.follow && args.previous && !args.timestamps && args.prefix && args.pod.as_deref() == Some("web"));
}

#[test]
fn a_log_that_is_not_in_the_format_is_told_of() {
    let pod = Pod::new(vec![status("a", 0, running(), json!({}))]);
    pod.wrote("a", 0, "good\n");
    let path = pod.place().log("a", 0).unwrap();
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"\0\0garbage\n").unwrap();
    let (out, notes) = pod.print("p a").unwrap();
    assert_eq!((out.as_str(), notes.as_str()), ("good\n", "note: 1 lines of the log are not in its format and were left out\n"));
}

/// Standard output that tells another thread what arrives.
struct Told(mpsc::Sender<Vec<u8>>);

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn log_03_following_ends_with_the_run_and_misses_nothing() {
    let mut pod = Pod::new(vec![status("a", 0, running(), json!({}))]);
    let mut log = pod.log("a", 0);
    log.take(Stream::Stdout, b"first\nsecond\n", now()).unwrap();
    let place = pod.place();
    let (told, arrives) = mpsc::channel::<Vec<u8>>();
    let seen = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut seen = Vec::new();
            let mut until = |end: &[u8]| {
                while !seen.ends_with(end) {
                    seen.extend(arrives.recv().unwrap());
                }
            };
            until(b"second\n");
            log.take(Stream::Stderr, b"third\nfou", now()).unwrap();
            until(b"third\n");
            log.take(Stream::Stderr, b"rth\n", now()).unwrap();
            until(b"fourth\n");
            // The next run begins at once: it is not followed.
            log.take(Stream::Stdout, b"last\n", now()).unwrap();
            pod.wrote("a", 1, "of the next run\n");
            pod.object["status"]["containerStatuses"] = json!([status("a", 1, running(), ended(0))]);
            pod.save();
            until(b"last\n");
            (seen, pod)
        });
        logs("p a -f --tail 1").print(&[place], now(), &mut Told(told), &mut Vec::new()).unwrap();
        writer.join().unwrap().0
    });
    assert_eq!(String::from_utf8(seen).unwrap(), "second\nthird\nfourth\nlast\n");
}

#[test]
fn following_a_pod_that_is_deleted_ends() {
    let pod = Pod::new(vec![status("a", 0, running(), json!({}))]);
    pod.wrote("a", 0, "hello\n");
    let (told, arrives) = mpsc::channel();
    let (place, state) = (pod.place(), pod.state());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            arrives.recv().unwrap();
            std::fs::remove_dir_all(state).unwrap();
            arrives.iter().for_each(drop);
        });
        logs("p a -f").print(&[place], now(), &mut Told(told), &mut Vec::new()).unwrap();
    });
}

#[test]
fn a_whole_pod_is_followed_through_restarts_in_the_order_of_time() {
    let mut pod = Pod::new(vec![status("a", 0, waiting("ContainerCreating"), json!({})), status("b", 0, running(), json!({}))]);
    let notify = Notify::new().unwrap();
    notify.watch_dir(pod.state()).unwrap();
    let template = pod.place();
    let look = || {
        let found = read_pod(&template.state.join("pod.json"))?;
        found.map_or_else(|| Ok(Sight { complete: true, ..Sight::default() }), |pod| all_instances(&Place { pod, ..template.clone() }))
    };
    let mut follower = Follower::new(notify, From::default(), look);
    let read = |follower: &mut Follower<'_>| {
        let mut lines = Vec::new();
        loop {
            match follower.step().unwrap() {
                Step::Line(instance, line) => lines.push(format!("{}{} {}", instance.container, instance.number, String::from_utf8_lossy(line.content))),
                Step::Wait => return (lines, false),
                Step::End => return (lines, true),
            }
        }
    };
    assert_eq!(read(&mut follower), (vec![], false), "no log is there yet");
    pod.log("b", 0).take(Stream::Stdout, b"late\n", ago(1)).unwrap();
    for (number, second) in [(0, 9), (1, 7), (2, 5)] {
        pod.log("a", number).take(Stream::Stdout, b"hello\n", ago(second)).unwrap();
    }
    pod.object["status"]["containerStatuses"] = json!([status("a", 2, running(), ended(1)), status("b", 0, running(), json!({}))]);
    pod.save();
    follower.wait().unwrap();
    let lines = ["a0 hello", "a1 hello", "a2 hello", "b0 late"].map(str::to_owned).to_vec();
    assert_eq!(read(&mut follower), (lines, false), "runs between two looks are not skipped");
    pod.log("a", 2).take(Stream::Stdout, b"bye\n", now()).unwrap();
    pod.object["status"]["containerStatuses"] = json!([status("a", 2, ended(0), ended(1)), status("b", 0, ended(0), json!({}))]);
    pod.object["status"]["phase"] = "Succeeded".into();
    pod.save();
    follower.wait().unwrap();
    assert_eq!(read(&mut follower), (vec!["a2 bye".to_owned()], true));
}

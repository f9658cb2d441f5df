//! A sentence for each rule, told as a small life.

mod random;

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, PodCondition, PodStatus};
use serde_json::{Value, json};

use super::*;
use crate::lifecycle::At;

/// A Job under test, its clock in seconds.
struct Life {
    spec: Spec,
    facts: Facts,
    now: u64,
}

impl Life {
    /// A Job of this spec, as far as it differs from the defaults.
    fn new(spec: Value) -> Life {
        let mut job = json!({ "metadata": { "name": "j", "namespace": "default" }, "spec": spec });
        let policy = job["spec"]["restartPolicy"].take();
        job["spec"]["template"] = json!({ "spec": { "containers": [], "restartPolicy": if policy.is_null() { json!("Never") } else { policy } } });
        job["apiVersion"] = json!("batch/v1");
        job["kind"] = json!("Job");
        let job: Job = serde_json::from_value(job).unwrap();
        let suspended = job.spec.as_ref().unwrap().suspend.unwrap_or_default();
        Life { spec: Spec::of(&job), facts: Facts::new(suspended, At { mono: 0, wall: 0 }), now: 0 }
    }

    fn at(&self) -> At {
        At { mono: self.now * 1000, wall: (self.now * 1000).cast_signed() }
    }

    fn observe(&mut self, event: Event<'_>) {
        let at = self.at();
        observe(&self.spec, &mut self.facts, event, at);
    }

    /// Does all that is due; what was done, in short words, and the second of the next alarm.
    fn turn(&mut self) -> (Vec<String>, Option<u64>) {
        let mut done = Vec::new();
        loop {
            let (actions, wake) = decide(&self.spec, &self.facts, self.now * 1000);
            if actions.is_empty() || actions == [Action::Leave] {
                done.extend(actions.iter().map(|_| "leave".to_owned()));
                return (done, wake.map(|wake| wake.div_ceil(1000)));
            }
            for action in actions {
                done.push(match &action {
                    Action::Create { index: None, .. } => "create".to_owned(),
                    Action::Create { index: Some(index), .. } => format!("create {index}"),
                    Action::Delete { pod, .. } => format!("delete {pod}"),
                    Action::Settle(target) => format!("settle {}", target.reason),
                    Action::Finish => "finish".to_owned(),
                    Action::Leave => "leave".to_owned(),
                });
                match action {
                    Action::Create { index, earlier_failures } => {
                        let name = format!("p{}", self.facts.pods.len());
                        self.observe(Event::Created { name, index, earlier_failures });
                    }
                    Action::Delete { pod, spared } => self.observe(Event::Deleted { pod, spared }),
                    Action::Settle(target) => self.observe(Event::Settled(target)),
                    Action::Finish => self.observe(Event::Finished),
                    Action::Leave => {}
                }
            }
        }
    }

    /// What was done, as one line.
    #[track_caller]
    fn does(&mut self, expected: &str) -> Option<u64> {
        let (done, wake) = self.turn();
        assert_eq!(done.join(", "), expected, "{:#?}", self.facts);
        wake
    }

    fn ends(&mut self, pod: usize, code: i32) {
        let status = ended(code);
        self.observe(Event::Seen(pod, &status));
    }

    fn status(&self) -> JobStatus {
        status(&self.spec, &self.facts)
    }

    /// The conditions that hold, with their reasons.
    fn conditions(&self) -> String {
        let all = self.status().conditions.unwrap_or_default();
        let words = all.iter().filter(|condition| condition.status == "True").map(|c| format!("{} {}", c.type_, c.reason.clone().unwrap_or_default()));
        words.collect::<Vec<_>>().join(", ")
    }
}

fn container(name: &str, code: Option<i32>, restarts: i32) -> ContainerStatus {
    let state = match code {
        Some(exit_code) => ContainerState { terminated: Some(ContainerStateTerminated { exit_code, ..Default::default() }), ..Default::default() },
        None => ContainerState { running: Some(ContainerStateRunning::default()), ..Default::default() },
    };
    ContainerStatus { name: name.into(), state: Some(state), restart_count: restarts, ..Default::default() }
}

fn ended(code: i32) -> PodStatus {
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    PodStatus { phase: Some(phase.into()), container_statuses: Some(vec![container("c", Some(code), 0)]), ..Default::default() }
}

fn running(restarts: i32) -> PodStatus {
    let ready = PodCondition { type_: "Ready".into(), status: "True".into(), ..Default::default() };
    PodStatus {
        phase: Some("Running".into()),
        container_statuses: Some(vec![container("c", None, restarts)]),
        conditions: Some(vec![ready]),
        ..Default::default()
    }
}

#[test]
fn a_job_of_one_pod_is_complete_when_it_has_succeeded() {
    let mut life = Life::new(json!({ "completions": 1 }));
    life.does("create");
    life.observe(Event::Seen(0, &running(0)));
    assert_eq!((life.status().active, life.status().ready), (Some(1), Some(1)));
    life.now = 5;
    life.ends(0, 0);
    assert_eq!(life.does("settle CompletionsReached, finish"), None);
    assert_eq!(life.conditions(), "SuccessCriteriaMet CompletionsReached, Complete CompletionsReached");
    let status = life.status();
    assert_eq!((status.active, status.succeeded, status.failed, status.ready), (None, Some(1), None, Some(0)));
    assert_eq!(status.completion_time.unwrap().0.as_second(), 5);
}

#[test]
fn no_more_pods_run_at_once_than_parallelism_and_no_more_than_are_missing() {
    let mut life = Life::new(json!({ "completions": 3, "parallelism": 2 }));
    life.does("create, create");
    life.ends(0, 0);
    life.does("create");
    life.ends(1, 0);
    life.does("");
    life.ends(2, 0);
    life.does("settle CompletionsReached, finish");
}

#[test]
fn a_failed_pod_is_replaced_after_ten_seconds_then_twenty_and_the_limit_fails_the_job() {
    let mut life = Life::new(json!({ "completions": 1, "backoffLimit": 2 }));
    life.does("create");
    life.ends(0, 1);
    assert_eq!(life.does(""), Some(10));
    life.now = 10;
    life.does("create");
    life.now = 11;
    life.ends(1, 1);
    assert_eq!(life.does(""), Some(31));
    life.now = 31;
    life.does("create");
    life.ends(2, 1);
    life.does("settle BackoffLimitExceeded, finish");
    assert_eq!(life.conditions(), "FailureTarget BackoffLimitExceeded, Failed BackoffLimitExceeded");
    assert_eq!((life.status().failed, life.status().completion_time), (Some(3), None));
}

#[test]
fn the_wait_never_exceeds_the_longest_and_a_success_begins_a_new_series() {
    let mut life = Life::new(json!({ "completions": 100, "backoffLimit": 100 }));
    life.does("create");
    let mut waits = Vec::new();
    for pod in 0..9 {
        life.ends(pod, 1);
        let due = life.does("").unwrap();
        waits.push(due - life.now);
        life.now = due;
        life.does("create");
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
    life.now += 1;
    life.ends(9, 0);
    life.does("create");
    life.now += 1;
    life.ends(10, 1);
    assert_eq!(life.does(""), Some(life.now + 10));
    life.spec.max_backoff = 1000;
    assert_eq!(life.does(""), Some(life.now + 1), "--max-backoff 1s");
}

#[test]
fn with_on_failure_the_restarts_are_the_failures_and_the_limit_itself_is_too_many() {
    for (limit, fine) in [(0, 0), (1, 0), (3, 2)] {
        let mut life = Life::new(json!({ "completions": 1, "backoffLimit": limit, "restartPolicy": "OnFailure" }));
        life.does("create");
        life.observe(Event::Seen(0, &running(fine)));
        life.does("");
        life.observe(Event::Seen(0, &running(fine + 1)));
        life.does("settle BackoffLimitExceeded, delete 0");
        assert_eq!(life.status().failed, Some(1), "the pod that goes down with the job");
        life.observe(Event::Gone(0));
        life.does("finish");
        assert_eq!((life.status().failed, life.status().terminating), (Some(1), Some(0)));
    }
}

#[test]
fn a_deadline_ends_the_job_though_it_waits_for_its_back_off() {
    let mut life = Life::new(json!({ "completions": 1, "activeDeadlineSeconds": 5 }));
    life.does("create");
    life.ends(0, 1);
    assert_eq!(life.does(""), Some(5));
    life.now = 5;
    life.does("settle DeadlineExceeded, finish");
}

#[test]
fn what_runs_at_the_end_is_deleted_and_the_job_ends_when_it_is_gone() {
    let mut life = Life::new(json!({ "completions": 2, "parallelism": 2, "backoffLimit": 0 }));
    life.does("create, create");
    life.ends(0, 3);
    life.does("settle BackoffLimitExceeded, delete 1");
    assert_eq!((life.status().terminating, life.status().active, life.conditions().as_str()), (Some(1), None, "FailureTarget BackoffLimitExceeded"));
    life.ends(1, 0);
    life.does("finish");
    assert_eq!(life.conditions(), "FailureTarget BackoffLimitExceeded, Failed BackoffLimitExceeded", "a late success changes nothing");
}

#[test]
fn a_work_queue_makes_nothing_new_after_the_first_success_and_waits_for_the_rest() {
    let mut life = Life::new(json!({ "parallelism": 2 }));
    life.does("create, create");
    life.ends(0, 0);
    life.does("");
    life.ends(1, 1);
    life.does("settle CompletionsReached, finish");
}

#[test]
fn each_index_has_to_succeed_once_and_a_failed_one_is_tried_again() {
    let mut life = Life::new(json!({ "completions": 3, "parallelism": 2, "completionMode": "Indexed" }));
    life.does("create 0, create 1");
    life.ends(1, 0);
    life.does("create 2");
    life.ends(2, 0);
    life.now = 1;
    life.ends(0, 1);
    assert_eq!(life.does(""), Some(11));
    life.now = 11;
    life.does("create 0");
    life.ends(3, 0);
    life.does("settle CompletionsReached, finish");
    assert_eq!(life.status().completed_indexes.as_deref(), Some("0-2"));
    assert_eq!(life.status().failed_indexes, None, "without backoffLimitPerIndex there are no failed indexes");
}

#[test]
fn a_limit_for_each_index_fails_the_index_and_lets_the_others_go_on() {
    let mut life = Life::new(json!({ "completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": i32::MAX, "backoffLimitPerIndex": 1 }));
    life.does("create 0, create 1");
    life.ends(0, 1);
    assert_eq!(life.does(""), Some(10));
    life.now = 10;
    life.does("create 0");
    assert_eq!(life.facts.pods[2].earlier_failures, (1, 0));
    life.ends(2, 1);
    life.does("");
    assert_eq!(life.status().failed_indexes.as_deref(), Some("0"));
    life.ends(1, 0);
    life.does("settle FailedIndexes, finish");
}

#[test]
fn too_many_failed_indexes_fail_the_job_at_once() {
    let mut life = Life::new(
        json!({ "completions": 4, "parallelism": 4, "completionMode": "Indexed", "backoffLimit": i32::MAX, "backoffLimitPerIndex": 0, "maxFailedIndexes": 1 }),
    );
    life.does("create 0, create 1, create 2, create 3");
    life.ends(0, 1);
    life.does("");
    life.ends(1, 1);
    life.does("settle MaxFailedIndexesExceeded, delete 2, delete 3");
}

fn failure_policy(action: &str, operator: &str, values: &[i32]) -> Value {
    json!({ "rules": [{ "action": action, "onExitCodes": { "operator": operator, "values": values } }] })
}

#[test]
fn a_failure_policy_fails_the_job_at_once_and_says_why() {
    let mut life = Life::new(json!({ "completions": 1, "podFailurePolicy": failure_policy("FailJob", "In", &[42]) }));
    life.does("create");
    life.ends(0, 42);
    life.does("settle PodFailurePolicy, finish");
    let message = life.status().conditions.unwrap().pop().unwrap().message.unwrap();
    assert_eq!(message, "Container c for pod default/p0 failed with exit code 42 matching FailJob rule at index 0");
}

#[test]
fn an_ignored_failure_counts_towards_nothing_but_waits_all_the_same() {
    let mut life = Life::new(json!({ "completions": 1, "backoffLimit": 0, "podFailurePolicy": failure_policy("Ignore", "NotIn", &[1]) }));
    life.does("create");
    life.ends(0, 7);
    assert_eq!(life.does(""), Some(10));
    assert_eq!(life.status().failed, None);
    life.now = 10;
    life.does("create");
    life.ends(1, 1);
    life.does("settle BackoffLimitExceeded, finish");
}

#[test]
fn a_rule_may_give_up_an_index_before_its_limit() {
    let mut life = Life::new(json!({
        "completions": 1, "completionMode": "Indexed", "backoffLimit": i32::MAX, "backoffLimitPerIndex": 5,
        "podFailurePolicy": failure_policy("FailIndex", "In", &[9]),
    }));
    life.does("create 0");
    life.ends(0, 9);
    life.does("settle FailedIndexes, finish");
}

#[test]
fn a_rule_may_look_at_the_conditions_of_the_pod() {
    let rules = json!({ "rules": [{ "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] }] });
    let mut life = Life::new(json!({ "completions": 1, "backoffLimit": 0, "podFailurePolicy": rules }));
    life.does("create");
    let target = PodCondition { type_: "DisruptionTarget".into(), status: "True".into(), ..Default::default() };
    life.observe(Event::Seen(0, &PodStatus { conditions: Some(vec![target]), ..ended(1) }));
    life.does("");
}

#[test]
fn a_success_policy_ends_the_job_before_all_indexes_are_done() {
    for (rule, met) in [
        (json!({ "succeededIndexes": "0,2" }), false),
        (json!({ "succeededIndexes": "1" }), true),
        (json!({ "succeededIndexes": "0-2", "succeededCount": 1 }), true),
        (json!({ "succeededCount": 2 }), false),
    ] {
        let mut life = Life::new(json!({ "completions": 3, "parallelism": 3, "completionMode": "Indexed", "successPolicy": { "rules": [rule] } }));
        life.does("create 0, create 1, create 2");
        life.ends(1, 0);
        life.does(if met { "settle SuccessPolicy, delete 0, delete 2" } else { "" });
        if met {
            life.observe(Event::Gone(0));
            life.ends(2, 0);
            life.does("finish");
            assert_eq!(life.status().completed_indexes.as_deref(), Some("1"), "an end on request is no success");
            assert_eq!(life.conditions(), "SuccessCriteriaMet SuccessPolicy, Complete SuccessPolicy");
            assert_eq!(life.status().failed, None, "who was not needed any more has not failed");
        }
    }
}

#[test]
fn a_suspended_job_makes_no_pod_and_one_that_is_being_suspended_lets_them_go_unharmed() {
    let mut life = Life::new(json!({ "completions": 1, "suspend": true, "activeDeadlineSeconds": 5 }));
    assert_eq!(life.does(""), None);
    assert_eq!((life.conditions().as_str(), life.status().start_time), ("Suspended JobSuspended", None));
    life.now = 100;
    life.observe(Event::Suspend(false));
    assert_eq!(life.does("create"), Some(105), "the deadline begins with the resumption");
    life.observe(Event::Suspend(true));
    life.does("delete 0");
    life.observe(Event::Gone(0));
    life.does("");
    assert_eq!(life.status().failed, None);
}

#[test]
fn a_pod_that_is_deleted_by_others_has_failed_at_once_or_when_it_has_ended() {
    for (policy, expected) in [("TerminatingOrFailed", Some(10)), ("Failed", None)] {
        let mut life = Life::new(json!({ "completions": 1, "podReplacementPolicy": policy }));
        life.does("create");
        life.observe(Event::Deleted { pod: 0, spared: false });
        assert_eq!(life.does(""), expected, "{policy}");
        life.observe(Event::Gone(0));
        assert_eq!((life.does(""), life.status().failed), (Some(10), Some(1)), "{policy}");
    }
}

#[test]
fn what_cannot_be_made_is_tried_again_later_and_later() {
    let mut life = Life::new(json!({ "completions": 1 }));
    for (wait, at) in [(1, 0), (2, 1), (4, 3)] {
        life.now = at;
        assert_eq!(decide(&life.spec, &life.facts, at * 1000).0.len(), 1);
        life.observe(Event::Refused);
        assert_eq!(life.does(""), Some(at + wait));
    }
    life.now = 7;
    life.does("create");
}

#[test]
fn a_finished_job_leaves_with_its_pods_when_its_time_is_over() {
    let mut life = Life::new(json!({ "completions": 1, "ttlSecondsAfterFinished": 60 }));
    life.does("create");
    life.ends(0, 0);
    assert_eq!(life.does("settle CompletionsReached, finish"), Some(60));
    life.now = 60;
    life.does("delete 0");
    life.observe(Event::Gone(0));
    life.does("leave");
}

#[test]
fn a_job_that_is_deleted_takes_all_its_pods_with_it_and_a_second_request_asks_again() {
    let mut life = Life::new(json!({ "completions": 2, "parallelism": 2 }));
    life.does("create, create");
    life.ends(0, 0);
    life.observe(Event::Leave { grace_seconds: None });
    life.does("delete 0, delete 1");
    life.observe(Event::Gone(0));
    life.observe(Event::Leave { grace_seconds: Some(0) });
    life.does("delete 1");
    life.observe(Event::Gone(1));
    life.does("leave");
}

#[test]
fn a_classic_sidecar_that_keeps_a_pod_running_is_named() {
    let status = |a, b| PodStatus { container_statuses: Some(vec![container("job", a, 0), container("sidecar", b, 0)]), ..Default::default() };
    let said = kept_running(&status(Some(0), None)).unwrap();
    assert!(said.contains("container job has completed, but sidecar runs on") && said.contains("restartPolicy: Always"), "{said}");
    for (a, b) in [(None, None), (Some(1), None), (Some(0), Some(0))] {
        assert_eq!(kept_running(&status(a, b)), None);
    }
}

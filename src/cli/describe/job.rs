//! A job in `describe` (`describeJob`, `DescribePodTemplate`).

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod, PodTemplateSpec};

use super::{Text, annotations, container, happened, nodes, plain, set, volume};
use crate::cli::duration;
use crate::cli::get::Selector;
use crate::cli::table::Columns;

/// Of a list of completed indexes so many characters are shown.
const LONGEST_INDEXES: usize = 50;

/// All about a job and its events, as kubectl prints it.
pub fn describe(job: &Job, events: &[Event], now: Timestamp) -> String {
    let (spec, status) = (job.spec.clone().unwrap_or_default(), job.status.clone().unwrap_or_default());
    let mut text = Text::default();
    text.field(0, "Name", Some(plain(&job.metadata.name)));
    text.field(0, "Namespace", Some(plain(&job.metadata.namespace)));
    text.field(0, "Selector", Some(spec.selector.as_ref().map(Selector::from).unwrap_or_default()));
    text.list("Labels", job.metadata.labels.iter().flatten().map(|(key, value)| format!("{key}={value}")));
    annotations(&mut text, job.metadata.annotations.as_ref());
    text.field(0, "Parallelism", spec.parallelism);
    match spec.completions {
        Some(completions) => text.field(0, "Completions", Some(completions)),
        None => text.field(0, "Completions", Some("<unset>")),
    }
    text.field(0, "Completion Mode", spec.completion_mode.as_ref());
    text.field(0, "Suspend", spec.suspend);
    text.field(0, "Backoff Limit", spec.backoff_limit);
    text.field(0, "TTL Seconds After Finished", spec.ttl_seconds_after_finished);
    let (start, end) = (status.start_time.as_ref().map(|time| time.0), status.completion_time.as_ref().map(|time| time.0));
    text.field(0, "Start Time", start.map(|start| duration::rfc1123(Some(start))));
    text.field(0, "Completed At", end.map(|end| duration::rfc1123(Some(end))));
    text.field(0, "Duration", start.zip(end).map(|(start, end)| duration::human(end.duration_since(start))));
    text.field(0, "Active Deadline Seconds", spec.active_deadline_seconds.map(|seconds| format!("{seconds}s")));
    let [active, succeeded, failed] = [status.active, status.succeeded, status.failed].map(Option::unwrap_or_default);
    let ready = status.ready.map(|ready| format!(" ({ready} Ready)")).unwrap_or_default();
    text.field(0, "Pods Statuses", Some(format_args!("{active} Active{ready} / {succeeded} Succeeded / {failed} Failed")));
    if spec.completion_mode.as_deref() == Some("Indexed") {
        text.field(0, "Completed Indexes", Some(indexes(plain(&status.completed_indexes))));
    }
    template(&mut text, &spec.template);
    happened(&mut text, events, now);
    Columns::of_describe().align(&text.out)
}

/// A long list ends at a comma (`capIndexesListOrNone`).
fn indexes(list: &str) -> String {
    match list {
        "" => "<none>".to_owned(),
        list if list.len() <= LONGEST_INDEXES => list.to_owned(),
        list => {
            let begin = &list[..list.floor_char_boundary(LONGEST_INDEXES)];
            format!("{}, ...", begin.rsplit_once(',').map_or(begin, |(begin, _)| begin))
        }
    }
}

fn template(text: &mut Text, template: &PodTemplateSpec) {
    text.at(0, format_args!("Pod Template:\n"));
    text.template = true;
    let (metadata, spec) = (template.metadata.clone().unwrap_or_default(), template.spec.clone().unwrap_or_default());
    text.list("Labels", metadata.labels.iter().flatten().map(|(key, value)| format!("{key}={value}")));
    if metadata.annotations.as_ref().is_some_and(|annotations| !annotations.is_empty()) {
        annotations(text, metadata.annotations.as_ref());
    }
    text.field(0, "Service Account", set(&spec.service_account_name));
    // References to the pod itself are shown as they are written: there is no pod.
    let nobody = Pod::default();
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    if !inits.is_empty() {
        container::containers(text, "Init Containers", inits, None, &nobody);
    }
    container::containers(text, "Containers", &spec.containers, None, &nobody);
    volume::volumes(text, spec.volumes.as_deref().unwrap_or_default());
    text.field(0, "Priority Class Name", set(&spec.priority_class_name));
    nodes(text, &spec);
    text.template = false;
}

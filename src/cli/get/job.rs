//! One job as a line of `get jobs`: `printJob` in `pkg/printers/internalversion/printers.go`.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use super::{Kind, Line, Listed, Selector};
use crate::cli::duration;
use crate::lifecycle::job::is_true;

/// The cells of a job; the last three are shown with `-o wide`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    pub namespace: String,
    pub name: String,
    pub status: String,
    pub completions: String,
    pub duration: String,
    pub age: String,
    pub containers: String,
    pub images: String,
    pub selector: String,
}

impl Listed for Job {
    type Row = JobRow;
    const OF: Kind = Kind::Job;
    const HEADERS: &'static [&'static str] = &["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"];
    const WIDE_HEADERS: &'static [&'static str] = &["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"];

    fn row(&self, now: Timestamp) -> JobRow {
        job_row(self, now)
    }
}

impl Line for JobRow {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn cells(&self, wide: bool) -> Vec<&str> {
        let mut cells: Vec<&str> = vec![&self.name, &self.status, &self.completions, &self.duration, &self.age];
        if wide {
            cells.extend([&self.containers, &self.images, &self.selector].map(String::as_str));
        }
        cells
    }

    fn same_but_for_age(&self, other: &JobRow) -> bool {
        let timeless = |row: &JobRow| JobRow { age: String::new(), duration: String::new(), ..row.clone() };
        timeless(self) == timeless(other)
    }
}

/// The line of a job at `now`.
pub fn job_row(job: &Job, now: Timestamp) -> JobRow {
    let (spec, status) = (job.spec.clone().unwrap_or_default(), job.status.clone().unwrap_or_default());
    let succeeded = status.succeeded.unwrap_or_default();
    let completions = match (spec.completions, spec.parallelism.unwrap_or_default()) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let duration = status.start_time.as_ref().map(|start| {
        let end = status.completion_time.as_ref().map_or(now, |end| end.0);
        duration::human(end.duration_since(start.0))
    });
    let containers = spec.template.spec.map(|spec| spec.containers).unwrap_or_default();
    let images = containers.iter().map(|container| container.image.clone().unwrap_or_default());
    JobRow {
        namespace: job.metadata.namespace.clone().unwrap_or_default(),
        name: job.metadata.name.clone().unwrap_or_default(),
        status: word(job).to_owned(),
        completions,
        duration: duration.unwrap_or_default(),
        age: duration::since(job.metadata.creation_timestamp.as_ref().map(|time| time.0), now),
        images: images.collect::<Vec<_>>().join(","),
        containers: containers.into_iter().map(|container| container.name).collect::<Vec<_>>().join(","),
        selector: spec.selector.as_ref().map_or_else(|| "<none>".to_owned(), |selector| Selector::from(selector).to_string()),
    }
}

/// The STATUS of a job: the first of these that holds.
fn word(job: &Job) -> &'static str {
    let status = job.status.clone().unwrap_or_default();
    let holds = |types: &[&'static str]| types.iter().copied().find(|type_| is_true(&status, type_));
    if let Some(ended) = holds(&["Complete", "Failed"]) {
        return ended;
    }
    if job.metadata.deletion_timestamp.is_some() {
        return "Terminating";
    }
    holds(&["Suspended", "FailureTarget", "SuccessCriteriaMet"]).unwrap_or("Running")
}

//! From a job to one of its pods: names, labels, annotations and the owner, as Kubernetes gives them.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{EnvVar, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

use crate::manifest;
use crate::pod::start::LONGEST_PREFIX;

/// Label and annotation of an Indexed job's pods.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Annotations with backoffLimitPerIndex: what failed of the index before.
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// Gives a job that has its uid its selector, and its template the labels that the selector finds: those of today, and the two
/// without prefix that older tools look for.
pub fn select(job: &mut Job) {
    let (uid, name) = (job.metadata.uid.clone().unwrap_or_default(), job.metadata.name.clone().unwrap_or_default());
    let spec = job.spec.get_or_insert_default();
    let by_uid = BTreeMap::from([("batch.kubernetes.io/controller-uid".to_owned(), uid.clone())]);
    spec.selector = Some(LabelSelector { match_labels: Some(by_uid.clone()), match_expressions: None });
    let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.extend(by_uid);
    labels.extend([("batch.kubernetes.io/job-name", name.clone()), ("controller-uid", uid), ("job-name", name)].map(|(key, value)| (key.to_owned(), value)));
}

/// A pod of a job, without name and uid. `failures`: those of its index before it, if each index has a limit.
pub fn pod(job: &Job, index: Option<u32>, failures: Option<(u32, u32)>) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let name = job.metadata.name.clone().unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    let mut pod = Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix(&name, index)),
            namespace: job.metadata.namespace.clone(),
            labels: metadata.labels,
            annotations: metadata.annotations,
            owner_references: Some(vec![OwnerReference {
                api_version: "batch/v1".into(),
                kind: "Job".into(),
                name: name.clone(),
                uid: job.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    };
    if let Some(index) = index {
        number(&mut pod, &name, index);
    }
    if let Some((counted, ignored)) = failures {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(FAILURES.into(), counted.to_string());
        annotations.extend((ignored > 0).then(|| (IGNORED_FAILURES.to_owned(), ignored.to_string())));
    }
    manifest::default_pod(&mut pod);
    pod
}

/// `JOB-` or `JOB-INDEX-`, cut so that the index stays.
fn prefix(job: &str, index: Option<u32>) -> String {
    let end = index.map_or_else(|| "-".to_owned(), |index| format!("-{index}-"));
    format!("{}{end}", &job[..job.floor_char_boundary(LONGEST_PREFIX.saturating_sub(end.len()))])
}

/// A pod of an Indexed job knows its index in four ways.
fn number(pod: &mut Pod, job: &str, index: u32) {
    pod.metadata.annotations.get_or_insert_default().insert(INDEX.into(), index.to_string());
    pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), index.to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{job}-{index}"));
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let env = container.env.get_or_insert_default();
        // The author's own comes first.
        if env.iter().all(|variable| variable.name != INDEX_VARIABLE) {
            env.push(EnvVar { name: INDEX_VARIABLE.into(), value: Some(index.to_string()), value_from: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(text: &str) -> Job {
        let manifest = format!("apiVersion: batch/v1\nkind: Job\n{text}");
        let manifest::Object::Job(mut job) = manifest::read(&manifest, "f").unwrap().objects.remove(0) else { panic!("no job") };
        job.metadata.uid = Some("u-1".into());
        select(&mut job);
        *job
    }

    const WORK: &str = "metadata: {name: work, namespace: shop}\nspec: {completions: 2, completionMode: Indexed, template: {metadata: {labels: {app: w}}, \
                        spec: {restartPolicy: Never, initContainers: [{name: i, image: x}], containers: [{name: c, image: x, env: [{name: A, value: b}]}]}}}";

    #[test]
    fn a_pod_is_known_by_its_job() {
        let pod = pod(&job(WORK), None, None);
        let labels = pod.metadata.labels.unwrap();
        let keys = ["app", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "controller-uid", "job-name"];
        assert_eq!(
            labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>(),
            std::iter::zip(keys, ["w", "u-1", "work", "u-1", "work"]).collect::<Vec<_>>()
        );
        assert_eq!((pod.metadata.generate_name.as_deref(), pod.metadata.namespace.as_deref()), (Some("work-"), Some("shop")));
        let owner = &pod.metadata.owner_references.unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("Job", "u-1", Some(true)));
        assert_eq!(pod.spec.unwrap().enable_service_links, Some(true), "a pod of a template is given what a pod is given");
    }

    #[test]
    fn an_indexed_pod_knows_its_index() {
        let pod = pod(&job(WORK), Some(1), Some((2, 1)));
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("work-1-"));
        let annotations = pod.metadata.annotations.unwrap();
        assert_eq!(annotations.values().map(String::as_str).collect::<Vec<_>>(), ["1", "2", "1"]);
        let spec = pod.spec.unwrap();
        assert_eq!(spec.hostname.as_deref(), Some("work-1"));
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            assert_eq!(container.env.as_ref().unwrap().last().unwrap().value.as_deref(), Some("1"), "{}", container.name);
        }
    }

    #[test]
    fn a_long_name_is_cut_but_not_its_index() {
        let name = "n".repeat(63);
        assert_eq!(prefix(&name, Some(12)).len(), LONGEST_PREFIX);
        assert!(prefix(&name, Some(12)).ends_with("n-12-"));
    }
}

//! Why a Job does not end, where its author may wonder.

use k8s_openapi::api::core::v1::PodStatus;

/// What keeps a pod running after one of its app containers has done its work: a sentence, if it is so. Native sidecars are no app
/// containers, and do not keep a pod.
pub fn kept_running(status: &PodStatus) -> Option<String> {
    let apps = || status.container_statuses.iter().flatten().filter_map(|container| Some((&container.name, container.state.as_ref()?)));
    let (done, _) = apps().find(|(_, state)| state.terminated.as_ref().is_some_and(|end| end.exit_code == 0))?;
    let running: Vec<&str> = apps().filter(|(_, state)| state.running.is_some()).map(|(name, _)| name.as_str()).collect();
    (!running.is_empty()).then(|| {
        format!(
            "container {done} has completed, but {} runs on: the pod ends only when all its containers have ended; one that only helps \
             the others belongs into initContainers, with restartPolicy: Always",
            running.join(", ")
        )
    })
}

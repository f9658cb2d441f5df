//! Who a container runs as (§21): the manifest's words over the image's, and the kubelet's refusals.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::ground::pod_spec;
use crate::error::{Error, Result};
use crate::image::{Image, User};

/// runAsUser and runAsGroup over the image's USER, container over pod; then the groups: those that the image's /etc/group gives the user
/// (unless supplementalGroupsPolicy is Strict), fsGroup, supplementalGroups.
pub fn of(pod: &Pod, container: &Container, image: &Image) -> Result<User> {
    verify_non_root(pod, container, image).map_err(|e| e.reason("CreateContainerConfigError"))?;
    let (of_pod, of_container) = (pod_spec(pod).security_context.clone().unwrap_or_default(), container.security_context.clone().unwrap_or_default());
    let group = of_container.run_as_group.or(of_pod.run_as_group).map(|gid| gid as u32);
    let mut user = match of_container.run_as_user.or(of_pod.run_as_user) {
        Some(uid) => image.user_by_id(uid as u32, group),
        None => image.user(&image_user(image, group)).map_err(|e| e.reason("CreateContainerError"))?,
    };
    if of_pod.supplemental_groups_policy.as_deref() == Some("Strict") {
        user.groups = vec![user.gid];
    }
    for gid in of_pod.fs_group.iter().chain(of_pod.supplemental_groups.iter().flatten()) {
        let gid = *gid as u32;
        if !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(user)
}

/// The image's USER, with another group if one is asked for: groups are looked up for the whole of it.
fn image_user(image: &Image, group: Option<u32>) -> String {
    match group {
        Some(gid) => format!("{}:{gid}", image.user.split(':').next().unwrap_or_default()),
        None => image.user.clone(),
    }
}

/// `verifyRunAsNonRoot` (`security_context_others.go`), word for word. Only numbers are believed: what a name means is up to the image.
fn verify_non_root(pod: &Pod, container: &Container, image: &Image) -> Result<()> {
    let (of_pod, of_container) = (pod_spec(pod).security_context.as_ref(), container.security_context.as_ref());
    if of_container.and_then(|context| context.run_as_non_root).or(of_pod.and_then(|context| context.run_as_non_root)) != Some(true) {
        return Ok(());
    }
    let metadata = &pod.metadata;
    let word = |word: &Option<String>| word.clone().unwrap_or_default();
    let whose = format!("(pod: \"{}_{}({})\", container: {})", word(&metadata.name), word(&metadata.namespace), word(&metadata.uid), container.name);
    let uid = of_container.and_then(|context| context.run_as_user).or(of_pod.and_then(|context| context.run_as_user));
    let name = image.user.split(':').next().unwrap_or_default();
    match (uid, name.parse::<i64>()) {
        (Some(0), _) => Err(Error::said(format!("container's runAsUser breaks non-root policy {whose}"))),
        (Some(_), _) => Ok(()),
        (None, Ok(0)) => Err(Error::said(format!("container has runAsNonRoot and image will run as root {whose}"))),
        (None, Err(_)) if name.is_empty() => Err(Error::said(format!("container has runAsNonRoot and image will run as root {whose}"))),
        (None, Err(_)) => {
            Err(Error::said(format!("container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {whose}")))
        }
        (None, Ok(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn image(user: &str) -> Image {
        serde_json::from_value(json!({
            "reference": "i", "id": "sha256:0", "digest": null, "entrypoint": [], "cmd": [], "env": [], "user": user, "workingDir": "",
            "stopSignal": null, "exposedPorts": [], "volumes": [], "labels": {}, "architecture": "amd64", "created": null, "size": 0, "layers": [],
            "documents": [], "accounts": { "passwd": "root:x:0:0::/root:\napp:x:1000:1000::/home/app:\n", "group": "team:x:2000:app\n" },
        }))
        .unwrap()
    }

    fn ask(of_pod: Value, of_container: Value, user: &str) -> Result<User> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "n", "uid": "u" },
            "spec": { "securityContext": of_pod, "containers": [{ "name": "c", "securityContext": of_container }] },
        }))
        .unwrap();
        of(&pod, &pod_spec(&pod).containers[0], &image(user))
    }

    #[test]
    fn who_must_not_be_root_is_refused_in_the_kubelets_words() {
        let whose = r#"(pod: "p_n(u)", container: c)"#;
        for (of_pod, of_container, user, said) in [
            (json!({ "runAsNonRoot": true }), json!({}), "", "container has runAsNonRoot and image will run as root"),
            (json!({ "runAsNonRoot": true }), json!({}), "0:5", "container has runAsNonRoot and image will run as root"),
            (json!({}), json!({ "runAsNonRoot": true, "runAsUser": 0 }), "1000", "container's runAsUser breaks non-root policy"),
            (json!({ "runAsNonRoot": true, "runAsUser": 0 }), json!({}), "1000", "container's runAsUser breaks non-root policy"),
            (
                json!({ "runAsNonRoot": true }),
                json!({}),
                "app",
                "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root",
            ),
        ] {
            let error = ask(of_pod, of_container, user).unwrap_err();
            assert_eq!((error.to_string(), error.reason), (format!("{said} {whose}"), Some("CreateContainerConfigError")));
        }
        for (of_pod, of_container, user) in [
            (json!({ "runAsNonRoot": true }), json!({ "runAsUser": 7 }), "root"),
            (json!({ "runAsNonRoot": true }), json!({}), "1000:0"),
            (json!({ "runAsNonRoot": true }), json!({ "runAsNonRoot": false }), ""),
        ] {
            ask(of_pod, of_container, user).unwrap();
        }
    }

    #[test]
    fn groups_come_from_the_image_the_volume_and_the_manifest() {
        let groups = |of_pod: Value, user: &str| ask(of_pod, json!({}), user).unwrap().groups;
        assert_eq!(groups(json!({ "fsGroup": 7, "supplementalGroups": [8, 7] }), "app"), [1000, 2000, 7, 8]);
        assert_eq!(groups(json!({ "fsGroup": 7, "supplementalGroupsPolicy": "Strict", "supplementalGroups": [8] }), "app"), [1000, 7, 8]);
        assert_eq!(groups(json!({ "supplementalGroupsPolicy": "Merge" }), "app"), [1000, 2000]);
        // The image's own group is not kept beside another one.
        assert_eq!(groups(json!({ "runAsGroup": 5 }), "app"), [5, 2000]);
        assert_eq!(ask(json!({ "runAsGroup": 5 }), json!({ "runAsGroup": 6 }), "").unwrap().gid, 6);
    }
}

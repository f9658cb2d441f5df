//! What a container waits for that does not come.

use super::command::{Wait, waits_for};
use super::seen::{Role, Seen};

/// An init container that runs for so many seconds is worth a word.
const LONG: i64 = 10;
const NO_NAME: &[&str] = &["bad address", "name or service not known", "can't resolve", "could not resolve", "nxdomain", "name resolution", "no such host"];
const NO_LISTENER: &[&str] = &["connection refused", "can't connect", "could not connect"];

/// An init container that does not end holds all that comes after it.
pub fn init(seen: &Seen<'_>) -> Option<Vec<String>> {
    if seen.role != Role::Init || seen.is_being_deleted() || seen.pod_is_over() {
        return None;
    }
    let ran = seen.running().flatten().map(|since| seen.now.duration_since(since).as_secs());
    let fails = seen.end().is_some_and(|end| end.exit_code != 0);
    if !fails && ran.is_none_or(|seconds| seconds < LONG) {
        return None;
    }
    let held = if fails { "It keeps failing, and nothing" } else { "Nothing" }.to_owned() + " after it starts before it ends with 0.";
    let Some(wait) = waits_for(seen.container) else {
        let next = format!("See what it does: `minipod logs {0} -c {1}`, `minipod exec {0} -c {1} -- sh`.", seen.pod_name(), seen.name());
        return ran.is_some().then(|| vec![held, next]);
    };
    let (known, next) = what_is_known(seen, &wait);
    Some(vec![held, format!("By its command it waits for {wait}. {known}"), next])
}

/// As far as it is known why it does not come, and what to do.
fn what_is_known(seen: &Seen<'_>, wait: &Wait) -> (String, String) {
    let Wait::Host { host, port } = wait else {
        return ("Only containers before it, sidecars or a hostPath can make that.".to_owned(), "Look at who should make it, and at their mounts.".to_owned());
    };
    if is_local(host) {
        let has_sidecar = seen.spec.init_containers.iter().flatten().any(|init| init.restart_policy.as_deref() == Some("Always"));
        let known = "That is this pod itself, and its app containers start only when all init containers have ended.";
        let next = if has_sidecar {
            "Put it behind the sidecar that it waits for, or wait in the app itself."
        } else {
            "Make what it waits for a sidecar before it, or wait in the app itself."
        };
        return (known.to_owned(), next.to_owned());
    }
    let namespace = seen.pod.metadata.namespace.as_deref().unwrap_or("default");
    if let Some((service, of, pods)) = seen.view.service(host, namespace) {
        let known = match pods {
            0 => format!("Service {service} is there, but no pod that its selector matches is ready."),
            1 => format!("Service {service} is there and leads to one pod."),
            _ => format!("Service {service} is there and leads to {pods} pods."),
        };
        let next = "Look at its selector and at its pods; a client connects to the pods' own port (targetPort)";
        return (known, format!("{next}: `minipod describe svc {service}{0}`, `minipod get pods{0}`.", of_namespace(of)));
    }
    let Some(peer) = seen.view.peers.iter().find(|peer| peer.is_called(host, namespace)) else {
        let known = if seen.logged(NO_NAME).is_some() {
            format!("Its log says that the name does not resolve, and no pod here is called {host}.")
        } else if seen.logged(NO_LISTENER).is_some() {
            "Its log says that nobody answers there.".to_owned()
        } else {
            format!("No pod here is called {host}.")
        };
        return (known, format!("Start a pod or a Service of that name, or correct the name: `minipod get pods -o wide`{}.", of_namespace(namespace)));
    };
    let known = match (port, &peer.ports) {
        (Some(port), Some(ports)) if !ports.contains(port) => format!("Pod {} is there ({}), but nothing in it listens on port {port}.", peer.name, peer.ip),
        (Some(port), Some(_)) => format!("Pod {} is there ({}) and listens on port {port}.", peer.name, peer.ip),
        _ => format!("Pod {} is there ({}).", peer.name, peer.ip),
    };
    (known, format!("Look at pod {0}: `minipod describe pod {0}{1}`.", peer.name, of_namespace(&peer.namespace)))
}

fn of_namespace(namespace: &str) -> String {
    if namespace == "default" { String::new() } else { format!(" -n {namespace}") }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host == "::1" || host.starts_with("127.")
}

/// It runs, and its readiness or startup probe has not succeeded.
pub fn readiness(seen: &Seen<'_>) -> Option<Vec<String>> {
    seen.running()?;
    let not_ready = seen.status.is_some_and(|status| !status.ready) && !seen.is_being_deleted();
    let starting = seen.status.is_some_and(|status| status.started != Some(true));
    let (kind, field) = match (&seen.container.startup_probe, &seen.container.readiness_probe) {
        (Some(_), _) if starting => ("Startup", "startupProbe"),
        (_, Some(_)) => ("Readiness", "readinessProbe"),
        _ => return None,
    };
    let said = seen.probe_said(kind).filter(|_| not_ready)?;
    Some(vec![
        format!("It runs, but its {field} does not succeed, so it is not ready."),
        format!("The probe said last: {said}"),
        format!("Compare port and path with what it listens on: `minipod exec {} -c {} -- …`; or give it more time.", seen.pod_name(), seen.name()),
    ])
}

//! How a probe or a hook asks: a command in the container, a question over the network, or a mere wait.

use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::manifest::expand::expand;
use crate::probe::Target;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    Exec(Vec<String>),
    Ask(Target),
    /// So many milliseconds pass.
    Sleep(u64),
}

/// How a probe asks. `ip` is the pod's. The error says why it cannot: the pod goes on without an answer.
pub fn of_probe(probe: &Probe, container: &Container, ip: &str) -> Result<Way, String> {
    match probe {
        Probe { exec: Some(exec), .. } => Ok(Way::Exec(command_of_probe(exec, container))),
        Probe { http_get: Some(get), .. } => http(get, false, container, ip).map(Way::Ask),
        Probe { tcp_socket: Some(socket), .. } => tcp(socket, container, ip).map(Way::Ask),
        Probe { grpc: Some(grpc), .. } => grpc_of(grpc, ip).map(Way::Ask),
        _ => Err("missing probe handler".into()),
    }
}

/// How a hook is run. Its command is taken as it is written.
pub fn of_hook(hook: &LifecycleHandler, container: &Container, ip: &str) -> Result<Way, String> {
    match hook {
        LifecycleHandler { exec: Some(exec), .. } => Ok(Way::Exec(exec.command.clone().unwrap_or_default())),
        LifecycleHandler { http_get: Some(get), .. } => http(get, true, container, ip).map(Way::Ask),
        LifecycleHandler { sleep: Some(sleep), .. } => Ok(Way::Sleep(sleep.seconds.max(0).unsigned_abs().saturating_mul(1000))),
        _ => Err("invalid handler".into()),
    }
}

/// Whether a probe or a hook of the container executes a command in it.
pub fn executes(container: &Container) -> bool {
    let probes = [&container.startup_probe, &container.liveness_probe, &container.readiness_probe];
    let hooks = container.lifecycle.iter().flat_map(|lifecycle| [&lifecycle.post_start, &lifecycle.pre_stop]);
    probes.into_iter().flatten().any(|probe| probe.exec.is_some()) || hooks.flatten().any(|hook| hook.exec.is_some())
}

/// `$(NAME)` of variables whose value the manifest itself gives (`ExpandContainerCommandOnlyStatic`).
fn command_of_probe(exec: &ExecAction, container: &Container) -> Vec<String> {
    let env = container.env.as_deref().unwrap_or_default();
    let value = |name: &str| env.iter().rev().find(|variable| variable.name == name && variable.value_from.is_none());
    let words = exec.command.iter().flatten();
    words.map(|word| expand(word, |name| value(name).map(|variable| variable.value.as_deref().unwrap_or_default()))).collect()
}

fn http(get: &HTTPGetAction, hook: bool, container: &Container, ip: &str) -> Result<Target, String> {
    let headers = get.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone())).collect();
    let path = get.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into());
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    let https = get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    Ok(Target::Http { hook, https, host: host(get.host.as_deref(), ip), port: port(&get.port, container)?, path, headers })
}

fn tcp(socket: &TCPSocketAction, container: &Container, ip: &str) -> Result<Target, String> {
    Ok(Target::Tcp { host: host(socket.host.as_deref(), ip), port: port(&socket.port, container)? })
}

fn grpc_of(grpc: &GRPCAction, ip: &str) -> Result<Target, String> {
    Ok(Target::Grpc { host: ip.into(), port: number(grpc.port)?, service: grpc.service.clone().unwrap_or_default() })
}

/// The pod's own address, unless another one is asked for.
fn host(given: Option<&str>, ip: &str) -> String {
    given.filter(|host| !host.is_empty()).unwrap_or(ip).into()
}

/// A port's number, or its name among the ports of the same container.
fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    match port {
        IntOrString::Int(port) => number(*port),
        IntOrString::String(name) => match container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name)) {
            Some(known) => number(known.container_port),
            // As the kubelet's last resort: a number in quotes.
            None => name.parse().map_err(|_| format!("no port of the container is named {name:?}")).and_then(number),
        },
    }
}

fn number(port: i32) -> Result<u16, String> {
    u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(|| format!("invalid port number: {port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const IP: &str = "10.88.0.2";

    fn probe(probe: Value) -> Result<Way, String> {
        let container = json!({"name": "a", "ports": [{"name": "web", "containerPort": 8080}], "env": [
            {"name": "A", "value": "first"}, {"name": "A", "value": "last"}, {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ]});
        of_probe(&serde_json::from_value(probe).unwrap(), &serde_json::from_value(container).unwrap(), IP)
    }

    #[test]
    fn a_name_is_looked_up_among_the_containers_own_ports() {
        let port = |port: Value| match probe(json!({"tcpSocket": {"port": port}})) {
            Ok(Way::Ask(Target::Tcp { host, port })) => format!("{host}:{port}"),
            other => format!("{other:?}"),
        };
        assert_eq!(port(json!("web")), "10.88.0.2:8080");
        assert_eq!(port(json!(81)), "10.88.0.2:81");
        assert_eq!(port(json!("81")), "10.88.0.2:81");
        assert_eq!(port(json!("nope")), "Err(\"no port of the container is named \\\"nope\\\"\")");
        assert_eq!(port(json!(70000)), "Err(\"invalid port number: 70000\")");
    }

    #[test]
    fn http_goes_to_the_pod_unless_a_host_is_given() {
        let get = |get: Value| probe(json!({"httpGet": get}));
        let target = |https, host: &str, path: &str| {
            Ok(Way::Ask(Target::Http { hook: false, https, host: host.into(), port: 80, path: path.into(), headers: vec![("X".into(), "1".into())] }))
        };
        let headers = json!([{"name": "X", "value": "1"}]);
        assert_eq!(get(json!({"port": 80, "httpHeaders": headers})), target(false, IP, "/"));
        assert_eq!(get(json!({"port": 80, "path": "live?x=1", "scheme": "HTTPS", "host": "h", "httpHeaders": headers})), target(true, "h", "/live?x=1"));
    }

    #[test]
    fn a_probes_command_knows_what_the_manifest_says_literally_and_a_hooks_command_nothing() {
        let words = json!(["echo", "$(A)", "$(NODE)", "$$(A)"]);
        let exec = json!({"exec": {"command": words}});
        assert_eq!(probe(exec.clone()), Ok(Way::Exec(["echo", "last", "$(NODE)", "$(A)"].map(str::to_owned).to_vec())));
        let hook = of_hook(&serde_json::from_value(exec).unwrap(), &Container::default(), IP);
        assert_eq!(hook, Ok(Way::Exec(["echo", "$(A)", "$(NODE)", "$$(A)"].map(str::to_owned).to_vec())));
    }

    #[test]
    fn a_hook_may_sleep_and_says_who_it_is() {
        let hook = |hook: Value| of_hook(&serde_json::from_value(hook).unwrap(), &Container::default(), IP);
        assert_eq!(hook(json!({"sleep": {"seconds": 2}})), Ok(Way::Sleep(2000)));
        assert_eq!(hook(json!({"tcpSocket": {"port": 1}})), Err("invalid handler".into()));
        let get = Target::Http { hook: true, https: false, host: IP.into(), port: 1, path: "/".into(), headers: Vec::new() };
        assert_eq!(hook(json!({"httpGet": {"port": 1}})), Ok(Way::Ask(get)));
    }
}

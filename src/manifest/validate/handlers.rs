//! Probes and lifecycle hooks, and the handlers that both are made of.

use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, PodSpec, Probe, SleepAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::containers::word;
use super::names;
use crate::manifest::fault::Findings;
use crate::manifest::path::At;

const PORTS: &str = "must be between 1 and 65535, inclusive";
const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
/// Those of linux, in the order in which the API server lists them.
#[rustfmt::skip]
const STOP_SIGNALS: &[&str] = &[
    "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO", "SIGIOT", "SIGKILL", "SIGPIPE",
    "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGRTMAX", "SIGRTMAX-1", "SIGRTMAX-10", "SIGRTMAX-11", "SIGRTMAX-12", "SIGRTMAX-13", "SIGRTMAX-14",
    "SIGRTMAX-2", "SIGRTMAX-3", "SIGRTMAX-4", "SIGRTMAX-5", "SIGRTMAX-6", "SIGRTMAX-7", "SIGRTMAX-8", "SIGRTMAX-9", "SIGRTMIN", "SIGRTMIN+1",
    "SIGRTMIN+10", "SIGRTMIN+11", "SIGRTMIN+12", "SIGRTMIN+13", "SIGRTMIN+14", "SIGRTMIN+15", "SIGRTMIN+2", "SIGRTMIN+3", "SIGRTMIN+4", "SIGRTMIN+5",
    "SIGRTMIN+6", "SIGRTMIN+7", "SIGRTMIN+8", "SIGRTMIN+9", "SIGSEGV", "SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN",
    "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH", "SIGXCPU", "SIGXFSZ",
];

pub fn of(container: &Container, spec: &PodSpec, at: &At, findings: &mut Findings) {
    for (name, probe) in [("livenessProbe", &container.liveness_probe), ("startupProbe", &container.startup_probe)] {
        if let Some(probe) = probe {
            let at = at.field(name);
            self::probe(probe, &at, findings);
            let successes = probe.success_threshold.unwrap_or(1);
            if successes != 1 {
                findings.invalid(&at.field("successThreshold"), successes, "must be 1");
            }
        }
    }
    if let Some(probe) = &container.readiness_probe {
        let at = at.field("readinessProbe");
        self::probe(probe, &at, findings);
        if let Some(grace) = probe.termination_grace_period_seconds {
            findings.invalid(&at.field("terminationGracePeriodSeconds"), grace, "must not be set for readinessProbes");
        }
    }
    if let Some(hooks) = &container.lifecycle {
        let grace = spec.termination_grace_period_seconds.unwrap_or(30);
        let at = at.field("lifecycle");
        for (name, hook) in [("postStart", &hooks.post_start), ("preStop", &hooks.pre_stop)] {
            if let Some(hook) = hook {
                self::hook(hook, grace, &at.field(name), findings);
            }
        }
        if let Some(signal) = hooks.stop_signal.as_deref() {
            stop_signal(signal, spec, &at.field("stopSignal"), findings);
        }
    }
}

fn probe(probe: &Probe, at: &At, findings: &mut Findings) {
    let Probe { exec, http_get, tcp_socket, grpc, .. } = probe;
    handler(&Handler { exec, http_get, tcp_socket, grpc, sleep: &None }, 0, at, findings);
    for (name, number) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if let Some(number) = number.filter(|number| *number < 0) {
            findings.invalid(&at.field(name), number, "must be greater than or equal to 0");
        }
    }
    if let Some(grace) = probe.termination_grace_period_seconds.filter(|grace| *grace <= 0) {
        findings.invalid(&at.field("terminationGracePeriodSeconds"), grace, "must be greater than 0");
    }
}

fn hook(hook: &LifecycleHandler, grace: i64, at: &At, findings: &mut Findings) {
    let LifecycleHandler { exec, http_get, tcp_socket, sleep } = hook;
    handler(&Handler { exec, http_get, tcp_socket, grpc: &None, sleep }, grace, at, findings);
}

/// A signal has its name from an operating system, so the manifest must say which (KEP 4960, `validateStopSignal`).
fn stop_signal(signal: &str, spec: &PodSpec, at: &At, findings: &mut Findings) {
    match spec.os.as_ref().map(|os| os.name.as_str()).unwrap_or_default() {
        "" => findings.forbidden(at, "may not be set for containers with empty `spec.os.name`"),
        _ => word(Some(signal), STOP_SIGNALS, at, findings),
    }
}

struct Handler<'a> {
    exec: &'a Option<ExecAction>,
    http_get: &'a Option<HTTPGetAction>,
    tcp_socket: &'a Option<TCPSocketAction>,
    grpc: &'a Option<GRPCAction>,
    sleep: &'a Option<SleepAction>,
}

/// Exactly one kind, and that one right.
fn handler(handler: &Handler, grace: i64, at: &At, findings: &mut Findings) {
    let set = [
        ("exec", handler.exec.is_some()),
        ("httpGet", handler.http_get.is_some()),
        ("tcpSocket", handler.tcp_socket.is_some()),
        ("grpc", handler.grpc.is_some()),
        ("sleep", handler.sleep.is_some()),
    ];
    let mut set = set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name);
    if set.next().is_none() {
        findings.required(at, "must specify a handler type");
    }
    set.for_each(|more| findings.forbidden(&at.field(more), "may not specify more than 1 handler type"));
    if let Some(exec) = handler.exec
        && exec.command.as_ref().is_none_or(Vec::is_empty)
    {
        findings.required(&at.field("exec").field("command"), "");
    }
    if let Some(get) = handler.http_get {
        let at = at.field("httpGet");
        port(&get.port, &at.field("port"), findings);
        word(get.scheme.as_deref(), &["HTTP", "HTTPS"], &at.field("scheme"), findings);
        for (index, header) in get.http_headers.iter().flatten().enumerate() {
            if header.name.is_empty() || !header.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                findings.invalid(&at.field("httpHeaders").index(index).field("name"), &header.name, HEADER);
            }
            // A line of its own in the value would be another header, or another request.
            if header.value.bytes().any(|byte| byte == b'\r' || byte == b'\n') {
                findings.invalid(&at.field("httpHeaders").index(index).field("value"), &header.value, "must be one line");
            }
        }
    }
    if let Some(socket) = handler.tcp_socket {
        port(&socket.port, &at.field("tcpSocket").field("port"), findings);
    }
    if let Some(grpc) = handler.grpc {
        number(grpc.port, &at.field("grpc").field("port"), findings);
    }
    if let Some(sleep) = handler.sleep
        && !(0..=grace).contains(&sleep.seconds)
    {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        findings.invalid(&at.field("sleep").field("seconds"), sleep.seconds, detail);
    }
}

fn port(port: &IntOrString, at: &At, findings: &mut Findings) {
    match port {
        IntOrString::Int(port) => number(*port, at, findings),
        IntOrString::String(name) => names::check(name, names::port, at, findings),
    }
}

fn number(port: i32, at: &At, findings: &mut Findings) {
    if !(1..=65535).contains(&port) {
        findings.invalid(at, port, PORTS);
    }
}

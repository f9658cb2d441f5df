//! The containers of a pod in `describe`: what each was told to be, and what became of it.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerState, ContainerStatus, EnvFromSource, EnvVar, ObjectFieldSelector, Pod, Probe, ResourceFieldSelector,
    ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Text, plain, set};
use crate::cli::duration;

/// A section of containers, each with its status if it has one.
pub fn containers(text: &mut Text, label: &str, containers: &[Container], statuses: Option<&[ContainerStatus]>, pod: &Pod) {
    text.at(0, format_args!("{label}:{}\n", if containers.is_empty() { " <none>" } else { "" }));
    for container in containers {
        let status = statuses.unwrap_or_default().iter().find(|status| status.name == container.name);
        what(text, container, status);
        words(text, "Command", container.command.as_deref());
        words(text, "Args", container.args.as_deref());
        if let Some(status) = status {
            became(text, status);
        }
        if let Some(requirements) = &container.resources {
            resources(text, 2, requirements);
        }
        text.field(2, "Liveness", container.liveness_probe.as_ref().map(probe));
        text.field(2, "Readiness", container.readiness_probe.as_ref().map(probe));
        text.field(2, "Startup", container.startup_probe.as_ref().map(probe));
        environment(text, container, pod);
        mounts(text, container);
    }
}

fn what(text: &mut Text, container: &Container, status: Option<&ContainerStatus>) {
    text.at(1, format_args!("{}:\n", container.name));
    text.field(2, "Container ID", status.map(|status| plain(&status.container_id)));
    text.field(2, "Image", Some(plain(&container.image)));
    text.field(2, "Image ID", status.map(|status| &status.image_id));
    let list = container.ports.as_deref().unwrap_or_default();
    ports(text, "Port", list, |port| port.container_port);
    ports(text, "Host Port", list, |port| port.host_port.unwrap_or_default());
    if let Some(profile) = container.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref()) {
        text.field(2, "SeccompProfile", Some(&profile.type_));
        text.field(3, "LocalhostProfile", (profile.type_ == "Localhost").then(|| plain(&profile.localhost_profile)));
    }
}

fn ports(text: &mut Text, label: &str, ports: &[ContainerPort], number: impl Fn(&ContainerPort) -> i32) {
    let show = |port: &ContainerPort| {
        let name = set(&port.name).map(|name| format!(" ({name})")).unwrap_or_default();
        format!("{}/{}{name}", number(port), plain(&port.protocol))
    };
    let shown = ports.iter().map(show).collect::<Vec<_>>().join(", ");
    match ports.len() {
        0 => text.field(2, label, Some("<none>")),
        1 => text.field(2, label, Some(shown)),
        _ => text.field(2, &format!("{label}s"), Some(shown)),
    }
}

/// A command, one word to a line; a word with line ends takes several.
fn words(text: &mut Text, label: &str, words: Option<&[String]>) {
    let words = words.unwrap_or_default();
    if !words.is_empty() {
        text.at(2, format_args!("{label}:\n"));
    }
    words.iter().flat_map(|word| word.split('\n')).for_each(|line| text.at(3, format_args!("{line}\n")));
}

fn became(text: &mut Text, status: &ContainerStatus) {
    let state = status.state.clone().unwrap_or_default();
    lived(text, "State", &state);
    if let Some(last) = status.last_state.as_ref().filter(|last| last.terminated.is_some()) {
        lived(text, "Last State", last);
    }
    text.field(2, "Ready", Some(if status.ready { "True" } else { "False" }));
    text.field(2, "Restart Count", Some(status.restart_count));
}

fn lived(text: &mut Text, label: &str, state: &ContainerState) {
    if let Some(running) = &state.running {
        text.field(2, label, Some("Running"));
        text.field(3, "Started", Some(duration::rfc1123(running.started_at.as_ref().map(|time| time.0))));
    } else if let (None, Some(end)) = (&state.waiting, &state.terminated) {
        text.field(2, label, Some("Terminated"));
        text.field(3, "Reason", set(&end.reason));
        text.field(3, "Message", set(&end.message));
        text.field(3, "Exit Code", Some(end.exit_code));
        text.field(3, "Signal", end.signal.filter(|signal| *signal > 0));
        text.field(3, "Started", Some(duration::rfc1123(end.started_at.as_ref().map(|time| time.0))));
        text.field(3, "Finished", Some(duration::rfc1123(end.finished_at.as_ref().map(|time| time.0))));
    } else {
        text.field(2, label, Some("Waiting"));
        text.field(3, "Reason", state.waiting.as_ref().and_then(|waiting| set(&waiting.reason)));
    }
}

/// Limits, then requests, each sorted by name.
pub fn resources(text: &mut Text, level: usize, resources: &ResourceRequirements) {
    for (label, list) in [("Limits", &resources.limits), ("Requests", &resources.requests)] {
        if list.as_ref().is_some_and(|list| !list.is_empty()) {
            text.at(level, format_args!("{label}:\n"));
        }
        list.iter().flatten().for_each(|(name, quantity)| text.field(level + 1, name, Some(&quantity.0)));
    }
}

/// A probe on one line (`DescribeProbe`), in the words of kubectl up to 1.36.
fn probe(probe: &Probe) -> String {
    let number = |number: Option<i32>| number.unwrap_or_default();
    let numbers = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        number(probe.initial_delay_seconds),
        number(probe.timeout_seconds),
        number(probe.period_seconds),
        number(probe.success_threshold),
        number(probe.failure_threshold)
    );
    if let Some(exec) = &probe.exec {
        format!("exec [{}] {numbers}", exec.command.as_deref().unwrap_or_default().join(" "))
    } else if let Some(get) = &probe.http_get {
        let (scheme, host, port) = (plain(&get.scheme).to_lowercase(), plain(&get.host), port(&get.port));
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let host = if port.is_empty() { host } else { format!("{host}:{port}") };
        let scheme = if scheme.is_empty() { scheme } else { scheme + ":" };
        format!("http-get {scheme}//{host}{} {numbers}", url_path(plain(&get.path)))
    } else if let Some(socket) = &probe.tcp_socket {
        format!("tcp-socket {}:{} {numbers}", plain(&socket.host), port(&socket.port))
    } else if let Some(grpc) = &probe.grpc {
        format!("grpc <pod>:{} {} {numbers}", grpc.port, plain(&grpc.service))
    } else {
        format!("unknown {numbers}")
    }
}

fn port(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

/// A path as Go's `net/url` writes it into an address: with a leading slash, what is special there in percent signs.
fn url_path(path: &str) -> String {
    let mut out = String::new();
    if !path.is_empty() && !path.starts_with('/') {
        out.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'@' => out.push(byte.into()),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

fn environment(text: &mut Text, container: &Container, pod: &Pod) {
    let from = container.env_from.as_deref().unwrap_or_default();
    if !from.is_empty() {
        text.at(2, format_args!("Environment Variables from:\n"));
        from.iter().for_each(|source| environment_from(text, source));
    }
    let variables = container.env.as_deref().unwrap_or_default();
    text.at(2, format_args!("Environment:{}\n", if variables.is_empty() { "\t<none>" } else { "" }));
    variables.iter().for_each(|variable| environment_variable(text, variable, container, pod));
}

fn environment_from(text: &mut Text, source: &EnvFromSource) {
    let (kind, name, optional) = match (&source.config_map_ref, &source.secret_ref) {
        (Some(map), _) => ("ConfigMap", map.name.as_str(), map.optional),
        (None, Some(secret)) => ("Secret", secret.name.as_str(), secret.optional),
        (None, None) => ("", "", None),
    };
    let prefix = set(&source.prefix).map(|prefix| format!(" with prefix '{prefix}'")).unwrap_or_default();
    text.at(3, format_args!("{name}\t{kind}{prefix}\tOptional: {}\n", optional.unwrap_or_default()));
}

fn environment_variable(text: &mut Text, variable: &EnvVar, container: &Container, pod: &Pod) {
    let name = &variable.name;
    let Some(from) = &variable.value_from else {
        let mut lines = plain(&variable.value).split('\n');
        text.field(3, name, lines.next());
        return lines.for_each(|line| text.at(3, format_args!("\t{line}\n")));
    };
    if let Some(field) = &from.field_ref {
        let version = plain(&field.api_version);
        text.field(3, name, Some(format_args!("{} ({version}:{})", field_value(field, pod), field.field_path)));
    } else if let Some(field) = &from.resource_field_ref {
        text.field(3, name, Some(format_args!("{} ({})", resource_value(field, container), field.resource)));
    } else if let Some(secret) = &from.secret_key_ref {
        let optional = secret.optional.unwrap_or_default();
        text.field(3, name, Some(format_args!("<set to the key '{}' in secret '{}'>\tOptional: {optional}", secret.key, secret.name)));
    } else if let Some(map) = &from.config_map_key_ref {
        let optional = map.optional.unwrap_or_default();
        text.field(3, name, Some(format_args!("<set to the key '{}' of config map '{}'>\tOptional: {optional}", map.key, map.name)));
    }
}

/// The value of a field of the pod. kubectl knows only these two; for all others it shows the path alone, and so do we.
fn field_value<'a>(field: &ObjectFieldSelector, pod: &'a Pod) -> &'a str {
    match field.field_path.as_str() {
        "metadata.name" => plain(&pod.metadata.name),
        "metadata.namespace" => plain(&pod.metadata.namespace),
        _ => "",
    }
}

/// A limit or request in units of the divisor, rounded up (`ExtractContainerResourceValue`).
fn resource_value(field: &ResourceFieldSelector, container: &Container) -> String {
    let resources = container.resources.clone().unwrap_or_default();
    let (list, name) = match field.resource.split_once('.') {
        Some(("limits", name)) => (resources.limits, name),
        Some(("requests", name)) => (resources.requests, name),
        _ => return String::new(),
    };
    let amount = list.and_then(|list| list.get(name).and_then(milli)).unwrap_or(0);
    let divisor = field.divisor.as_ref().and_then(milli).filter(|divisor| *divisor > 0).unwrap_or(1000);
    match (amount + divisor - 1) / divisor {
        0 if matches!(field.resource.as_str(), "limits.cpu" | "limits.memory") => "node allocatable".to_owned(),
        value => value.to_string(),
    }
}

/// A quantity in thousandths, rounded up; none if it is no quantity or beyond all measure.
pub fn milli(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.as_str();
    let end = text.find(|c: char| !c.is_ascii_digit() && !".+-".contains(c)).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    // Thousandths of the suffix as numerator and denominator.
    let (up, down): (i128, i128) = match suffix {
        "n" => (1, 1_000_000),
        "u" => (1, 1000),
        "m" => (1, 1),
        "" => (1000, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000_000, 1),
        "Ki" => (1000 << 10, 1),
        "Mi" => (1000 << 20, 1),
        "Gi" => (1000 << 30, 1),
        "Ti" => (1000 << 40, 1),
        "Pi" => (1000 << 50, 1),
        "Ei" => (1000 << 60, 1),
        exponent => match exponent.strip_prefix(['e', 'E'])?.parse::<i32>().ok()? {
            exponent @ 0..=18 => (1000 * 10_i128.pow(exponent.unsigned_abs()), 1),
            exponent @ -18..0 => (1000, 10_i128.pow(exponent.unsigned_abs())),
            _ => return None,
        },
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let down = down.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let product = digits.checked_mul(up)?;
    Some(product.div_euclid(down) + i128::from(product.rem_euclid(down) != 0))
}

fn mounts(text: &mut Text, container: &Container) {
    let mut mounts: Vec<_> = container.volume_mounts.iter().flatten().collect();
    mounts.sort_by(|a, b| a.mount_path.cmp(&b.mount_path));
    text.at(2, format_args!("Mounts:{}\n", if mounts.is_empty() { "\t<none>" } else { "" }));
    for mount in mounts {
        let mode = if mount.read_only == Some(true) { "ro" } else { "rw" };
        let sub = set(&mount.sub_path).map(|path| format!(",path={path:?}")).unwrap_or_default();
        text.at(3, format_args!("{} from {} ({mode}{sub})\n", mount.mount_path, mount.name));
    }
    let mut devices: Vec<_> = container.volume_devices.iter().flatten().collect();
    devices.sort_by(|a, b| a.device_path.cmp(&b.device_path));
    if !devices.is_empty() {
        text.at(2, format_args!("Devices:\n"));
    }
    devices.iter().for_each(|device| text.at(3, format_args!("{} from {}\n", device.device_path, device.name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_read_in_thousandths_rounded_up() {
        let table = [
            ("250m", 250),
            ("1", 1000),
            ("0.5", 500),
            (".5", 500),
            ("1.5Gi", 1_610_612_736_000),
            ("64Mi", 67_108_864_000),
            ("1e3", 1_000_000),
            ("1n", 1),
            ("2k", 2_000_000),
        ];
        for (text, expected) in table {
            assert_eq!(milli(&Quantity(text.to_owned())), Some(expected), "{text}");
        }
        for wrong in ["", "x", "1Qi", "1e99", "1.2.3", "--1", "99999999999999999999999999999999999999999E"] {
            assert_eq!(milli(&Quantity(wrong.to_owned())), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_path_is_written_as_in_an_address() {
        assert_eq!(url_path("healthz"), "/healthz");
        assert_eq!(url_path("/a b?c=d"), "/a%20b%3Fc=d");
        assert_eq!(url_path(""), "");
    }
}

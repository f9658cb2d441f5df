//! Host name, hosts file and DNS settings (§18).

use serde_json::{Value, json};

use crate::pod::{Pod, serve};
use crate::world::{World, condition};
use crate::{Case, case};

/// Runs a pod whose app says its kernel's name and shows its files, and gives them: the name, /etc/hostname, /etc/hosts, /etc/resolv.conf.
fn shown(world: &World, name: &str, changes: &[(&str, Value)]) -> [String; 4] {
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    let copy = files.iter().enumerate().map(|(n, file)| format!("cat {file} >/story/{name}.{n}; echo >>/story/{name}.{n}; ")).collect::<String>();
    let pod = changes.iter().fold(Pod::new(name, "Always").app("a", &(copy + &serve("0", 0))), |pod, (field, value)| pod.spec(field, value.clone()));
    world.apply(&pod.spec("terminationGracePeriodSeconds", json!(1)));
    world.wait_story("a Started");
    let read = |n: usize| {
        let text = world.written(&format!("{name}.{n}"));
        text.strip_suffix('\n').expect("we added one").to_owned()
    };
    let all = [0, 1, 2, 3].map(read);
    world.delete(name);
    std::fs::write(world.path("story/lines"), "").expect("our own file");
    all
}

const HOSTS: &str = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
                     fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

pub const CASES: &[Case] = &[
    case("NET-01", |world| {
        let aliases = json!([{ "ip": "10.1.2.3", "hostnames": ["one", "two.example"] }]);
        let [kernel, file, hosts, _] = shown(world, "p", &[("hostAliases", aliases.clone())]);
        assert_eq!((&*kernel, &*file), ("p\n", "p\n"));
        assert_eq!(hosts, format!("{HOSTS}10.77.0.2\tp\n\n# Entries added by HostAliases.\n10.1.2.3\tone\ttwo.example\n"));
        let own = std::fs::read_to_string("/etc/hosts").expect("a machine has one");
        let [kernel, _, hosts, _] = shown(world, "near", &[("hostAliases", aliases), ("hostNetwork", json!(true))]);
        assert_eq!(kernel, std::fs::read_to_string("/proc/sys/kernel/hostname").expect("procfs"));
        assert_eq!(hosts, format!("# Kubernetes-managed hosts file (host network).\n{own}\n# Entries added by HostAliases.\n10.1.2.3\tone\ttwo.example\n"));
        // A volume at its place is what the container sees.
        let file = world.file("mine\n");
        let read = format!("cat /etc/hosts >/story/own; {}", serve("0", 0));
        let pod = Pod::new("own", "Always").app("a", &read);
        world.apply(&pod.volume("hosts", json!({ "hostPath": { "path": file, "type": "File" } }), &[("a", "/etc/hosts")]));
        world.wait_story("a Started");
        assert_eq!(world.written("own"), "mine\n");
    }),
    case("NET-03", |world| {
        let config = json!({
            "nameservers": ["192.0.2.53", "192.0.2.54"], "searches": ["one.example", "two.example"],
            "options": [{ "name": "ndots", "value": "2" }, { "name": "edns0" }],
        });
        let [.., resolv] = shown(world, "p", &[("dnsPolicy", json!("None")), ("dnsConfig", config)]);
        let mut lines: Vec<&str> = resolv.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["nameserver 192.0.2.53", "nameserver 192.0.2.54", "options ndots:2 edns0", "search one.example two.example"]);
        let more = json!({ "searches": ["mine.example"], "options": [{ "name": "ndots", "value": "1" }] });
        let [.., resolv] = shown(world, "first", &[("dnsConfig", more)]);
        let search = resolv.lines().find(|line| line.starts_with("search ")).unwrap_or_default();
        assert!(search.starts_with("search default.svc.cluster.local svc.cluster.local cluster.local") && search.ends_with(" mine.example"), "{resolv}");
        assert!(resolv.contains("nameserver 10.77.0.1\n") && resolv.contains("options ndots:1\n"), "{resolv}");
        let four = json!({ "nameservers": ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"] });
        let file = world.manifest(&Pod::new("many", "Never").app("a", "true").spec("dnsConfig", four));
        let refused = world.minipod(&["apply", "-f", &file]);
        assert!(refused.code == 1 && refused.err.contains("must not have more than 3 nameservers"), "{}", refused.err);
        // Default is the machine's own; what of it cannot be used is told, not changed.
        let [.., resolv] = shown(world, "default", &[("dnsPolicy", json!("Default"))]);
        let own = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let servers = |text: &str| text.lines().filter(|line| line.starts_with("nameserver ")).count();
        assert_eq!(servers(&resolv), servers(&own).min(3), "{resolv}");
        assert!(!resolv.contains("svc.cluster.local"), "{resolv}");
    }),
    case("NET-04", |world| {
        let [kernel, file, hosts, _] = shown(world, "p", &[("hostname", json!("web")), ("subdomain", json!("shop"))]);
        let fqdn = "web.shop.default.svc.cluster.local";
        assert_eq!((&*kernel, &*file), ("web\n", "web\n"), "the kernel's stays short");
        assert!(hosts.ends_with(&format!("\t{fqdn}\tweb\n")), "{hosts}");
        let [kernel, file, ..] = shown(world, "q", &[("hostname", json!("web")), ("subdomain", json!("shop")), ("setHostnameAsFQDN", json!(true))]);
        assert_eq!((kernel, file), (format!("{fqdn}\n"), format!("{fqdn}\n")));
        let [kernel, _, hosts, _] = shown(world, "r", &[("hostname", json!("web")), ("hostnameOverride", json!("a.b.example"))]);
        assert_eq!(kernel, "a.b.example\n");
        assert!(hosts.ends_with("\ta.b.example\n"), "{hosts}");
        // More than the kernel takes: nothing is started.
        let long = Pod::new("long", "Never").app("a", "true").spec("setHostnameAsFQDN", json!(true)).spec("subdomain", json!("s".repeat(60)));
        let refused = world.minipod(&["apply", "-f", &world.manifest(&long)]);
        assert!(refused.code != 0 && refused.err.contains("but a hostname at most 64"), "{}", refused.err);
    }),
    case("SHR-08", |world| {
        let pod = Pod::new("p", "Always").app("a", &format!("readlink /proc/self/ns/net >/story/net; hostname >/story/name; {}", serve("0", 0)));
        let pod = pod.spec("hostNetwork", json!(true)).with("a", "ports", json!([{ "containerPort": 18080 }]));
        world.apply(&pod);
        let pod = world.wait_ready("p");
        assert_eq!(world.written("net"), format!("net:[{}]\n", world.network_namespace()));
        assert_eq!(world.written("name"), std::fs::read_to_string("/proc/sys/kernel/hostname").expect("procfs"));
        assert_eq!(pod["spec"]["containers"][0]["ports"][0]["hostPort"], 18080);
        assert_eq!(condition(&pod, "PodReadyToStartContainers")["status"], "True");
    }),
];

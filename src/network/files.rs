//! What a pod's /etc/hosts, /etc/hostname and /etc/resolv.conf hold. Pure: texts in, texts out.
//!
//! The rules are the kubelet's (`pkg/kubelet/kubelet_pods.go` for names and hosts, `pkg/kubelet/network/dns/dns.go` for DNS) and
//! containerd's order of lines in resolv.conf.

use std::fmt::Write;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, Pod, PodDNSConfig};

use crate::error::{Error, Result};

/// The domain that names of pods end in.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
/// A label of a name has at most 63 characters (RFC 1123).
const LABEL_MAX: usize = 63;
/// The kernel's hostname has at most 64 (sethostname(2)).
const KERNEL_MAX: usize = 64;
/// Limits of resolv.conf that Kubernetes validates and the kubelet applies.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;
const DOMAIN_MAX: usize = 253;

/// What a pod with a network of its own is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname {
    /// The name without a domain, in /etc/hosts.
    pub short: String,
    /// `SHORT.SUBDOMAIN.NAMESPACE.svc.cluster.local`, for a pod with a subdomain.
    pub fqdn: Option<String>,
    /// What the kernel is told (sethostname), and what /etc/hostname and `$HOSTNAME` hold.
    pub kernel: String,
    /// The name that other pods ask for: `hostnameOverride` does not change it (KEP-4762).
    pub in_dns: String,
}

/// The names of a pod: `hostnameOverride`, `hostname` or its name, cut to a label; with a domain if it has a `subdomain`.
pub fn hostname_of(pod: &Pod) -> Result<Hostname> {
    let spec = pod.spec.as_ref();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let given = |field: Option<&String>| field.filter(|text| !text.is_empty()).cloned();
    let replaced = given(spec.and_then(|s| s.hostname_override.as_ref()));
    let in_dns = given(spec.and_then(|s| s.hostname.as_ref())).unwrap_or_else(|| name.to_owned());
    let wanted = replaced.clone().unwrap_or_else(|| in_dns.clone());
    let cut = |name: &str| name.chars().take(LABEL_MAX).collect::<String>().trim_end_matches(['-', '.']).to_owned();
    let (short, in_dns) = (cut(&wanted), cut(&in_dns));
    if short.is_empty() {
        return Err(Error::said(format!("the pod's hostname {wanted:?} has nothing but '-' and '.' in its first {LABEL_MAX} characters")));
    }
    let subdomain = given(spec.and_then(|s| s.subdomain.as_ref())).filter(|_| replaced.is_none());
    let fqdn = subdomain.map(|subdomain| format!("{short}.{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN}"));
    let kernel = match &fqdn {
        Some(fqdn) if spec.and_then(|s| s.set_hostname_as_fqdn) == Some(true) => fqdn.clone(),
        _ => short.clone(),
    };
    if kernel.len() > KERNEL_MAX {
        return Err(Error::said(format!("setHostnameAsFQDN: {kernel} has {} characters, but a hostname at most {KERNEL_MAX}", kernel.len())));
    }
    Ok(Hostname { short, fqdn, kernel, in_dns })
}

/// /etc/hosts of a pod with a network of its own.
pub fn hosts_file(ips: &[IpAddr], name: &Hostname, aliases: &[HostAlias]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        let fqdn = name.fqdn.iter().map(|fqdn| format!("{fqdn}\t")).collect::<String>();
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{ip}\t{fqdn}{}", name.short);
    }
    text + &alias_lines(aliases)
}

/// /etc/hosts of a hostNetwork pod: the host's own, and the aliases.
pub fn host_network_hosts_file(host: &str, aliases: &[HostAlias]) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{host}{}", alias_lines(aliases))
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    let lines = aliases.iter().map(|alias| format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t")));
    if aliases.is_empty() { String::new() } else { format!("\n# Entries added by HostAliases.\n{}", lines.collect::<String>()) }
}

/// What a pod's resolv.conf is made of.
#[derive(Debug, Clone, Copy)]
pub struct Resolver<'a> {
    /// `spec.dnsPolicy`; ClusterFirst if it is none of the known ones.
    pub policy: &'a str,
    pub config: Option<&'a PodDNSConfig>,
    /// The host's resolv.conf.
    pub host: &'a str,
    /// The pod's DNS server for names of pods: its gateway, if one serves there.
    pub cluster: Option<IpAddr>,
    pub namespace: &'a str,
    pub host_network: bool,
}

/// Something that the person should know, as an event of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The event's reason, as the kubelet says it.
    pub reason: &'static str,
    pub message: String,
}

/// /etc/resolv.conf of a pod.
pub fn resolv_conf(resolver: &Resolver<'_>) -> (String, Vec<Warning>) {
    let mut warnings = Vec::new();
    let mut lines = match resolver.policy {
        "None" => Lines::default(),
        "Default" => Lines::parse(resolver.host),
        "ClusterFirst" if resolver.host_network => Lines::parse(resolver.host),
        policy => match resolver.cluster {
            Some(ip) => Lines::parse(resolver.host).cluster_first(ip, resolver.namespace),
            None => {
                let message = format!("there is no DNS server for names of pods, so dnsPolicy {policy:?} cannot be kept. Falling back to \"Default\" policy.");
                warnings.push(Warning { reason: "MissingClusterDNS", message });
                Lines::parse(resolver.host)
            }
        },
    };
    if let Some(config) = resolver.config {
        lines.append(config);
    }
    warnings.extend(lines.fit());
    if let Some(message) = lines.unreachable().filter(|_| !resolver.host_network) {
        warnings.push(Warning { reason: FORMING, message });
    }
    (lines.text(), warnings)
}

/// The nameservers of a resolv.conf that are addresses.
pub fn nameservers(resolv_conf: &str) -> Vec<IpAddr> {
    Lines::parse(resolv_conf).servers.iter().filter_map(|server| server.parse().ok()).collect()
}

/// The kubelet's reason for a resolv.conf that is not what was asked for.
const FORMING: &str = "DNSConfigForming";

#[derive(Default)]
struct Lines {
    servers: Vec<String>,
    searches: Vec<String>,
    /// `name` or `name:value`.
    options: Vec<String>,
}

impl Lines {
    /// Reads a resolv.conf as resolv.conf(5) says: nameservers and options add up, the last search line wins.
    fn parse(text: &str) -> Lines {
        let mut lines = Lines::default();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => lines.servers.extend(words.next().map(str::to_owned)),
                Some("search") => lines.searches = words.map(|word| if word == "." { word } else { word.trim_end_matches('.') }.to_owned()).collect(),
                Some("options") => words.for_each(|word| lines.set_option(word.to_owned())),
                _ => {}
            }
        }
        lines
    }

    fn cluster_first(self, ip: IpAddr, namespace: &str) -> Lines {
        let mut searches = vec![format!("{namespace}.svc.{CLUSTER_DOMAIN}"), format!("svc.{CLUSTER_DOMAIN}"), CLUSTER_DOMAIN.to_owned()];
        searches.extend(self.searches);
        Lines { servers: vec![ip.to_string()], searches: without_duplicates(searches), options: vec!["ndots:5".into()] }
    }

    fn append(&mut self, config: &PodDNSConfig) {
        self.servers.extend(config.nameservers.iter().flatten().cloned());
        self.servers = without_duplicates(std::mem::take(&mut self.servers));
        self.searches.extend(config.searches.iter().flatten().cloned());
        self.searches = without_duplicates(std::mem::take(&mut self.searches));
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            self.set_option(match option.value.as_deref() {
                None | Some("") => name.clone(),
                Some(value) => format!("{name}:{value}"),
            });
        }
    }

    /// Sets an option; one of the same name is replaced where it stands.
    fn set_option(&mut self, option: String) {
        let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
        match self.options.iter_mut().find(|old| name(old) == name(&option)) {
            Some(old) => *old = option,
            None => self.options.push(option),
        }
    }

    /// Cuts what a resolver would not read.
    fn fit(&mut self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if self.servers.len() > NAMESERVERS_MAX {
            self.servers.truncate(NAMESERVERS_MAX);
            let line = self.servers.join(" ");
            let message = format!("Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {line}");
            warnings.push(Warning { reason: FORMING, message });
        }
        let wanted = self.searches.len();
        self.searches.retain(|domain| domain.len() <= DOMAIN_MAX);
        self.searches.truncate(SEARCHES_MAX);
        while self.searches.join(" ").len() > SEARCH_CHARACTERS_MAX {
            self.searches.pop();
        }
        if self.searches.len() < wanted {
            let line = self.searches.join(" ");
            let message = format!("Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {line}");
            warnings.push(Warning { reason: FORMING, message });
        }
        warnings
    }

    /// Why a pod with a network of its own would ask in vain.
    fn unreachable(&self) -> Option<String> {
        let loopback = |server: &String| server.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let lost = !self.servers.is_empty() && self.servers.iter().all(loopback);
        lost.then(|| format!("the nameserver {} is on the host's loopback, which the pod cannot reach; use dnsPolicy ClusterFirst", self.servers.join(" ")))
    }

    fn text(&self) -> String {
        let line = |word: &str, values: &[String]| if values.is_empty() { String::new() } else { format!("{word} {}\n", values.join(" ")) };
        let servers: String = self.servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        line("search", &self.searches) + &servers + &line("options", &self.options)
    }
}

fn without_duplicates(mut values: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    values.retain(|value| seen.insert(value.clone()));
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}, "spec": spec})).unwrap()
    }

    fn names(spec: serde_json::Value) -> (String, Option<String>, String) {
        let name = hostname_of(&pod(spec)).unwrap();
        (name.short, name.fqdn, name.kernel)
    }

    #[test]
    fn a_pod_is_called_by_override_hostname_or_name() {
        use serde_json::json;
        let fqdn = "h.sub.shop.svc.cluster.local".to_owned();
        assert_eq!(names(json!({"containers": []})), ("web".into(), None, "web".into()));
        assert_eq!(names(json!({"containers": [], "hostname": "h"})), ("h".into(), None, "h".into()));
        assert_eq!(names(json!({"containers": [], "hostname": "h", "subdomain": "sub"})), ("h".into(), Some(fqdn.clone()), "h".into()));
        assert_eq!(names(json!({"containers": [], "hostname": "h", "subdomain": "sub", "setHostnameAsFQDN": true})), ("h".into(), Some(fqdn.clone()), fqdn));
        assert_eq!(names(json!({"containers": [], "setHostnameAsFQDN": true})), ("web".into(), None, "web".into()));
        assert_eq!(names(json!({"containers": [], "hostname": "h", "subdomain": "s", "hostnameOverride": "o.p"})), ("o.p".into(), None, "o.p".into()));
    }

    #[test]
    fn a_long_name_is_cut_and_a_long_fqdn_refused() {
        let mut long = pod(serde_json::json!({"containers": []}));
        long.metadata.name = Some(format!("{}-.{}", "a".repeat(61), "b".repeat(20)));
        assert_eq!(hostname_of(&long).unwrap().short, "a".repeat(61));
        let fqdn = serde_json::json!({"containers": [], "subdomain": "s".repeat(60), "setHostnameAsFQDN": true});
        assert!(hostname_of(&pod(fqdn)).unwrap_err().to_string().contains("at most 64"));
        long.metadata.name = Some("-".repeat(70));
        assert!(hostname_of(&long).is_err());
    }

    #[test]
    fn hosts_are_written_as_the_kubelet_writes_them() {
        let name = Hostname { short: "web".into(), fqdn: None, kernel: "web".into(), in_dns: "web".into() };
        let head = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                    fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
        let ip = [IpAddr::from([10, 77, 0, 5])];
        assert_eq!(hosts_file(&ip, &name, &[]), format!("{head}10.77.0.5\tweb\n"));
        let fqdn = Hostname { fqdn: Some("web.sub.shop.svc.cluster.local".into()), ..name };
        let aliases = [
            HostAlias { ip: "10.1.2.3".into(), hostnames: Some(vec!["db".into(), "db.example".into()]) },
            HostAlias { ip: "fd00::5".into(), hostnames: Some(vec!["six".into()]) },
        ];
        let tail = "\n# Entries added by HostAliases.\n10.1.2.3\tdb\tdb.example\nfd00::5\tsix\n";
        assert_eq!(hosts_file(&ip, &fqdn, &aliases), format!("{head}10.77.0.5\tweb.sub.shop.svc.cluster.local\tweb\n{tail}"));
        let host = "127.0.0.1 localhost\n";
        assert_eq!(host_network_hosts_file(host, &aliases), format!("# Kubernetes-managed hosts file (host network).\n{host}{tail}"));
    }

    const HOST: &str = "# by hand\n; also a remark\nnameserver 192.0.2.53\nnameserver 192.0.2.54 # second\nsearch old\nsearch example.org. lan .\noptions timeout:1 rotate\noptions timeout:3\n";

    fn resolver(policy: &str) -> Resolver<'_> {
        Resolver { policy, config: None, host: HOST, cluster: Some([10, 77, 0, 1].into()), namespace: "shop", host_network: false }
    }

    fn config(value: serde_json::Value) -> PodDNSConfig {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn each_policy_makes_its_resolv_conf() {
        let hosts_own = "search example.org lan .\nnameserver 192.0.2.53\nnameserver 192.0.2.54\noptions timeout:3 rotate\n";
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local example.org lan .\nnameserver 10.77.0.1\noptions ndots:5\n";
        for (policy, host_network, text) in [
            ("Default", false, hosts_own),
            ("Default", true, hosts_own),
            ("ClusterFirst", false, cluster),
            ("ClusterFirst", true, hosts_own),
            ("ClusterFirstWithHostNet", true, cluster),
            ("None", false, ""),
        ] {
            assert_eq!(resolv_conf(&Resolver { host_network, ..resolver(policy) }), (text.to_owned(), vec![]), "{policy} {host_network}");
        }
    }

    #[test]
    fn without_a_dns_server_cluster_first_falls_back_to_default_and_says_so() {
        let (text, warnings) = resolv_conf(&Resolver { cluster: None, ..resolver("ClusterFirst") });
        assert_eq!(text, resolv_conf(&resolver("Default")).0);
        assert_eq!(warnings.iter().map(|w| w.reason).collect::<Vec<_>>(), ["MissingClusterDNS"]);
    }

    #[test]
    fn dns_config_is_appended_and_its_options_win() {
        let config = config(serde_json::json!({
            "nameservers": ["10.77.0.1", "9.9.9.9"], "searches": ["lan", "more.example"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]
        }));
        let (text, warnings) = resolv_conf(&Resolver { config: Some(&config), ..resolver("ClusterFirst") });
        assert_eq!(
            (text.as_str(), warnings.len()),
            (
                "search shop.svc.cluster.local svc.cluster.local cluster.local example.org lan . more.example\nnameserver 10.77.0.1\nnameserver 9.9.9.9\noptions ndots:2 edns0\n",
                0
            )
        );
        let (text, _) = resolv_conf(&Resolver { config: Some(&config), ..resolver("None") });
        assert_eq!(text, "search lan more.example\nnameserver 10.77.0.1\nnameserver 9.9.9.9\noptions ndots:2 edns0\n");
    }

    #[test]
    fn what_exceeds_the_limits_is_cut_with_a_warning() {
        let many = |n: usize, text: &dyn Fn(usize) -> String| (0..n).map(text).collect::<Vec<_>>();
        let config = |servers: Vec<String>, searches: Vec<String>| config(serde_json::json!({"nameservers": servers, "searches": searches}));
        let with = |config: &PodDNSConfig| resolv_conf(&Resolver { config: Some(config), ..resolver("None") });

        let (text, warnings) = with(&config(many(4, &|n| format!("10.0.0.{n}")), vec![]));
        assert_eq!(text.lines().count(), 3);
        assert!(warnings[0].message.ends_with("the applied nameserver line is: 10.0.0.0 10.0.0.1 10.0.0.2"), "{warnings:?}");

        let (text, warnings) = with(&config(vec![], many(33, &|n| format!("d{n}"))));
        assert_eq!((text.split_whitespace().count(), warnings[0].reason), (33, FORMING), "the word and 32 domains");

        let (text, warnings) = with(&config(vec![], many(20, &|n| format!("{n:0>200}"))));
        assert_eq!((text.split_whitespace().count(), warnings.len()), (11, 1), "10 of 200 characters and the spaces between fit in 2048");

        let (text, warnings) = with(&config(vec![], vec!["a".repeat(254), "b".into()]));
        assert_eq!((text.as_str(), warnings.len()), ("search b\n", 1));
    }

    #[test]
    fn a_nameserver_on_the_host_s_loopback_is_warned_of_unless_the_pod_is_there() {
        let stub = "nameserver 127.0.0.53\n";
        let (text, warnings) = resolv_conf(&Resolver { host: stub, ..resolver("Default") });
        assert_eq!((text.as_str(), warnings.len()), (stub, 1));
        assert_eq!(resolv_conf(&Resolver { host: stub, host_network: true, ..resolver("Default") }).1, []);
        assert_eq!(resolv_conf(&Resolver { host: stub, ..resolver("ClusterFirst") }).1, []);
        assert_eq!(nameservers("nameserver ::1\nnameserver nonsense\nnameserver\nnameserver 9.9.9.9"), ["::1".parse::<IpAddr>().unwrap(), [9, 9, 9, 9].into()]);
    }
}

//! Host name, hosts file, DNS, and what hostNetwork excludes.

use k8s_openapi::api::core::v1::{HostAlias, PodDNSConfig, PodSpec};

use super::containers::word;
use super::names;
use crate::manifest::fault::Findings;
use crate::manifest::path::At;

/// What a resolver takes (`MaxDNSNameservers`, `MaxDNSSearchPaths`, `MaxDNSSearchListChars`).
const MOST_NAMESERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;
const MOST_SEARCH_CHARACTERS: usize = 2048;
/// The kernel's hostname has at most 64 (sethostname(2)).
const MOST_HOSTNAME_CHARACTERS: usize = 64;

pub fn pod(spec: &PodSpec, at: &At, findings: &mut Findings) {
    names::check_if_set(spec.hostname.as_ref(), names::label, &at.field("hostname"), findings);
    names::check_if_set(spec.subdomain.as_ref(), names::label, &at.field("subdomain"), findings);
    hostname_override(spec, &at.field("hostnameOverride"), findings);
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        host_alias(alias, &at.field("hostAliases").index(index), findings);
    }
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    word(spec.dns_policy.as_deref(), &policies, &at.field("dnsPolicy"), findings);
    let none = spec.dns_policy.as_deref() == Some("None");
    match &spec.dns_config {
        Some(config) => dns_config(config, none, &at.field("dnsConfig"), findings),
        None if none => findings.required(&at.field("dnsConfig"), "must provide `dnsConfig` when `dnsPolicy` is None"),
        None => {}
    }
}

/// A name of its own for the kernel (KEP-4762): a domain name, but never the longer of two.
fn hostname_override(spec: &PodSpec, at: &At, findings: &mut Findings) {
    let Some(name) = spec.hostname_override.as_ref() else { return };
    names::check(name, names::subdomain, at, findings);
    if name.len() > MOST_HOSTNAME_CHARACTERS {
        findings.too_long(at, MOST_HOSTNAME_CHARACTERS);
    }
    for (field, set) in [("setHostnameAsFQDN", spec.set_hostname_as_fqdn), ("hostNetwork", spec.host_network)] {
        if set == Some(true) {
            findings.forbidden(at, format!("may not be set when `{field}` is true"));
        }
    }
}

fn host_alias(alias: &HostAlias, at: &At, findings: &mut Findings) {
    names::check(&alias.ip, names::ip, &at.field("ip"), findings);
    for (index, name) in alias.hostnames.iter().flatten().enumerate() {
        names::check(name, names::subdomain, &at.field("hostnames").index(index), findings);
    }
}

fn dns_config(config: &PodDNSConfig, none: bool, at: &At, findings: &mut Findings) {
    let servers = config.nameservers.as_deref().unwrap_or_default();
    let servers_at = at.field("nameservers");
    if none && servers.is_empty() {
        findings.required(&servers_at, "must provide at least one DNS nameserver when `dnsPolicy` is None");
    }
    if servers.len() > MOST_NAMESERVERS {
        findings.invalid(&servers_at, servers, format!("must not have more than {MOST_NAMESERVERS} nameservers"));
    }
    for (index, server) in servers.iter().enumerate() {
        names::check(server, names::ip, &servers_at.index(index), findings);
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    let searches_at = at.field("searches");
    if searches.len() > MOST_SEARCHES {
        findings.invalid(&searches_at, searches, format!("must not have more than {MOST_SEARCHES} search paths"));
    }
    if searches.join(" ").chars().count() > MOST_SEARCH_CHARACTERS {
        findings.invalid(&searches_at, searches, format!("must not have more than {MOST_SEARCH_CHARACTERS} characters (including spaces) in the search list"));
    }
    for (index, search) in searches.iter().enumerate() {
        self::search(search, &searches_at.index(index), findings);
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            findings.required(&at.field("options").index(index).field("name"), "must not be empty");
        }
    }
}

/// A single dot, a trailing dot and underscores are allowed here since 1.34 (KEP-4427).
fn search(search: &str, at: &At, findings: &mut Findings) {
    if search != "." {
        let judged = search.strip_suffix('.').unwrap_or(search).replace('_', "a");
        for said in names::subdomain(&judged) {
            findings.invalid(at, search, said);
        }
    }
}

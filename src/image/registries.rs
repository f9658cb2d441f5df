//! Where images are asked for: the registry of a name, its mirrors, whom to believe, how long to wait.
//!
//! ```yaml
//! # /etc/minipod/registries.yaml
//! stallTimeoutSeconds: 30            # a registry that sends nothing for so long is given up
//! registries:
//!   docker.io:
//!     mirrors: [https://mirror.example, http://127.0.0.1:5000/hub]     # asked first, in this order
//!   registry.example:5000:
//!     caFile: /etc/minipod/ca.pem    # believed beside the system's roots
//! ```
//!
//! A registry is spoken to by HTTPS. Plain HTTP is for this machine itself alone: whatever goes over a network can be read and
//! changed there, a password too.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Deserialize;

use super::Reference;
use crate::error::{Error, Result};
use crate::sys::file;

/// Of the file of settings, and of a file of certificates.
const MAX_FILE: u64 = 4 << 20;
const DEFAULT_STALL_SECONDS: u64 = 30;
/// A stall longer than this is none (a day).
const MAX_STALL_SECONDS: u64 = 24 * 3600;

/// What a person says on the command line about all pulls.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Mirrors of docker.io, before those of the file.
    pub mirrors: Vec<String>,
    /// Believed beside the system's roots, for every registry.
    pub ca_file: Option<PathBuf>,
    /// The file of settings; it need not be there if it is the default one.
    pub file: Option<PathBuf>,
}

const DEFAULT_FILE: &str = "/etc/minipod/registries.yaml";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    stall_timeout_seconds: Option<u64>,
    #[serde(default)]
    registries: BTreeMap<String, Registry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Registry {
    #[serde(default)]
    mirrors: Vec<String>,
    ca_file: Option<PathBuf>,
}

/// A place where an image may be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub plain_http: bool,
    /// With the port, if it has one.
    pub host: String,
    /// The repository there.
    pub repository: String,
}

/// All that a pull must know of registries.
#[derive(Debug, Clone)]
pub struct Registries {
    file_name: PathBuf,
    settings: Settings,
    stall_seconds: u64,
    registries: BTreeMap<String, (Vec<String>, Option<PathBuf>)>,
}

impl Registries {
    /// Reads the settings. Errors: a file that was named is missing, or one is malformed.
    pub fn read(settings: &Settings) -> Result<Registries> {
        let name = settings.file.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let text = match file::open(&name, OFlags::RDONLY) {
            Err(error) if error.is(libc::ENOENT) && settings.file.is_none() => String::new(),
            opened => String::from_utf8_lossy(&file::read_limited(opened?, &name, MAX_FILE)?).into_owned(),
        };
        let malformed = |why: String| Error::said(format!("{}: {why}", name.display()));
        let value = crate::manifest::settings(&text).map_err(malformed)?;
        let read: Option<File> = serde_json::from_value(value).map_err(|error| malformed(error.to_string()))?;
        let read = read.unwrap_or_default();
        let stall_seconds = read.stall_timeout_seconds.unwrap_or(DEFAULT_STALL_SECONDS);
        if !(1..=MAX_STALL_SECONDS).contains(&stall_seconds) {
            return Err(malformed(format!("stallTimeoutSeconds: {stall_seconds} is not 1 to {MAX_STALL_SECONDS}")));
        }
        let registries = read.registries.into_iter().map(|(host, registry)| (host, (registry.mirrors, registry.ca_file))).collect();
        Ok(Registries { file_name: name, settings: settings.clone(), stall_seconds, registries })
    }

    /// How long a registry may send nothing.
    pub fn patience(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.stall_seconds)
    }

    /// The places to ask for an image, in order: mirrors, then its registry itself. A registry on this machine is asked by HTTPS, then by HTTP.
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let of_hub = if reference.domain() == "docker.io" { self.settings.mirrors.as_slice() } else { &[] };
        let of_file = self.registries.get(reference.domain()).map_or(&[][..], |(mirrors, _)| mirrors);
        let mut endpoints = Vec::new();
        for mirror in of_hub.iter().chain(of_file) {
            let found = mirror_endpoints(mirror, reference.path()).map_err(|why| Error::said(format!("registry mirror {mirror:?}: {why}")))?;
            endpoints.extend(found);
        }
        let host = if reference.domain() == "docker.io" { "index.docker.io" } else { reference.domain() };
        endpoints.extend(both_ways(host, reference.path()));
        Ok(endpoints)
    }

    /// The certificates to believe at a host beside the system's: PEM files, whole.
    pub fn authorities(&self, host: &str) -> Result<Vec<Vec<u8>>> {
        let of_file = self.registries.get(host).and_then(|(_, ca_file)| ca_file.as_deref());
        let read = |path: &Path| {
            let named = |error: Error| error.doing(format!("reading the certificates for {host} (--ca-file, or {})", self.file_name.display()));
            file::open(path, OFlags::RDONLY).and_then(|opened| file::read_limited(opened, path, MAX_FILE)).map_err(named)
        };
        self.settings.ca_file.as_deref().into_iter().chain(of_file).map(read).collect()
    }
}

/// Whether a registry is this machine itself, by its name alone: what a name server says is no proof.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn both_ways(host: &str, repository: &str) -> Vec<Endpoint> {
    let endpoint = |plain_http| Endpoint { plain_http, host: host.to_owned(), repository: repository.to_owned() };
    if is_loopback(host) { vec![endpoint(false), endpoint(true)] } else { vec![endpoint(false)] }
}

/// `[SCHEME://]HOST[:PORT][/PREFIX]`
fn mirror_endpoints(mirror: &str, path: &str) -> std::result::Result<Vec<Endpoint>, String> {
    let (scheme, rest) = mirror.split_once("://").map_or((None, mirror), |(scheme, rest)| (Some(scheme), rest));
    let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let repository = format!("{prefix}/{path}").trim_start_matches('/').replace("//", "/");
    if let Some(other) = scheme.filter(|scheme| !["https", "http"].contains(scheme)) {
        return Err(format!("scheme {other:?} is neither https nor http"));
    }
    // A reference has the rules for what a host and a repository may be.
    let whole = format!("{host}/{repository}");
    match Reference::parse(&whole) {
        Ok(reference) if reference.domain() == host && reference.path() == repository => {}
        _ => return Err(format!("it is not [SCHEME://]HOST[:PORT][/PREFIX] ({whole:?} is no repository)")),
    }
    let endpoint = |plain_http| Endpoint { plain_http, host: host.to_owned(), repository: repository.clone() };
    match scheme {
        None => Ok(both_ways(host, &repository)),
        Some("http") if is_loopback(host) => Ok(vec![endpoint(true)]),
        Some("http") => Err("plain http is for this machine itself alone (127.0.0.1, localhost); give it a certificate and https".to_owned()),
        Some(_) => Ok(vec![endpoint(false)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(mirrors: &[&str]) -> Registries {
        let settings = Settings { mirrors: mirrors.iter().map(|mirror| (*mirror).to_owned()).collect(), ..Settings::default() };
        Registries { file_name: PathBuf::new(), settings, stall_seconds: 1, registries: BTreeMap::new() }
    }

    fn asked(mirrors: &[&str], image: &str) -> std::result::Result<Vec<String>, String> {
        let endpoints = registries(mirrors).endpoints(&Reference::parse(image).unwrap()).map_err(|error| error.to_string())?;
        let url = |e: Endpoint| format!("{}://{}/{}", if e.plain_http { "http" } else { "https" }, e.host, e.repository);
        Ok(endpoints.into_iter().map(url).collect())
    }

    #[test]
    fn mirrors_of_the_hub_come_before_it_and_only_for_it() {
        assert_eq!(asked(&["mirror.example/hub"], "nginx").unwrap(), ["https://mirror.example/hub/library/nginx", "https://index.docker.io/library/nginx"]);
        assert_eq!(asked(&["mirror.example"], "quay.io/a/b").unwrap(), ["https://quay.io/a/b"]);
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for host in ["localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert_eq!(asked(&[], &format!("{host}/a/b")).unwrap(), [format!("https://{host}/a/b"), format!("http://{host}/a/b")]);
        }
        for host in ["10.0.0.1:5000", "localhost.example:80", "registry.example"] {
            assert_eq!(asked(&[], &format!("{host}/a/b")).unwrap(), [format!("https://{host}/a/b")]);
        }
        assert_eq!(asked(&["http://127.0.0.1:5000"], "nginx").unwrap()[0], "http://127.0.0.1:5000/library/nginx");
        assert!(asked(&["http://mirror.example"], "nginx").unwrap_err().contains("plain http is for this machine itself alone"));
    }

    #[test]
    fn a_mirror_that_is_none_is_an_error() {
        for mirror in ["ftp://x.example", "https://", "a b", "https://mirror.example/Upper", "https://user:pw@mirror.example"] {
            assert!(asked(&[mirror], "nginx").unwrap_err().contains("registry mirror"), "{mirror}");
        }
    }

    #[test]
    fn a_file_of_settings_is_read_strictly() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("r.yaml");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Registries::read(&Settings { file: Some(file.clone()), ..Settings::default() })
        };
        let good = read("stallTimeoutSeconds: 5\nregistries:\n  docker.io: {mirrors: ['https://m.example']}\n").unwrap();
        assert_eq!(good.patience().as_secs(), 5);
        assert_eq!(good.endpoints(&Reference::parse("a/b").unwrap()).unwrap()[0].host, "m.example");
        assert!(read("").is_ok());
        for (text, told) in [("registries: {x: {mirror: y}}", "unknown field `mirror`"), ("stallTimeoutSeconds: 0", "is not 1 to"), ("a: [", "")] {
            assert!(read(text).unwrap_err().to_string().contains(told), "{text}");
        }
        assert!(Registries::read(&Settings { file: Some("/nonexistent/r.yaml".into()), ..Settings::default() }).unwrap_err().is(libc::ENOENT));
    }
}

//! Who we are to a registry: user and password, from the files where `minipod login`, podman and docker keep them, and from a pod's
//! imagePullSecrets.
//!
//! ```text
//! imagePullSecrets ─┐
//! auth.json         ├─▶ {"auths": {"registry.example:5000": {"auth": base64("user:password")}}} ─▶ the longest key that fits
//! config.json       ┘         the key may go on with a path: registry.example/team
//! ```
//!
//! All three have the same form (containers-auth.json(5), `kubernetes.io/dockerconfigjson`). Programs that keep passwords
//! (credHelpers, credsStore) are told by name and not started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::sys::file;

/// Of a file of logins; a Secret may have 1 MiB.
const MAX_FILE: u64 = 1 << 20;
const HUB: &str = "docker.io";

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({:?}, ...)", self.user)
    }
}

#[derive(Default, Deserialize)]
struct Written {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize, Serialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

/// Logins in the order in which they are looked through.
#[derive(Debug, Clone, Default)]
pub struct Logins(Vec<(String, std::result::Result<Login, String>)>);

impl Logins {
    /// What the files of the person who runs us hold. A missing file is none.
    pub fn of_person() -> Result<Logins> {
        let mut logins = Logins::default();
        for path in person_files() {
            if let Some(text) = read(&path)? {
                logins.add(&text, &path.display().to_string())?;
            }
        }
        Ok(logins)
    }

    /// Adds those of a document, behind what is there. `name` is for errors.
    pub fn add(&mut self, text: &[u8], name: &str) -> Result<()> {
        let malformed = |error| Error::said(format!("{name} holds no logins: {error}"));
        let written: Written = serde_json::from_slice(text).map_err(malformed)?;
        let helped = |host: &str, helper: &str| {
            format!("{name} leaves the login for {host} to the program docker-credential-{helper}, which minipod does not start; use `minipod login {host}`")
        };
        for (key, entry) in written.auths {
            let login = match (login_of(&entry), &written.store) {
                (Ok(Some(login)), _) => Ok(login),
                (Ok(None), Some(store)) => Err(helped(&key, store)),
                (Ok(None), None) => continue,
                (Err(why), _) => Err(format!("{name}: the login for {key} {why}")),
            };
            self.0.push((normal_key(&key), login));
        }
        self.0.extend(written.helpers.into_iter().map(|(host, helper)| (normal_key(&host), Err(helped(&host, &helper)))));
        Ok(())
    }

    /// The login for a repository. Of several that fit, the one with the longest key, then the first. Errors: it is there, but cannot be read.
    pub fn find(&self, host: &str, repository: &str) -> Result<Option<&Login>> {
        let name = format!("{}/{repository}", normal_key(host));
        let fits = |key: &str| name.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let mut best: Option<&(String, std::result::Result<Login, String>)> = None;
        for login in self.0.iter().filter(|(key, _)| fits(key)) {
            if best.is_none_or(|(key, _)| key.len() < login.0.len()) {
                best = Some(login);
            }
        }
        best.map(|(_, login)| login.as_ref().map_err(Error::said)).transpose()
    }
}

fn login_of(entry: &Entry) -> std::result::Result<Option<Login>, String> {
    if !entry.auth.is_empty() {
        let text = STANDARD.decode(entry.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or("is not base64 of USER:PASSWORD")?;
        let (user, password) = text.split_once(':').ok_or("is not base64 of USER:PASSWORD")?;
        // docker writes a NUL behind the password.
        return Ok(Some(Login { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() }));
    }
    match (entry.username.is_empty(), entry.identitytoken.is_empty()) {
        (false, _) => Ok(Some(Login { user: entry.username.clone(), password: entry.password.clone() })),
        (true, false) => Err("is an identity token, of which minipod cannot make use; log in with a password or an access token".to_owned()),
        (true, true) => Ok(None),
    }
}

/// `https://index.docker.io/v1/` and its like as a host and maybe a path.
fn normal_key(key: &str) -> String {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest).trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    let (host, path) = bare.split_once('/').map_or((bare, None), |(host, path)| (host, Some(path)));
    let host = if ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"].contains(&host) { HUB } else { host };
    path.map_or(host.to_owned(), |path| format!("{host}/{path}"))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match file::open(path, OFlags::RDONLY) {
        Err(error) if error.is(libc::ENOENT) || error.is(libc::ENOTDIR) => Ok(None),
        opened => file::read_limited(opened?, path, MAX_FILE).map(Some),
    }
}

/// The files of podman and docker, in containers-auth.json(5)'s order.
fn person_files() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let docker = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker"))).map(|dir| dir.join("config.json"));
    std::iter::once(own_file()).chain(docker).collect()
}

/// The file that `login` writes; it does not outlive a reboot, as podman's does not.
fn own_file() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let runtime = variable("XDG_RUNTIME_DIR").unwrap_or_else(|| PathBuf::from("/run/containers/0"));
    let usual = if runtime.ends_with("containers/0") { runtime.join("auth.json") } else { runtime.join("containers/auth.json") };
    variable("REGISTRY_AUTH_FILE").unwrap_or(usual)
}

/// Keeps a login where podman would look for it; tells the file.
pub fn keep(host: &str, login: &Login) -> Result<PathBuf> {
    let auth = STANDARD.encode(format!("{}:{}", login.user, login.password));
    change(|auths| {
        auths.insert(normal_key(host), serde_json::json!({ "auth": auth }));
        true
    })
}

/// Forgets a login; false: there was none.
pub fn forget(host: &str) -> Result<bool> {
    let mut found = false;
    change(|auths| {
        found = auths.remove(&normal_key(host)).is_some() || auths.remove(host).is_some();
        found
    })?;
    Ok(found)
}

/// What else stands in the file stays.
fn change(what: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<PathBuf> {
    let path = own_file();
    let malformed = || Error::said(format!("{} is no JSON object with an object auths; move it away", path.display()));
    let mut whole: Value = match read(&path)? {
        Some(text) => serde_json::from_slice(&text).map_err(|_| malformed())?,
        None => Value::Object(Map::new()),
    };
    let auths = whole.as_object_mut().ok_or_else(malformed)?.entry("auths").or_insert_with(|| Value::Object(Map::new()));
    if what(auths.as_object_mut().ok_or_else(malformed)?) {
        if let Some(dir) = path.parent() {
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| Error::io("mkdir", dir.display(), &error))?;
        }
        let text = serde_json::to_vec_pretty(&whole).map_err(|error| Error::said(error.to_string()))?;
        file::write_atomically(&path, &text, 0o600)?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(text: &str) -> Logins {
        let mut logins = Logins::default();
        logins.add(text.as_bytes(), "config.json").unwrap();
        logins
    }

    fn user(logins: &Logins, host: &str, repository: &str) -> String {
        match logins.find(host, repository) {
            Ok(login) => login.map(|login| format!("{}:{}", login.user, login.password)).unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_longest_key_that_fits_wins() {
        // a:1, b:2, c:3
        let all = logins(
            r#"{"auths": {"r.example": {"auth": "YToxAA=="}, "r.example/team": {"auth": "Yjoy"}, "https://index.docker.io/v1/": {"username": "c", "password": "3"}}}"#,
        );
        for (host, repository, expected) in [
            ("r.example", "x", "a:1"),
            ("r.example", "team/x", "b:2"),
            ("r.example", "teams/x", "a:1"),
            ("r.example:5000", "x", ""),
            ("index.docker.io", "library/nginx", "c:3"),
            ("docker.io", "library/nginx", "c:3"),
        ] {
            assert_eq!(user(&all, host, repository), expected, "{host}/{repository}");
        }
    }

    #[test]
    fn what_minipod_cannot_use_is_told_only_where_it_is_needed() {
        let all = logins(
            r#"{"credHelpers": {"h.example": "gcloud"}, "credsStore": "pass", "auths": {"s.example": {}, "t.example": {"identitytoken": "x"}, "u.example": {"auth": "!"}}}"#,
        );
        for (host, told) in
            [("h.example", "docker-credential-gcloud"), ("s.example", "docker-credential-pass"), ("t.example", "identity token"), ("u.example", "base64")]
        {
            assert!(user(&all, host, "x").contains(told), "{host}: {}", user(&all, host, "x"));
        }
        assert_eq!(user(&all, "other.example", "x"), "");
        assert!(Logins::default().add(b"1", "f").is_err());
    }
}

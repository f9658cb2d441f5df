//! What may be asked of a supervisor: one message, one answer, over the socket `control` in the pod's directory.
//!
//! ```text
//! {"stop": {"graceSeconds": 5}}    ▶  {"done": {}}      then the connection stays open until the supervisor has ended
//! {"exec": {"container": "web"}}   ▶  {"running": {}}   + pidfd of its main process, its cgroup, its spec, its v1 cgroups' procs
//!                                  ▶  {"refused": {"why": "container not found (\"web\")"}}
//! {"attach": {"container": "web", "stdin": true}}
//!                                  ▶  {"attached": {"tty": false, "stdin": true}}  + pipes of its stdout and stderr, its stdin
//!                                     (of a terminal: one pipe, and the terminal); as long as the connection is open
//! {"endInput": {}}                 ▶  {"done": {}}      who is attached has nothing more to say (stdinOnce)
//! {"debug": {"container": {"name": "dbg", "image": "busybox", …}, "attach": true}}
//!                                  ▶  {"attached": …}   an ephemeral container, when it runs; {"done": {}} without `attach`
//! {"resize": {"container": "web", "limits": {"cpu": "1"}}}
//!                                  ▶  {"done": {}}      accepted: conditions and events tell the rest
//! {"network": {}}                  ▶  {"network": {}}   + pidfd of the pause, whose network namespace is the pod's
//! ```
//!
//! Only root may ask: what `exec` gives is as much as being in the container.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sys::{file, socket};

use super::dir::Dir;

/// The name of the socket.
pub const SOCKET: &str = "control";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Stop the pod and remove it. None: its own grace; 0: at once. A second request only shortens.
    #[serde(rename_all = "camelCase")]
    Stop { grace_seconds: Option<u64> },
    /// The means to run a further process in a running container.
    Exec { container: String },
    /// What the main process of a container writes from now on, and with `stdin` the way to its input.
    Attach { container: String, stdin: bool },
    /// The input of whoever is attached has ended, though it goes on listening.
    EndInput {},
    /// One more container, an EphemeralContainer as JSON; with `attach` the answer is that of [`Request::Attach`].
    Debug { container: serde_json::Value, attach: bool },
    /// Other resources for a container, or without one for the pod as a whole, by their names; what is not named stays.
    Resize {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        limits: BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        requests: BTreeMap<String, String>,
    },
    /// The way into the pod's network.
    Network {},
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    Done {},
    /// What it takes comes as descriptors with the message. The container's OCI runtime spec is a file in memory, of any length.
    Running {},
    /// Whether the container has a terminal, and whether its input is lent. A later `Refused` says why the streams end early.
    Attached {
        tty: bool,
        stdin: bool,
    },
    Network {},
    Refused {
        why: String,
    },
}

/// Asks the supervisor of a pod or the runner of a job. None: there is none.
pub fn ask(dir: &Dir, request: &impl Serialize) -> Result<Option<(Reply, Vec<OwnedFd>, OwnedFd)>> {
    let open = || socket::connect(file::open_dir(dir.path())?, SOCKET);
    let connection = match open() {
        Err(error) if error.is(libc::ENOENT) || error.is(libc::ECONNREFUSED) => return Ok(None),
        connection => connection?,
    };
    match send(&connection, request, &[]) {
        // It ended between our call and our question.
        Err(error) if error.is(libc::EPIPE) || error.is(libc::ECONNRESET) => return Ok(None),
        sent => sent?,
    }
    match receive::<Reply>(&connection)? {
        Some((reply, descriptors)) => Ok(Some((reply, descriptors, connection))),
        None => Ok(None),
    }
}

pub fn send<T: Serialize>(connection: impl AsFd, message: &T, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let text = serde_json::to_vec(message).map_err(|e| Error::said(format!("a control message cannot be written: {e}")))?;
    if text.len() > socket::MESSAGE_LIMIT {
        return Err(Error::call("sendmsg", SOCKET, libc::EMSGSIZE));
    }
    socket::send(connection, &text, descriptors)
}

/// None: the other side has gone.
pub fn receive<T: serde::de::DeserializeOwned>(connection: impl AsFd) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let (bytes, descriptors) = socket::receive(connection)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let message = serde_json::from_slice(&bytes).map_err(|e| Error::said(format!("a control message makes no sense: {e}")))?;
    Ok(Some((message, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_documented_shape() {
        for (request, text) in [
            (Request::Stop { grace_seconds: Some(5) }, r#"{"stop":{"graceSeconds":5}}"#),
            (Request::Exec { container: "web".into() }, r#"{"exec":{"container":"web"}}"#),
            (Request::Attach { container: "web".into(), stdin: true }, r#"{"attach":{"container":"web","stdin":true}}"#),
            (Request::Debug { container: serde_json::json!({"name": "dbg"}), attach: true }, r#"{"debug":{"container":{"name":"dbg"},"attach":true}}"#),
            (Request::EndInput {}, r#"{"endInput":{}}"#),
            (Request::Network {}, r#"{"network":{}}"#),
            (
                Request::Resize { container: Some("web".into()), limits: [("cpu".into(), "1".into())].into(), requests: BTreeMap::new() },
                r#"{"resize":{"container":"web","limits":{"cpu":"1"}}}"#,
            ),
            (
                Request::Resize { container: None, limits: BTreeMap::new(), requests: [("cpu".into(), "1".into())].into() },
                r#"{"resize":{"requests":{"cpu":"1"}}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
        }
        assert_eq!(serde_json::to_string(&Reply::Done {}).unwrap(), r#"{"done":{}}"#);
    }

    #[test]
    fn nonsense_is_an_error_and_a_gone_peer_is_none() {
        let (a, b) = socket::pair().unwrap();
        socket::send(&a, b"{\"dance\":{}}", &[]).unwrap();
        assert!(receive::<Request>(&b).is_err());
        drop(a);
        assert!(receive::<Request>(&b).unwrap().is_none());
    }
}

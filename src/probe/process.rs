//! The prober's own side: it gives up what it does not need, then turns each question into a task with a deadline.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Answer, Ask, Outcome, TEXT_LIMIT, Target, Verdict, dial, grpc, http};
use crate::error::{Error, Result};
use crate::sys::{leaf, process, socket};

/// The most questions at a time. A worker of the kubelet asks again only after its answer, so a pod has at most three for each container;
/// each costs a descriptor, of which there are usually 1024.
const AT_ONCE: usize = 512;
/// A deadline further away than this is none (a year); it keeps the clock's arithmetic in range.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The process, from its birth to its end.
pub(super) fn run(socket: OwnedFd) -> Result<Infallible> {
    leaf::become_leaf(c"minipod-probe", &socket)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(|error| Error::io("epoll_create1", "", &error))?;
    runtime.block_on(serve(socket))?;
    process::exit_now(0)
}

/// Reads questions until the supervisor has gone.
async fn serve(socket: OwnedFd) -> Result<()> {
    // tokio has no type for SOCK_SEQPACKET; one message a call and zero bytes for the end are the same with this one.
    let socket = UnixDatagram::from_std(socket.into()).map_err(|error| Error::io("epoll_ctl", "", &error))?;
    let socket = Arc::new(socket);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut message = vec![0; socket::MESSAGE_LIMIT];
    loop {
        let length = match socket.recv(&mut message).await {
            Ok(length) if length > 0 => length,
            Err(error) if error.raw_os_error() != Some(libc::ECONNRESET) => return Err(Error::io("recv", "", &error)),
            _ => return Ok(()),
        };
        let ask: Ask = serde_json::from_slice(&message[..length]).map_err(|error| Error::said(format!("a question makes no sense: {error}")))?;
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                let socket = socket.clone();
                // The place is held until the answer is sent, so that a supervisor which does not read cannot fill our memory.
                tokio::spawn(async move {
                    let verdict = answer(&ask).await;
                    if send(&socket, ask.id, verdict).await.is_err() {
                        process::exit_now(1);
                    }
                    drop(place);
                });
            }
            Err(_) => send(&socket, ask.id, Verdict::unknown(format!("more than {AT_ONCE} probes at a time"))).await?,
        }
    }
}

async fn answer(ask: &Ask) -> Verdict {
    let timeout = Duration::from_millis(ask.timeout_ms).min(LONGEST);
    let deadline = Instant::now() + timeout;
    match &ask.target {
        Target::Http { hook, https, host, port, path, headers } => {
            http::get(http::Get { hook: *hook, https: *https, host, port: *port, path, headers }, deadline).await
        }
        Target::Tcp { host, port } => tcp(host, *port, deadline).await,
        Target::Grpc { host, port, service } => grpc::check(host, *port, service, timeout, deadline).await,
    }
}

async fn tcp(host: &str, port: u16, deadline: Instant) -> Verdict {
    match tokio::time::timeout_at(deadline, dial::dial(host, port, deadline)).await {
        Ok(Ok(_)) => Verdict::success(),
        Ok(Err(why)) => Verdict::failure(why),
        Err(_) => Verdict::failure(format!("dial tcp {}: i/o timeout", dial::host_port(host, port))),
    }
}

async fn send(socket: &UnixDatagram, id: u64, verdict: Verdict) -> Result<()> {
    let Verdict { outcome, mut message } = verdict;
    if outcome == Outcome::Success {
        message.clear();
    }
    message.truncate(message.floor_char_boundary(TEXT_LIMIT));
    let answer = Answer { id, outcome, message };
    let text = serde_json::to_vec(&answer).map_err(|error| Error::said(format!("an answer cannot be written: {error}")))?;
    socket.send(&text).await.map(drop).map_err(|error| Error::io("send", "", &error))
}

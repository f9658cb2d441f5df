//! A connection: a name becomes addresses, the first that answers is taken, and what the other side said first is remembered.
//!
//! No SO_LINGER (the kubelet sets one second): a close would then wait for the peer, and with it every other probe.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use hickory_resolver::TokioResolver;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn host_port(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Connects. The caller ends it at the deadline; an address that is not the last gets its share of the time until then.
/// The error is Go's: `dial tcp 10.0.0.1:80: connect: connection refused`, of the first address.
pub(super) async fn dial(host: &str, port: u16, deadline: Instant) -> Result<Wire, String> {
    let addresses = addresses(host).await?;
    let mut first_error = None;
    for (index, address) in addresses.iter().enumerate() {
        let address = SocketAddr::new(*address, port);
        let share = deadline.saturating_duration_since(Instant::now()) / (addresses.len() - index) as u32;
        let error = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(Wire::new(stream)),
            Ok(Err(error)) => format!("dial tcp {address}: connect: {}", reason(&error)),
            Err(_) => format!("dial tcp {address}: i/o timeout"),
        };
        first_error.get_or_insert(error);
    }
    Err(first_error.unwrap_or_else(|| format!("dial tcp: lookup {host}: no such host")))
}

/// The host's resolv.conf and hosts file are read each time: they change, and a name in a probe is rare.
async fn addresses(host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let failed = |why: &dyn std::fmt::Display| format!("dial tcp: lookup {host}: {why}");
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(|error| failed(&error))?;
    match resolver.lookup_ip(host).await {
        Ok(found) => Ok(found.iter().collect()),
        Err(error) if error.is_no_records_found() => Err(failed(&"no such host")),
        Err(error) => Err(failed(&error)),
    }
}

/// An errno in Go's words: those of strerror(3) in lower case.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

/// A connection that remembers the first five bytes which came: enough to tell TLS, HTTP and HTTP/2 apart when it went wrong.
///
/// It hears nothing until it has spoken: hyper drops a connection on which an answer comes before the question (a banner, or a server
/// in a hurry) and could not say why.
pub(super) struct Wire {
    stream: TcpStream,
    heard: Heard,
    spoken: bool,
    /// Who wanted to hear before that.
    reader: Option<Waker>,
}

/// What has come first over a [`Wire`], also after it was given away.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    const KEPT: usize = 5;

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.lock().map(|bytes| bytes.clone()).unwrap_or_default()
    }

    fn note(&self, new: &[u8]) {
        // One thread: the lock is only for the type, and is never contended or poisoned.
        if let Ok(mut bytes) = self.0.lock() {
            let room = Heard::KEPT.saturating_sub(bytes.len());
            bytes.extend(new.iter().take(room));
        }
    }
}

impl Wire {
    fn new(stream: TcpStream) -> Wire {
        Wire { stream, heard: Heard::default(), spoken: false, reader: None }
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard.clone()
    }

    /// `10.0.0.1:34567->10.0.0.2:80`, as Go names a connection in its errors.
    pub(super) fn ends(&self) -> String {
        let name = |end: io::Result<SocketAddr>| end.map_or_else(|_| "?".to_owned(), |address| address.to_string());
        format!("{}->{}", name(self.stream.local_addr()), name(self.stream.peer_addr()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.spoken {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.heard.note(&buffer.filled()[before..]);
        done
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(context, bytes);
        if done.is_ready() {
            self.spoken = true;
            self.reader.take().into_iter().for_each(Waker::wake);
        }
        done
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_and_an_address_are_written_as_go_writes_them() {
        assert_eq!(reason(&io::Error::from_raw_os_error(libc::ECONNREFUSED)), "connection refused");
        assert_eq!(reason(&io::Error::from_raw_os_error(libc::EHOSTUNREACH)), "no route to host");
        assert_eq!((host_port("10.0.0.1", 80), host_port("::1", 80)), ("10.0.0.1:80".to_owned(), "[::1]:80".to_owned()));
    }

    #[test]
    fn only_the_first_bytes_are_remembered() {
        let heard = Heard::default();
        heard.note(b"HT");
        heard.note(b"TP/1.1 200 OK");
        assert_eq!(heard.bytes(), b"HTTP/");
    }
}

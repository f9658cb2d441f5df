//! A GET as the kubelet makes it: for a probe the status decides, for a hook any answer is good (`pkg/kubelet/lifecycle/handlers.go`).
//!
//! ```text
//! place ─▶ dial ─▶ (TLS) ─▶ GET ─▶ redirect on this host? ─▶ again, ten requests at most
//!                            └──▶ 10 KiB of the body ─▶ verdict
//! ```
//!
//! One connection for each request, HTTP/1.1, no proxy, and a bound on everything that the server says.

use std::error::Error as _;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::dial::{dial, host_port, reason};
use super::place::Place;
use super::{TEXT_LIMIT, VERSION, Verdict, tls};

/// The most bytes and lines that the head of an answer may have. Go's limit is 10 MiB, but here hundreds of answers share one process.
const HEAD_LIMIT: usize = 64 * 1024;
const HEAD_LINES: usize = 2048;
/// The most requests until a redirect is refused (Go's `defaultCheckRedirect`).
const HOPS: usize = 10;
/// What is never sent from a manifest: it would describe a body that we do not have (Go's `reqWriteExcludeHeader`), or has its own place.
const OURS: [&str; 5] = ["host", "user-agent", "content-length", "transfer-encoding", "trailer"];

/// What a manifest asks for.
#[derive(Clone, Copy)]
pub(super) struct Get<'a> {
    pub(super) hook: bool,
    pub(super) https: bool,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) path: &'a str,
    pub(super) headers: &'a [(String, String)],
}

pub(super) async fn get(get: Get<'_>, deadline: Instant) -> Verdict {
    let place = match Place::new(get.https, get.host, get.port, get.path) {
        Ok(place) => place,
        Err(why) => return Verdict::unknown(why),
    };
    match follow(&get, place.clone(), true, deadline).await {
        Ok(reply) => judge(reply, get.hook, deadline).await,
        Err(why) if get.hook && get.https && why.ends_with(tls::SERVED_IN_CLEAR) => {
            let clear = Place { https: false, ..place };
            match follow(&get, clear, false, deadline).await {
                Ok(_) => Verdict::warning("request to HTTPS lifecycle hook got HTTP response, retry with HTTP succeeded"),
                // The first error is the one that is told.
                Err(_) => Verdict::failure(why),
            }
        }
        Err(why) => Verdict::failure(why),
    }
}

/// An answer, and the task that reads its connection; without the task the body would not come.
struct Reply {
    response: Response<Incoming>,
    /// The connection's name in errors.
    ends: String,
    _connection: JoinSet<()>,
}

/// Asks, and asks again where a redirect on the same host leads. The error is Go's whole sentence: `Get "http://…": …`.
async fn follow(get: &Get<'_>, mut place: Place, trusted: bool, deadline: Instant) -> Result<Reply, String> {
    let first = place.clone();
    let mut host = given(get.headers, "host").filter(|host| !host.is_empty());
    for _ in 0..HOPS {
        let failed = |why: String| format!("Get {:?}: {why}", place.to_string());
        let request = request(get, &place, host, trusted).map_err(failed)?;
        let reply = match timeout_at(deadline, exchange(&place, request, deadline)).await {
            Ok(reply) => reply.map_err(failed)?,
            Err(_) => return Err(failed("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned())),
        };
        let Some(location) = location(&reply.response) else { return Ok(reply) };
        let next = place.redirected(&location).map_err(failed)?;
        if !first.same_host(&next) {
            return Ok(reply);
        }
        // A host of the manifest's own is for this server; a redirect that names its host means that one.
        if location.contains("//") {
            host = None;
        }
        place = next;
    }
    Err(format!("Get {:?}: stopped after {HOPS} redirects", place.to_string()))
}

/// Where the answer sends us; a redirect without a `Location` is an answer like any other (as in Go).
fn location(response: &Response<Incoming>) -> Option<String> {
    let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(LOCATION).filter(|_| redirects)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned()).filter(|location| !location.is_empty())
}

/// `trusted`: not the second try of a hook, which would show its password in clear text.
fn request(get: &Get<'_>, place: &Place, host: Option<&str>, trusted: bool) -> Result<Request<Empty<Bytes>>, String> {
    let mut headers = HeaderMap::new();
    let agent = format!("kube-{}/{VERSION}", if get.hook { "lifecycle" } else { "probe" });
    let host = host.map_or_else(|| host_port(&place.host, place.port), str::to_owned);
    let wanted = |name: &HeaderName, usual: String| given(get.headers, name.as_str()).map_or(usual, str::to_owned);
    headers.insert(HOST, value(HOST.as_str(), &host)?);
    headers.insert(USER_AGENT, value(USER_AGENT.as_str(), &wanted(&USER_AGENT, agent))?);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    for own in [ACCEPT, CONNECTION].into_iter().filter(|name| given(get.headers, name.as_str()).is_some()) {
        headers.remove(own);
    }
    for (name, text) in get.headers {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("net/http: invalid header field name {name:?}"))?;
        if !OURS.contains(&header.as_str()) && (trusted || header != AUTHORIZATION) {
            headers.append(header, value(name, text)?);
        }
    }
    // An empty one is how a manifest says that it wants none.
    for name in [USER_AGENT, ACCEPT] {
        if headers.get(&name).is_some_and(HeaderValue::is_empty) {
            headers.remove(name);
        }
    }
    let mut request = Request::get(&place.target).body(Empty::new()).map_err(|error| error.to_string())?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The first value of a header that the manifest names.
fn given<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn value(name: &str, text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| format!("net/http: invalid header field value for {name:?}"))
}

/// A connection in clear text or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn exchange(place: &Place, request: Request<Empty<Bytes>>, deadline: Instant) -> Result<Reply, String> {
    let wire = dial(&place.host, place.port, deadline).await?;
    let (heard, ends) = (wire.heard(), wire.ends());
    let stream: Box<dyn Stream> = match place.https {
        true => Box::new(tls::connect(&place.host, wire).await?),
        false => Box::new(wire),
    };
    let failed = |error: hyper::Error| match heard.bytes().is_empty() && error.is_incomplete_message() {
        true => "EOF".to_owned(),
        false => told(&error, &ends),
    };
    let mut client = http1::Builder::new();
    client.title_case_headers(true).max_headers(HEAD_LINES).max_buf_size(HEAD_LIMIT);
    let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut driver = JoinSet::new();
    // Its error comes out of the request or the body too.
    driver.spawn(async { drop(connection.await) });
    let response = sender.send_request(request).await.map_err(failed)?;
    Ok(Reply { response, ends, _connection: driver })
}

/// What went wrong after the connection, in Go's words.
fn told(error: &hyper::Error, ends: &str) -> String {
    match error.source().and_then(|source| source.downcast_ref::<std::io::Error>()) {
        Some(error) if error.raw_os_error().is_some() => format!("read tcp {ends}: read: {}", reason(error)),
        Some(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => error.to_string(),
        Some(_) => "unexpected EOF".to_owned(),
        None if error.is_incomplete_message() => "unexpected EOF".to_owned(),
        None if error.is_parse() => format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response: {error}"),
        None => error.to_string(),
    }
}

async fn judge(reply: Reply, hook: bool, deadline: Instant) -> Verdict {
    let Reply { response, ends, _connection } = reply;
    let status = response.status().as_u16();
    let body = match timeout_at(deadline, beginning(response.into_body())).await {
        Ok(body) => body,
        Err(_) if hook => return Verdict::failure("context deadline exceeded (Client.Timeout or context cancellation while reading body)"),
        Err(_) => return Verdict::unknown("context deadline exceeded (Client.Timeout or context cancellation while reading body)"),
    };
    match (status, body) {
        _ if hook => Verdict::success(),
        (_, Err(error)) => Verdict::unknown(told(&error, &ends)),
        (200..=299, _) => Verdict::success(),
        (300..=399, Ok(body)) => Verdict::warning(format!("Probe terminated redirects, Response body: {}", String::from_utf8_lossy(&body))),
        _ => Verdict::failure(format!("HTTP probe failed with statuscode: {status}")),
    }
}

/// The first bytes of a body; the rest is not read.
async fn beginning(mut body: Incoming) -> hyper::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < TEXT_LIMIT {
        let Some(frame) = body.frame().await else { break };
        if let Some(data) = frame?.data_ref() {
            bytes.extend_from_slice(&data[..data.len().min(TEXT_LIMIT - bytes.len())]);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(hook: bool, trusted: bool, headers: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let get = Get { hook, https: false, host: "::1", port: 80, path: "/", headers: &headers };
        let place = Place::new(get.https, get.host, get.port, get.path).unwrap();
        let request = request(&get, &place, given(&headers, "host"), trusted)?;
        let mut lines: Vec<_> = request.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        Ok(lines)
    }

    #[test]
    fn a_probe_says_who_it_is_and_keeps_no_connection() {
        assert_eq!(headers(false, true, &[]).unwrap(), ["accept: */*", "connection: close", "host: [::1]:80", "user-agent: kube-probe/1.36"]);
        assert!(headers(true, true, &[]).unwrap().contains(&"user-agent: kube-lifecycle/1.36".to_owned()));
    }

    #[test]
    fn headers_of_the_manifest_replace_ours_and_empty_ones_remove_them() {
        let asked = [("Host", "web.example"), ("user-agent", "me"), ("Accept", "text/plain"), ("X-A", "1"), ("x-a", "2"), ("Content-Length", "7")];
        let lines = headers(false, true, &asked).unwrap();
        assert_eq!(lines, ["accept: text/plain", "connection: close", "host: web.example", "user-agent: me", "x-a: 1", "x-a: 2"]);
        assert_eq!(headers(false, true, &[("User-Agent", ""), ("Accept", "")]).unwrap(), ["connection: close", "host: [::1]:80"]);
    }

    #[test]
    fn a_password_is_not_sent_in_clear_text_when_a_hook_falls_back() {
        let asked = [("Authorization", "Basic x")];
        assert!(headers(true, true, &asked).unwrap().contains(&"authorization: Basic x".to_owned()));
        assert_eq!(headers(true, false, &asked), headers(true, true, &[]));
    }

    #[test]
    fn a_header_that_would_split_the_request_is_an_error() {
        assert_eq!(headers(false, true, &[("A b", "")]).unwrap_err(), r#"net/http: invalid header field name "A b""#);
        assert_eq!(headers(false, true, &[("A", "b\r\nC: d")]).unwrap_err(), r#"net/http: invalid header field value for "A""#);
    }
}

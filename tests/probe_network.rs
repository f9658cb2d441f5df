//! The prober against servers that answer, lie, hang and flood; all on loopback, in this process.
//!
//! A prober is a fork, so no other thread may run when it is made: one test after another, each starts its prober before its servers,
//! and a server has joined its threads when it is dropped.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use minipod::probe::{Answer, Ask, Outcome, Prober, Target};
use minipod::sys::poll::Poll;
use minipod::sys::process;
use tokio_rustls::rustls;

/// Long enough for a loaded machine: it is reached only by a fault.
const PATIENCE: u64 = 60_000;
/// The deadline of a question that must be answered.
const LONG: u64 = 30_000;
/// The deadline of a question that cannot be answered.
const SHORT: u64 = 300;

/// A server: each connection gets a thread with the same behaviour.
struct Server {
    address: SocketAddr,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn new(behaviour: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Server {
        Server::at(Ipv4Addr::LOCALHOST.into(), behaviour)
    }

    fn at(host: IpAddr, behaviour: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let (address, closing, behaviour) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)), Arc::new(behaviour));
        let closed = closing.clone();
        let thread = std::thread::spawn(move || {
            let mut connections = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                if closed.load(Ordering::SeqCst) {
                    break;
                }
                let behaviour = behaviour.clone();
                connections.push(std::thread::spawn(move || behaviour(&mut stream)));
            }
            connections.into_iter().for_each(|thread| thread.join().unwrap());
        });
        Server { address, closing, thread: Some(thread) }
    }

    /// Answers each request with the bytes; the requests are kept.
    fn saying(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> (Server, Arc<Mutex<Vec<String>>>) {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = requests.clone();
        let server = Server::new(move |stream| {
            let request = head(stream);
            let answer = answer(&request);
            kept.lock().unwrap().push(request);
            let _ = stream.write_all(answer.as_bytes());
        });
        (server, requests)
    }

    fn http(&self, path: &str) -> Target {
        http(&self.address.ip().to_string(), self.address.port(), path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if std::thread::panicking() {
            // The prober of a test that fails still holds its connections.
            return;
        }
        self.thread.take().unwrap().join().unwrap();
    }
}

fn http(host: &str, port: u16, path: &str) -> Target {
    Target::Http { hook: false, https: false, host: host.to_owned(), port, path: path.to_owned(), headers: Vec::new() }
}

fn with(target: Target, change: impl FnOnce(&mut bool, &mut bool, &mut Vec<(String, String)>)) -> Target {
    let Target::Http { mut hook, mut https, host, port, path, mut headers } = target else { panic!("not HTTP") };
    change(&mut hook, &mut https, &mut headers);
    Target::Http { hook, https, host, port, path, headers }
}

fn secure(target: Target) -> Target {
    with(target, |_, https, _| *https = true)
}

fn hook(target: Target) -> Target {
    with(target, |hook, _, _| *hook = true)
}

/// The head of a request, up to its empty line.
fn head(stream: &mut impl Read) -> String {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Reads until the other side has closed.
fn until_closed(stream: &mut TcpStream) {
    let _ = std::io::copy(stream, &mut std::io::sink());
}

/// Writes the same bytes, one at a time with pauses or all at once without end, until the other side has closed.
fn pour(stream: &mut TcpStream, bytes: &[u8], slowly: bool) {
    let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
    while stream.write_all(bytes).is_ok() {
        let closed = |read: std::io::Result<usize>| read.map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |n| n == 0);
        if slowly && closed(stream.read(&mut [0; 64])) {
            return;
        }
    }
}

/// The next answers, once there are any.
fn next(prober: &Prober) -> Vec<Answer> {
    let mut poll = Poll::new().unwrap();
    poll.add(prober, 0).unwrap();
    assert_eq!(poll.wait(Some(PATIENCE)).unwrap(), [0], "no answer came");
    prober.answers().unwrap()
}

/// Asks, as soon as the prober has read enough of what was asked before.
fn put(prober: &Prober, id: u64, target: Target, timeout_ms: u64) {
    let question = Ask { id, target, timeout_ms };
    while let Err(error) = prober.ask(&question) {
        assert!(error.is(libc::EAGAIN), "{error}");
        let mut poll = Poll::new().unwrap();
        poll.add_writer(prober, 0).unwrap();
        assert_eq!(poll.wait(Some(PATIENCE)).unwrap(), [0], "the prober reads no questions");
    }
}

/// Asks all of it at the same time; the answers come in the order of the questions.
fn ask_all(prober: &Prober, questions: Vec<(Target, u64)>) -> Vec<Answer> {
    let count = questions.len();
    for (id, (target, timeout_ms)) in questions.into_iter().enumerate() {
        put(prober, id as u64, target, timeout_ms);
    }
    let mut answers = Vec::new();
    while answers.len() < count {
        answers.extend(next(prober));
    }
    answers.sort_by_key(|answer| answer.id);
    answers
}

fn ask(prober: &Prober, target: Target, timeout_ms: u64) -> (Outcome, String) {
    let answer = ask_all(prober, vec![(target, timeout_ms)]).remove(0);
    (answer.outcome, answer.message)
}

fn failure(message: impl Into<String>) -> (Outcome, String) {
    (Outcome::Failure, message.into())
}

fn success() -> (Outcome, String) {
    (Outcome::Success, String::new())
}

const AWAITING: &str = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
const READING: &str = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";

/// A port that nobody listens on: it was ours a moment ago.
fn closed_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn the_status_decides(prober: &Prober) {
    let (server, _) = Server::saying(|request| response(request.split(['/', ' ']).nth(2).unwrap(), "", "secret"));
    for status in ["200", "204", "226"] {
        assert_eq!(ask(prober, server.http(&format!("/{status}")), LONG), success(), "{status}");
    }
    for status in ["400", "404", "500", "599"] {
        assert_eq!(ask(prober, server.http(&format!("/{status}")), LONG), failure(format!("HTTP probe failed with statuscode: {status}")));
    }
    for status in ["300", "302", "304"] {
        let (outcome, message) = ask(prober, server.http(&format!("/{status}")), LONG);
        assert_eq!(outcome, Outcome::Warning, "{status}");
        assert!(message.starts_with("Probe terminated redirects, Response body: "), "{message}");
    }
}

fn a_connection_is_enough_for_tcp_and_a_refusal_is_told(prober: &Prober) {
    let (server, port) = (Server::new(until_closed), closed_port());
    let tcp = |port| Target::Tcp { host: "127.0.0.1".to_owned(), port };
    assert_eq!(ask(prober, tcp(server.address.port()), LONG), success());
    assert_eq!(ask(prober, tcp(port), LONG), failure(format!("dial tcp 127.0.0.1:{port}: connect: connection refused")));
    let text = format!(r#"Get "http://127.0.0.1:{port}/x?y": dial tcp 127.0.0.1:{port}: connect: connection refused"#);
    assert_eq!(ask(prober, http("127.0.0.1", port, "/x?y"), LONG), failure(text));
}

fn a_server_that_hangs_at_any_point_ends_at_the_deadline(prober: &Prober) {
    let silent = Server::new(until_closed);
    let trickling = Server::new(|stream| pour(stream, b"H", true));
    let slow_head = Server::new(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        pour(stream, b"a: b\r\n", true)
    });
    let slow_body = Server::new(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        pour(stream, b"x", true)
    });
    for server in [&silent, &slow_head] {
        let text = format!(r#"Get "http://{}/": {AWAITING}"#, server.address);
        assert_eq!(ask(prober, server.http("/"), SHORT), failure(text.clone()));
        assert_eq!(ask(prober, secure(server.http("/")), SHORT).0, Outcome::Failure);
    }
    assert_eq!(ask(prober, trickling.http("/"), SHORT).0, Outcome::Failure);
    assert_eq!(ask(prober, slow_body.http("/"), SHORT), (Outcome::Unknown, READING.to_owned()));
    assert_eq!(ask(prober, hook(slow_body.http("/")), SHORT), failure(READING));
    assert_eq!(ask(prober, silent.http("/"), 0).0, Outcome::Failure);
}

fn floods_are_cut_off(prober: &Prober) {
    let head = Server::new(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        pour(stream, b"X-Flood: 0123456789012345678901234567890123456789\r\n", false)
    });
    let line = Server::new(|stream| pour(stream, b"HTTP/1.1 200 ........................................", false));
    let body = Server::new(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        pour(stream, &[0; 4096], false)
    });
    let redirect = Server::new(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\n\r\n");
        pour(stream, b"\x01", false)
    });
    for server in [&head, &line] {
        let (outcome, message) = ask(prober, server.http("/"), LONG);
        assert_eq!(outcome, Outcome::Failure);
        assert!(message.contains("transport connection broken"), "{message}");
    }
    assert_eq!(ask(prober, body.http("/"), LONG), success());
    let (outcome, message) = ask(prober, redirect.http("/"), LONG);
    assert_eq!((outcome, message.len()), (Outcome::Warning, 10 * 1024));
}

fn what_is_no_http_is_a_failure(prober: &Prober) {
    let closing = Server::new(|_| ());
    let (stopping, _) = Server::saying(|_| "HTTP/1.1 200 OK\r\nContent-".to_owned());
    let (cut_body, _) = Server::saying(|_| "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx".to_owned());
    let (garbage, _) = Server::saying(|_| "SSH-2.0-OpenSSH_9.9\r\n\r\n".to_owned());
    let text = |server: &Server, why: &str| failure(format!(r#"Get "http://{}/": {why}"#, server.address));
    // The request may meet a socket that is closed already.
    let (outcome, message) = ask(prober, closing.http("/"), LONG);
    assert_eq!(outcome, Outcome::Failure);
    assert!(message.ends_with(": EOF") || message.ends_with(": connection reset by peer"), "{message}");
    assert_eq!(ask(prober, stopping.http("/"), LONG), text(&stopping, "unexpected EOF"));
    assert_eq!(ask(prober, cut_body.http("/"), LONG), (Outcome::Unknown, "unexpected EOF".to_owned()));
    let (outcome, message) = ask(prober, garbage.http("/"), LONG);
    assert_eq!(outcome, Outcome::Failure);
    assert!(message.contains("malformed HTTP response"), "{message}");
}

fn a_redirect_is_followed_on_the_same_host_only(prober: &Prober) {
    let (other_port, _) = Server::saying(|_| response("200 OK", "", ""));
    let location = format!("Location: http://127.0.0.1:{}/there\r\n", other_port.address.port());
    let (server, requests) = Server::saying(move |request| match request.split(' ').nth(1).unwrap() {
        "/here" => response("301 Moved", "Location: there?a=b\r\n", ""),
        "/away" => response("302 Found", "Location: http://localhost/\r\n", "go away"),
        "/port" => response("307 Found", &location, ""),
        "/loop" => response("308 Loop", "Location: /loop\r\n", ""),
        "/ftp" => response("302 Found", "Location: ftp://127.0.0.1/\r\n", ""),
        "/none" => response("302 Found", "", "nowhere"),
        _ => response("200 OK", "", ""),
    });
    let at = |path: &str| server.http(path);
    let named = with(at("/here"), |_, _, headers| headers.push(("Host".to_owned(), "web".to_owned())));
    assert_eq!(ask(prober, named, LONG), success());
    let seen: Vec<_> = requests.lock().unwrap().drain(..).map(|request| request.lines().take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(seen, ["GET /here HTTP/1.1 Host: web", "GET /there?a=b HTTP/1.1 Host: web"]);
    assert_eq!(ask(prober, at("/port"), LONG), success());
    let ended = |body: &str| (Outcome::Warning, format!("Probe terminated redirects, Response body: {body}"));
    assert_eq!(ask(prober, at("/away"), LONG), ended("go away"));
    assert_eq!(ask(prober, at("/none"), LONG), ended("nowhere"));
    requests.lock().unwrap().clear();
    let place = server.address;
    assert_eq!(ask(prober, at("/loop"), LONG), failure(format!(r#"Get "http://{place}/loop": stopped after 10 redirects"#)));
    assert_eq!(requests.lock().unwrap().len(), 10);
    assert_eq!(ask(prober, at("/ftp"), LONG), failure(format!(r#"Get "http://{place}/ftp": unsupported protocol scheme "ftp""#)));
}

fn a_request_looks_like_the_kubelets(prober: &Prober) {
    let (server, requests) = Server::saying(|_| response("200 OK", "", ""));
    let own = with(server.http("/b%20c d?e=f g"), |_, _, headers| {
        headers.extend([("Host", "web.example"), ("X-CUSTOM", "ü"), ("Accept", "")].map(|(name, value)| (name.to_owned(), value.to_owned())))
    });
    for target in [server.http("/a"), hook(server.http("/a")), own] {
        assert_eq!(ask(prober, target, LONG), success());
    }
    let place = server.address;
    assert_eq!(
        *requests.lock().unwrap(),
        [
            format!("GET /a HTTP/1.1\r\nHost: {place}\r\nUser-Agent: kube-probe/1.36\r\nConnection: close\r\nAccept: */*\r\n\r\n"),
            format!("GET /a HTTP/1.1\r\nHost: {place}\r\nUser-Agent: kube-lifecycle/1.36\r\nConnection: close\r\nAccept: */*\r\n\r\n"),
            "GET /b%20c%20d?e=f%20g HTTP/1.1\r\nHost: web.example\r\nUser-Agent: kube-probe/1.36\r\nConnection: close\r\nX-Custom: ü\r\n\r\n".to_owned(),
        ]
    );
}

fn what_cannot_be_asked_is_answered_all_the_same(prober: &Prober) {
    let port = closed_port();
    let (outcome, message) = ask(prober, http("no host", port, "/"), LONG);
    assert_eq!((outcome, message.contains("invalid character in host name")), (Outcome::Unknown, true), "{message}");
    let split = with(http("127.0.0.1", port, "/"), |_, _, headers| headers.push(("A".to_owned(), "b\r\nC: d".to_owned())));
    let text = format!(r#"Get "http://127.0.0.1:{port}/": net/http: invalid header field value for "A""#);
    assert_eq!(ask(prober, split, LONG), failure(text));
    let long = with(http("127.0.0.1", port, "/"), |_, _, headers| headers.push(("A".to_owned(), "b".repeat(70_000))));
    let question = Ask { id: 1, target: long, timeout_ms: LONG };
    assert!(prober.ask(&question).unwrap_err().is(libc::EMSGSIZE));
    let (outcome, message) = ask(prober, http("127.0.0.1", port, &"/%".repeat(20_000)), LONG);
    assert_eq!((outcome, message.len()), (Outcome::Failure, 10 * 1024));
    assert_eq!(ask(prober, Target::Tcp { host: "127.0.0.1".to_owned(), port }, u64::MAX).0, Outcome::Failure);
}

fn a_name_is_looked_up(prober: &Prober) {
    let (server, requests) = Server::saying(|_| response("200 OK", "", ""));
    assert_eq!(ask(prober, http("localhost", server.address.port(), "/"), LONG), success());
    assert!(requests.lock().unwrap()[0].contains(&format!("Host: localhost:{}\r\n", server.address.port())));
    let (outcome, message) = ask(prober, Target::Tcp { host: "nobody.invalid".to_owned(), port: 80 }, LONG);
    assert_eq!(outcome, Outcome::Failure);
    assert!(message.starts_with("dial tcp: lookup nobody.invalid: "), "{message}");
}

fn an_ipv6_address_needs_no_brackets(prober: &Prober) {
    let server = Server::at(Ipv6Addr::LOCALHOST.into(), |stream| {
        head(stream);
        let _ = stream.write_all(response("503 Busy", "", "").as_bytes());
    });
    let port = server.address.port();
    assert_eq!(ask(prober, Target::Tcp { host: "::1".to_owned(), port }, LONG), success());
    assert_eq!(ask(prober, http("::1", port, "/"), LONG), failure("HTTP probe failed with statuscode: 503"));
    drop(server);
    let text = format!(r#"Get "http://[::1]:{port}/": dial tcp [::1]:{port}: connect: connection refused"#);
    assert_eq!(ask(prober, http("::1", port, "/"), LONG), failure(text));
}

fn a_certificate_that_nobody_signed_is_believed(prober: &Prober) {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["somebody.else".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap());
    let server = Server::new(move |stream| {
        let mut tls = rustls::StreamOwned::new(rustls::ServerConnection::new(config.clone()).unwrap(), stream);
        let request = head(&mut tls);
        let status = if request.starts_with("GET /ok ") { "200 OK" } else { "418 No" };
        let _ = tls.write_all(response(status, "", "").as_bytes());
        tls.conn.send_close_notify();
        let _ = tls.flush();
    });
    assert_eq!(ask(prober, secure(server.http("/ok")), LONG), success());
    assert_eq!(ask(prober, secure(server.http("/no")), LONG), failure("HTTP probe failed with statuscode: 418"));
    let clear = Server::new(|stream| {
        let _ = stream.write_all(response("400 Bad Request", "", "").as_bytes());
        until_closed(stream);
    });
    let text = format!(r#"Get "https://{}/": http: server gave HTTP response to HTTPS client"#, clear.address);
    assert_eq!(ask(prober, secure(clear.http("/")), LONG), failure(text));
}

fn a_hook_takes_any_answer_and_falls_back_to_clear_text(prober: &Prober) {
    let (server, _) = Server::saying(|_| response("500 No", "", ""));
    assert_eq!(ask(prober, hook(server.http("/")), LONG), success());
    let port = closed_port();
    let text = format!(r#"Get "http://127.0.0.1:{port}/": dial tcp 127.0.0.1:{port}: connect: connection refused"#);
    assert_eq!(ask(prober, hook(http("127.0.0.1", port, "/")), LONG), failure(text));
    // What TLS begins with is no request line, so this server refuses it in clear text, as real ones do.
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = heads.clone();
    let clear = Server::new(move |stream| {
        let mut first = [0];
        let _ = stream.read(&mut first);
        if first == *b"G" {
            kept.lock().unwrap().push(head(stream));
        }
        let _ = stream.write_all(response("400 Bad Request", "", "").as_bytes());
        until_closed(stream);
    });
    let target = with(clear.http("/"), |hook, https, headers| {
        (*hook, *https) = (true, true);
        headers.push(("Authorization".to_owned(), "Basic secret".to_owned()));
    });
    let text = "request to HTTPS lifecycle hook got HTTP response, retry with HTTP succeeded";
    assert_eq!(ask(prober, target, LONG), (Outcome::Warning, text.to_owned()));
    assert!(heads.lock().unwrap().iter().all(|head| !head.contains("secret")));
}

/// A gRPC server: the service that is asked for is the answer, as its name or its status.
fn health(stream: &mut TcpStream) {
    let stream = stream.try_clone().unwrap();
    stream.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let Ok(mut connection) = h2::server::handshake(tokio::net::TcpStream::from_std(stream).unwrap()).await else { return };
        let mut unanswered = Vec::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let agent = request.headers()["user-agent"].to_str().unwrap().to_owned();
            assert_eq!((request.uri().path(), agent.as_str()), ("/grpc.health.v1.Health/Check", "kube-probe/1.36"));
            let mut body = request.into_body();
            let mut connection_and_body = async || {
                std::future::poll_fn(|context| {
                    let _ = connection.poll_closed(context);
                    body.poll_data(context)
                })
                .await
            };
            let message = connection_and_body().await.unwrap().unwrap();
            let service = String::from_utf8_lossy(message.get(7..).unwrap_or_default()).into_owned();
            let status = match service.as_str() {
                "" | "up" => Ok(1),
                "down" => Ok(2),
                "silent" => {
                    unanswered.push(respond);
                    continue;
                }
                _ => Err("5"),
            };
            let mut head = hyper::Response::builder().header("content-type", "application/grpc");
            if let Err(code) = status {
                head = head.header("grpc-status", code).header("grpc-message", "unknown service");
            }
            let mut stream = respond.send_response(head.body(()).unwrap(), status.is_err()).unwrap();
            if let Ok(status) = status {
                stream.send_data(vec![0, 0, 0, 0, 2, 8, status].into(), false).unwrap();
                let trailers = hyper::HeaderMap::from_iter([(hyper::header::HeaderName::from_static("grpc-status"), "0".parse().unwrap())]);
                stream.send_trailers(trailers).unwrap();
            }
        }
    });
}

fn the_health_service_of_grpc_is_asked(prober: &Prober) {
    let server = Server::new(health);
    let check = |server: &Server, service: &str| Target::Grpc { host: "127.0.0.1".to_owned(), port: server.address.port(), service: service.to_owned() };
    assert_eq!(ask(prober, check(&server, ""), LONG), success());
    assert_eq!(ask(prober, check(&server, "up"), LONG), success());
    assert_eq!(ask(prober, check(&server, "down"), LONG), failure(r#"service unhealthy (responded with "NOT_SERVING")"#));
    let text = "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service";
    assert_eq!(ask(prober, check(&server, "else"), LONG), failure(text));
    assert_eq!(ask(prober, check(&server, "silent"), SHORT), failure("timeout: health rpc did not complete within 300ms"));
    let silent = Server::new(until_closed);
    let (web, _) = Server::saying(|_| response("400 Bad Request", "", ""));
    for port in [closed_port(), silent.address.port(), web.address.port()] {
        let target = Target::Grpc { host: "127.0.0.1".to_owned(), port, service: String::new() };
        let text = format!(r#"timeout: failed to connect service "127.0.0.1:{port}" within 300ms: context deadline exceeded"#);
        assert_eq!(ask(prober, target, SHORT), failure(text));
    }
}

fn slow_servers_do_not_delay_a_quick_one(prober: &Prober) {
    // The kernel takes the first connections for it, and leaves the others waiting: as silent as a server can be.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = http("127.0.0.1", silent.local_addr().unwrap().port(), "/");
    let (quick, _) = Server::saying(|_| response("200 OK", "", ""));
    for id in 0..400 {
        put(prober, id, target.clone(), PATIENCE * 10);
    }
    put(prober, 1000, quick.http("/"), LONG);
    assert_eq!(next(prober), [Answer { id: 1000, outcome: Outcome::Success, message: String::new() }]);
    // 400 hang already; more than 112 further ones are too many.
    for id in 2000..2200 {
        put(prober, id, target.clone(), PATIENCE * 10);
    }
    let mut refused = Vec::new();
    while refused.len() < 88 {
        refused.extend(next(prober));
    }
    assert_eq!(refused.len(), 88);
    assert!(refused.iter().all(|answer| answer.outcome == Outcome::Unknown && answer.message == "more than 512 probes at a time"));
}

fn descriptors(prober: &Prober) -> Vec<String> {
    let dir = format!("/proc/{}/fd", prober.pid());
    let links = std::fs::read_dir(dir).unwrap().filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let mut links: Vec<_> = links.map(|link| link.to_string_lossy().split(':').next().unwrap().to_owned()).collect();
    links.sort();
    links
}

fn the_process_holds_its_socket_and_no_right(prober: &Prober) {
    let own = ["/dev/null", "/dev/null", "/dev/null", "anon_inode", "anon_inode", "anon_inode", "socket"];
    let (server, _) = Server::saying(|_| response("200 OK", "", ""));
    let (silent, grpc) = (Server::new(until_closed), Server::new(health));
    assert_eq!(ask(prober, server.http("/"), LONG), success());
    let check = |port, service: &str| Target::Grpc { host: "127.0.0.1".to_owned(), port, service: service.to_owned() };
    let (grpc, quiet) = (grpc.address.port(), silent.address.port());
    let targets = [server.http("/"), silent.http("/"), secure(silent.http("/")), check(grpc, ""), check(grpc, "silent"), check(quiet, "")];
    ask_all(prober, targets.into_iter().map(|target| (target, SHORT)).collect());
    // The last task closes its connection right after its answer was sent; one more answer comes after that.
    assert_eq!(ask(prober, server.http("/"), LONG), success());
    ask(prober, Target::Tcp { host: String::new(), port: 1 }, 0);
    let sockets = |links: &[String]| links.iter().filter(|link| *link == "socket").count();
    let links = descriptors(prober);
    assert!(sockets(&links) <= 2 && links.iter().all(|link| own.contains(&link.as_str())), "{links:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", prober.pid())).unwrap();
    for line in ["Name:\tminipod-probe", "Threads:\t1", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"]
    {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
}

fn the_death_of_the_process_is_seen(_: &Prober) {
    let prober = Prober::start().unwrap();
    let pidfd = process::pidfd_of(prober.pid()).unwrap();
    process::send_signal(&pidfd, libc::SIGKILL).unwrap();
    let mut poll = Poll::new().unwrap();
    poll.add(&prober, 0).unwrap();
    poll.add(&pidfd, 1).unwrap();
    while !poll.wait(Some(PATIENCE)).unwrap().contains(&1) {}
    assert_eq!(poll.wait(Some(PATIENCE)).unwrap().first(), Some(&0));
    assert_eq!(prober.answers().unwrap_err().to_string(), "the prober was killed by SIGKILL");
    assert!(prober.answers().is_err());
    assert!(prober.ask(&Ask { id: 0, target: http("127.0.0.1", 1, "/"), timeout_ms: 1 }).is_err());
    prober.stop();
}

fn stopping_leaves_no_process(_: &Prober) {
    let prober = Prober::start().unwrap();
    let pid = prober.pid();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = Target::Tcp { host: "127.0.0.1".to_owned(), port: silent.local_addr().unwrap().port() };
    assert_eq!(ask(&prober, target, LONG), success());
    prober.stop();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

fn it_does_not_outlive_its_supervisor(_: &Prober) {
    let ((pid_reader, pid_writer), (go, stay)) = (process::pipe().unwrap(), process::pipe().unwrap());
    let supervisor = process::fork(|| {
        process::close_others(3, &[pid_writer.as_fd(), go.as_fd()]);
        let prober = Prober::start()?;
        std::fs::File::from(pid_writer).write_all(&prober.pid().to_ne_bytes()).unwrap();
        let _ = std::fs::File::from(go).read(&mut [0]);
        process::exit_now(0)
    });
    let supervisor = supervisor.unwrap();
    let mut pid = [0; 4];
    std::fs::File::from(pid_reader).read_exact(&mut pid).unwrap();
    let prober = process::pidfd_of(u32::from_ne_bytes(pid)).unwrap();
    drop(stay);
    supervisor.wait().unwrap();
    let mut poll = Poll::new().unwrap();
    poll.add(&prober, 0).unwrap();
    assert_eq!(poll.wait(Some(PATIENCE)).unwrap(), [0]);
}

/// A test and its name.
type Test = (&'static str, fn(&Prober));

fn main() {
    let tests: [Test; 18] = [
        ("the_status_decides", the_status_decides),
        ("a_connection_is_enough_for_tcp_and_a_refusal_is_told", a_connection_is_enough_for_tcp_and_a_refusal_is_told),
        ("a_server_that_hangs_at_any_point_ends_at_the_deadline", a_server_that_hangs_at_any_point_ends_at_the_deadline),
        ("floods_are_cut_off", floods_are_cut_off),
        ("what_is_no_http_is_a_failure", what_is_no_http_is_a_failure),
        ("a_redirect_is_followed_on_the_same_host_only", a_redirect_is_followed_on_the_same_host_only),
        ("a_request_looks_like_the_kubelets", a_request_looks_like_the_kubelets),
        ("what_cannot_be_asked_is_answered_all_the_same", what_cannot_be_asked_is_answered_all_the_same),
        ("a_name_is_looked_up", a_name_is_looked_up),
        ("an_ipv6_address_needs_no_brackets", an_ipv6_address_needs_no_brackets),
        ("a_certificate_that_nobody_signed_is_believed", a_certificate_that_nobody_signed_is_believed),
        ("a_hook_takes_any_answer_and_falls_back_to_clear_text", a_hook_takes_any_answer_and_falls_back_to_clear_text),
        ("the_health_service_of_grpc_is_asked", the_health_service_of_grpc_is_asked),
        ("slow_servers_do_not_delay_a_quick_one", slow_servers_do_not_delay_a_quick_one),
        ("the_process_holds_its_socket_and_no_right", the_process_holds_its_socket_and_no_right),
        ("the_death_of_the_process_is_seen", the_death_of_the_process_is_seen),
        ("stopping_leaves_no_process", stopping_leaves_no_process),
        ("it_does_not_outlive_its_supervisor", it_does_not_outlive_its_supervisor),
    ];
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let no_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err();
    let trial = |(name, test): Test| {
        let run = move || -> Result<(), Failed> {
            let prober = Prober::start().map_err(|error| error.to_string())?;
            test(&prober);
            prober.stop();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(name.contains("ipv6") && no_ipv6)
    };
    libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect()).exit()
}

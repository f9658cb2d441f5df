//! The standard health question of gRPC, `grpc.health.v1.Health/Check`, over HTTP/2 in clear text (`pkg/probe/grpc`).
//!
//! "Connected" means what it means to grpc-go: the server has spoken HTTP/2. Until then a failed try is repeated up to the deadline, so a
//! port that nobody listens on is a timeout and not a refusal.

use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http2;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::dial::{Heard, dial, host_port};
use super::{VERSION, Verdict};

/// Between two tries to connect (grpc-go's first back-off).
const PAUSE: Duration = Duration::from_secs(1);
/// What one server may make us hold: its headers, its answer (which has two bytes), its data in flight.
const WINDOW: u32 = 64 * 1024;
const HEADERS_LIMIT: u32 = 16 * 1024;
const ANSWER_LIMIT: usize = 4096;

pub(super) async fn check(host: &str, port: u16, service: &str, timeout: Duration, deadline: Instant) -> Verdict {
    let mut heard = Heard::default();
    let answer = timeout_at(deadline, async {
        loop {
            match once(host, port, service, deadline, &mut heard).await {
                Some(answer) if speaks_http2(&heard) => return answer,
                _ => sleep(PAUSE).await,
            }
        }
    })
    .await;
    match answer {
        Ok(answer) => judge(answer),
        Err(_) if speaks_http2(&heard) => Verdict::failure(format!("timeout: health rpc did not complete within {}", duration(timeout))),
        Err(_) => {
            let (place, within) = (host_port(host, port), duration(timeout));
            Verdict::failure(format!("timeout: failed to connect service {place:?} within {within}: context deadline exceeded"))
        }
    }
}

/// One connection and one question; None: no connection. `heard` is the connection's from the moment that it stands.
async fn once(host: &str, port: u16, service: &str, deadline: Instant, heard: &mut Heard) -> Option<Result<HealthCheckResponse, Status>> {
    let wire = dial(host, port, deadline).await.ok()?;
    *heard = wire.heard();
    let place = host_port(host, port);
    let tasks = Arc::new(Mutex::new(JoinSet::new()));
    let mut client = http2::Builder::new(Tasks(Arc::downgrade(&tasks)));
    client.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW).max_header_list_size(HEADERS_LIMIT);
    let (sender, connection) = client.handshake(TokioIo::new(wire)).await.ok()?;
    hyper::rt::Executor::execute(&Tasks(Arc::downgrade(&tasks)), async { drop(connection.await) });
    let origin = Uri::builder().scheme("http").authority(place).path_and_query("/").build().ok()?;
    let mut health = HealthClient::with_origin(Calls(sender), origin).max_decoding_message_size(ANSWER_LIMIT);
    Some(health.check(HealthCheckRequest { service: service.to_owned() }).await.map(tonic::Response::into_inner))
}

/// The first frame of a server is SETTINGS (RFC 9113, 3.4); its type is the fourth byte.
fn speaks_http2(heard: &Heard) -> bool {
    heard.bytes().get(3) == Some(&4)
}

fn judge(answer: Result<HealthCheckResponse, Status>) -> Verdict {
    match answer {
        Ok(answer) if answer.status() == ServingStatus::Serving => Verdict::success(),
        Ok(answer) => Verdict::failure(format!("service unhealthy (responded with {:?})", answer.status().as_str_name())),
        Err(status) if status.code() == Code::Unimplemented => {
            Verdict::failure(format!("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}", status.message()))
        }
        Err(status) => {
            let why = status.source().map(|source| format!(": {source}")).unwrap_or_default();
            let (code, message) = (word(status.code()), status.message());
            Verdict::failure(format!("error: health rpc probe failed: rpc error: code = {code} desc = {message}{why}"))
        }
    }
}

/// A code as Go writes it.
fn word(code: Code) -> String {
    match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        other => format!("{other:?}"),
    }
}

/// A duration as Go writes it: `1s`, `1m30s`, `1h0m0s`, `1.5s`, `200ms`.
fn duration(time: Duration) -> String {
    let (whole, millis) = (time.as_secs(), time.subsec_millis());
    if whole == 0 && millis > 0 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (whole / 3600, whole / 60 % 60);
    let seconds = match millis {
        0 => format!("{}s", whole % 60),
        millis => format!("{}.{}s", whole % 60, format!("{millis:03}").trim_end_matches('0')),
    };
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

/// Where hyper puts the tasks of a connection: into a set of this question, so that they end with it. On the runtime itself they would
/// wait for a peer that may never close, and keep the descriptor.
#[derive(Clone)]
struct Tasks(Weak<Mutex<JoinSet<()>>>);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        if let Some(tasks) = self.0.upgrade()
            && let Ok(mut tasks) = tasks.lock()
        {
            tasks.spawn(async { drop(task.await) });
        }
    }
}

/// A connection as the generated client wants it.
struct Calls(http2::SendRequest<Body>);

impl Service<Request<Body>> for Calls {
    type Response = Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Ok(agent) = HeaderValue::from_str(&format!("kube-probe/{VERSION}")) {
            request.headers_mut().insert(USER_AGENT, agent);
        }
        Box::pin(self.0.send_request(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_as_go_writes_it() {
        for (millis, text) in [(1000, "1s"), (90_000, "1m30s"), (3_600_000, "1h0m0s"), (1500, "1.5s"), (200, "200ms"), (0, "0s"), (61_050, "1m1.05s")] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn an_answer_is_told_in_the_kubelets_words() {
        let said = |status: ServingStatus| judge(Ok(HealthCheckResponse { status: status.into() }));
        assert_eq!(said(ServingStatus::Serving), Verdict::success());
        assert_eq!(said(ServingStatus::NotServing).message, r#"service unhealthy (responded with "NOT_SERVING")"#);
        assert_eq!(judge(Err(Status::not_found("no x"))).message, "error: health rpc probe failed: rpc error: code = NotFound desc = no x");
        assert!(judge(Err(Status::unimplemented("u"))).message.ends_with("does not implement the grpc health protocol (grpc.health.v1.Health): u"));
    }
}

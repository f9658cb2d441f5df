//! The fetcher's own side: questions become requests, requests are tried again, what comes goes through the pipe.
//!
//! ```text
//! manifest: mirror ─▶ mirror ─▶ the registry itself      the first that has it is asked for all that follows
//! layer:    GET ── broken ──▶ GET from there on ── … ──▶ whole; three times without a byte, and it is given up
//! ```
//!
//! Tokens, redirects and TLS are oci-client's. A token is never sent to another host than the one that asked for it.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use oci_client::client::{BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol, SizedStream};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixDatagram;
use tokio::net::unix::pipe;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::fetcher::{Answer, Question, What};
use crate::error::{Error, Result};
use crate::image::login::Login;
use crate::image::registries::Endpoint;
use crate::sys::{leaf, process, socket};

/// What the process may use of memory; a manifest is held whole, and a few pieces of each layer.
pub const MEMORY: u64 = 256 << 20;
/// Waits before a request is made again. Longer ones are the engine's back-off.
const PAUSES: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(2)];
/// The most requests for one layer, however little each brings.
const MAX_REQUESTS: u32 = 1000;
/// A piece of progress worth telling.
const STEP: u64 = 256 << 10;
/// Of what a server says of an error.
const MAX_SAID: usize = 300;
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// A place to ask, and by what right.
#[derive(Debug, Clone)]
pub struct Access {
    pub endpoint: Endpoint,
    pub login: Option<Login>,
    /// PEM files of authorities to believe beside the system's.
    pub authorities: Vec<Vec<u8>>,
}

/// The process, from its birth to its end.
pub fn run(socket: OwnedFd, accesses: Vec<Access>, patience: Duration) -> Result<Infallible> {
    leaf::become_leaf(c"minipod-fetch", &socket)?;
    leaf::limit_memory(MEMORY)?;
    // Fails only if there is one already.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(|error| Error::io("epoll_create1", "", &error))?;
    runtime.block_on(LocalSet::new().run_until(serve(socket, accesses, patience)))?;
    process::exit_now(0)
}

/// Reads questions until the puller has gone.
async fn serve(socket: OwnedFd, accesses: Vec<Access>, patience: Duration) -> Result<()> {
    // tokio has no type for SOCK_SEQPACKET; this one is only waited for, and the calls are ours.
    let socket = Rc::new(UnixDatagram::from_std(socket.into()).map_err(|error| Error::io("epoll_ctl", "", &error))?);
    let sources = accesses.into_iter().map(|access| Source::new(access, patience));
    let registry = Rc::new(Registry { sources: sources.collect(), chosen: Cell::new(None), patience });
    loop {
        socket.readable().await.map_err(|error| Error::io("epoll_wait", "", &error))?;
        let (text, mut descriptors) = match socket.try_io(Interest::READABLE, || socket::receive(&*socket).map_err(errno)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            received => received.map_err(|error| Error::io("recvmsg", "", &error))?,
        };
        if text.is_empty() {
            return Ok(());
        }
        let question: Question = serde_json::from_slice(&text).map_err(|error| Error::said(format!("a question makes no sense: {error}")))?;
        let writer = descriptors.pop().ok_or_else(|| Error::said("a question has no pipe"))?;
        let (socket, registry) = (socket.clone(), registry.clone());
        tokio::task::spawn_local(async move {
            let failed = match pipe::Sender::from_owned_fd(writer) {
                Ok(mut writer) => registry.answer(&question, &mut writer, &socket).await.err().map(|failure| failure.why),
                Err(error) => Some(format!("pipe: {error}")),
            };
            tell(&socket, &Answer::Done(question.id, failed)).await;
        });
    }
}

async fn tell(socket: &UnixDatagram, answer: &Answer) {
    let Ok(text) = serde_json::to_vec(answer) else { return };
    loop {
        let ready = socket.writable().await;
        match ready.and_then(|()| socket.try_io(Interest::WRITABLE, || socket::send(socket, &text, &[]).map_err(errno))) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The puller has gone.
            Err(_) => process::exit_now(1),
            Ok(()) => return,
        }
    }
}

fn errno(error: Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno().unwrap_or(libc::EIO))
}

/// Why something did not come.
#[derive(Debug, Clone)]
struct Failure {
    why: String,
    /// The same request may well succeed a little later.
    again: bool,
    /// The other side does not speak TLS.
    in_clear: bool,
}

impl Failure {
    fn said(why: impl Into<String>) -> Failure {
        Failure { why: why.into(), again: false, in_clear: false }
    }

    fn stalled(patience: Duration) -> Failure {
        Failure { again: true, ..Failure::said(format!("has sent nothing for {} s", patience.as_secs())) }
    }
}

struct Registry {
    sources: Vec<Source>,
    /// Which of them has the image.
    chosen: Cell<Option<usize>>,
    patience: Duration,
}

impl Registry {
    async fn answer(&self, question: &Question, writer: &mut pipe::Sender, socket: &UnixDatagram) -> std::result::Result<(), Failure> {
        match &question.what {
            What::Manifest(suffix) => {
                let bytes = self.manifest(suffix).await?;
                // A reader that has heard enough tells so itself.
                let _ = writer.write_all(&bytes).await;
                Ok(())
            }
            What::Login => match self.manifest("login").await {
                Err(failure) if failure.why.contains(NOT_FOUND) => Ok(()),
                other => other.map(drop),
            },
            What::Blob(digest) => self.blob(question.id, digest, None, writer, socket).await,
            What::Layer(digest, size) => self.blob(question.id, digest, Some(*size), writer, socket).await,
        }
    }

    /// A manifest by tag or digest, from the first source that has it.
    async fn manifest(&self, suffix: &str) -> std::result::Result<Vec<u8>, Failure> {
        let mut failures: Vec<(&str, Failure)> = Vec::new();
        for (at, source) in self.sources.iter().enumerate() {
            if self.chosen.get().is_some_and(|chosen| chosen != at) {
                continue;
            }
            match source.manifest(suffix).await {
                Ok(bytes) => {
                    self.chosen.set(Some(at));
                    return Ok(bytes);
                }
                Err(failure) => {
                    // Of HTTPS and HTTP to one place that which tells more is told.
                    failures.retain(|(host, known)| *host != source.host() || !(known.in_clear || known.why == failure.why));
                    failures.push((source.host(), failure));
                }
            }
        }
        let told: Vec<String> = failures.iter().map(|(host, failure)| format!("{host} {}", failure.why)).collect();
        Err(Failure::said(told.join("; ")))
    }

    /// A blob through the pipe, taken up again where it broke off.
    async fn blob(&self, id: u64, digest: &str, size: Option<u64>, writer: &mut pipe::Sender, socket: &UnixDatagram) -> std::result::Result<(), Failure> {
        let source = self.chosen.get().and_then(|at| self.sources.get(at)).ok_or_else(|| Failure::said("no registry has been asked yet"))?;
        let mut blob = Blob { id, digest, size, writer, socket, came: 0, told: 0 };
        let mut idle = 0;
        for _ in 0..MAX_REQUESTS {
            let before = blob.came;
            let failure = match source.blob(&mut blob, self.patience).await {
                Ok(()) if size.is_none_or(|size| blob.came >= size) => return Ok(()),
                Ok(()) => Failure { again: true, ..Failure::said("ended the connection early") },
                Err(None) => return Ok(()),
                Err(Some(failure)) => failure,
            };
            idle = if blob.came > before { 0 } else { idle + 1 };
            let whole = size.is_some_and(|size| blob.came >= size);
            match PAUSES.get(idle as usize) {
                Some(pause) if failure.again && !whole => sleep(*pause).await,
                _ => return Err(Failure::said(format!("{} {} (after {} bytes of {digest})", source.host(), failure.why, blob.came))),
            }
        }
        Err(Failure::said(format!("{} broke off {MAX_REQUESTS} times", source.host())))
    }
}

/// A blob on its way.
struct Blob<'a> {
    id: u64,
    digest: &'a str,
    size: Option<u64>,
    writer: &'a mut pipe::Sender,
    socket: &'a UnixDatagram,
    came: u64,
    told: u64,
}

struct Source {
    access: Access,
    client: std::result::Result<Client, String>,
    auth: RegistryAuth,
    /// Whether the way to a token was asked for; oci-client keeps it.
    introduced: RefCell<Option<std::result::Result<(), Failure>>>,
    patience: Duration,
}

impl Source {
    fn new(access: Access, patience: Duration) -> Source {
        let pem = |data| Certificate { encoding: CertificateEncoding::Pem, data };
        let config = ClientConfig {
            protocol: if access.endpoint.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            extra_root_certificates: access.authorities.iter().flat_map(|file| certificates(file)).map(pem).collect(),
            platform_resolver: None,
            read_timeout: Some(patience),
            connect_timeout: Some(patience),
            user_agent: concat!("minipod/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| chain(&error));
        let auth = access.login.clone().map_or(RegistryAuth::Anonymous, |login| RegistryAuth::Basic(login.user, login.password));
        Source { access, client, auth, introduced: RefCell::new(None), patience }
    }

    fn host(&self) -> &str {
        &self.access.endpoint.host
    }

    fn image(&self, suffix: &str) -> oci_client::Reference {
        let Endpoint { host, repository, .. } = self.access.endpoint.clone();
        match suffix.contains(':') {
            true => oci_client::Reference::with_digest(host, repository, suffix.to_owned()),
            false => oci_client::Reference::with_tag(host, repository, suffix.to_owned()),
        }
    }

    fn client(&self) -> std::result::Result<&Client, Failure> {
        self.client.as_ref().map_err(|why| Failure::said(format!("cannot be asked: {why}")))
    }

    async fn manifest(&self, suffix: &str) -> std::result::Result<Vec<u8>, Failure> {
        for pause in PAUSES.iter().map(Some).chain([None]) {
            // The reading of each piece is bounded already; this bounds a server that sends one byte at a time.
            let asked = timeout(self.patience * 4, self.manifest_once(suffix)).await.unwrap_or_else(|_| Err(Failure::stalled(self.patience * 4)));
            match (asked, pause) {
                (Err(failure), Some(pause)) if failure.again => sleep(*pause).await,
                (done, _) => return done,
            }
        }
        unreachable!("the last turn has no pause")
    }

    async fn manifest_once(&self, suffix: &str) -> std::result::Result<Vec<u8>, Failure> {
        let image = self.image(suffix);
        let known = self.introduced.borrow().clone();
        if known.is_none() {
            // oci-client would go on without a token, and hide why there is none.
            let introduced = self.client()?.auth(&image, &self.auth, RegistryOperation::Pull).await.map(drop);
            introduced.map_err(|error| failure_of(&error, self.patience))?;
            *self.introduced.borrow_mut() = Some(Ok(()));
        }
        let pulled = self.client()?.pull_manifest_raw(&image, &self.auth, &MANIFESTS).await;
        pulled.map(|(bytes, _)| bytes.to_vec()).map_err(|error| failure_of(&error, self.patience))
    }

    /// One request. Err(None): the reader has heard enough.
    async fn blob(&self, blob: &mut Blob<'_>, patience: Duration) -> std::result::Result<(), Option<Failure>> {
        let (client, image) = (self.client()?, self.image("blob"));
        let asked = async {
            match blob.came {
                0 => client.pull_blob_stream(&image, blob.digest).await.map(|stream| (stream, 0)),
                offset => client.pull_blob_stream_partial(&image, blob.digest, offset, None).await.map(|response| match response {
                    BlobResponse::Full(stream) => (stream, offset),
                    BlobResponse::Partial(stream) => (stream, 0),
                }),
            }
        };
        let asked = timeout(patience, asked).await.map_err(|_| Failure::stalled(patience))?;
        let (SizedStream { mut stream, .. }, mut skip) = asked.map_err(|error| failure_of(&error, patience))?;
        loop {
            let piece = match timeout(patience, stream.next()).await {
                Err(_) => return Err(Some(Failure::stalled(patience))),
                Ok(None) => return Ok(()),
                Ok(Some(piece)) => piece.map_err(|error| Failure { again: true, ..Failure::said(broken(&error, patience)) })?,
            };
            // A server that does not know of ranges begins anew.
            let known = skip.min(piece.len() as u64);
            skip -= known;
            let piece = &piece[known as usize..];
            blob.came += piece.len() as u64;
            if let Some(size) = blob.size
                && blob.came > size
            {
                return Err(Some(Failure::said(format!("sends more than the {size} bytes that the manifest says"))));
            }
            blob.writer.write_all(piece).await.map_err(|_| None)?;
            if blob.came >= blob.told + STEP || Some(blob.came) == blob.size {
                blob.told = blob.came;
                tell(blob.socket, &Answer::Came(blob.id, blob.came)).await;
            }
        }
    }
}

const NOT_FOUND: &str = "has no such image";

fn failure_of(error: &OciDistributionError, patience: Duration) -> Failure {
    use OciDistributionError as E;
    let said = |why: String| Failure::said(why);
    match error {
        E::UnauthorizedError { .. } => said("refuses us (401 Unauthorized): log in with `minipod login`, or give the pod imagePullSecrets".to_owned()),
        E::AuthenticationFailure(body) => said(format!("refuses the login: {}", short(body))),
        E::RegistryError { envelope, .. } => match envelope.errors.first() {
            Some(error) if matches!(error.code, OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound) => {
                said(format!("{NOT_FOUND} ({})", short(&error.message)))
            }
            Some(error) => {
                let code = serde_json::to_value(&error.code).ok().and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default();
                Failure { again: error.code == OciErrorCode::Toomanyrequests, ..said(format!("answers {}: {}", short(&code), short(&error.message))) }
            }
            None => said("answers with an error that it does not name".to_owned()),
        },
        E::ServerError { code: 404, .. } => said(NOT_FOUND.to_owned()),
        E::ServerError { code, message, .. } => Failure { again: *code == 429 || *code >= 500, ..said(format!("answers {code}: {}", short(message))) },
        E::RequestError(request) if request.is_redirect() => said("sends us round in redirects".to_owned()),
        E::RequestError(request) if request.is_timeout() => Failure::stalled(patience),
        E::RequestError(request) => {
            // Its first word is the URL, its cause the reason.
            let why = request.source().map_or_else(|| chain(request), chain);
            let in_clear = why.contains("InvalidContentType") || why.contains("corrupt message");
            let certificate = why.contains("certificate");
            let hint = if why.contains("UnknownIssuer") { "; if its authority is to be believed, name it with --ca-file" } else { "" };
            Failure { again: !in_clear && !certificate, in_clear, why: format!("cannot be asked: {why}{hint}") }
        }
        E::IoError(error) => Failure { again: true, ..said(broken(error, patience)) },
        E::DigestError(error) => said(format!("sends another document than its digest says: {}", short(&chain(error)))),
        other => said(short(&chain(other))),
    }
}

fn broken(error: &std::io::Error, patience: Duration) -> String {
    let why = chain(error);
    if why.contains("timed out") || why.contains("timeout") { Failure::stalled(patience).why } else { format!("broke off: {}", short(&why)) }
}

/// An error and all that it hides, without what is told twice.
fn chain(error: &dyn std::error::Error) -> String {
    let mut told = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if told.last().is_none_or(|last| !last.contains(&text)) {
            told.push(text);
        }
        next = error.source();
    }
    told.join(": ")
}

/// What a server said, for one line of a terminal.
fn short(text: &str) -> String {
    let mut clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.truncate(clean.floor_char_boundary(MAX_SAID));
    clean.trim().to_owned()
}

/// The certificates of a PEM file, one each.
fn certificates(file: &[u8]) -> Vec<Vec<u8>> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = String::from_utf8_lossy(file);
    text.split_inclusive(END).filter(|block| block.contains("-----BEGIN CERTIFICATE-----")).map(|block| block.trim().as_bytes().to_vec()).collect()
}

//! A registry on the loopback of a world, as bad as a case wants it: it answers wrongly, slowly, half or not at all.
//!
//! It serves what is put into it and keeps a list of what it was asked. A real one (Debian's docker-registry) stands in [`Debian`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use minipod::image::digest::sha256;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use crate::process::{Going, poll, seconds};
use crate::world::World;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What becomes of a request.
#[derive(Clone)]
pub enum Deed {
    /// As a good registry.
    Serve,
    /// Another status, with these headers and this body.
    Say(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The right head and so many bytes of the body, then the connection ends.
    Cut(usize),
    /// The right head and so many bytes of the body, then nothing more, for ever.
    Stall(usize),
    /// The right length, but one byte is another.
    Corrupt,
}

/// A request: path, host as it was called, whether it came with authorization, how often this path was asked before.
pub struct Asked<'a> {
    pub path: &'a str,
    pub host: &'a str,
    pub authorization: Option<&'a str>,
    pub before: usize,
}

/// A registry's content: manifests by repository and tag or digest, blobs by digest.
#[derive(Clone, Default)]
pub struct Content {
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Content {
    pub fn blob(&mut self, bytes: Vec<u8>) -> String {
        let digest = sha256(&bytes);
        self.blobs.insert(digest.clone(), bytes);
        digest
    }

    /// Puts a document under a tag and under its digest; gives that.
    pub fn manifest(&mut self, repository: &str, tag: &str, kind: &str, document: &Value) -> String {
        let bytes = document.to_string().into_bytes();
        let digest = sha256(&bytes);
        for name in [tag, &digest] {
            self.manifests.insert(format!("{repository}/manifests/{name}"), (kind.to_owned(), bytes.clone()));
        }
        digest
    }

    /// An image of these layers, each one file of a name and a content, uncompressed. Gives its manifest.
    pub fn image(&mut self, repository: &str, tag: &str, layers: &[(&str, Vec<u8>)]) -> Value {
        let tars: Vec<Vec<u8>> = layers.iter().map(|(name, content)| tar_of(name, content)).collect();
        let diff_ids: Vec<String> = tars.iter().map(|tar| sha256(tar)).collect();
        let config = json!({ "architecture": architecture(), "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids } }).to_string();
        let size = config.len();
        let id = self.blob(config.into_bytes());
        let layers: Vec<Value> = tars.into_iter().map(|tar| json!({ "mediaType": LAYER, "size": tar.len(), "digest": self.blob(tar) })).collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": id, "size": size } });
        self.manifest(repository, tag, MANIFEST, &manifest);
        manifest
    }

    /// How many blobs it has.
    pub fn blobs(&self) -> usize {
        self.blobs.len()
    }

    /// One of the project's own images, as `scripts/images` leaves it.
    pub fn layout(&mut self, repository: &str, tag: &str, name: &str) {
        let dir = images().join(name);
        let read = |file: &str| fs::read(dir.join(file)).unwrap_or_else(|error| panic!("{}: {error}", dir.join(file).display()));
        let index: Value = serde_json::from_slice(&read("index.json")).expect("our own");
        let blob = |digest: &Value| read(&format!("blobs/sha256/{}", &digest.as_str().expect("a digest")[7..]));
        let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0]["digest"])).expect("our own");
        let layers = manifest["layers"].as_array().expect("layers").iter();
        for descriptor in layers.chain([&manifest["config"]]) {
            self.blob(blob(&descriptor["digest"]));
        }
        self.manifest(repository, tag, manifest["mediaType"].as_str().unwrap_or(MANIFEST), &manifest);
    }
}

/// Where `scripts/images` leaves the images.
pub fn images() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/images")
}

pub fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content).expect("in memory");
    tar.into_inner().expect("in memory")
}

/// Bytes that nothing compresses, the same each time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

pub struct Registry {
    /// `127.0.0.1:PORT`
    pub host: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    /// Starts to serve in the world's network, until the test program ends. `deed` says what becomes of each request.
    pub fn start(world: &World, content: Content, deed: impl Fn(&Asked<'_>) -> Deed + Send + Sync + 'static) -> Registry {
        let network = world.network();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, deed, content) = (asked.clone(), Arc::new(deed), Arc::new(content));
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            setns(&network, CloneFlags::CLONE_NEWNET).expect("the world's network");
            // The world must not live on for its registry.
            drop(network);
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
            tell.send(listener.local_addr().expect("bound").port()).expect("somebody waits");
            for stream in listener.incoming().flatten() {
                let (seen, deed, content) = (seen.clone(), deed.clone(), content.clone());
                std::thread::spawn(move || serve(&stream, &content, &*deed, &seen));
            }
        });
        let port: u16 = told.recv().expect("the thread listens");
        Registry { host: format!("127.0.0.1:{port}"), asked }
    }

    /// A registry without a fault.
    pub fn good(world: &World, content: Content) -> Registry {
        Registry::start(world, content, |_| Deed::Serve)
    }

    /// The paths that were asked, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no holder panics").clone()
    }

    /// How many blobs were asked for.
    pub fn blobs(&self) -> usize {
        self.asked().iter().filter(|path| path.contains("/blobs/")).count()
    }
}

/// One request for each connection.
fn serve(stream: &TcpStream, content: &Content, deed: &dyn Fn(&Asked<'_>) -> Deed, seen: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| head.iter().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
    let Some(path) = request.split(' ').nth(1) else { return };
    if !request.starts_with("GET ") {
        // A TLS greeting, to which Go's servers answer so.
        let _ = (&mut &*stream).write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
        return;
    }
    let before = {
        let mut seen = seen.lock().expect("no holder panics");
        seen.push(path.to_owned());
        seen.iter().filter(|known| *known == path).count() - 1
    };
    let deed = deed(&Asked { path, host: header("host").unwrap_or_default(), authorization: header("authorization"), before });
    let offset: usize = header("range").and_then(|range| range.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok()).unwrap_or(0);
    let _ = reply(stream, content, path, offset, deed);
}

fn reply(mut stream: &TcpStream, content: &Content, path: &str, offset: usize, deed: Deed) -> std::io::Result<()> {
    if let Deed::Say(status, headers, body) = deed {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        write!(stream, "HTTP/1.1 {status} -\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
        return stream.write_all(&body);
    }
    let name = path.strip_prefix("/v2/").unwrap_or_default();
    let digest = name.rsplit('/').next().unwrap_or_default();
    let (kind, body) = match (name, content.manifests.get(name), content.blobs.get(digest)) {
        ("", ..) => ("application/json", &b"{}"[..]),
        (_, Some((kind, document)), _) => (kind.as_str(), document.as_slice()),
        (_, None, Some(blob)) if name.contains("/blobs/") => ("application/octet-stream", blob.as_slice()),
        _ => {
            let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#.to_vec();
            return reply(stream, content, path, 0, Deed::Say(404, vec![("Content-Type", "application/json".into())], body));
        }
    };
    let mut body = body[offset.min(body.len())..].to_vec();
    let status = if offset > 0 { "206 Partial" } else { "200 OK" };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    match deed {
        Deed::Cut(bytes) => stream.write_all(&body[..bytes.min(body.len())]),
        Deed::Stall(bytes) => {
            stream.write_all(&body[..bytes.min(body.len())])?;
            // Until the other side gives up.
            stream.set_read_timeout(Some(Duration::from_secs(600)))?;
            BufReader::new(stream).read_until(0, &mut Vec::new()).map(drop)
        }
        Deed::Corrupt => {
            let middle = body.len() / 2;
            body[middle] ^= 1;
            stream.write_all(&body)
        }
        _ => stream.write_all(&body),
    }
}

/// Debian's docker-registry, with the content laid into its storage; TLS and a login if asked for.
pub struct Debian {
    pub host: String,
    /// What signed its certificate.
    pub ca_file: PathBuf,
    log: PathBuf,
    process: Child,
}

/// The program, as `scripts/registry` fetches it.
pub fn debian_registry() -> Option<PathBuf> {
    std::env::var_os("MINIPOD_CASES_REGISTRY").map(PathBuf::from).filter(|path| path.exists())
}

impl Debian {
    /// Starts it in the world's network. `login` is a user and a password.
    pub fn start(world: &World, content: &Content, tls: bool, login: Option<(&str, &str)>) -> Debian {
        let dir = world.path("registry");
        lay_down(content, &dir.join("data/docker/registry/v2"));
        let mut config = json!({ "version": "0.1", "storage": { "filesystem": { "rootdirectory": dir.join("data") } }, "http": { "addr": "127.0.0.1:5000" } });
        let ca_file = dir.join("cert.pem");
        if tls {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("a certificate");
            fs::write(&ca_file, made.cert.pem()).expect("our own directory");
            fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).expect("our own directory");
            config["http"]["tls"] = json!({ "certificate": ca_file, "key": dir.join("key.pem") });
        }
        if let Some((user, password)) = login {
            let script = format!("print '{user}:', crypt('{password}', '$2b$05$abcdefghijklmnopqrstuu'), \"\\n\"");
            fs::write(dir.join("htpasswd"), world.tool("perl", &["-e", &script]).ok()).expect("our own directory");
            config["auth"] = json!({ "htpasswd": { "realm": "test", "path": dir.join("htpasswd") } });
        }
        fs::write(dir.join("config.yml"), config.to_string()).expect("our own directory");
        let mut command = world.command(debian_registry().expect("a need of the case"));
        command.arg("serve").arg(dir.join("config.yml")).stdin(Stdio::null());
        let log = File::create(dir.join("log")).expect("our own directory");
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        let process = command.spawn().expect("it starts");
        let registry = Debian { host: "localhost:5000".into(), ca_file, log: dir.join("log"), process };
        let connect = || {
            Going::start(
                {
                    let mut command = world.command("bash");
                    command.args(["-c", "exec 3<>/dev/tcp/127.0.0.1/5000"]);
                    command
                },
                None,
            )
        };
        let answers = || (connect().wait().code == 0).then_some(());
        poll(seconds(20), answers).unwrap_or_else(|| panic!("docker-registry: {}", fs::read_to_string(dir.join("log")).unwrap_or_default()));
        registry
    }

    /// The paths that were asked for so far, in order, by its own log of accesses.
    pub fn asked(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).expect("made at the start");
        let path = |line: &str| Some(line.split_once("\"GET ")?.1.split_once(' ')?.0.to_owned());
        log.lines().filter_map(path).filter(|path| path.contains("/manifests/") || path.contains("/blobs/")).collect()
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The files of docker-registry's storage.
fn lay_down(content: &Content, root: &Path) {
    let put = |path: PathBuf, bytes: &[u8]| {
        fs::create_dir_all(path.parent().expect("below root")).and_then(|()| fs::write(&path, bytes)).expect("our own directory");
    };
    let blob = |digest: &str, bytes: &[u8]| put(root.join("blobs/sha256").join(&digest[7..9]).join(&digest[7..]).join("data"), bytes);
    content.blobs.iter().for_each(|(digest, bytes)| blob(digest, bytes));
    for (name, (_, document)) in &content.manifests {
        let (repository, reference) = name.split_once("/manifests/").expect("made so");
        let digest = sha256(document);
        blob(&digest, document);
        let here = root.join("repositories").join(repository);
        put(here.join("_manifests/revisions/sha256").join(&digest[7..]).join("link"), digest.as_bytes());
        if !reference.contains(':') {
            put(here.join("_manifests/tags").join(reference).join("current/link"), digest.as_bytes());
        }
        for layer in content.blobs.keys() {
            put(here.join("_layers/sha256").join(&layer[7..]).join("link"), layer.as_bytes());
        }
    }
}

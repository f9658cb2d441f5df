//! Images from registries, good and bad. What each case tries stands in docs/images.md.
//!
//! The world of such a case has a store of its own, empty at first.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::pod::{Pod, serve};
use crate::process::{Done, poll, seconds};
use crate::registry::{Asked, Content, Debian, Deed, INDEX, MANIFEST, Registry, architecture, noise};
use crate::world::{World, container};
use crate::{Case, case, examples};

const MIB: usize = 1 << 20;

/// An image of two layers, of which the second is large enough to be broken off.
pub fn content() -> Content {
    let mut content = Content::default();
    content.image("team/app", "v1", &[("etc/motd", b"hello\n".to_vec()), ("data", noise(2 * MIB))]);
    content
}

/// Pulls `team/app:v1` with a patience of one second.
pub fn pull(world: &World, registry: &Registry) -> Done {
    world.minipod(&["image", "pull", &format!("{}/team/app:v1", registry.host), "--registries", &impatient(world)])
}

fn impatient(world: &World) -> String {
    let path = world.path("registries.yaml");
    fs::write(&path, "stallTimeoutSeconds: 1\n").expect("our own directory");
    path.display().to_string()
}

/// A registry that does this to every layer and configuration, and answers all else well.
pub fn blobs(world: &World, content: Content, deed: impl Fn(&Asked<'_>) -> Deed + Send + Sync + 'static) -> Registry {
    Registry::start(world, content, move |asked| if asked.path.contains("/blobs/") { deed(asked) } else { Deed::Serve })
}

/// A registry that answers so to manifests.
fn manifests(world: &World, deed: impl Fn(&Asked<'_>) -> Deed + Send + Sync + 'static) -> Registry {
    Registry::start(world, content(), move |asked| if asked.path.contains("/manifests/") { deed(asked) } else { Deed::Serve })
}

fn answer(status: u16, code: &str) -> Deed {
    let body = json!({ "errors": [{ "code": code, "message": code.to_lowercase() }] }).to_string();
    Deed::Say(status, vec![("Content-Type", "application/json".into())], body.into_bytes())
}

/// Demands one line of an error with these words, and a store in which nothing is.
#[track_caller]
pub fn refused(world: &World, done: Done, words: &[&str]) {
    let lines: Vec<&str> = done.err.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 1, "one line tells it: {}", done.err);
    done.fails_with(words);
    empty(world);
}

/// Demands that the store has nothing, as after a prune.
#[track_caller]
pub fn empty(world: &World) {
    let store = world.root().join("lib/images");
    let names = |dir: &str| -> Vec<String> {
        fs::read_dir(store.join(dir)).map(|all| all.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()).unwrap_or_default()
    };
    for dir in ["layers", "blobs/sha256", "names", "pulls", "tmp"] {
        let left: Vec<String> = names(dir).into_iter().filter(|name| name != "mount-points").collect();
        assert!(left.is_empty(), "left in {dir}: {left:?}");
    }
}

/// Demands that the image is whole.
#[track_caller]
fn whole(world: &World, registry: &Registry) {
    let told: Value = serde_json::from_str(&world.minipod(&["image", "inspect", &format!("{}/team/app:v1", registry.host)]).ok()).expect("JSON");
    let layers: Vec<&str> = told[0]["layers"].as_array().expect("layers").iter().filter_map(Value::as_str).collect();
    let dir = Path::new(told[0]["layersDir"].as_str().expect("a path"));
    assert_eq!(fs::read(dir.join(layers[0]).join("etc/motd")).expect("unpacked"), b"hello\n");
    assert!(fs::read(dir.join(layers[1]).join("data")).expect("unpacked") == noise(2 * MIB), "the large file is as it was");
}

/// A pod of one container with an image of the registry.
fn pod(image: &str, policy: Option<&str>) -> Pod {
    let pod = Pod::new("p", "Always").app("a", &serve("0", 0)).with("a", "image", json!(image));
    match policy {
        Some(policy) => pod.with("a", "imagePullPolicy", json!(policy)),
        None => pod,
    }
}

/// What the events of the pod `p` say, as `REASON: MESSAGE`.
fn events(world: &World) -> Vec<String> {
    let text = fs::read(world.root().join("lib/pods/default/p/events.json")).unwrap_or_default();
    let events: Value = serde_json::from_slice(&text).unwrap_or_default();
    let told = |event: &Value| format!("{}: {}", event["reason"].as_str().unwrap_or_default(), event["message"].as_str().unwrap_or_default());
    events["items"].as_array().or(events.as_array()).map(|all| all.iter().map(told).collect()).unwrap_or_default()
}

#[track_caller]
fn wait_event(world: &World, words: &str) {
    let came = poll(seconds(30), || events(world).iter().any(|event| event.contains(words)).then_some(()));
    assert!(came.is_some(), "no event has {words:?}: {:#?}", events(world));
}

fn busybox(tag: &str) -> Content {
    let mut content = Content::default();
    content.layout("team/box", tag, "busybox");
    content
}

fn asked_for(asked: &[String], part: &str) -> usize {
    asked.iter().filter(|path| path.contains(part)).count()
}

fn waits(world: &World, reasons: &[&str]) {
    let reason = |pod: &Value| container(pod, "a")["state"]["waiting"]["reason"].as_str().map(str::to_owned);
    world.wait("p", &format!("one of {reasons:?}"), |pod| reason(pod).is_some_and(|reason| reasons.contains(&reason.as_str())));
}

pub const CASES: &[Case] = &[
    case("IMG-01", |world| {
        let registry = Registry::good(world, content());
        pull(world, &registry).ok();
        whole(world, &registry);
        let before = registry.blobs();
        pull(world, &registry).ok();
        assert_eq!(registry.blobs(), before, "a second pull downloads nothing");
    }),
    case("IMG-02", |world| {
        // Each answer ends after 300 kB: the rest is asked for until there is none.
        let registry = blobs(world, content(), |_| Deed::Cut(300_000));
        pull(world, &registry).ok();
        whole(world, &registry);
    }),
    case("IMG-03", |world| {
        let registry = blobs(world, content(), |asked| if asked.before == 0 { Deed::Stall(200) } else { Deed::Serve });
        pull(world, &registry).ok();
        whole(world, &registry);
    }),
    case("IMG-04", |world| {
        let registry = blobs(world, content(), |_| Deed::Stall(0));
        refused(world, pull(world, &registry), &[&registry.host, "has sent nothing for 1 s"]);
    }),
    case("IMG-05", |world| {
        let registry = blobs(world, content(), |_| Deed::Corrupt);
        refused(world, pull(world, &registry), &["digest"]);
    }),
    case("IMG-06", |world| {
        for (wrong, told) in [(1, "sends more than the 1 bytes that the manifest says"), (1 << 30, "ended the connection early")] {
            let mut content = Content::default();
            let mut manifest = content.image("team/app", "v1", &[("file", noise(5000))]);
            manifest["layers"][0]["size"] = json!(wrong);
            content.manifest("team/app", "v1", MANIFEST, &manifest);
            let registry = Registry::good(world, content);
            refused(world, pull(world, &registry), &[&registry.host, told]);
        }
    }),
    case("IMG-07", |world| {
        let registry = manifests(world, |_| answer(401, "UNAUTHORIZED"));
        refused(world, pull(world, &registry), &["401 Unauthorized", "minipod login"]);
    }),
    case("IMG-08", |world| {
        let registry = manifests(world, |_| answer(403, "DENIED"));
        refused(world, pull(world, &registry), &[&registry.host, "answers DENIED: denied"]);
    }),
    case("IMG-09", |world| {
        let registry = Registry::good(world, Content::default());
        refused(world, pull(world, &registry), &[&registry.host, "has no such image"]);
    }),
    case("IMG-10", |world| {
        let registry = manifests(world, |asked| if asked.before == 0 { answer(429, "TOOMANYREQUESTS") } else { Deed::Serve });
        pull(world, &registry).ok();
        whole(world, &registry);
    }),
    case("IMG-11", |world| {
        let registry = manifests(world, |_| answer(429, "TOOMANYREQUESTS"));
        refused(world, pull(world, &registry), &[&registry.host, "TOOMANYREQUESTS"]);
        assert_eq!(registry.asked().iter().filter(|path| path.contains("manifests")).count(), 3, "it is asked a few times, not for ever");
    }),
    case("IMG-12", |world| {
        let registry = Registry::start(world, content(), |asked| {
            if asked.before == 0 && asked.path != "/v2/" { Deed::Say(500, Vec::new(), b"oops".to_vec()) } else { Deed::Serve }
        });
        pull(world, &registry).ok();
        whole(world, &registry);
    }),
    case("IMG-13", |world| {
        let registry = manifests(world, |_| Deed::Say(503, Vec::new(), b"\x1b[2Jtired\n".to_vec()));
        refused(world, pull(world, &registry), &[&registry.host, "answers 503: ", "tired"]);
    }),
    case("IMG-14", |world| {
        let registry = manifests(world, |asked| Deed::Say(307, vec![("Location", asked.path.to_owned())], Vec::new()));
        refused(world, pull(world, &registry), &[&registry.host, "redirects"]);
    }),
    case("IMG-15", |world| {
        let mut content = content();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [{ "mediaType": MANIFEST, "size": 2,
            "digest": format!("sha256:{}", "0".repeat(64)), "platform": { "os": "linux", "architecture": "s390x" } }] });
        content.manifest("team/app", "v1", INDEX, &index);
        let registry = Registry::good(world, content);
        refused(world, pull(world, &registry), &["no image for linux/", architecture()]);
    }),
    case("IMG-16", |world| {
        let registry = manifests(world, |_| Deed::Say(200, vec![("Content-Type", MANIFEST.into())], vec![b' '; 5 * MIB]));
        refused(world, pull(world, &registry), &["more than 4194304 bytes"]);
    }),
    case("IMG-17", |world| {
        // A disk of one megabyte.
        let store = world.root().join("lib/images").display().to_string();
        world.tool("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", &store]).ok();
        let registry = Registry::good(world, content());
        refused(world, pull(world, &registry), &["ENOSPC"]);
        world.tool("umount", &[&store]).ok();
    }),
    case("IMG-18", |world| {
        let registry = Registry::good(world, content());
        let words = ["image", "pull", &format!("{}/team/app:v1", registry.host)];
        let two = [world.start(&words), world.start(&words)];
        two.into_iter().for_each(|one| drop(one.wait().ok()));
        whole(world, &registry);
        assert_eq!(registry.blobs(), 3, "each blob is asked for once: {:?}", registry.asked());
    }),
    case("IMG-19", |world| {
        let registry = blobs(world, content(), |_| Deed::Stall(100_000));
        let going = world.start(&["image", "pull", &format!("{}/team/app:v1", registry.host)]);
        assert!(poll(seconds(20), || (registry.blobs() >= 3).then_some(())).is_some(), "the layers are under way");
        kill(Pid::from_raw(going.pid().cast_signed()), Signal::SIGKILL).expect("it goes on");
        assert_eq!(going.wait().code, 137);
        world.minipod(&["image", "prune"]).ok();
        empty(world);
    }),
    case("IMG-20", |world| {
        // The tag's document is not what the digest in the name says.
        let registry = Registry::start(world, content(), |asked| {
            if asked.path.contains("manifests/sha256") { Deed::Say(200, vec![("Content-Type", MANIFEST.into())], b"{}".to_vec()) } else { Deed::Serve }
        });
        let name = format!("{}/team/app@sha256:{}", registry.host, "1".repeat(64));
        refused(world, world.minipod(&["image", "pull", &name]), &["digest"]);
    }),
    case("IMG-21", |world| {
        // What a layer unpacks to is another content than the configuration names.
        let mut content = Content::default();
        let mut manifest = content.image("team/app", "v1", &[("file", noise(100))]);
        let other = content.image("team/other", "v1", &[("file", noise(200))]);
        manifest["layers"] = other["layers"].clone();
        content.manifest("team/app", "v1", MANIFEST, &manifest);
        let registry = Registry::good(world, content);
        refused(world, pull(world, &registry), &["another content than the configuration names"]);
    }),
    case("IMG-22", |world| {
        // A token is asked for where the registry says, and every request then brings it.
        let registry = Registry::start(world, content(), |asked| match (asked.path, asked.authorization) {
            ("/token?scope=repository%3Ateam%2Fapp%3Apull&service=test", None) => Deed::Say(200, Vec::new(), br#"{"token": "t0"}"#.to_vec()),
            (_, Some("Bearer t0")) => Deed::Serve,
            _ => Deed::Say(401, vec![("WWW-Authenticate", format!("Bearer realm=\"http://{}/token\",service=\"test\"", asked.host))], Vec::new()),
        });
        pull(world, &registry).ok();
        whole(world, &registry);
    }),
    case("IMG-23", |world| {
        // Blobs are somewhere else: with another name, with another port, and nobody's token or password goes there.
        for (login, scheme) in [("", "Bearer t0"), ("a:one", "Basic YTpvbmU=")] {
            let elsewhere =
                Registry::start(world, content(), |asked| if asked.authorization.is_none() { Deed::Serve } else { answer(400, "TOKEN_CAME_ALONG") });
            let host = elsewhere.host.clone();
            let registry = Registry::start(world, content(), move |asked| match (asked.path, asked.authorization) {
                ("/token?scope=repository%3Ateam%2Fapp%3Apull&service=test", None) => Deed::Say(200, Vec::new(), br#"{"token": "t0"}"#.to_vec()),
                (path, Some(come)) if come == scheme => match path.contains("/blobs/") {
                    true if asked.before % 2 == 0 => Deed::Say(307, vec![("Location", format!("http://{host}{path}"))], Vec::new()),
                    true => Deed::Say(307, vec![("Location", format!("http://{}{path}", host.replace("127.0.0.1", "localhost")))], Vec::new()),
                    false => Deed::Serve,
                },
                _ if scheme.starts_with("Basic") => Deed::Say(401, vec![("WWW-Authenticate", "Basic realm=\"test\"".into())], Vec::new()),
                _ => Deed::Say(401, vec![("WWW-Authenticate", format!("Bearer realm=\"http://{}/token\",service=\"test\"", asked.host))], Vec::new()),
            });
            let auths = if login.is_empty() { json!({}) } else { json!({ &registry.host: { "auth": scheme.trim_start_matches("Basic ") } }) };
            let file = world.path("auth.json").display().to_string();
            fs::write(&file, json!({ "auths": auths }).to_string()).expect("our own directory");
            for _ in 0..2 {
                let mut command = world.command(crate::world::program());
                command.args(["image", "pull", &format!("{}/team/app:v1", registry.host)]).env("REGISTRY_AUTH_FILE", &file);
                crate::process::Going::start(command, None).wait().ok();
                whole(world, &registry);
                world.minipod(&["image", "rm", &format!("{}/team/app:v1", registry.host)]).ok();
            }
            assert_eq!((registry.blobs(), elsewhere.blobs()), (6, 6), "by both names: {:?}", elsewhere.asked());
        }
    }),
    case("IMG-24", |world| {
        for (mirror, told) in [("http://registry.example", "plain http is for this machine itself alone"), ("ftp://x", "neither https nor http")] {
            refused(world, world.minipod(&["image", "pull", "--registry-mirror", mirror, "nginx"]), &[told]);
        }
    }),
    case("IMG-25", |world| {
        // A mirror that does not have it is passed over.
        let mut content = Content::default();
        content.image("library/app", "latest", &[("file", noise(100))]);
        let (bad, good) = (Registry::good(world, Content::default()), Registry::good(world, content));
        let mirrors = format!("http://{},http://{}", bad.host, good.host);
        assert_eq!(world.minipod(&["image", "pull", "--registry-mirror", &mirrors, "app"]).ok(), "pulled app:latest\n");
        assert!(!bad.asked().is_empty());
    }),
    case("IMG-26", |world| {
        let registry = Registry::good(world, busybox("v1"));
        world.apply(&pod(&format!("{}/team/box:v1", registry.host), None));
        world.wait_ready("p");
        wait_event(world, "Pulling: Pulling image");
        wait_event(world, "Pulled: Successfully pulled image");
        wait_event(world, "Image size: ");
        world.delete("p");
        let before = registry.asked().len();
        world.apply(&pod(&format!("{}/team/box:v1", registry.host), None));
        world.wait_ready("p");
        wait_event(world, "already present on machine");
        assert_eq!(registry.asked().len(), before, "IfNotPresent asks nobody");
        world.delete("p");
        world.apply(&pod(&format!("{}/team/box:v1", registry.host), Some("Always")));
        world.wait_ready("p");
        wait_event(world, "Pulled: Successfully pulled image");
        assert!(registry.asked().len() > before, "Always asks again");
        world.delete("p");
    }),
    case("IMG-34", |world| {
        // The container's image and its volume's; then one that is not there, told of the container that mounts it.
        let mut content = busybox("v1");
        content.layout("team/tool", "v1", "busybox");
        let registry = Registry::good(world, content);
        let with_volume = |image: &str| {
            let look = format!("ls /v/bin >/story/seen; {}", serve("0", 0));
            let volume = json!({ "image": { "reference": format!("{}/team/{image}:v1", registry.host) } });
            Pod::new("p", "Always").app("a", &look).with("a", "image", json!(format!("{}/team/box:v1", registry.host))).volume("v", volume, &[("a", "/v")])
        };
        world.apply(&with_volume("tool"));
        world.wait_ready("p");
        for image in ["box", "tool"] {
            wait_event(world, &format!("Pulling: Pulling image \"{}/team/{image}:v1\"", registry.host));
            wait_event(world, &format!("Pulled: Successfully pulled image \"{}/team/{image}:v1\"", registry.host));
        }
        assert!(world.written("seen").contains("busybox"), "the volume is the image: {}", world.written("seen"));
        world.delete("p");
        world.apply(&with_volume("none"));
        waits(world, &["ErrImagePull", "ImagePullBackOff"]);
        wait_event(world, "has no such image");
        wait_event(world, &format!("Failed: Failed to pull image \"{}/team/none:v1\"", registry.host));
        world.delete("p");
    }),
    case("IMG-27", |world| {
        let registry = Registry::good(world, Content::default());
        let watch = world.start(&["get", "pods", "-w"]);
        world.apply(&pod(&format!("{}/team/box:v1", registry.host), None));
        watch.wait_for("ErrImagePull");
        watch.wait_for("ImagePullBackOff");
        wait_event(world, "Pulling: Pulling image");
        wait_event(world, "Failed: Failed to pull image");
        wait_event(world, "has no such image");
        wait_event(world, "BackOff: Back-off pulling image");
        drop(watch);
        world.delete("p");
    }),
    case("IMG-28", |world| {
        world.apply(&pod("127.0.0.1:1/team/box:v1", Some("Never")));
        waits(world, &["ErrImageNeverPull"]);
        wait_event(world, "is not present with pull policy of Never");
        world.delete("p");
    }),
    case("IMG-29", |world| {
        world.apply(&pod("127.0.0.1:1/Team/Box", None));
        waits(world, &["InvalidImageName"]);
        world.delete("p");
    }),
    case("IMG-30", |world| {
        // A pod is deleted while its image hangs: the processes of the pull go with it.
        let registry = blobs(world, busybox("v1"), |_| Deed::Stall(10));
        world.apply(&pod(&format!("{}/team/box:v1", registry.host), None));
        wait_event(world, "Pulling: Pulling image");
        assert!(poll(seconds(20), || (registry.blobs() > 0).then_some(())).is_some());
        world.delete("p");
        world.minipod(&["image", "prune"]).ok();
        empty(world);
    }),
    Case {
        id: "IMG-31",
        needs: &["docker-registry"],
        run: |world| {
            // The README's pod, from nothing.
            let mut content = Content::default();
            content.layout("alpine/git", "latest", "git");
            content.layout("library/nginx", "latest", "nginx");
            content.layout("library/busybox", "latest", "busybox");
            let registry = Debian::start(world, &content, false, None);
            let mirror = format!("http://{}", registry.host);
            let run = || {
                world.minipod(&["--registry-mirror", &mirror, "apply", "-f", &examples::example("web-e2e.yaml")]).ok();
                world.wait_ready("web-e2e");
                let events = world.root().join("lib/pods/default/web-e2e/events.json");
                let told = || fs::read_to_string(&events).ok().filter(|text| text.matches("Successfully pulled image").count() == 3);
                assert!(poll(seconds(20), told).is_some(), "{:?}", fs::read_to_string(&events));
                world.delete("web-e2e");
            };
            run();
            let first = registry.asked();
            assert_eq!(asked_for(&first, "/blobs/"), content.blobs(), "each blob once: {first:#?}");
            // Without a tag it is the latest, so Always: whether it still is that is asked, by one manifest for each image, and nothing more.
            run();
            let second = registry.asked().split_off(first.len());
            assert_eq!((asked_for(&second, "/manifests/"), asked_for(&second, "/blobs/")), (3, 0), "{second:#?}");
            // By IfNotPresent nobody is asked.
            let before = registry.asked().len();
            let file = world.manifest(&pod("busybox", Some("IfNotPresent")));
            world.minipod(&["--registry-mirror", &mirror, "apply", "-f", &file]).ok();
            world.wait_ready("p");
            world.delete("p");
            assert_eq!(registry.asked().split_off(before), Vec::<String>::new());
        },
    },
    Case {
        id: "IMG-32",
        needs: &["docker-registry"],
        run: |world| {
            // TLS of a private authority, and a login.
            let registry = Debian::start(world, &content(), true, Some(("me", "secret")));
            let (image, ca) = (format!("{}/team/app:v1", registry.host), registry.ca_file.display().to_string());
            let auth = world.path("auth.json").display().to_string();
            let as_person = |words: &[&str], input: &[u8]| {
                let mut command = world.command(crate::world::program());
                command.args(words).env("REGISTRY_AUTH_FILE", &auth);
                crate::process::Going::start(command, Some(input.to_vec())).wait()
            };
            refused(world, as_person(&["image", "pull", &image], b""), &["certificate", "--ca-file"]);
            refused(world, as_person(&["image", "pull", "--ca-file", &ca, &image], b""), &["401 Unauthorized"]);
            let login = ["login", "--ca-file", &ca, "-u", "me", "--password-stdin", &registry.host];
            as_person(&login, b"wrong\n").fails_with(&["401 Unauthorized"]);
            as_person(&["logout", &registry.host], b"").fails_with(&["there is no login"]);
            as_person(&login, b"secret\n").ok();
            as_person(&["image", "pull", "--ca-file", &ca, &image], b"").ok();
            as_person(&["image", "rm", &image], b"").ok();
            as_person(&["logout", &registry.host], b"").ok();
            refused(world, as_person(&["image", "pull", "--ca-file", &ca, &image], b""), &["401 Unauthorized"]);
        },
    },
    Case {
        id: "IMG-33",
        needs: &["docker-registry"],
        run: |world| {
            // The login of a pod's imagePullSecrets.
            let registry = Debian::start(world, &busybox("v1"), false, Some(("me", "secret")));
            let image = format!("{}/team/box:v1", registry.host);
            let logins = json!({ "auths": { &registry.host: { "username": "me", "password": "secret" } } }).to_string();
            let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "pull" }, "type": "kubernetes.io/dockerconfigjson",
            "stringData": { ".dockerconfigjson": logins } });
            let with = |names: Value| pod(&image, None).spec("imagePullSecrets", names);
            world.apply(&with(json!([{ "name": "missing" }])));
            wait_event(world, "FailedToRetrieveImagePullSecret: Unable to retrieve some image pull secrets (missing)");
            waits(world, &["ErrImagePull", "ImagePullBackOff"]);
            world.delete("p");
            world.minipod(&["apply", "-f", &world.file(&secret.to_string())]).ok();
            world.apply(&with(json!([{ "name": "pull" }])));
            world.wait_ready("p");
            world.delete("p");
        },
    },
];

//! Which registry is asked, as whom, whom to believe, and what a person sees of it. What each case tries stands in docs/images.md.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::process::{Done, Going};
use crate::pull::{blobs, content, pull, refused};
use crate::registry::{Asked, Content, Debian, Deed, Registry, noise};
use crate::verbs::Person;
use crate::world::{World, program};
use crate::{Case, case};

/// Runs the program with more in its environment.
fn with(world: &World, environment: &[(&str, &str)], words: &[&str]) -> Done {
    let mut command = world.command(program());
    command.args(words).envs(environment.iter().copied());
    Going::start(command, None).wait()
}

/// Writes a file into the world's scratch directory and gives its path.
fn put(world: &World, name: &str, text: &str) -> String {
    let path = world.path(name);
    fs::create_dir_all(path.parent().expect("below the world")).and_then(|()| fs::write(&path, text)).expect("our own directory");
    path.display().to_string()
}

/// A registry of one image of one layer, that writes `name` down when a manifest is asked of it; without `serves` it has no image.
fn noted(world: &World, name: &'static str, order: &Arc<Mutex<Vec<&'static str>>>, serves: bool) -> Registry {
    let mut content = Content::default();
    if serves {
        content.image("library/app", "latest", &[("file", noise(100))]);
        content.image("team/app", "v1", &[("file", noise(100))]);
    }
    let order = order.clone();
    Registry::start(world, content, move |asked| {
        if asked.path.contains("/manifests/") {
            order.lock().expect("no holder panics").push(name);
        }
        Deed::Serve
    })
}

/// The amounts that a bar has shown, in order: what stands before the slash behind the bar of this name.
fn amounts(screen: &str, name: &str) -> Vec<String> {
    let rows = screen.split(['\r', '\n']).filter(|row| row.contains(name)).filter_map(|row| row.split_once(']'));
    let mut amounts: Vec<String> = rows.filter_map(|(_, rest)| Some(rest.split_once('/')?.0.trim().to_owned())).collect();
    amounts.dedup();
    amounts
}

/// Demands a login, and tells which of these users may have which repository.
fn guarded(asked: &Asked<'_>) -> Deed {
    // a:one, b:two
    let wanted = if asked.path.starts_with("/v2/team/app/") { "Basic Yjp0d28=" } else { "Basic YTpvbmU=" };
    match asked.authorization {
        Some(come) if come == wanted || (asked.path == "/v2/" && come.starts_with("Basic ")) => Deed::Serve,
        _ => Deed::Say(401, vec![("WWW-Authenticate", "Basic realm=\"test\"".into())], Vec::new()),
    }
}

pub const CASES: &[Case] = &[
    case("IMG-35", |world| {
        // Each layer hangs in its middle once, so that there is something to see.
        let mut content = Content::default();
        let manifest = content.image("team/app", "v1", &[("one", noise(2 << 20)), ("two", noise(3 << 20))]);
        let registry = blobs(world, content, |asked| if asked.before == 0 { Deed::Stall(1 << 20) } else { Deed::Serve });
        let image = format!("{}/team/app:v1", registry.host);
        let settings = put(world, "r.yaml", "stallTimeoutSeconds: 1\n");
        let mut person = Person::at(world, &["image", "pull", &image, "--registries", &settings], 24, 110);
        assert_eq!(person.leaves(), 0, "{}", person.seen());
        person.wait_for(&format!("pulled {image}"));
        let seen = person.seen();
        for layer in manifest["layers"].as_array().expect("layers") {
            let name = &layer["digest"].as_str().expect("a digest")[7..19];
            assert!(amounts(&seen, name).len() > 1, "the bar of {name} is drawn again as it grows: {:?} {seen:?}", amounts(&seen, name));
        }
        // Of the whole image, by the first part of its name: both layers together are more than either.
        let total = amounts(&seen, &image[..20]);
        assert!(total.len() > 2 && seen.contains("/5.00"), "{total:?} {seen:?}");
        assert!(seen.trim_end().ends_with(&format!("pulled {image}")), "the bars are rubbed out: {seen:?}");
        // What is there is not shown as if it came.
        let mut person = Person::at(world, &["image", "pull", "-q", &image], 24, 110);
        assert_eq!(person.leaves(), 0);
        person.wait_for("sha256:");
        assert!(!person.seen().contains(['[', '\x1b']), "{:?}", person.seen());
    }),
    case("IMG-36", |world| {
        let registry = Registry::good(world, content());
        let image = format!("{}/team/app:v1", registry.host);
        let done = pull(world, &registry);
        assert_eq!(done.out, format!("pulled {image}\n"));
        let lines: Vec<&str> = done.err.lines().collect();
        assert!(lines.iter().all(|line| line.starts_with(&format!("{image}: "))) && !done.err.contains(['\r', '\x1b']), "{:?}", done.err);
        assert_eq!(lines.len(), 4, "the layers, each of the two, and the end: {lines:?}");
        assert!(lines[0].ends_with(": 2 layers, 2 to download (2.10MB)") && lines[3].ends_with("2.10MB of 2.10MB downloaded"), "{lines:?}");
        world.minipod(&["image", "rm", &image]).ok();
        let quiet = world.minipod(&["image", "pull", "--quiet", &image]);
        assert_eq!((quiet.err.as_str(), quiet.out.lines().count()), ("", 1));
        let told: Value = serde_json::from_str(&world.minipod(&["image", "inspect", &image]).ok()).expect("JSON");
        assert_eq!(told[0]["id"].as_str(), Some(quiet.out.trim_end()));
    }),
    case("IMG-37", |world| {
        let order: Arc<Mutex<Vec<&str>>> = Arc::default();
        let asked = || std::mem::take(&mut *order.lock().expect("no holder panics"));
        let [flag, first, second] = ["flag", "first", "second"].map(|name| noted(world, name, &order, false));
        let (last, never, own) = (noted(world, "last", &order, true), noted(world, "never", &order, true), noted(world, "own", &order, true));
        // One that is not there, and one by a prefix that it does not have, are passed over, too.
        let text = json!({ "registries": {
            "docker.io": { "mirrors": ["http://127.0.0.1:1", format!("http://{}", first.host), format!("http://{}/hub", second.host),
                format!("http://{}", last.host), format!("http://{}", never.host)] },
            &own.host: { "mirrors": [format!("http://{}", first.host)] },
        } });
        let settings = put(world, "r.yaml", &text.to_string());
        let words = ["--registries", &settings, "--registry-mirror", &format!("http://{}", flag.host), "image", "pull"];
        assert_eq!(world.minipod(&[&words[..], &["app"]].concat()).ok(), "pulled app:latest\n");
        assert_eq!(asked(), ["flag", "first", "second", "last"]);
        assert_eq!([&flag, &first, &second, &last, &never].map(Registry::blobs), [0, 0, 0, 2, 0], "what has the manifest is asked for the blobs");
        // The flag is for docker.io alone; another registry's mirrors are the file's, and then it itself.
        world.minipod(&[&words[..], &[&format!("{}/team/app:v1", own.host)]].concat()).ok();
        assert_eq!(asked(), ["first", "own"]);
        for (text, told) in
            [("registries: {docker.io: {mirror: x}}", "unknown field `mirror`"), ("registries: {docker.io: {mirrors: ['http://a.example']}}", "plain http")]
        {
            let settings = put(world, "bad.yaml", text);
            world.minipod(&["image", "pull", "--registries", &settings, "other"]).fails_with(&[told]);
        }
    }),
    case("IMG-38", |world| {
        let mut content = content();
        content.image("team/other", "v1", &[("file", noise(100))]);
        let registry = Registry::start(world, content, guarded);
        let (app, other) = (format!("{}/team/app:v1", registry.host), format!("{}/team/other:v1", registry.host));
        let nowhere = world.path("nowhere").display().to_string();
        let empty = [("REGISTRY_AUTH_FILE", nowhere.as_str()), ("DOCKER_CONFIG", nowhere.as_str())];
        refused(world, with(world, &empty, &["image", "pull", &app]), &["401 Unauthorized", "minipod login"]);
        // Of containers' auth.json, the key of the repository comes before the registry's.
        let auths = json!({ "auths": { &registry.host: { "auth": "YTpvbmU=" }, format!("{}/team/app", registry.host): { "auth": "Yjp0d28=" } } }).to_string();
        let file = put(world, "auth.json", &auths);
        for image in [&app, &other] {
            with(world, &[("REGISTRY_AUTH_FILE", &file), empty[1]], &["image", "pull", image]).ok();
            with(world, &empty, &["image", "rm", image]).ok();
        }
        // docker's config.json, as docker writes it: with a scheme, and only where the other has none.
        let text = json!({ "auths": { format!("https://{}/v1/", registry.host): { "auth": "YTpvbmU=" } } }).to_string();
        put(world, "docker/config.json", &text);
        let docker = ("DOCKER_CONFIG", world.path("docker").display().to_string());
        let docker = (docker.0, docker.1.as_str());
        with(world, &[empty[0], docker], &["image", "pull", &other]).ok();
        with(world, &empty, &["image", "rm", &other]).ok();
        // Passwords that another program keeps: it is named, and not started.
        let helper = put(world, "bin/docker-credential-mine", &format!("#!/bin/sh\ntouch {nowhere}\n"));
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("our own directory");
        let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        for text in [json!({ "credHelpers": { &registry.host: "mine" } }), json!({ "credsStore": "mine", "auths": { &registry.host: {} } })] {
            put(world, "docker/config.json", &text.to_string());
            refused(world, with(world, &[empty[0], docker, ("PATH", &path)], &["image", "pull", &app]), &["docker-credential-mine", "minipod login"]);
        }
        assert!(!world.path("nowhere").exists(), "a helper was started");
        put(world, "docker/config.json", "{");
        refused(world, with(world, &[empty[0], docker], &["image", "pull", &app]), &["holds no logins"]);
    }),
    Case {
        id: "IMG-39",
        needs: &["docker-registry"],
        run: |world| {
            // What signs for one registry signs for that one alone.
            let registry = Debian::start(world, &content(), true, None);
            let [named, other] = ["localhost:5000", "127.0.0.1:5000"].map(|host| format!("{host}/team/app:v1"));
            let settings = |ca: &str| put(world, "r.yaml", &json!({ "registries": { "localhost:5000": { "caFile": ca } } }).to_string());
            let pull = |image: &str, ca: &str| world.minipod(&["image", "pull", "--registries", &settings(ca), image]);
            let good = registry.ca_file.display().to_string();
            refused(world, pull(&other, &good), &["certificate", "--ca-file"]);
            refused(world, pull(&named, &world.path("none.pem").display().to_string()), &["reading the certificates for localhost:5000", "ENOENT"]);
            let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate").cert.pem();
            refused(world, pull(&named, &put(world, "stranger.pem", &stranger)), &["certificate"]);
            refused(world, pull(&named, &put(world, "garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")), &["localhost:5000"]);
            pull(&named, &good).ok();
            let told = world.minipod(&["image", "inspect", &named]).ok();
            assert!(told.contains(&named), "{told}");
        },
    },
];

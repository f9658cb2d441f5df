//! Images of plain directories, how images came to be, and what all of it takes of the disk. What each case tries stands in docs/images.md.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::pod::Pod;
use crate::process::{poll, seconds};
use crate::world::World;
use crate::{Case, case};

/// A root file system of busybox alone, with an account `app`.
fn rootfs(world: &World) -> PathBuf {
    let root = world.path("rootfs");
    for dir in ["bin", "etc", "data"] {
        fs::create_dir_all(root.join(dir)).expect("our own directory");
    }
    fs::copy(world.tool("sh", &["-c", "command -v busybox"]).ok().trim(), root.join("bin/busybox")).expect("scripts/cases sees to it");
    for name in ["sh", "id", "stat", "cat"] {
        fs::hard_link(root.join("bin/busybox"), root.join("bin").join(name)).expect("our own directory");
    }
    fs::write(root.join("etc/passwd"), "app:x:1234:1234::/:/bin/sh\n").expect("our own directory");
    root
}

fn built(world: &World, words: &[&str], root: &str) {
    let words = [&["image", "build-rootfs"], words, &[root, "app:v1"]].concat();
    assert_eq!(world.minipod(&words).ok(), "built app:v1\n");
}

fn df(world: &World) -> Value {
    serde_json::from_str(&world.minipod(&["system", "df", "-o", "json"]).ok()).expect("JSON")
}

/// (total, active, size, reclaimable) of one type.
fn of_type(df: &Value, kind: &str) -> [u64; 4] {
    let row = df["types"].as_array().expect("a list").iter().find(|row| row["type"] == kind).expect("it is there");
    ["total", "active", "size", "reclaimable"].map(|field| row[field].as_u64().expect("a number"))
}

pub const CASES: &[Case] = &[
    case("IMG-70", |world| {
        let root = rootfs(world);
        fs::write(root.join("data/secret"), "mine").expect("our own directory");
        // Another owner takes the setuid bit away.
        std::os::unix::fs::chown(root.join("data/secret"), Some(1234), Some(5678)).expect("we are root");
        fs::set_permissions(root.join("data/secret"), fs::Permissions::from_mode(0o4750)).expect("our own file");
        fs::write(world.path("outside"), "not for the image").expect("our own directory");
        symlink(world.path("outside"), root.join("data/out")).expect("our own directory");
        let words = ["--cmd", "id -u >/story/seen; stat -c '%a %u:%g %h' /data/secret /bin/sh >>/story/seen; cat /data/out || echo $X >>/story/seen"];
        built(world, &[&words[..], &["--env", "X=nothing", "--user", "app"]].concat(), &root.display().to_string());
        world.apply(&Pod::new("p", "Never").app("a", "").with("a", "image", json!("app:v1")).with("a", "command", Value::Null));
        world.wait_phase("p", "Succeeded");
        assert_eq!(world.written("seen"), "1234\n4750 1234:5678 1\n755 0:0 5\nnothing\n");
    }),
    case("IMG-71", |world| {
        let root = rootfs(world);
        let path = root.display().to_string();
        let refused = |path: &str, name: &str, why: &str| {
            let done = world.minipod(&["image", "build-rootfs", path, name]);
            assert!(done.code != 0 && done.err.lines().count() == 1 && done.err.contains(why), "{why}: {}", done.err);
            assert_eq!(world.minipod(&["image", "ls", "-q"]).ok(), "");
        };
        refused(&world.path("gone").display().to_string(), "app", "ENOENT");
        refused(&root.join("etc/passwd").display().to_string(), "app", "ENOTDIR");
        refused(&path, &format!("app@sha256:{}", "0".repeat(64)), "by its digest");
        fs::write(root.join("data/.wh.x"), "").expect("our own directory");
        refused(&path, "app", "taken for a whiteout");
        fs::remove_file(root.join("data/.wh.x")).expect("just made");
        let socket = UnixListener::bind(root.join("data/s")).expect("our own directory");
        refused(&path, "app", "\"data/s\": it is a socket");
        drop(socket);
        fs::remove_file(root.join("data/s")).expect("just made");
        world.tool("mount", &["-t", "tmpfs", "tmpfs", &format!("{path}/data")]).ok();
        refused(&path, "app", "another file system is mounted there");
        world.tool("umount", &[&format!("{path}/data")]).ok();
        built(world, &[], &path);
    }),
    case("IMG-72", |world| {
        let root = rootfs(world).display().to_string();
        built(world, &[], &root);
        let table = world.minipod(&["image", "history", "app:v1"]).ok();
        let id = world.minipod(&["image", "ls", "-q"]).ok();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]);
        assert!(lines.len() == 2 && lines[1].starts_with(id.trim()) && lines[1].contains("minipod image build-rootfs"), "{table}");
        let steps: Value = serde_json::from_str(&world.minipod(&["image", "history", "-o", "json", "app:v1"]).ok()).expect("JSON");
        let size =
            fs::metadata(format!("{root}/bin/busybox")).expect("just made").size() + fs::metadata(format!("{root}/etc/passwd")).expect("just made").size();
        assert_eq!((steps.as_array().map(Vec::len), &steps[0]["size"]), (Some(1), &json!(size)));
        assert!(world.minipod(&["image", "history", "gone"]).err.contains("there is no image"));
    }),
    case("IMG-73", |world| {
        let root = rootfs(world).display().to_string();
        assert_eq!(of_type(&df(world), "Images"), [0; 4]);
        built(world, &["--cmd", "sh"], &root);
        let [total, active, size, reclaimable] = of_type(&df(world), "Images");
        let busybox = fs::metadata(format!("{root}/bin/busybox")).expect("just made").blocks() * 512;
        assert!(total == 1 && active == 0 && size == reclaimable && (busybox..busybox + 65536).contains(&size), "{size} of {busybox}");
        // The same layer under another name, with another command: nothing more on disk.
        world.minipod(&["image", "build-rootfs", "--cmd", "id", &root, "app:v2"]).ok();
        assert_eq!(of_type(&df(world), "Images"), [2, 0, size, size]);
        world.apply(&Pod::new("p", "Never").app("a", "head -c 300000 /bin/busybox >/mine; exec sleep 100").with("a", "image", json!("app:v1")));
        world.wait_phase("p", "Running");
        let written = || (of_type(&df(world), "Pods")[2] >= 300_000).then_some(());
        poll(seconds(20), written).expect("what the container wrote is counted");
        let now = df(world);
        assert_eq!(of_type(&now, "Images"), [2, 1, size, 0], "they have the same layer");
        let [total, active, _, reclaimable] = of_type(&now, "Pods");
        assert_eq!([total, active, reclaimable], [1, 1, 0]);
        let told = world.minipod(&["system", "df", "--verbose"]).ok();
        assert!(["Images:", "Pods:", "Claims:", "app:v1", "app:v2"].iter().all(|word| told.contains(word)), "{told}");
        let table = world.minipod(&["system", "df"]).ok();
        let kinds: Vec<&str> = table.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(kinds, ["TYPE", "Images", "Pods", "Claims", "Logs"], "{table}");
    }),
];

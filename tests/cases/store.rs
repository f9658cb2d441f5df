//! Images out of the store by `image export`, and in again. What each case tries stands in docs/images.md.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::image_maker::{Layout, layer};
use crate::layers::lay_down;
use crate::pod::Pod;
use crate::process::Going;
use crate::registry::{self, noise};
use crate::verbs::Person;
use crate::world::{World, program};
use crate::{Case, case};

/// Takes the lent busybox in.
#[track_caller]
fn busybox(world: &World) {
    let path = registry::images().join("busybox").display().to_string();
    world.minipod(&["image", "import", "--name", "x:1", &path]).ok();
}

/// What the store in `root` says of x:1, without what an export makes anew or what is of its place.
#[track_caller]
fn told(world: &World, root: &str) -> Value {
    let mut told: Value = serde_json::from_str(&world.minipod(&["--root", root, "image", "inspect", "x:1"]).ok()).expect("JSON");
    let fields = told[0].as_object_mut().expect("an image");
    fields.retain(|key, _| !["id", "digest", "layers", "layersDir"].contains(&key.as_str()));
    assert!(fields.len() > 8, "{fields:?}");
    told[0].take()
}

/// A tmpfs of one megabyte at a path.
#[track_caller]
fn small_disk(world: &World, path: &str) {
    world.tool("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", path]).ok();
}

pub const CASES: &[Case] = &[
    case("IMG-60", |world| {
        busybox(world);
        let (here, there) = (world.root().display().to_string(), world.path("there").display().to_string());
        let mut export = world.command(program());
        let mut export = export.args(["image", "export", "x:1"]).stdout(Stdio::piped()).spawn().expect("it is there");
        let mut import = world.command(program());
        import.args(["--root", &there, "image", "import", "-"]);
        // Its input is the pipe itself.
        let pipe = export.stdout.take().expect("piped above");
        let done = import.stdin(pipe).output().expect("it is there");
        assert!(export.wait().expect("our child").success() && done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(told(world, &there), told(world, &here));
        let archive = world.minipod(&["image", "export", "x:1"]).raw;
        assert!(world.minipod(&["--root", &there, "image", "export", "x:1"]).raw == archive, "not the same bytes from there");
        for compressed in [crate::image_maker::gzip(&archive), zstd::encode_all(archive.as_slice(), 1).expect("in memory")] {
            world.minipod(&["image", "rm", "x:1"]).ok();
            world.minipod_with(&["image", "import", "-"], &compressed).ok();
            assert_eq!(told(world, &here), told(world, &there));
        }
        world.apply(&Pod::new("p", "Never").app("a", "echo runs >/story/seen").with("a", "image", json!("x:1")));
        world.wait_phase("p", "Succeeded");
        assert_eq!(world.written("seen"), "runs\n");
    }),
    case("IMG-61", |world| {
        busybox(world);
        let here = told(world, &world.root().display().to_string());
        world.minipod(&["image", "import", "--name", "y:2", &registry::images().join("busybox").display().to_string()]).ok();
        let id = world.minipod(&["image", "ls", "-q"]).ok();
        let file = world.path("saved.tar").display().to_string();
        assert_eq!(world.minipod(&["image", "export", "--format", "docker", "-o", &file, id.trim()]).ok(), format!("exported x:1 to {file}\n"));
        assert_eq!(fs::metadata(&file).expect("just made").permissions().mode() & 0o777, 0o600, "it may hold what only root reads");
        let manifest: Value = serde_json::from_str(&world.tool("tar", &["-xOf", &file, "manifest.json"]).ok()).expect("JSON");
        assert_eq!(manifest[0]["RepoTags"], json!(["docker.io/library/x:1", "docker.io/library/y:2"]));
        let config = manifest[0]["Config"].as_str().expect("a name");
        let config: Value = serde_json::from_str(&world.tool("tar", &["-xOf", &file, config]).ok()).expect("JSON");
        let layers = manifest[0]["Layers"].as_array().expect("layers");
        assert_eq!(config["rootfs"]["diff_ids"].as_array().expect("ids").len(), layers.len());
        let there = world.path("there").display().to_string();
        assert_eq!(world.minipod(&["--root", &there, "image", "import", &file]).ok(), "imported x:1\nimported y:2\n");
        assert_eq!(told(world, &there), here);
    }),
    case("IMG-62", |world| {
        let content = noise(3 << 20).iter().map(|byte| char::from(b'a' + byte % 26)).collect::<String>();
        let path = lay_down(world, &Layout::default().named("x:1", &[layer(&[("large", &content)])]).done());
        world.minipod(&["image", "import", &path]).ok();
        let disk = world.path("disk");
        fs::create_dir(&disk).expect("our own directory");
        small_disk(world, &disk.display().to_string());
        let file = disk.join("x.tar").display().to_string();
        let list = |world: &World| world.tool("ls", &["-A", &disk.display().to_string()]).ok();
        for (format, before, left) in [("oci", "", ""), ("docker", "old", "x.tar\n")] {
            if !before.is_empty() {
                world.tool("sh", &["-c", &format!("echo {before} >{file}")]).ok();
            }
            let done = world.minipod(&["image", "export", "--format", format, "x:1", "-o", &file]);
            done.fails_with(&[&file, "exporting x:1", "ENOSPC"]);
            assert_eq!(done.err.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{}", done.err);
            assert_eq!(list(world), left);
        }
        assert_eq!(world.tool("cat", &[&file]).ok(), "old\n");
        world.tool("umount", &[&disk.display().to_string()]).ok();
        // Into a pipe, a layer is packed aside in the store.
        let store = world.root().join("lib/images").display().to_string();
        world.minipod(&["image", "rm", "x:1"]).ok();
        world.tool("mount", &["-t", "tmpfs", "-o", "size=5m", "tmpfs", &store]).ok();
        world.minipod(&["image", "import", &path]).ok();
        world.minipod(&["image", "export", "--format", "docker", "x:1"]).fails_with(&["ENOSPC", "lib/images/layers"]);
        world.minipod(&["image", "export", "x:1"]).ok();
        world.tool("umount", &[&store]).ok();
        world.minipod(&["image", "import", &path]).ok();
        let mut full = world.command("sh");
        full.args(["-c", "exec \"$0\" image export x:1 >/dev/full"]).arg(program());
        Going::start(full, None).wait().fails_with(&["ENOSPC"]);
    }),
    case("IMG-63", |world| {
        busybox(world);
        world.minipod(&["image", "export", "nope"]).fails_with(&["there is no image \"nope\""]);
        let file = world.path("none.tar");
        world.minipod(&["image", "export", "nope", "-o", &file.display().to_string()]).fails_with(&["there is no image \"nope\""]);
        assert!(!file.exists());
        for path in ["/dev/null", "/"] {
            world.minipod(&["image", "export", "x:1", "-o", path]).fails_with(&["is not a regular file"]);
        }
        assert!(fs::metadata("/dev/null").expect("there").file_type().is_char_device());
        world.minipod(&["image", "export", "x:1", "-o", &world.path("no/x.tar").display().to_string()]).fails_with(&["ENOENT"]);
        // A file is replaced where it lies, also by a symlink.
        let (real, link) = (world.path("real.tar"), world.path("link.tar"));
        fs::write(&real, "old").and_then(|()| std::os::unix::fs::symlink("real.tar", &link)).expect("our own directory");
        world.minipod(&["image", "export", "x:1", "-o", &link.display().to_string()]).ok();
        assert!(link.is_symlink() && fs::metadata(&real).expect("there").len() > 1000);
    }),
    case("IMG-64", |world| {
        busybox(world);
        let mut person = Person::at(world, &["image", "export", "x:1"], 24, 100);
        assert_eq!(person.leaves(), 1, "{}", person.seen());
        person.wait_for("an archive is not written to a terminal; give -o FILE");
        assert!(person.seen().len() < 300, "{}", person.seen());
    }),
];

//! Hostile archives and documents of images, taken in by `image import`. What each case tries stands in docs/images.md.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use minipod::image::digest::sha256;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tar::EntryType;

use crate::image_maker::{CONFIG, INDEX, LAYER, Layout, MANIFEST, Tar, architecture, gzip, layer, tar_of};
use crate::layers::{import, lay_down, offer, unpacked};
use crate::process::{Done, Going, poll, seconds};
use crate::pull::{empty, refused};
use crate::world::World;
use crate::{Case, case};

fn base() -> Vec<u8> {
    layer(&[("bin/", ""), ("bin/app", "one"), ("etc/", ""), ("etc/passwd", "app:x:7:7::/home/app:/bin/sh\n")])
}

fn top() -> Vec<u8> {
    layer(&[("etc/", ""), ("etc/motd", "hello")])
}

fn web() -> Layout {
    Layout::default().named("web:1", &[base(), top()])
}

/// Writes an archive and gives its path.
fn archive(world: &World, bytes: &[u8]) -> String {
    let path = world.path("archive");
    fs::write(&path, bytes).expect("our own directory");
    path.display().to_string()
}

/// Imports without a name of ours.
#[track_caller]
fn as_it_is(world: &World, path: &str) -> Done {
    import(world, &[path])
}

/// An image of one good layer whose configuration `change` has made strange.
fn configured(change: impl FnOnce(&mut Value)) -> Layout {
    let mut layout = Layout::default();
    let mut config = Layout::config(&[base()], &architecture());
    change(&mut config);
    let packed = layout.blob(LAYER, gzip(&base()));
    let descriptor = layout.manifest(&config, &[packed]);
    layout.index.push(descriptor);
    layout
}

/// The same with a strange manifest.
fn manifested(change: impl FnOnce(&mut Value)) -> Layout {
    let mut layout = Layout::default();
    let config = layout.blob(CONFIG, Layout::config(&[base()], &architecture()).to_string().into_bytes());
    let packed = layout.blob(LAYER, gzip(&base()));
    let mut manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [packed] });
    change(&mut manifest);
    let descriptor = layout.blob(MANIFEST, manifest.to_string().into_bytes());
    layout.index.push(descriptor);
    layout
}

/// An archive as `docker save` wrote it, with this manifest.json.
fn saved(manifest: &Value) -> BTreeMap<String, Vec<u8>> {
    let config = Layout::config(&[base()], &architecture()).to_string().into_bytes();
    BTreeMap::from([("c.json".into(), config), ("a/layer.tar".into(), base()), ("manifest.json".into(), manifest.to_string().into_bytes())])
}

/// Where a digest lies in a layout.
fn place(digest: &Value) -> String {
    format!("blobs/sha256/{}", &digest.as_str().expect("a digest")[7..])
}

pub const CASES: &[Case] = &[
    case("IMG-52", |world| {
        let packed = gzip(&base());
        let layer = format!("blobs/sha256/{}", &sha256(&packed)[7..]);
        type Change<'a> = &'a dyn Fn(&mut Layout);
        let faults: [(Change<'_>, &str); 8] = [
            (&|l| drop(l.files.remove(&layer)), "is missing in it"),
            (&|l| l.files.get_mut(&layer).expect("there").truncate(packed.len() - 9), "its manifest says"),
            (&|l| l.files.get_mut(&layer).expect("there").push(0), "its manifest says"),
            (&|l| l.files.get_mut(&layer).expect("there")[60] ^= 1, "is damaged: its digest is sha256:"),
            (&|l| l.files.get_mut(&place(&l.index[0]["digest"])).expect("there").push(b' '), "is damaged"),
            (&|l| l.index[0]["digest"] = json!("sha256:../../../etc/passwd"), "malformed"),
            (&|l| l.index[0]["digest"] = json!("md5:00000000000000000000000000000000"), "the only kind that is checked"),
            (&|l| l.index.clear(), "it holds no image for linux/"),
        ];
        for (change, told) in faults {
            let mut layout = web();
            change(&mut layout);
            refused(world, offer(world, layout), &[told]);
        }
    }),
    case("IMG-53", |world| {
        for (real, told) in [(top(), "another content than the configuration names"), (vec![7; 2000], "not a tar archive")] {
            let mut layout = Layout::default();
            let packed = layout.blob(LAYER, gzip(&real));
            let descriptor = layout.manifest(&Layout::config(&[base()], &architecture()), &[packed]);
            layout.index.push(descriptor);
            refused(world, offer(world, layout), &[told]);
        }
    }),
    case("IMG-54", |world| {
        let both = web().named("other:1", &[base(), layer(&[("other", "")])]);
        let mut broken = both.clone();
        broken.files.insert(format!("blobs/sha256/{}", &sha256(&gzip(&layer(&[("other", "")])))[7..]), Vec::new());
        refused(world, as_it_is(world, &lay_down(world, &broken.done())), &["its manifest says"]);
        assert_eq!(as_it_is(world, &lay_down(world, &both.done())).ok(), "imported web:1\nimported other:1\n");
    }),
    case("IMG-55", |world| {
        let tar = tar_of(&web().done());
        let zstd = zstd::encode_all(tar.as_slice(), 1).expect("in memory");
        let one = |name: &str, content: &[u8]| tar_of(&BTreeMap::from([(name.to_owned(), content.to_vec())]));
        let archives: [(Vec<u8>, &str); 9] = [
            (Vec::new(), "neither an OCI image layout"),
            (b"hello".to_vec(), "ends early"),
            (vec![1; 4096], "not a tar archive"),
            (tar[..tar.len() / 2 + 100].to_vec(), "ends early"),
            (gzip(&tar)[..1000].to_vec(), "importing"),
            (zstd[..zstd.len() / 2].to_vec(), "importing"),
            (one("index.json", b"{"), "is malformed: EOF"),
            (one("manifest.json", b"[{}]"), "is malformed: missing field"),
            (one("index.json", &vec![b' '; 5 << 20]), "larger than 4194304 bytes"),
        ];
        for (bytes, told) in archives {
            refused(world, as_it_is(world, &archive(world, &bytes)), &[told]);
        }
        refused(world, as_it_is(world, "/nonexistent"), &["ENOENT"]);
        refused(world, as_it_is(world, "/dev/null"), &["neither an OCI image layout"]);
    }),
    case("IMG-56", |world| {
        offer(world, Layout::default().named("x:1", &[top(), base(), top()])).ok();
        assert_eq!(unpacked(world).len(), 2);
        world.minipod(&["image", "rm", "x:1"]).ok();
        let many: Vec<Vec<u8>> = (0..121).map(|n| layer(&[("n", &n.to_string())])).collect();
        refused(world, offer(world, Layout::default().named("x:1", &many)), &["121 layers, more than the 120"]);
    }),
    case("IMG-57", |world| {
        let paths: Vec<String> =
            (0..4).map(|n| lay_down(world, &Layout::default().named(&format!("n:{n}"), &[base(), layer(&[("n", &n.to_string())])]).done())).collect();
        let going: Vec<Going> = paths.iter().map(|path| world.start(&["image", "import", path])).collect();
        going.into_iter().for_each(|one| drop(one.wait().ok()));
        assert_eq!(world.minipod(&["image", "ls", "-q"]).ok().lines().count(), 4);
        assert_eq!(fs::read_dir(world.root().join("lib/images/layers")).expect("made").count(), 5, "the base once, and each one's own");
    }),
    case("IMG-58", |world| {
        // In the middle of a layer's file: the kernel lets no file of it be larger.
        let big = layer(&[("small", "x"), ("big", &"x".repeat(200_000))]);
        let path = lay_down(world, &Layout::default().named("big:1", &[base(), big]).done());
        let program = crate::world::program().to_string_lossy().into_owned();
        let died = world.tool("prlimit", &["--fsize=100000", "--core=0", "--", &program, "image", "import", &path]);
        assert_eq!(died.code, 128 + Signal::SIGXFSZ as i32, "{}", died.err);
        assert_eq!(fs::read_dir(world.root().join("lib/images/tmp")).expect("made").count(), 2, "one layer whole, one half");
        assert_eq!(world.minipod(&["image", "ls", "-q"]).ok(), "");
        // And while an archive comes through a pipe that never ends.
        let fifo = world.path("fifo").display().to_string();
        world.tool("mkfifo", &[&fifo]).ok();
        let going = world.start(&["image", "import", &fifo]);
        let mut pipe = fs::File::options().write(true).open(&fifo).expect("it opens the other end");
        std::io::Write::write_all(&mut pipe, &tar_of(&web().done())[..2000]).expect("it reads");
        let spooled = || fs::metadata(world.root().join("lib/images/tmp/archive")).ok().map(drop);
        assert!(poll(seconds(20), spooled).is_some(), "it lays the archive down");
        going.signal(Signal::SIGKILL);
        assert_eq!(going.wait().code, 137);
        world.minipod(&["image", "prune"]).ok();
        empty(world);
    }),
    case("IMG-90", |world| {
        // One file for two layers, the same image twice, the same name twice.
        let image = json!({ "Config": "c.json", "RepoTags": ["x:1", "x:1"], "Layers": ["a/layer.tar"] });
        import(world, &[&archive(world, &tar_of(&saved(&json!([image, image]))))]).ok();
        assert_eq!(world.minipod(&["image", "ls", "-q"]).ok().lines().count(), 1);
        world.minipod(&["image", "rm", "x:1"]).ok();
        let twice = json!([{ "Config": "c.json", "RepoTags": ["x:1"], "Layers": ["a/layer.tar", "a/layer.tar"] }]);
        refused(world, as_it_is(world, &archive(world, &tar_of(&saved(&twice)))), &["manifest.json has 2 layers but \"c.json\" has 1"]);
    }),
    case("IMG-91", |world| {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for key in ["config", "mediaType"] {
            let text = format!("{{\"schemaVersion\": 2, \"{key}\": {deep}}}");
            let mut layout = Layout::default();
            let descriptor = layout.blob(MANIFEST, text.into_bytes());
            layout.index.push(descriptor);
            refused(world, offer(world, layout), &["is malformed: recursion limit exceeded"]);
        }
        // What no pod needs may be as long as a document may be, and is carried along.
        let history: Vec<Value> = (0..30_000).map(|n| json!({ "created_by": format!("RUN {n}"), "empty_layer": true })).collect();
        offer(world, configured(|config| config["history"] = json!(history))).ok();
        world.minipod(&["image", "rm", "x:1"]).ok();
        let endless = "x".repeat(5 << 20);
        refused(world, offer(world, configured(|config| config["author"] = json!(endless))), &["larger than 4194304 bytes"]);
        for (change, told) in [
            (json!({ "User": 7 }), "invalid type: integer `7`, expected a string"),
            (json!({ "Env": "PATH=/bin" }), "is malformed: invalid type"),
            (json!({ "Entrypoint": { "0": "sh" } }), "is malformed: invalid type"),
        ] {
            refused(world, offer(world, configured(|config| config["config"] = change)), &[told]);
        }
    }),
    case("IMG-92", |world| {
        // Media types lie; the bytes tell. But what says that it is no image is none.
        for kind in ["text/html", "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+zstd"] {
            offer(world, manifested(|manifest| manifest["layers"][0]["mediaType"] = json!(kind))).ok();
        }
        world.minipod(&["image", "rm", "x:1"]).ok();
        let chart = |manifest: &mut Value| manifest["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
        refused(world, offer(world, manifested(chart)), &["it holds no image for linux/"]);
        refused(world, offer(world, manifested(|manifest| manifest["layers"] = json!([]))), &["its manifest has 0 layers but its configuration 1"]);
        refused(world, offer(world, manifested(|manifest| manifest["layers"][0]["size"] = json!(-1))), &["is malformed"]);
        refused(world, offer(world, manifested(|manifest| manifest["layers"][0]["size"] = json!(u64::MAX))), &["its manifest says 18446744073709551615"]);
    }),
    case("IMG-93", |world| {
        // No document can hold its own digest, so a circle is a depth; one that is wide is looked through once.
        let nested = |depth: usize| {
            let mut layout = Layout::default();
            let mut descriptor = layout.image(&[base()], &architecture());
            for _ in 0..depth {
                descriptor = layout.blob(INDEX, json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] }).to_string().into_bytes());
            }
            layout.index.push(descriptor);
            layout
        };
        offer(world, nested(4)).ok();
        world.minipod(&["image", "rm", "x:1"]).ok();
        refused(world, offer(world, nested(5)), &["its indexes are nested more than 4 deep"]);
        let foreign = json!({ "mediaType": MANIFEST, "size": 2, "digest": sha256(b"{}"), "platform": { "os": "linux", "architecture": "s390x" } });
        let mut layout = Layout::default();
        let wide = layout.blob(INDEX, json!({ "schemaVersion": 2, "manifests": vec![foreign; 10_000] }).to_string().into_bytes());
        layout.index.push(wide);
        refused(world, offer(world, layout), &["it holds no image for linux/"]);
        // The index says one machine, the configuration another.
        let mut layout = configured(|config| config["architecture"] = json!("s390x"));
        layout.index[0]["platform"] = json!({ "os": "linux", "architecture": architecture() });
        refused(world, offer(world, layout), &["its image is for linux/s390x, this machine is linux/"]);
        refused(world, offer(world, configured(|config| config["os"] = json!("win\n\x1b[2J"))), &[r"its image is for win\n\u{1b}[2J/"]);
    }),
    case("IMG-94", |world| {
        // A foreign layer is fetched from nowhere: not from its urls, which lead to files of this machine and to its network.
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let urls = json!(["file:///etc/passwd", "http://127.0.0.1:1/latest/meta-data/"]);
        let change = |manifest: &mut Value| {
            manifest["layers"][0]["mediaType"] = json!(foreign);
            manifest["layers"][0]["urls"] = urls.clone();
        };
        offer(world, manifested(change)).ok();
        world.minipod(&["image", "rm", "x:1"]).ok();
        let mut layout = manifested(change);
        layout.files.remove(&format!("blobs/sha256/{}", &sha256(&gzip(&base()))[7..]));
        refused(world, offer(world, layout), &["is missing in it"]);
    }),
    case("IMG-98", |world| {
        // A directory's names lead nowhere else, and are not waited for.
        let files = web().done();
        let first = files.keys().find(|name| name.starts_with("blobs")).expect("blobs").clone();
        for name in ["index.json", &first] {
            let path = lay_down(world, &files);
            fs::remove_file(Path::new(&path).join(name)).and_then(|()| symlink("/etc/passwd", Path::new(&path).join(name))).expect("our own directory");
            refused(world, as_it_is(world, &path), &["EXDEV"]);
            fs::remove_file(Path::new(&path).join(name)).expect("our own directory");
            world.tool("mkfifo", &[&Path::new(&path).join(name).display().to_string()]).ok();
            refused(world, as_it_is(world, &path), &["is not a regular file"]);
        }
        let path = |config: &str, layer: &str| lay_down(world, &saved(&json!([{ "Config": config, "RepoTags": ["x:1"], "Layers": [layer] }])));
        refused(world, as_it_is(world, &path("../canary", "a/layer.tar")), &["EXDEV"]);
        refused(world, as_it_is(world, &path("c.json", "/etc/passwd")), &["EXDEV"]);
        refused(world, as_it_is(world, &path("c.json", "..")), &["EXDEV"]);
        refused(world, as_it_is(world, &path("c.json", "a")), &["is not a regular file"]);
    }),
    case("IMG-99", |world| {
        // An archive's links lead to its own files, and not in circles.
        let manifest = |layer: &str| json!([{ "Config": "c.json", "RepoTags": ["x:1"], "Layers": [layer] }]).to_string();
        let config = Layout::config(&[base()], &architecture()).to_string();
        let with = |tar: Tar, layer: &str| archive(world, &tar.file("c.json", &config).file("manifest.json", &manifest(layer)).end());
        for tar in [Tar::default().symlink("l", "l"), Tar::default().symlink("l", "m").symlink("m", "l"), Tar::default().symlink("l", "/etc/passwd")] {
            refused(world, as_it_is(world, &with(tar, "l")), &["\"l\" is missing in it"]);
        }
        let good = Tar::default().header(EntryType::Regular, b"real", &base(), |_| {}).symlink("b/l", "../../../real");
        as_it_is(world, &with(good, "b/l")).ok();
        world.minipod(&["image", "rm", "x:1"]).ok();
        let mut many = tar::Builder::new(Vec::new());
        for n in 0..100_001 {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            many.append_data(&mut header, n.to_string(), b"".as_slice()).expect("in memory");
        }
        let many = zstd::encode_all(many.into_inner().expect("in memory").as_slice(), 1).expect("in memory");
        refused(world, as_it_is(world, &archive(world, &many)), &["the archive has more than 100000 files"]);
    }),
    case("IMG-100", |world| {
        // A name in an archive is a place in the store.
        for name in [
            "../../../../escaped:1",
            "a/../../b:1",
            "/abs:1",
            "a//b:1",
            "a:../x",
            "a\nb:1",
            "a:\x1b[2J",
            "x:",
            ":1",
            "UPPER:1",
            &format!("{}:1", "a/".repeat(200)),
        ] {
            let image = json!([{ "Config": "c.json", "RepoTags": [name], "Layers": ["a/layer.tar"] }]);
            let done = as_it_is(world, &archive(world, &tar_of(&saved(&image))));
            assert!(!done.err.trim_end().contains(|c: char| c.is_control() && c != '\n'), "{:?}", done.err);
            refused(world, done, &["couldn't parse image name"]);
        }
        refused(world, as_it_is(world, &lay_down(world, &Layout::default().named("1", &[base()]).done())), &["give --name NAME"]);
    }),
];

//! Hostile layers, each in an image that is made here and taken in by `image import`. What each case tries stands in docs/images.md.
//!
//! Judged from outside: the exit code, one line, the store, and all that stands beside the store.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tar::EntryType;

use crate::image_maker::{LAYER, Layout, Tar, architecture, gzip, layer};
use crate::pod::Pod;
use crate::process::Done;
use crate::pull::{empty, refused};
use crate::world::World;
use crate::{Case, case, registry};

/// What hostile names aim at; it stands beside the store's root.
const CANARY: &str = "canary";
/// From a layer's directory while it is being unpacked, and some more.
const UP: &str = "../../../../../../../../..";

/// Every name beside the store, with what a change would change.
fn beside(world: &World) -> BTreeMap<PathBuf, (u64, u64, i64, i64, u64)> {
    let store = world.root().join("lib/images");
    let mut todo = vec![world.path("")];
    let mut seen = BTreeMap::new();
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).expect("nobody else is here");
        if meta.is_dir() {
            let names = fs::read_dir(&path).expect("nobody else is here").map(|entry| entry.expect("nobody else is here").path());
            todo.extend(names.filter(|path| *path != store));
        }
        seen.insert(path, (meta.ino(), meta.nlink(), meta.ctime(), meta.ctime_nsec(), meta.len()));
    }
    seen
}

/// Imports what is at `path` and demands that nothing beside the store has changed.
#[track_caller]
pub fn import(world: &World, words: &[&str]) -> Done {
    let canary = world.path(CANARY);
    if !canary.exists() {
        fs::write(&canary, "secret").expect("our own directory");
    }
    let before = beside(world);
    let accounts = fs::metadata("/etc/passwd").map(|meta| (meta.ctime(), meta.ctime_nsec())).ok();
    let done = world.minipod(&[&["image", "import"], words].concat());
    assert_eq!(beside(world), before, "something came out of the store");
    assert_eq!(fs::metadata("/etc/passwd").map(|meta| (meta.ctime(), meta.ctime_nsec())).ok(), accounts);
    assert!(!Path::new("/escaped").exists(), "something came out into the root");
    done
}

/// Lays an image layout down as a directory.
pub fn lay_down(world: &World, files: &BTreeMap<String, Vec<u8>>) -> String {
    let dir = tempfile::Builder::new().prefix("layout-").tempdir_in(world.path("")).expect("our own directory").keep();
    for (name, content) in files {
        fs::create_dir_all(dir.join(name).parent().expect("below dir")).and_then(|()| fs::write(dir.join(name), content)).expect("our own directory");
    }
    dir.display().to_string()
}

/// Takes a layout in as `x:1`.
#[track_caller]
pub fn offer(world: &World, layout: Layout) -> Done {
    let path = lay_down(world, &layout.done());
    import(world, &["--name", "x:1", &path])
}

/// The directories of the layers of `x:1`, bottom to top.
#[track_caller]
pub fn unpacked(world: &World) -> Vec<PathBuf> {
    let told: Value = serde_json::from_str(&world.minipod(&["image", "inspect", "x:1"]).ok()).expect("JSON");
    let dir = PathBuf::from(told[0]["layersDir"].as_str().expect("a path"));
    told[0]["layers"].as_array().expect("layers").iter().map(|name| dir.join(name.as_str().expect("a name"))).collect()
}

/// Takes in an image of one layer; the directory that it has become.
#[track_caller]
fn accepted(world: &World, tar: Tar) -> PathBuf {
    offer(world, Layout::default().named("x:1", &[tar.end()])).ok();
    unpacked(world).remove(0)
}

/// Demands that an image with this layer above a good one is refused in one line with these words, and that nothing of either is kept.
#[track_caller]
fn rejected(world: &World, tar: Vec<u8>, words: &[&str]) {
    let done = offer(world, Layout::default().named("x:1", &[layer(&[("good", "")]), tar]));
    assert!(!done.err.trim_end().contains(|c: char| c.is_control() && c != '\n'), "controls reach the terminal: {:?}", done.err);
    refused(world, done, words);
}

/// An image whose lowest layer is busybox, to be run.
fn runnable(layers: &[Vec<u8>]) -> Layout {
    let dir = registry::images().join("busybox");
    let blob = |digest: &Value| fs::read(dir.join("blobs/sha256").join(&digest.as_str().expect("a digest")[7..])).expect("our own");
    let json = |bytes: Vec<u8>| -> Value { serde_json::from_slice(&bytes).expect("our own") };
    let manifest = json(blob(&json(fs::read(dir.join("index.json")).expect("our own"))["manifests"][0]["digest"]));
    let mut config = json(blob(&manifest["config"]["digest"]));
    let mut layout = Layout::default();
    let mut descriptors = manifest["layers"].as_array().expect("layers").clone();
    for descriptor in &descriptors {
        layout.blob(LAYER, blob(&descriptor["digest"]));
    }
    let more = Layout::config(layers, &architecture())["rootfs"]["diff_ids"].as_array().expect("made so").clone();
    config["rootfs"]["diff_ids"].as_array_mut().expect("our own").extend(more);
    descriptors.extend(layers.iter().map(|layer| layout.blob(LAYER, gzip(layer))));
    let descriptor = layout.manifest(&config, &descriptors);
    layout.index.push(descriptor);
    layout
}

/// What a pod of busybox and these layers writes when it runs `script`.
#[track_caller]
fn seen(world: &World, layers: &[Vec<u8>], script: &str) -> String {
    offer(world, runnable(layers)).ok();
    let script = format!("{{ {script}; }} >/story/seen 2>&1; echo >>/story/seen");
    world.apply(&Pod::new("p", "Never").app("a", &script).with("a", "image", json!("x:1")));
    world.wait_phase("p", "Succeeded");
    let seen = world.written("seen");
    world.delete("p");
    seen
}

fn meta(path: impl AsRef<Path>) -> Metadata {
    fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

fn is_whiteout(path: impl AsRef<Path>) -> bool {
    let meta = meta(path);
    meta.file_type().is_char_device() && meta.rdev() == 0
}

/// An extended attribute, by the tool of the system's own library.
fn attribute(path: impl AsRef<Path>, key: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::lgetxattr(path.as_ref(), key, value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}

/// All of a tree, as `find` says it.
fn names(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).expect("unpacked").flatten() {
            names.push(entry.path().strip_prefix(dir).expect("below it").display().to_string());
            if entry.file_type().expect("unpacked").is_dir() {
                todo.push(entry.path());
            }
        }
    }
    names.sort();
    names
}

/// A disk of one megabyte in the store's place, while `work` goes on.
fn on_a_small_disk(world: &World, work: impl FnOnce()) {
    let store = world.root().join("lib/images").display().to_string();
    world.tool("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", &store]).ok();
    work();
    world.tool("umount", &[&store]).ok();
}

/// A layer of one file of zeros.
fn zeros(length: usize) -> Vec<u8> {
    Tar::default().header(EntryType::Regular, b"zeros", &vec![0; length], |_| {}).end()
}

/// An image of one layer that is packed so; `bytes` is the tar, of which only the digest counts.
fn packed(bytes: &[u8], packed: Vec<u8>) -> Layout {
    let mut layout = Layout::default();
    let descriptor = layout.blob(LAYER, packed);
    let descriptor = layout.manifest(&Layout::config(&[bytes.to_vec()], &architecture()), &[descriptor]);
    layout.index.push(descriptor);
    layout
}

/// Numbers that differ each time and are the same in every run (a linear congruence).
fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |faces| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % faces
    }
}

pub const CASES: &[Case] = &[
    case("IMG-40", |world| {
        let dir = accepted(world, Tar::default().file("/escaped", "1").file(&format!("{UP}/up"), "2").file("a/../../b/../c", "3").file("./././d", "4"));
        assert_eq!(names(&dir), ["c", "d", "escaped", "up"]);
    }),
    case("IMG-41", |world| {
        let canary = world.path(CANARY);
        let away = canary.parent().expect("a directory").display().to_string();
        let tar = Tar::default().symlink("abs", &away).file("abs/canary", "changed").symlink("up", UP).file("up/escaped", "x");
        let dir = accepted(world, tar.symlink("chain", "abs").file("chain/second", "x").symlink("magic", "/proc/self/root").file("magic/escaped", "x"));
        assert_eq!(text(dir.join(away.trim_start_matches('/')).join(CANARY)), "changed");
        assert!(dir.join("escaped").exists() && dir.join("proc/self/root/escaped").exists(), "{:?}", names(&dir));
        assert_eq!(text(&canary), "secret");
        world.minipod(&["image", "rm", "x:1"]).ok();
        rejected(world, Tar::default().symlink("loop", "loop").file("loop/x", "").end(), &["entry \"loop/x\"", "ELOOP"]);
    }),
    case("IMG-42", |world| {
        let canary = world.path(CANARY).display().to_string();
        for target in [canary.as_str(), &format!("{UP}{canary}"), "/etc/passwd"] {
            rejected(world, Tar::default().link("stolen", target).end(), &["hard link to", "which its layer does not have"]);
        }
        let away = Tar::default().symlink("d", canary.trim_end_matches("/canary")).link("stolen", "d/canary");
        rejected(world, away.end(), &["which its layer does not have"]);
    }),
    case("IMG-43", |world| {
        let tar = Tar::default().file("a", "1").dir("a", 0o700).file("a/x", "").symlink("a", UP).file("a", "last").dir("d", 0o755).file("d/x", "1");
        let dir = accepted(world, tar.dir("d", 0o711).symlink("s", "/escaped").dir("s", 0o755).file("s/in", "").file("t", "").link("t", "a"));
        assert_eq!(names(&dir), ["a", "d", "d/x", "s", "s/in", "t"]);
        assert_eq!((text(dir.join("a")), meta(dir.join("d")).mode() & 0o777, text(dir.join("t"))), ("last".into(), 0o711, "last".into()));
    }),
    case("IMG-44", |world| {
        let below = layer(&[("a/", ""), ("a/gone", ""), ("a/kept", ""), ("o/", ""), ("o/hidden", ""), ("d/", ""), ("d/old", "")]);
        let above = layer(&[("a/.wh.gone", ""), ("o/new", ""), ("o/.wh..wh..opq", ""), ("d/", ""), ("d/new", ""), (".wh.d", ""), (".wh.never", "")]);
        assert_eq!(
            seen(world, &[below, above], "echo $(cd / && find a o d never -type f 2>&1 | sort)"),
            "a/kept d/new find: never: No such file or directory o/new\n\n"
        );
    }),
    case("IMG-45", |world| {
        let below = Tar::default().header(EntryType::Directory, b"work", b"", |header| {
            header.set_mode(0o1730);
            header.set_uid(7);
        });
        let layers = [below.end(), layer(&[("work/x", ""), ("fresh/x", "")])];
        assert_eq!(seen(world, &layers, "stat -c '%a %u %n' /work /fresh"), "1730 7 /work\n755 0 /fresh\n\n");
    }),
    case("IMG-46", |world| {
        rejected(world, Tar::default().pax(&[("path", format!("{}x", "d/".repeat(300)).as_bytes())]).file("x", "").end(), &["deeper than 256 directories"]);
        let good = Tar::default().file("a", "content").file("b", "").0;
        rejected(world, good[..515].to_vec(), &["entry \"a\"", "it ends early"]);
        rejected(world, good[..1124].to_vec(), &["it ends early"]);
        rejected(world, Tar::default().header(EntryType::new(b'?'), b"x", b"", |_| {}).end(), &["its type '?' is none that a layer may hold"]);
        let mut damaged = good;
        damaged[3] ^= 1;
        rejected(world, damaged, &["header checksum"]);
    }),
    case("IMG-47", |world| {
        // Sequences by which one part makes a way for the next. Whether one is taken or refused, import() looks beside the store.
        let canary = world.path(CANARY).display().to_string();
        let up = format!("{UP}{canary}");
        let names = ["a", "a/b", "a/b/c", "b", "b/a", "./a", "a/../b", "../a", "/a/b", "a/.wh.b", "a/.wh..wh..opq", ".wh.a", "a/canary", "b/canary"];
        let targets = ["a", "b", "..", "../..", "/", "/a", "a/b", ".", UP, &up, &canary, "/proc/self/fd", "/proc/self/cwd"];
        for seed in 0..30 {
            let mut dice = dice(seed);
            let tar = (0..12).fold(Tar::default(), |tar, _| {
                let name = names[dice(names.len())];
                match dice(7) {
                    0 | 1 => tar.symlink(name, targets[dice(targets.len())]),
                    2 => tar.link(name, targets[dice(targets.len())]),
                    3 => tar.dir(name, 0o755),
                    4 => tar.device(EntryType::Char, name, (0, 0)),
                    _ => tar.file(name, "hostile"),
                }
            });
            let done = offer(world, Layout::default().named("x:1", &[tar.end()]));
            if done.code == 0 {
                world.minipod(&["image", "rm", "x:1"]).ok();
            }
            assert!([0, 1].contains(&done.code), "seed {seed}: {}", done.err);
            empty(world);
        }
        assert_eq!(text(&canary), "secret");
    }),
    case("IMG-48", |world| {
        let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let records: [(&str, &[u8]); 6] = [
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.metacopy", b""),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.mine", b"1"),
            ("SCHILY.xattr.security.capability", capability),
        ];
        let dir = accepted(world, Tar::default().pax(&records).file("ping", "x").pax(&records[..5]).dir("d", 0o755));
        for (key, _) in &records[..4] {
            let key = key.trim_start_matches("SCHILY.xattr.");
            assert_eq!((attribute(dir.join("ping"), key), attribute(dir.join("d"), key)), (None, None), "{key}");
        }
        assert_eq!(attribute(dir.join("ping"), "security.capability").as_deref(), Some(capability.as_slice()));
        assert_eq!(attribute(dir.join("d"), "trusted.mine").as_deref(), Some(b"1".as_slice()));
    }),
    case("IMG-49", |world| {
        let records: [(&str, &[u8]); 2] = [("SCHILY.xattr.trusted.odd", b"a\n=12 path=escaped\n\0"), ("path", b"true")];
        let dir = accepted(world, Tar::default().pax(&records).file("false", ""));
        assert_eq!((names(&dir), attribute(dir.join("true"), "trusted.odd").as_deref()), (vec!["true".into()], Some(records[0].1)));
    }),
    case("IMG-50", |world| {
        for kind in [EntryType::XHeader, EntryType::GNULongName, EntryType::GNULongLink] {
            let tar = Tar::default().header(kind, b"x", b"", |header| header.set_size(1 << 40));
            rejected(world, tar.end(), &["an extended header has 1099511627776 bytes, the limit is 1048576"]);
        }
    }),
    case("IMG-51", |world| {
        for bytes in ["12 path=abc", "x path=a\n", "9 path=a\n\0", "99999999999999999999 a=b\n", "3 a\n", "0 a=b\n", "-1 a=b\n"] {
            rejected(
                world,
                Tar::default().header(EntryType::XHeader, b"x", bytes.as_bytes(), |_| {}).file("f", "").end(),
                &["an extended header is malformed"],
            );
        }
        for (key, value) in [("size", "many"), ("uid", "-1"), ("gid", "18446744073709551616")] {
            rejected(world, Tar::default().pax(&[(key, value.as_bytes())]).file("f", "").end(), &[&format!("the extended header {key} is not a number")]);
        }
    }),
    case("IMG-59", |world| {
        // The program makes the store's directory itself here.
        fs::remove_dir(world.root().join("lib/images")).expect("empty at first");
        world.minipod(&["image", "ls"]).ok();
        // The image's own: they are made, nobody but root comes near them, and a container may not open what its device cgroup forbids.
        let tar = Tar::default().device(EntryType::Char, "mem", (1, 1)).device(EntryType::Block, "disk", (8, 0)).device(EntryType::Fifo, "fifo", (0, 0));
        let tar = tar.header(EntryType::Regular, b"su", b"", |header| header.set_mode(0o6755)).end();
        let seen = seen(world, &[tar], "for d in mem disk; do head -c 1 /$d || echo not; done; stat -c '%a %F %n' /su /fifo");
        assert_eq!(seen.matches("not\n").count(), 2, "{seen}");
        assert!(seen.contains("6755 regular empty file /su") && seen.contains("fifo /fifo"), "{seen}");
        assert_eq!(meta(world.root().join("lib/images")).permissions().mode() & 0o777, 0o700);
    }),
    case("IMG-80", |world| {
        let hostile = "a\nerror: all is well\x1b[2J\x1b]0;owned\x07";
        rejected(world, Tar::default().link(hostile, "missing\n\x1b[2J").end(), &[r"a\nerror: all is well\u{1b}[2J"]);
        rejected(world, Tar::default().file(hostile, "").file(&format!("{hostile}/x"), "").end(), &["ENOTDIR"]);
        rejected(world, Tar::default().pax(&[("path", b"x\0y")]).file("x", "").end(), &["EINVAL"]);
        let dir = accepted(world, Tar::default().file(hostile, "kept"));
        assert_eq!(text(dir.join(hostile)), "kept");
    }),
    case("IMG-81", |world| {
        let dir = accepted(world, Tar::default().header(EntryType::Regular, b"caf\xe9/\xff\xfe", b"latin", |_| {}));
        assert_eq!(text(dir.join(std::ffi::OsStr::from_bytes(b"caf\xe9/\xff\xfe"))), "latin");
    }),
    case("IMG-82", |world| {
        // Before 1970 is a time; what no file system can hold is none, and never wraps round into one.
        let dir = accepted(world, Tar::default().pax(&[("mtime", b"-1.5")]).file("old", "").pax(&[("mtime", b"soon")]).file("none", ""));
        assert_eq!((meta(dir.join("old")).mtime(), meta(dir.join("none")).mtime()), (-2, 1_600_000_000));
        let far = Tar::default().pax(&[("mtime", b"9223372036854775807")]).file("far", "").header(EntryType::Regular, b"neg", b"", |header| {
            header.as_mut_bytes()[136..148].copy_from_slice(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe");
        });
        let dir = accepted(world, far);
        assert!(meta(dir.join("far")).mtime() > 0 && meta(dir.join("neg")).mtime() <= 0, "{} {}", meta(dir.join("far")).mtime(), meta(dir.join("neg")).mtime());
    }),
    case("IMG-83", |world| {
        for size in [1 << 63, u64::MAX, u64::MAX - 511, 1 << 62] {
            rejected(world, Tar::default().header(EntryType::Regular, b"x", b"", |header| header.set_size(size)).end(), &["layer sha256:"]);
            rejected(world, Tar::default().pax(&[("size", size.to_string().as_bytes())]).file("x", "").end(), &["layer sha256:"]);
        }
    }),
    case("IMG-84", |world| {
        let tar = Tar::default().header(EntryType::Regular, b"x", b"", |header| header.set_uid(1 << 32));
        rejected(world, tar.end(), &["the owner 4294967296 is not a user id"]);
        rejected(world, Tar::default().pax(&[("gid", b"4294967296")]).file("x", "").end(), &["the group 4294967296 is not a group id"]);
        // (uid_t)-1 means "leave it as it is" to chown(2).
        rejected(world, Tar::default().pax(&[("uid", b"4294967295")]).file("x", "").end(), &["the owner 4294967295 is not a user id"]);
        let dir = accepted(world, Tar::default().pax(&[("uid", b"4294967294")]).file("x", ""));
        assert_eq!(meta(dir.join("x")).uid(), 4_294_967_294);
    }),
    case("IMG-85", |world| {
        let tar = Tar::default().header(EntryType::GNUSparse, b"x", b"", |header| header.as_mut_bytes()[483..495].copy_from_slice(b"777777777777"));
        rejected(world, tar.end(), &["sparse"]);
        let records: [(&str, &[u8]); 2] = [("GNU.sparse.size", b"1099511627776"), ("GNU.sparse.map", b"0,1")];
        rejected(world, Tar::default().pax(&records).file("x", "").end(), &["sparse"]);
    }),
    case("IMG-86", |world| {
        // 64 MiB of zeros in some kilobytes, on a disk of one megabyte.
        let bomb = zeros(64 << 20);
        let mut most = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        most.write_all(&bomb).expect("in memory");
        for small in [most.finish().expect("in memory"), zstd::encode_all(bomb.as_slice(), 19).expect("in memory"), gzip(&gzip(&bomb))] {
            assert!(small.len() < 700 << 10, "{}", small.len());
            let layout = packed(&bomb, small);
            on_a_small_disk(world, || {
                let done = offer(world, layout);
                let words: &[&str] = if done.err.contains("ENOSPC") { &["ENOSPC"] } else { &["not a tar archive"] };
                refused(world, done, words);
            });
        }
    }),
    case("IMG-87", |world| {
        let tar = layer(&[("one", "1"), ("two", "2")]);
        let (first, second) = tar.split_at(700);
        offer(world, packed(&tar, [gzip(first), gzip(second)].concat())).ok();
        assert_eq!(names(&unpacked(world)[0]), ["one", "two"]);
        world.minipod(&["image", "rm", "x:1"]).ok();
        // What stands behind the end of the archive, inside and outside the compression, is not a layer's content; it must not be lost to the digest.
        let garbage = [tar.clone(), b"behind the end".to_vec()].concat();
        refused(world, offer(world, packed(&tar, gzip(&garbage))), &["another content than the configuration names"]);
        refused(world, offer(world, packed(&tar, [gzip(&tar), b"garbage".to_vec()].concat())), &["layer sha256:"]);
        refused(world, offer(world, packed(&tar, gzip(&tar)[..60].to_vec())), &["layer sha256:"]);
    }),
    case("IMG-88", |world| {
        // The extended size counts, else what a file holds would be read as headers; of a link and a directory none does.
        let inner = Tar::default().file("escaped", "").0;
        let hidden = Tar::default().pax(&[("size", b"512"), ("path", b"outer")]).header(EntryType::Regular, b"x", &inner, |header| header.set_size(0));
        let dir = accepted(world, hidden.file("after", ""));
        assert_eq!((names(&dir), meta(dir.join("outer")).len()), (vec!["after".into(), "outer".into()], 512));
        let claims = Tar::default().file("f", "content").pax(&[("size", b"7")]).link("hard", "f").pax(&[("linkpath", b"/etc/passwd")]).symlink("s", "f");
        let dir = accepted(world, claims.header(EntryType::Directory, b"d", b"", |header| header.set_size(512)).file("after", ""));
        assert_eq!((names(&dir).len(), text(dir.join("hard"))), (5, "content".into()));
        world.minipod(&["image", "rm", "x:1"]).ok();
        rejected(world, Tar::default().pax(&[("size", b"5000")]).file("x", "short").end(), &["it ends early"]);
    }),
    case("IMG-89", |world| {
        let long = |content: &[u8]| Tar::default().header(EntryType::GNULongName, b"././@LongLink", content, |_| {});
        let dir = accepted(world, long(b"without-a-nul").file("x", "1"));
        assert_eq!(names(&dir), ["without-a-nul"]);
        let dir = accepted(world, long(b"first\0").header(EntryType::GNULongName, b"", b"second\0junk", |_| {}).file("x", ""));
        assert_eq!(names(&dir), ["second"]);
        world.minipod(&["image", "rm", "x:1"]).ok();
        rejected(world, long(&[b'n'; 300]).0[..700].to_vec(), &["it ends early"]);
        rejected(world, long(&[b'n'; 300]).file("x", "").end(), &["ENAMETOOLONG"]);
        rejected(world, long("d/".repeat(2500).as_bytes()).file("x", "").end(), &["entry"]);
    }),
    case("IMG-95", |world| {
        let canary = world.path(CANARY).display().to_string();
        // A hard link to a symlink is another name of the symlink, and is never followed.
        let dir = accepted(world, Tar::default().symlink("s", &canary).link("h", "s").header(EntryType::Regular, b"after", b"", |_| {}));
        assert_eq!(fs::read_link(dir.join("h")).expect("a symlink"), Path::new(&canary));
        // What was written through a name goes where it led then; a parent that is swapped leads on inside.
        let away = canary.trim_end_matches("/canary").to_owned();
        let swapped = Tar::default().dir("d", 0o755).file("d/canary", "1").symlink("d", &away).file("d/canary", "2").link("d/again", "d/canary");
        let dir = accepted(world, swapped);
        assert_eq!(text(dir.join(away.trim_start_matches('/')).join("again")), "2");
        // A file that was a symlink is replaced, not written through.
        let dir = accepted(world, Tar::default().symlink("f", &canary).file("f", "mine"));
        assert_eq!((text(dir.join("f")), text(&canary)), ("mine".into(), "secret".into()));
    }),
    case("IMG-96", |world| {
        for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
            rejected(world, Tar::default().file(name, "").end(), &["it is a whiteout of nothing"]);
        }
        let away = world.path("").display().to_string();
        let tar = Tar::default().symlink("s", away.trim_end_matches('/')).file("s/.wh.canary", "").file("s/.wh..wh..opq", "").file("a/.wh.b/c", "");
        let dir = accepted(world, tar.file(".wh..wh.plnk/x", "").file("../.wh.gone", ""));
        let inside = dir.join(away.trim_matches('/'));
        assert!(is_whiteout(inside.join(CANARY)) && is_whiteout(dir.join("gone")));
        assert_eq!(attribute(&inside, "trusted.overlay.opaque").as_deref(), Some(b"y".as_slice()));
        assert!(attribute(world.path(""), "trusted.overlay.opaque").is_none());
    }),
    case("IMG-97", |world| {
        for tar in [Tar::default().symlink("./", "/"), Tar::default().file("..", "x"), Tar::default().link("a/..", "x"), Tar::default().file("", "")] {
            rejected(world, tar.end(), &["it would replace the root"]);
        }
        let dir = accepted(world, Tar::default().dir("./", 0o2750).dir("../..", 0o700).file("x", ""));
        assert_eq!((names(&dir), meta(&dir).mode() & 0o7777), (vec!["x".into()], 0o700));
    }),
];

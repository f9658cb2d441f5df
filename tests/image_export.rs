//! Images out of a store and into another one: the same trees, the same configuration. Needs root, as owners, devices and trusted
//! attributes do.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

mod image_maker;

use image_maker::{Layout, Tar, architecture, layer};
use minipod::image::{Format, Image, Reference, Store};
use serde_json::{Value, json};
use tar::EntryType;

/// Two stores, and room for an archive between them.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Scratch {
        Scratch(tempfile::tempdir().unwrap())
    }

    fn store(&self, name: &str) -> Store {
        Store::open(self.0.path().join(name)).unwrap()
    }

    fn import(&self, store: &str, archive: &[u8]) -> Image {
        let path = self.0.path().join("archive");
        fs::write(&path, archive).unwrap();
        self.store(store).import(&path, None).unwrap().remove(0)
    }

    fn export(&self, store: &str, images: &[Image], format: Format) -> Vec<u8> {
        let mut archive = Vec::new();
        self.store(store).export(images, format, self.0.path(), &mut archive).unwrap();
        archive
    }

    /// The configuration as the store keeps it.
    fn config(&self, store: &str, image: &Image) -> Value {
        serde_json::from_slice(&fs::read(self.0.path().join(store).join("blobs/sha256").join(&image.id[7..])).unwrap()).unwrap()
    }
}

/// All that a name is. Files with several names are told by the first of them.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    device: u64,
    content: Vec<u8>,
    attributes: Vec<(OsString, Vec<u8>)>,
    same_as: PathBuf,
}

fn tree(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let (mut seen, mut first, mut todo) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::from([root.to_owned()]));
    while let Some(path) = todo.pop_first() {
        let (meta, name) = (fs::symlink_metadata(&path).unwrap(), path.strip_prefix(root).unwrap().to_owned());
        let mut content = Vec::new();
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if meta.is_symlink() {
            content = fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec();
        } else if meta.is_file() {
            content = fs::read(&path).unwrap();
        }
        // Nobody ever sees a whiteout's time.
        let whiteout = meta.file_type().is_char_device() && meta.rdev() == 0;
        seen.insert(
            name.clone(),
            Seen {
                mode: meta.mode(),
                owner: (meta.uid(), meta.gid()),
                mtime: if whiteout { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) },
                device: meta.rdev(),
                content,
                attributes: attributes(&path),
                same_as: first.entry(meta.ino()).or_insert(name).clone(),
            },
        );
    }
    seen
}

fn attributes(path: &Path) -> Vec<(OsString, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap();
    let keys = names[..length].split(|byte| *byte == 0).filter(|key| !key.is_empty()).map(OsStr::from_bytes);
    let mut found: Vec<_> = keys
        .map(|key| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, key, value.as_mut_slice()).unwrap();
            (key.to_owned(), value[..length].to_vec())
        })
        .collect();
    found.sort();
    found
}

fn trees(image: &Image) -> Vec<BTreeMap<PathBuf, Seen>> {
    image.layers.iter().map(|name| tree(&image.layers_dir().join(name))).collect()
}

/// What a layer may hold, at its edges.
fn odd() -> Vec<u8> {
    let long = format!("{}/{}", "d".repeat(255), "f".repeat(255));
    let capability = b"\x01\0\0\x02\n\0\0\0=\n \0\0\0\0\0\0\0\0\0";
    Tar::default()
        .pax(&[("mtime", b"1700000000.5")])
        .dir("./", 0o711)
        .dir("bin", 0o755)
        .pax(&[("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.user.a", b"1\n2"), ("SCHILY.xattr.trusted.b", b"")])
        .file("bin/able", "x")
        .header(EntryType::Regular, b"bin/su", b"su", |header| header.set_mode(0o6755))
        .link("bin/again", "bin/su")
        .symlink("bin/link", "../../..//bin/./su")
        .link("bin/link2", "bin/link")
        .pax(&[("SCHILY.xattr.trusted.c", b"of a symlink")])
        .symlink("bin/nowhere", "/nowhere")
        .pax(&[("path", b"far"), ("linkpath", &[b'/'; 300])])
        .symlink("x", "y")
        .dir("tmp", 0o1777)
        .pax(&[("path", long.as_bytes()), ("mtime", b"1700000000.123456789")])
        .file("x", "long")
        .pax(&[("path", &[b"tmp/", [b'n'; 96].as_slice()].concat())])
        .file("x", "as long as a header holds")
        .pax(&[("path", b"tmp/caf\xe9\n\xff")])
        .file("x", "of bytes")
        .pax(&[("path", "tmp/\u{e9}".as_bytes()), ("mtime", b"-1.25"), ("uid", b"3000000"), ("gid", b"4294967294")])
        .file("x", "old, of somebody far")
        .device(EntryType::Char, "null", (1, 3))
        .device(EntryType::Block, "disk", (259, 1_000_000))
        .device(EntryType::Fifo, "fifo", (0, 0))
        .file("gone", "")
        .file("hidden/a", "")
        .file("kept/a", "")
        .file("empty", "")
        .end()
}

/// Whiteouts, an opaque directory, and directories that no entry makes.
fn above() -> Vec<u8> {
    let gone = format!(".wh.{}", "g".repeat(251));
    Tar::default()
        .file(".wh.gone", "")
        .pax(&[("path", gone.as_bytes())])
        .file("x", "")
        .file("hidden/.wh..wh..opq", "")
        .file("hidden/b", "b")
        .file("kept/b", "b")
        .end()
}

fn odd_image(scratch: &Scratch) -> Image {
    // The lowest layer occurs twice.
    let layers = [layer(&[("base", "")]), odd(), above(), layer(&[("base", "")])];
    let mut layout = Layout::default();
    let mut config = Layout::config(&layers, &architecture());
    config["history"] = json!([{ "created_by": "a" }, { "created_by": "e", "empty_layer": true }, { "created_by": "b" }, { "created_by": "c" }, {}]);
    config["config"]["x-of-a-stranger"] = json!({ "kept": [1, 2.5, null] });
    let packed: Vec<Value> = layers.iter().map(|layer| layout.blob(image_maker::LAYER, image_maker::gzip(layer))).collect();
    let mut descriptor = layout.manifest(&config, &packed);
    descriptor["annotations"] = json!({ "io.containerd.image.name": "example.org/odd:1" });
    layout.index.push(descriptor);
    scratch.import("one", &image_maker::tar_of(&layout.done()))
}

#[test]
fn what_comes_out_goes_in_as_it_was() {
    for format in [Format::Oci, Format::Docker] {
        let scratch = Scratch::new();
        let image = odd_image(&scratch);
        let archive = scratch.export("one", std::slice::from_ref(&image), format);
        let other = scratch.import("two", &archive);
        assert_eq!(trees(&other), trees(&image), "{format:?}");
        let (mut was, mut is) = (scratch.config("one", &image), scratch.config("two", &other));
        let ids = is["rootfs"]["diff_ids"].take();
        was["rootfs"]["diff_ids"].take();
        assert_eq!(is, was);
        assert_eq!((ids.as_array().unwrap().len(), &ids[0]), (4, &ids[3]), "as many as the history has");
        let said = |image: &Image| (image.reference.clone(), image.entrypoint.clone(), image.env.clone(), image.user.clone(), image.size);
        assert_eq!(said(&other), said(&image));
        let again = |store, image: &Image| scratch.export(store, std::slice::from_ref(image), format);
        assert!(again("one", &image) == archive && again("two", &other) == archive, "the same image, the same bytes");
    }
}

#[test]
fn attributes_of_overlayfs_stay_here() {
    let scratch = Scratch::new();
    let image = odd_image(&scratch);
    let archive = scratch.export("one", &[image], Format::Docker);
    assert!(!archive.windows(8).any(|bytes| bytes == b"overlay."), "trusted.overlay. is in the archive");
}

#[test]
fn every_tag_goes_along_and_a_digest_does_not() {
    let scratch = Scratch::new();
    let image = odd_image(&scratch);
    let named = |name: &str| {
        let mut named = image.clone();
        named.reference = Reference::parse(name).unwrap();
        named
    };
    let digest = format!("odd@{}", image.digest.as_ref().unwrap());
    for format in [Format::Oci, Format::Docker] {
        let archive = scratch.export("one", &[named("a:1"), named(&digest), named("localhost:5000/b:2")], format);
        let path = scratch.0.path().join("archive");
        fs::write(&path, archive).unwrap();
        let names: Vec<String> = scratch.store("two").import(&path, None).unwrap().iter().map(|image| image.reference.familiar()).collect();
        assert_eq!(names, ["a:1", "localhost:5000/b:2"]);
        fs::write(&path, scratch.export("one", &[named(&digest)], format)).unwrap();
        let error = scratch.store("two").import(&path, None).unwrap_err().to_string();
        assert!(error.contains("--name"), "{error}");
    }
}

/// Tries to remove an image while it is being written.
struct Remover<'a>(&'a Scratch, &'a Image, usize);

impl std::io::Write for Remover<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let store = self.0.store("one");
        let error = store.remove(std::slice::from_ref(&self.1.reference), &BTreeSet::new()).unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
        assert_eq!(store.prune(std::slice::from_ref(&self.1.reference), &BTreeSet::new()).unwrap(), []);
        self.2 += 1;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn nobody_removes_an_image_on_its_way_out() {
    let scratch = Scratch::new();
    let image = odd_image(&scratch);
    let mut out = Remover(&scratch, &image, 0);
    scratch.store("one").export(std::slice::from_ref(&image), Format::Docker, scratch.0.path(), &mut out).unwrap();
    assert!(out.2 > 0);
    scratch.store("one").remove(std::slice::from_ref(&image.reference), &BTreeSet::new()).unwrap();
}

#[test]
fn a_removed_image_and_a_damaged_record_are_told() {
    let scratch = Scratch::new();
    let image = odd_image(&scratch);
    let export = |image: &Image| scratch.store("one").export(std::slice::from_ref(image), Format::Oci, scratch.0.path(), &mut Vec::new());
    let mut damaged = image.clone();
    damaged.layers.remove(0);
    let error = export(&damaged).unwrap_err().to_string();
    assert!(error.contains("its record does not have layer sha256:"), "{error}");
    scratch.store("one").remove(std::slice::from_ref(&image.reference), &BTreeSet::new()).unwrap();
    let error = export(&image).unwrap_err().to_string();
    assert!(error.contains("has just been removed"), "{error}");
}

//! Images in the making, as right or as wrong as a test wants them.
//!
//! ```text
//! Tar      entry by entry, every byte of a header as it is given ──┐
//! layer()  files with content, as any builder writes them ─────────┴─▶ a layer ─▶ Layout ─▶ directory, or tar_of() it
//! ```

#![allow(dead_code, reason = "each program of tests uses its part")]

use std::collections::BTreeMap;
use std::io::Write;

use minipod::image::digest::sha256;
use serde_json::{Value, json};
use tar::EntryType;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub fn architecture() -> String {
    oci_spec::image::Arch::default().to_string()
}

/// A layer whose names are written as they are given, however hostile.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    /// A header of which `change` may make anything, then the content. The checksum is right.
    pub fn header(mut self, kind: EntryType, name: &[u8], content: &[u8], change: impl FnOnce(&mut tar::Header)) -> Tar {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn linked(self, kind: EntryType, name: &str, target: &str) -> Tar {
        self.header(kind, name.as_bytes(), b"", |header| header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes()))
    }

    pub fn file(self, name: &str, content: &str) -> Tar {
        self.header(EntryType::Regular, name.as_bytes(), content.as_bytes(), |_| {})
    }

    pub fn dir(self, name: &str, mode: u32) -> Tar {
        self.header(EntryType::Directory, name.as_bytes(), b"", |header| header.set_mode(mode))
    }

    pub fn symlink(self, name: &str, target: &str) -> Tar {
        self.linked(EntryType::Symlink, name, target)
    }

    pub fn link(self, name: &str, target: &str) -> Tar {
        self.linked(EntryType::Link, name, target)
    }

    pub fn device(self, kind: EntryType, name: &str, (major, minor): (u32, u32)) -> Tar {
        self.header(kind, name.as_bytes(), b"", |header| {
            header.set_device_major(major).expect("a GNU header");
            header.set_device_minor(minor).expect("a GNU header");
            header.set_mode(0o666);
        })
    }

    /// Extended headers for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let content: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.header(EntryType::XHeader, b"pax", &content, |_| {})
    }

    /// The two empty blocks at the end.
    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself too.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| rest + length.to_string().len() == *length).expect("a few digits more than the rest");
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// One layer's tar of files with content; a name that ends in `/` is a directory, a content `-> x` a symlink.
pub fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        if let Some(target) = content.strip_prefix("-> ") {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, name, target).unwrap();
            continue;
        }
        header.set_entry_type(if name.ends_with('/') { EntryType::Directory } else { EntryType::Regular });
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The files of an OCI image layout in the making.
#[derive(Clone, Default)]
pub struct Layout {
    pub files: BTreeMap<String, Vec<u8>>,
    pub index: Vec<Value>,
}

impl Layout {
    /// Puts a blob in and gives its descriptor.
    pub fn blob(&mut self, kind: &str, content: Vec<u8>) -> Value {
        let digest = sha256(&content);
        let descriptor = json!({"mediaType": kind, "digest": digest, "size": content.len()});
        self.files.insert(format!("blobs/sha256/{}", &digest[7..]), content);
        descriptor
    }

    pub fn config(layers: &[Vec<u8>], architecture: &str) -> Value {
        let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
        json!({
            "created": "2024-01-02T03:04:05Z", "architecture": architecture, "os": "linux",
            "config": {
                "Env": ["B=2", "A=1"], "Entrypoint": ["/bin/app"], "Cmd": ["--serve"], "User": "app:team", "WorkingDir": "/srv", "StopSignal": "SIGQUIT",
                "ExposedPorts": {"80/tcp": {}, "443/tcp": {}}, "Volumes": null, "Labels": {"who": "me"}, "Healthcheck": {"Test": ["NONE"]},
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
    }

    /// An image of gzipped layers; the descriptor of its manifest.
    pub fn image(&mut self, layers: &[Vec<u8>], architecture: &str) -> Value {
        let packed: Vec<Value> = layers.iter().map(|layer| self.blob(LAYER, gzip(layer))).collect();
        self.manifest(&Layout::config(layers, architecture), &packed)
    }

    /// A manifest of this configuration and these layers' descriptors; its own descriptor.
    pub fn manifest(&mut self, config: &Value, layers: &[Value]) -> Value {
        let config = self.blob(CONFIG, config.to_string().into_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.blob(MANIFEST, manifest.to_string().into_bytes())
    }

    /// With one more image, of this name.
    pub fn named(mut self, name: &str, layers: &[Vec<u8>]) -> Layout {
        let mut descriptor = self.image(layers, &architecture());
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        self.index.push(descriptor);
        self
    }

    pub fn done(mut self) -> BTreeMap<String, Vec<u8>> {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.index});
        self.files.insert("index.json".to_owned(), index.to_string().into_bytes());
        self.files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        self.files
    }
}

/// Layers first and index.json last, as in an archive that must be read twice.
pub fn tar_of(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, format!("./{name}"), content.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

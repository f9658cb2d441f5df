//! What nobody has thought of: layers, documents, references and logins, mutated as long as the budget lasts.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `MINIPOD_FUZZ_SECONDS` | for each of the tests (5) |
//! | `MINIPOD_FUZZ_SEED` | of the first mutant (1); each next one has the next number |
//!
//! A failure tells the seed of its mutant: with that one as the first, it is the first to fail again. Stores are in memory, in a mount
//! namespace of the test's thread, with a directory beside them that must stay as it is.

mod image_maker;
mod image_mutants;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use image_maker::{CONFIG, LAYER, Layout, MANIFEST, architecture, gzip};
use image_mutants::Dice;
use minipod::image::digest::{is_sha256, sha256};
use minipod::image::login::Logins;
use minipod::image::registries::{Registries, Settings};
use minipod::image::{Image, Reference, Store};
use serde_json::{Value, json};

/// No mutant takes a second; one that takes so long hangs.
const HANGS: Duration = Duration::from_secs(60);
/// Of all tests together: no mutant is larger than some hundred kilobytes.
const MAX_MEMORY_KIB: u64 = 512 << 10;

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text:?}")))
}

/// Tells the seed if its mutant lets the test fail.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to see it again: MINIPOD_FUZZ_SEED={}", self.0);
        }
    }
}

/// Tries mutants until the budget is used up, at least one; tells how many were tried and how many `try_one` says were taken.
fn fuzz(name: &str, mut try_one: impl FnMut(&mut Dice) -> bool) {
    let begin = Instant::now();
    let budget = Duration::from_secs(number("MINIPOD_FUZZ_SECONDS", 5));
    let first = number("MINIPOD_FUZZ_SEED", 1);
    let current = Arc::new(Mutex::new((first, Instant::now())));
    let watched = Arc::downgrade(&current);
    std::thread::spawn(move || {
        while let Some(current) = watched.upgrade() {
            let (seed, since) = *current.lock().expect("nobody panics with it");
            if since.elapsed() > HANGS {
                eprintln!("a mutant hangs: MINIPOD_FUZZ_SEED={seed}");
                std::process::abort();
            }
            drop(current);
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let (mut tried, mut taken) = (0, 0);
    while tried == 0 || begin.elapsed() < budget {
        let seed = Seed(first.wrapping_add(tried));
        *current.lock().expect("nobody panics with it") = (seed.0, Instant::now());
        taken += u64::from(try_one(&mut Dice::new(seed.0)));
        tried += 1;
    }
    println!("{name}: {tried} mutants, {taken} taken");
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let most: u64 = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
    assert!(most < MAX_MEMORY_KIB, "{most} KiB of memory were used");
}

fn corpus(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz").join(name)).unwrap()
}

/// Where stores are made, and beside them `away/secret`.
struct Place(PathBuf, tempfile::TempDir);

impl Drop for Place {
    fn drop(&mut self) {
        // Else the directory below it could not be removed.
        let _ = nix::mount::umount2(self.1.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

impl Place {
    /// On a file system of its own that only this thread sees, and that ends with it.
    fn new(name: &str) -> Place {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("needs root");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let dir = tempfile::tempdir().unwrap();
        mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=256m")).unwrap();
        let place = Place(dir.path().join(name), dir);
        fs::create_dir_all(place.0.join("away/empty")).unwrap();
        fs::write(place.0.join("away/secret"), "secret").unwrap();
        place
    }

    fn away(&self) -> String {
        self.0.join("away").display().to_string()
    }

    /// Whatever a change of a file or a directory would change.
    fn outside(&self) -> Vec<(PathBuf, u64, u64, (i64, i64))> {
        let meta = |path: PathBuf| {
            let meta = fs::symlink_metadata(&path).unwrap();
            (path, meta.ino(), meta.nlink(), (meta.ctime(), meta.ctime_nsec()))
        };
        let mut all: Vec<_> = ["away", "away/secret", "away/empty"].map(|name| meta(self.0.join(name))).into();
        // The directory that the stores are in: by its names alone, for stores come and go.
        all.extend(fs::read_dir(&self.0).unwrap().map(|entry| (entry.unwrap().path(), 0, 0, (0, 0))));
        all
    }

    /// Imports a layout into a store of its own; what `look` sees in an accepted image. What is refused must leave nothing.
    fn import<T>(&self, layout: &Layout, look: impl FnOnce(&Store, &Image) -> T) -> Option<T> {
        let dir = self.0.join("work");
        for (name, content) in layout.clone().done() {
            let path = dir.join("layout").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let store = Store::open(dir.join("images")).unwrap();
        let before = self.outside();
        let imported = store.import(&dir.join("layout"), Some(&Reference::parse("x:1").unwrap()));
        assert_eq!(self.outside(), before, "something came out");
        let seen = match imported {
            Ok(images) => Some(look(&store, &images[0])),
            Err(error) => {
                let told = error.to_string();
                assert!(!told.chars().any(char::is_control), "not one plain line: {told:?}");
                assert_eq!(store.list().unwrap(), [], "{told}");
                for sub in ["layers", "blobs/sha256", "names", "tmp"] {
                    assert_eq!(fs::read_dir(dir.join("images").join(sub)).map_or(0, Iterator::count), 0, "left in {sub} after: {told}");
                }
                None
            }
        };
        fs::remove_dir_all(&dir).unwrap();
        seen
    }
}

/// All of a tree: what each name is, whose, since when, with which content and attributes.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut tree = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = match meta.file_type() {
            kind if kind.is_file() => sha256(&fs::read(&path).unwrap()),
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
            _ => String::new(),
        };
        // A directory that no entry made is of now, and so is a whiteout.
        let now = meta.is_dir() || (meta.mode() & 0o170_000 == 0o020_000 && meta.rdev() == 0);
        let time = if now { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) };
        let nodes = (meta.mode(), meta.uid(), meta.gid(), meta.rdev(), if meta.is_dir() { 0 } else { meta.nlink() });
        tree.insert(path.strip_prefix(root).unwrap().to_owned(), format!("{nodes:?} {time:?} {content} {:?}", attributes(&path)));
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    tree
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut list, mut value) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let length = rustix::fs::llistxattr(path, list.as_mut_slice()).unwrap();
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut all: Vec<_> = names
        .map(|name| {
            let length = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), value.as_mut_slice()).unwrap();
            (String::from_utf8_lossy(name).into_owned(), value[..length].to_vec())
        })
        .collect();
    all.sort();
    all
}

/// Demands what no layer may be, whatever its tar says.
fn assert_tame(root: &Path, tar: usize) {
    let mut bytes = 0;
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        for (key, value) in attributes(&path).into_iter().filter(|(key, _)| key.contains(".overlay.")) {
            assert!(meta.is_dir() && key == "trusted.overlay.opaque" && value == b"y", "{} has {key}", path.display());
        }
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if meta.is_file() {
            bytes += meta.len() / meta.nlink();
        }
    }
    assert!(bytes <= tar as u64, "{bytes} bytes of files came of {tar}");
}

#[test]
fn no_layer_gets_out_hangs_or_is_unpacked_in_two_ways() {
    let place = Place::new("layers");
    let corpus: Vec<_> = ["base.tar", "whiteouts.tar", "gnu.tar", "pax.tar"].map(|name| image_mutants::pieces(&corpus(name))).into();
    fuzz("layers", |dice| {
        let tar = image_mutants::layer(dice, &corpus, &place.away());
        let mut layout = Layout::default();
        let mut packed = gzip(&tar);
        if dice.once_in(30) {
            let at = dice.below(packed.len());
            packed[at] ^= 1 << dice.below(8);
        }
        let descriptor = layout.blob(LAYER, packed);
        let descriptor = layout.manifest(&Layout::config(std::slice::from_ref(&tar), &architecture()), &[descriptor]);
        layout.index.push(descriptor);
        let layer = |image: &Image| image.layers_dir().join(&image.layers[0]);
        let once = place.import(&layout, |_, image| {
            assert_tame(&layer(image), tar.len());
            tree(&layer(image))
        });
        assert_eq!(place.import(&layout, |_, image| tree(&layer(image))), once, "unpacked again, it is another");
        once.is_some()
    });
}

#[test]
fn no_document_breaks_the_reader() {
    let place = Place::new("documents");
    let base = corpus("base.tar");
    fuzz("documents", |dice| {
        let mut layout = Layout::default();
        let packed = layout.blob(LAYER, gzip(&base));
        let mut written = |layout: &mut Layout, kind: &str, mut value: Value| {
            let mut text = value.to_string().into_bytes();
            match dice.below(6) {
                0 | 1 => {
                    image_mutants::document(dice, &mut value);
                    text = value.to_string().into_bytes();
                }
                2 => text = image_mutants::line(dice, &text),
                _ => {}
            }
            layout.blob(kind, text)
        };
        let config = written(&mut layout, CONFIG, Layout::config(std::slice::from_ref(&base), &architecture()));
        let mut descriptor = written(&mut layout, MANIFEST, json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [packed] }));
        if dice.once_in(3) {
            image_mutants::document(dice, &mut descriptor);
        }
        layout.index.push(descriptor);
        let looked = place.import(&layout, |store, image| {
            assert_eq!(store.find(&image.reference).unwrap().as_ref(), Some(image), "the record is not what was imported");
            assert!(is_sha256(&image.id) && image.layers.iter().all(|name| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())));
            // Whether there is such a user is not what is asked.
            let _ = image.user(&image.user);
        });
        looked.is_some()
    });
}

/// The grammar of distribution/reference, read from its text anew.
fn obeys(reference: &Reference) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let component = |text: &str| {
        // What stands between two runs of letters and digits is a separator, of which there is none at either end.
        let separators: Vec<&str> = text.split(alphanumeric).filter(|part| !part.is_empty()).collect();
        let good = |part: &&str| [".", "_", "__"].contains(part) || part.chars().all(|c| c == '-');
        text.starts_with(alphanumeric) && text.ends_with(alphanumeric) && separators.iter().all(good)
    };
    let domain = reference.domain().chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c)) && !reference.domain().contains("..");
    let tag = reference.tag().is_none_or(|tag| {
        (1..=128).contains(&tag.len()) && tag.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) && !tag.starts_with(['.', '-'])
    });
    let digest = reference.digest().is_none_or(|digest| {
        let (algorithm, digits) = digest.split_once(':').unwrap_or_default();
        [("sha256", 64), ("sha384", 96), ("sha512", 128)].contains(&(algorithm, digits.len()))
            && digits.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
    });
    domain && !reference.domain().is_empty() && reference.path().split('/').all(component) && reference.name().len() <= 255 && tag && digest
}

#[test]
fn a_reference_reads_back_as_itself() {
    let corpus = String::from_utf8(corpus("references")).unwrap();
    let lines: Vec<&str> = corpus.lines().collect();
    for line in &lines {
        assert!(Reference::parse(line).is_ok(), "{line}");
    }
    fuzz("references", |dice| {
        let mut text = dice.of(&lines).as_bytes().to_vec();
        if dice.once_in(3) {
            text.extend_from_slice(dice.of(&lines).as_bytes());
        }
        let text = String::from_utf8_lossy(&image_mutants::line(dice, &text)).into_owned();
        match Reference::parse(&text) {
            Ok(reference) => {
                assert!(obeys(&reference), "{text:?} is taken as {reference}");
                assert!(reference.tag().is_some() || reference.digest().is_some(), "{text:?}");
                for shown in [reference.to_string(), reference.familiar()] {
                    assert_eq!(Reference::parse(&shown).unwrap_or_else(|error| panic!("{text:?} is shown as {shown:?}: {error}")), reference, "{text:?}");
                }
                true
            }
            Err(error) => {
                assert!(error.reason == Some("InvalidImageName") && !error.to_string().chars().any(char::is_control), "{error:?}");
                false
            }
        }
    });
}

#[test]
fn no_file_of_logins_or_mirrors_breaks_its_reader_or_shows_a_password() {
    let (logins, mirrors) = (corpus("logins.json"), corpus("registries.yaml"));
    let value: Value = serde_json::from_slice(&logins).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { file: Some(dir.path().join("registries.yaml")), ..Settings::default() };
    let images = ["nginx", "r.example/team/app", "r.example:5000/x", "h.example/x"].map(|name| Reference::parse(name).unwrap());
    fuzz("files", |dice| {
        let mut value = value.clone();
        image_mutants::document(dice, &mut value);
        let text = if dice.once_in(2) { value.to_string().into_bytes() } else { image_mutants::line(dice, &logins) };
        let mut read = Logins::default();
        let taken = read.add(&text, "config.json").is_ok();
        for image in &images {
            // Whether there is a login is not what is asked, but what of it is shown where it is logged.
            if let Ok(Some(login)) = read.find(image.domain(), image.path()) {
                assert_eq!(format!("{login:?}"), format!("Login({:?}, ...)", login.user));
            }
        }
        fs::write(dir.path().join("registries.yaml"), image_mutants::line(dice, &mirrors)).unwrap();
        if let Ok(registries) = Registries::read(&settings) {
            for image in &images {
                for endpoint in registries.endpoints(image).unwrap_or_default() {
                    assert!(Reference::parse(&format!("{}/{}", endpoint.host, endpoint.repository)).is_ok() || endpoint.host == image.domain(), "{endpoint:?}");
                }
            }
        }
        taken
    });
}

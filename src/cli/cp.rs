//! `minipod cp`: files into a container and out of it.
//!
//! ```text
//!        this machine                          │  a child of ours in the container's mount namespace,
//!                                              │  with its user, capabilities, cgroup and working directory
//! in:    pack SRC ───── tar stream, pipe ──────┼──▶ unpack to DST
//! out:   unpack to DST ◀── tar stream, pipe ───┼─── pack SRC
//! ```
//!
//! As kubectl's, which runs `tar` in the container; here our own code takes that program's place, so that the image needs none. The child
//! sees the container's files alone, we see the host's alone. What comes out was written by somebody else: it is unpacked beneath the
//! destination, where the kernel resolves each name, and symlinks are not made (as kubectl).

mod notes;
mod pack;
mod unpack;

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use self::notes::Notes;
use self::unpack::{Place, Rules};
use super::exec::{self, Means};
use super::get::Refusal;
use super::{need_root, pods};
use crate::container::launch::launch_visit;
use crate::container::plan;
use crate::container::step::Hands;
use crate::error::Error;
use crate::pod::dir::PodDir;
use crate::pod::places::Places;
use crate::sys::file;
use crate::sys::process::{self, Child};

/// Copy files and directories into a container, or out of it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod cp site web:/usr/share/nginx/html     the directory becomes …/html/site
  minipod cp site/. web:/usr/share/nginx/html   what is in it goes into …/html
  minipod cp web:/etc/nginx ./nginx-conf        what is in /etc/nginx goes into ./nginx-conf
  minipod cp web:/etc/hosts ./hosts -c web      a file; the name of the copy must be given
  minipod cp team/web:log.txt ./log.txt         in the namespace team, from the working directory

It acts as the container's user, as `minipod exec` would, and needs no tar in the image.
A local path with a colon in it is written ./a:b. Into a container, symlinks are copied as they
are; out of it they are left out, with a warning.")]
pub struct CpArgs {
    /// What to copy: a path, or POD:PATH, NAMESPACE/POD:PATH
    #[arg(value_name = "SRC")]
    source: String,
    /// Where to: the same; exactly one of the two is in a pod
    #[arg(value_name = "DST")]
    destination: String,
    /// The container; by default the one of the annotation kubectl.kubernetes.io/default-container, or the first
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Do not keep owners and modes: copies are the copying user's, with the modes that its umask leaves
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", default_value_t, hide_default_value = true, hide_possible_values = true)]
    no_preserve: bool,
    /// Taken for the sake of kubectl's scripts: there is no connection here that could break
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, hide_default_value = true)]
    retries: i64,
    /// The namespace of the pod
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
}

/// One of the two words.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Spec {
    Local(PathBuf),
    Remote { namespace: Option<String>, pod: String, path: PathBuf },
}

impl Spec {
    /// kubectl's rule: what stands before the first colon is a pod; unless it cannot be one, as in `./a:b`.
    fn parse(word: &str) -> Result<Spec, Refusal> {
        let malformed = || Refusal::client("filespec must match the canonical format: [[namespace/]pod:]file/path");
        let (pod, path) = match word.split_once(':') {
            Some((before, _)) if before.starts_with(['.', '/']) => return Ok(Spec::Local(word.into())),
            Some(split) => split,
            None => return Ok(Spec::Local(word.into())),
        };
        let (namespace, pod) = match pod.split('/').collect::<Vec<_>>()[..] {
            [pod] => (None, pod),
            [namespace, pod] => (Some(namespace.to_owned()), pod),
            _ => return Err(malformed()),
        };
        if pod.is_empty() || namespace.as_deref() == Some("") {
            return Err(malformed());
        }
        Ok(Spec::Remote { namespace, pod: pod.to_owned(), path: path.into() })
    }

    fn path(&self) -> &Path {
        match self {
            Spec::Local(path) | Spec::Remote { path, .. } => path,
        }
    }
}

/// The name that a copy gets in a directory: none for what has a dot at its end, whose contents are meant.
fn base(source: &Path) -> Option<OsString> {
    let dotted = source == Path::new(".") || source.as_os_str().as_encoded_bytes().ends_with(b"/.");
    source.file_name().filter(|_| !dotted).map(OsString::from)
}

pub fn cp(args: &CpArgs, places: &Places) -> Result<u8> {
    let (source, destination) = (Spec::parse(&args.source)?, Spec::parse(&args.destination)?);
    let (namespace, pod, out) = match (&source, &destination) {
        (Spec::Remote { .. }, Spec::Remote { .. }) => return Err(Refusal::client("one of src or dest must be a local file specification").into()),
        (Spec::Local(_), Spec::Local(_)) => return Err(Refusal::client("one of src or dest must be a remote file specification").into()),
        (Spec::Remote { namespace, pod, .. }, _) => (namespace, pod, true),
        (_, Spec::Remote { namespace, pod, .. }) => (namespace, pod, false),
    };
    let (source, destination) = (source.path(), destination.path());
    if source.as_os_str().is_empty() || destination.as_os_str().is_empty() {
        return Err(Refusal::client("filepath can not be empty").into());
    }
    need_root()?;
    if !out && source.symlink_metadata().is_err() {
        return Err(Refusal::client(format!("{} doesn't exist in local filesystem", source.display())).into());
    }
    let namespace = namespace.as_deref().unwrap_or(&args.namespace);
    let known = pods::find(places, namespace, pod)?;
    let (container, note) = super::logs::choose(&known, args.container.as_deref())?;
    eprint!("{note}");
    let phase = known.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return Err(Refusal::client(format!("cannot exec into a container in a completed pod; current phase is {phase}")).into());
    }
    let means = exec::borrow(&PodDir::new(places, namespace, pod), &container)?;
    if out {
        let hint = format!("minipod exec -n {namespace:?} {pod:?} -c {container:?} -- tar cf - {:?} | tar xf -", source.display().to_string());
        copy_out(&means, source, destination, args.no_preserve, &hint)
    } else {
        copy_in(&means, source, destination, args.no_preserve)
    }
}

fn copy_in(means: &Means, source: &Path, destination: &Path, no_preserve: bool) -> Result<u8> {
    let (theirs, ours) = process::pipe()?;
    let name = base(source);
    let visit = Visit::start(means, Some(theirs), None, || {
        let target = match name.filter(|_| destination.is_dir()) {
            Some(name) => destination.join(name),
            None => destination.to_owned(),
        };
        let rules = Rules { modes: if no_preserve { 0o755 } else { 0o7777 }, owners: !no_preserve && crate::sys::user::is_root(), links: true };
        let stdin = File::from(file::duplicate(std::io::stdin())?);
        unpack::unpack(BufReader::with_capacity(PIECE, stdin), || Place::at(&target), rules).map(|unpacked| unpacked.notes)
    })?;
    let packed = pack_into(ours, source);
    let (said, code) = visit.end()?;
    // If both fail, the container's reason is the first: ours is that it no longer listened.
    eprint!("{said}");
    match packed {
        Ok(notes) => finish(&notes, &said, code),
        Err(_) if code != 0 && !said.is_empty() => Ok(1),
        Err(error) => Err(error.into()),
    }
}

fn copy_out(means: &Means, source: &Path, destination: &Path, no_preserve: bool, hint: &str) -> Result<u8> {
    let (ours, theirs) = process::pipe()?;
    let visit = Visit::start(means, None, Some(theirs), || pack_into(file::duplicate(std::io::stdout())?, source))?;
    let place = || {
        if let Some(parent) = destination.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(|error| Error::io("mkdir", parent.display(), &error))?;
        }
        Place::at(destination)
    };
    // No set-user-ID and the like: whose program it would run as is the caller, and the caller is root.
    let rules = Rules { modes: if no_preserve { 0o755 } else { 0o777 }, owners: false, links: false };
    let unpacked = unpack::unpack(BufReader::with_capacity(PIECE, File::from(ours)), place, rules);
    let (said, code) = visit.end()?;
    eprint!("{said}");
    let unpacked = match unpacked {
        // It could not pack, and has said why: that the stream is cut follows from that.
        Err(_) if code == 1 && !said.is_empty() => return Ok(1),
        unpacked => unpacked?,
    };
    for (at, (path, target)) in unpacked.links.iter().enumerate() {
        let path = unpack::beneath(destination, path);
        let hint = if at == 0 { format!(" (consider using \"{hint}\")") } else { String::new() };
        eprintln!("warning: skipping symlink: {path:?} -> {target:?}{hint}");
    }
    finish(&unpacked.notes, &said, code)
}

/// The last word, when our part is done. A child that ends without a word was killed, with the container or for its memory.
fn finish(notes: &Notes, said: &str, code: i32) -> Result<u8> {
    eprint!("{notes}");
    match code {
        0 => Ok(u8::from(notes.failed())),
        _ if !said.is_empty() => Ok(1),
        code => Err(Error::said(format!("the copying process in the container ended with exit code {code}; the copy is not complete")).into()),
    }
}

/// What is read or written at once.
const PIECE: usize = 64 * 1024;

fn pack_into(pipe: OwnedFd, source: &Path) -> Result<Notes, Error> {
    let mut stream = BufWriter::with_capacity(PIECE, File::from(pipe));
    let notes = pack::pack(&mut stream, source)?;
    stream.flush().map_err(|error| Error::io("write", "", &error))?;
    Ok(notes)
}

/// The child in the container.
struct Visit {
    child: Child,
    said: OwnedFd,
}

impl Visit {
    /// Starts it with our ends of its streams. It says what went wrong when its work is done, in so few bytes that nobody need read meanwhile.
    fn start(means: &Means, stdin: Option<OwnedFd>, stdout: Option<OwnedFd>, work: impl FnOnce() -> Result<Notes, Error>) -> Result<Visit> {
        let process = means.spec.process().as_ref().ok_or_else(|| Error::said("the container's spec has no process"))?;
        let plan = plan::compile_visit(process, plan::host_root(&means.spec), !means.limits.is_empty());
        let (said, stderr) = process::pipe()?;
        let streams = [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), Some(stderr.as_fd())];
        let hands = Hands { holder: Some(means.main.as_fd()), streams, limits: &means.limits, ..Default::default() };
        let child = launch_visit(&plan, &hands, Some(means.cgroup.as_fd()), || {
            let notes = work().unwrap_or_else(|error| Notes::of(&error));
            let told = write!(std::io::stderr(), "{notes}");
            i32::from(notes.failed() || told.is_err())
        })?;
        Ok(Visit { child, said })
    }

    /// What it said, and its exit code.
    fn end(self) -> Result<(String, i32)> {
        let mut said = String::new();
        File::from(self.said).read_to_string(&mut said).map_err(|error| Error::io("read", "", &error))?;
        Ok((said, self.child.wait()?.code()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_a_colon_is_in_a_pod_unless_it_begins_as_a_path() {
        let remote =
            |namespace: Option<&str>, pod: &str, path: &str| Spec::Remote { namespace: namespace.map(str::to_owned), pod: pod.into(), path: path.into() };
        for (word, spec) in [
            ("web:/etc/hosts", remote(None, "web", "/etc/hosts")),
            ("team/web:a:b", remote(Some("team"), "web", "a:b")),
            ("web:", remote(None, "web", "")),
            ("./a:b", Spec::Local("./a:b".into())),
            ("/a:b", Spec::Local("/a:b".into())),
            ("plain", Spec::Local("plain".into())),
        ] {
            assert_eq!(Spec::parse(word).unwrap(), spec, "{word}");
        }
        for word in [":/etc", "a/b/c:/etc", "team/:x"] {
            assert!(Spec::parse(word).is_err(), "{word}");
        }
    }

    #[test]
    fn a_dot_at_the_end_means_what_is_inside() {
        for (source, name) in
            [("dir", Some("dir")), ("a/dir/", Some("dir")), ("file.txt", Some("file.txt")), ("dir/.", None), (".", None), ("..", None), ("/", None)]
        {
            assert_eq!(base(Path::new(source)).as_deref(), name.map(std::ffi::OsStr::new), "{source}");
        }
    }
}

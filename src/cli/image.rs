//! `minipod image`: pull images or take them in, list them, look at one, take them away.

mod build_rootfs;
mod export;
mod history;
pub mod pull;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::table::Columns;
use crate::error::{Error, Result};
use crate::image::login::Logins;
use crate::image::pull::Ask;
use crate::image::registries::Settings;
use crate::image::{Image, Reference, Store};

/// Images that pods can use: pull them from registries, import them from files, export, list, inspect and remove them
#[derive(Debug, Args)]
pub struct ImageArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Pull(Pull),
    Import(Import),
    Export(export::Export),
    BuildRootfs(build_rootfs::BuildRootfs),
    #[command(visible_alias = "list")]
    Ls(Ls),
    #[command(visible_alias = "remove")]
    Rm(Rm),
    Inspect(Inspect),
    History(history::History),
    Prune(Prune),
}

/// Pull images from their registries
///
/// Layers are downloaded side by side, checked and unpacked while they come; what the store has already is not asked for. A broken
/// connection is taken up where it broke. Logins are those of `minipod login`, podman and docker.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    minipod image pull nginx:1.27\n  \
    minipod image pull ghcr.io/org/app@sha256:...\n  \
    minipod image pull --registry-mirror http://127.0.0.1:5000 nginx")]
struct Pull {
    /// Only the ids, one a line, and no progress
    #[arg(short, long)]
    quiet: bool,
    /// What to pull: nginx, alpine/git:v2, localhost:5000/x
    #[arg(value_name = "REF", required = true, value_parser = Reference::parse)]
    references: Vec<Reference>,
}

/// Remove what no image needs, and what killed pulls and imports have left
#[derive(Debug, Args)]
struct Prune {
    /// All images that no pod uses, too
    #[arg(short, long)]
    all: bool,
}

/// Take an image in from a directory, an archive or standard input
///
/// PATH is an OCI image layout (a directory with index.json, or a tar archive of it) or what `docker save` writes. It may be compressed
/// with gzip or zstd. Layers, users and digests are checked now, so that a pod starts without looking at them again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    minipod image import --name nginx:1.27 ./nginx-layout\n  \
    docker save alpine/git | sudo minipod image import -\n  \
    skopeo copy docker://nginx oci-archive:nginx.tar:nginx:latest && sudo minipod image import nginx.tar")]
struct Import {
    /// What to call it, instead of the name in the archive: nginx, alpine/git:v2, localhost:5000/x
    #[arg(long, value_name = "REF", value_parser = Reference::parse)]
    name: Option<Reference>,
    /// A directory or an archive; - is standard input
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

/// List the images
#[derive(Debug, Args)]
struct Ls {
    /// Only the ids, one a line
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    /// Another form: all of it as JSON, or more columns
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Form>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Json,
    Wide,
}

/// Remove images, and the layers that no other image needs
///
/// An image that a pod uses stays; delete the pod first.
#[derive(Debug, Args)]
struct Rm {
    /// Names (nginx, alpine/git:v2) or ids, also the first digits of one
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,
}

/// Show what an image says of itself, as JSON: its command, user, environment, ports, layers
#[derive(Debug, Args)]
struct Inspect {
    /// A name (nginx, alpine/git:v2) or an id, also its first digits
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,
}

/// Does what the words say and writes the result to `out`. `in_use` are ids of images that pods have.
pub fn run(args: &ImageArgs, store: &Store, settings: &Settings, in_use: &BTreeSet<String>, out: &mut dyn Write) -> Result<()> {
    match &args.verb {
        Verb::Pull(pull) => pull.references.iter().try_for_each(|reference| {
            let ask = Ask { reference: reference.clone(), settings: settings.clone(), secrets: Logins::default() };
            let id = pull::pull(store, ask, pull.quiet)?;
            line(out, &if pull.quiet { id } else { format!("pulled {}", reference.familiar()) })
        }),
        Verb::Prune(prune) => {
            let unused = |image: &Image| prune.all && !in_use.contains(&image.id);
            let references: Vec<Reference> = store.list()?.into_iter().filter(unused).map(|image| image.reference).collect();
            for reference in store.prune(&references, in_use)? {
                line(out, &format!("removed {}", reference.familiar()))?;
            }
            Ok(())
        }
        Verb::Import(import) => {
            for image in store.import(&import.path, import.name.as_ref())? {
                line(out, &format!("imported {}", image.reference.familiar()))?;
            }
            Ok(())
        }
        Verb::BuildRootfs(build) => build_rootfs::run(build, store, out),
        Verb::Export(export) => export::run(export, store, out),
        Verb::Ls(ls) => list(ls, &store.list()?, jiff::Timestamp::now(), out),
        Verb::Rm(rm) => {
            let images = resolved(store, &rm.references)?;
            let references: Vec<Reference> = images.into_iter().map(|image| image.reference).collect();
            store.remove(&references, in_use)?;
            references.iter().try_for_each(|reference| line(out, &format!("removed {}", reference.familiar())))
        }
        Verb::History(history) => history::run(history, store, jiff::Timestamp::now(), out),
        Verb::Inspect(inspect) => {
            let images: Vec<Value> = resolved(store, &inspect.references)?.iter().map(shown).collect();
            line(out, &format!("{:#}", Value::Array(images)))
        }
    }
}

/// The images that all words together mean, each once; a word that means none is an error before anything is done.
fn resolved(store: &Store, words: &[String]) -> Result<Vec<Image>> {
    let mut images: Vec<Image> = Vec::new();
    for word in words {
        let found = store.resolve(word)?;
        if found.is_empty() {
            return Err(Error::said(format!("there is no image {word:?}; `minipod image ls` shows what there is")));
        }
        images.extend(found);
    }
    images.sort_by(|a, b| a.reference.cmp(&b.reference));
    images.dedup_by(|a, b| a.reference == b.reference);
    Ok(images)
}

/// The record without what only the store needs.
fn shown(image: &Image) -> Value {
    let mut value = serde_json::to_value(image).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|key, _| key != "accounts" && key != "documents");
        fields.insert("layersDir".to_owned(), Value::from(image.layers_dir().display().to_string()));
    }
    value
}

fn list(ls: &Ls, images: &[Image], now: jiff::Timestamp, out: &mut dyn Write) -> Result<()> {
    if ls.quiet {
        let ids: BTreeSet<&str> = images.iter().map(|image| short_id(&image.id)).collect();
        return ids.into_iter().try_for_each(|id| line(out, id));
    }
    if ls.output == Some(Form::Json) {
        return line(out, &format!("{:#}", Value::Array(images.iter().map(shown).collect())));
    }
    let wide = ls.output == Some(Form::Wide);
    let more = if wide { vec!["LAYERS", "USER", "DIGEST"] } else { Vec::new() };
    let header: Vec<String> = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"].into_iter().chain(more).map(str::to_owned).collect();
    let rows = images.iter().map(|image| {
        let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or("<none>").to_owned();
        let mut row = vec![
            image.reference.familiar_name(),
            text(image.reference.tag()),
            short_id(&image.id).to_owned(),
            age_of(image.created.as_deref(), now),
            size(image.size),
        ];
        if wide {
            row.extend([image.layers.len().to_string(), text(Some(&image.user.escape_debug().to_string())), text(image.digest.as_deref())]);
        }
        row
    });
    let text: String = std::iter::once(header).chain(rows).map(|row| row.join("\t") + "\n").collect();
    Columns::of_get().align(&text).lines().try_for_each(|row| line(out, row))
}

pub(super) fn short_id(id: &str) -> &str {
    id.get("sha256:".len()..).and_then(|digits| digits.get(..12)).unwrap_or(id)
}

/// As `docker image ls` says it: in the largest unit of which there are two.
pub(super) fn age_of(created: Option<&str>, now: jiff::Timestamp) -> String {
    let Some(created) = created.and_then(|text| text.parse::<jiff::Timestamp>().ok()) else { return "N/A".to_owned() };
    let seconds = (now.as_second() - created.as_second()).max(0);
    const UNITS: [(i64, &str); 6] = [(365 * 86400, "years"), (30 * 86400, "months"), (7 * 86400, "weeks"), (86400, "days"), (3600, "hours"), (60, "minutes")];
    match UNITS.iter().find(|(length, _)| seconds >= 2 * length) {
        Some((length, unit)) => format!("{} {unit} ago", seconds / length),
        None if seconds == 1 => "1 second ago".to_owned(),
        None => format!("{seconds} seconds ago"),
    }
}

/// Decimal, three significant digits, as docker: 4.27MB, 187MB.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    let digits = match value {
        _ if unit == "B" => 0,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{unit}")
}

fn line(out: &mut dyn Write, text: &str) -> Result<()> {
    writeln!(out, "{text}").map_err(|error| Error::io("write", "standard output", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in
            [(0, "0B"), (999, "999B"), (1000, "1.00kB"), (4_270_000, "4.27MB"), (45_600_000, "45.6MB"), (187_000_000, "187MB"), (3 << 40, "3.30TB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}

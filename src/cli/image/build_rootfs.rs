//! `minipod image build-rootfs`: an image of a plain directory.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::line;
use crate::error::{Error, Result};
use crate::image::{Reference, Settings, Store};

/// Make an image of a directory that holds a root file system
///
/// All of DIR becomes the image's one layer, with owners, modes, times, attributes and links; no symlink is followed, and nothing outside of it is
/// read. The image is made for this machine's architecture.
#[derive(Debug, Args)]
#[command(after_help = "\
A command is written as in a Dockerfile: '[\"nginx\", \"-g\", \"daemon off;\"]' is taken word for word, anything else is given to /bin/sh -c.

Examples:
  sudo debootstrap --variant=minbase bookworm ./root && sudo minipod image build-rootfs ./root debian:bookworm
  sudo minipod image build-rootfs --cmd '[\"/app\"]' --user 1000 ./root localhost/app:v1")]
pub struct BuildRootfs {
    /// What a container runs; a pod's `command` goes before it
    #[arg(long, value_name = "COMMAND", value_parser = command)]
    entrypoint: Option<Words>,
    /// Its arguments, or without an entrypoint what a container runs; a pod's `args` go before it
    #[arg(long, value_name = "COMMAND", value_parser = command)]
    cmd: Option<Words>,
    /// A variable; more than once
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<String>,
    /// Whom it runs as: USER, UID, USER:GROUP
    #[arg(short, long, default_value = "", hide_default_value = true)]
    user: String,
    /// Where it runs
    #[arg(short, long, value_name = "DIR", default_value = "", hide_default_value = true)]
    workdir: String,
    /// A label; more than once
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    label: Vec<String>,
    /// The directory
    dir: PathBuf,
    /// What to call the image: app, localhost/app:v1
    #[arg(value_name = "NAME", value_parser = Reference::parse)]
    name: Reference,
}

type Words = std::vec::Vec<String>;

fn command(text: &str) -> std::result::Result<Words, String> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| format!("no list of words in JSON: {error}"));
    }
    Ok(["/bin/sh", "-c", text].map(str::to_owned).to_vec())
}

fn variable(text: &str) -> std::result::Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("it is NAME=VALUE".to_owned()),
    }
}

pub fn run(build: &BuildRootfs, store: &Store, out: &mut dyn Write) -> Result<()> {
    if build.name.digest().is_some() {
        return Err(Error::said(format!("{} names an image by its digest; give it a name", build.name.familiar())));
    }
    let settings = Settings {
        entrypoint: build.entrypoint.clone().unwrap_or_default(),
        cmd: build.cmd.clone().unwrap_or_default(),
        env: build.env.clone(),
        user: build.user.clone(),
        working_dir: build.workdir.clone(),
        labels: build.label.iter().filter_map(|label| label.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    };
    let image = store.build(&build.dir, &build.name, &settings, &jiff::Timestamp::now().to_string())?;
    line(out, &format!("built {}", image.reference.familiar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_written_as_in_a_dockerfile() {
        assert_eq!(command(r#"["a", "b c"]"#).unwrap(), ["a", "b c"]);
        assert_eq!(command("a $b").unwrap(), ["/bin/sh", "-c", "a $b"]);
        assert!(command(r#"["a", 1]"#).is_err());
        assert!(variable("=x").is_err() && variable("x").is_err() && variable("x=").is_ok());
    }
}

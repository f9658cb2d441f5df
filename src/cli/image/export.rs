//! `minipod image export`: an image on its way to another machine or another program.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{line, resolved};
use crate::error::{Error, Result};
use crate::image::{Format, Store};
use crate::sys::file;

/// Write an image into an archive that minipod, docker, podman and skopeo take in
///
/// An image that is given by its name has that name in the archive; one that is given by its id has all its names. The store keeps layers
/// unpacked: layers are packed anew, so digests differ; contents do not.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    minipod image export nginx:1.27 -o nginx.tar\n  \
    sudo minipod image export nginx | ssh other sudo minipod image import -\n  \
    sudo minipod image export --format docker nginx | docker load")]
pub struct Export {
    /// Where to write it, instead of standard output; appears when it is whole
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// An OCI image layout, or what `docker save` writes
    #[arg(long, value_name = "FORMAT", default_value = "oci")]
    format: Form,
    /// A name (nginx, alpine/git:v2) or an id, also its first digits
    #[arg(value_name = "IMAGE")]
    image: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Oci,
    Docker,
}

pub fn run(export: &Export, store: &Store, out: &mut dyn Write) -> Result<()> {
    let images = resolved(store, std::slice::from_ref(&export.image))?;
    let format = match export.format {
        Form::Oci => Format::Oci,
        Form::Docker => Format::Docker,
    };
    let Some(path) = export.output.as_deref().filter(|path| *path != Path::new("-")) else {
        if std::io::stdout().is_terminal() {
            return Err(Error::said("an archive is not written to a terminal; give -o FILE, or a pipe"));
        }
        return store.export(&images, format, &store.layers_dir(), out);
    };
    // Where a symlink leads is replaced, not the symlink.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // A device or a pipe would be replaced by a file.
    if std::fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_file()) {
        return Err(Error::said(format!("{:?} is not a regular file; without -o the archive goes to standard output", path.display())));
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let room = file::nameless(dir).map_or(store.layers_dir(), |_| dir.to_owned());
    file::write_atomically_by(&path, |mut file| store.export(&images, format, &room, &mut file))
        .map_err(|error| error.doing(format!("writing {}", path.display())))?;
    line(out, &format!("exported {} to {}", images[0].reference.familiar(), path.display()))
}

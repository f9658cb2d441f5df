//! One layer: a process that reads it from a pipe and leaves a directory.
//!
//! Layers go side by side, though one may have to look at those below it: an entry may imply a directory that only they describe. It
//! then waits until they are whole, which it hears as the end of a pipe. The lowest layer never waits, so something always goes on.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::document::Blob;
use crate::image::import::{self, Unpacked};
use crate::sys::process::{self, Child, Exit};
use crate::sys::{file, socket};

/// What an unpacker says before it ends.
#[derive(Serialize, Deserialize)]
enum Said {
    /// Whether the layer is right only above those below it.
    Whole(bool),
    Failed(String),
}

pub struct Unpacker {
    pub child: Child,
    said: OwnedFd,
    /// Closed once all layers below are whole.
    below_waits: Option<OwnedFd>,
}

impl Unpacker {
    /// Starts to unpack what comes from `packed` into `into`, above the directories `below`, bottom to top.
    pub fn start(packed: OwnedFd, blob: &Blob, into: &Path, below: &[PathBuf]) -> Result<Unpacker> {
        std::fs::create_dir(into).map_err(|error| Error::io("mkdir", into.display(), &error))?;
        let (ours, theirs) = socket::pair()?;
        let (waits, ready) = process::pipe()?;
        let child = process::fork(|| {
            process::close_others(3, &[packed.as_fd(), theirs.as_fd(), waits.as_fd()]);
            process::set_name(c"minipod-unpack");
            process::die_with_parent()?;
            let said = match unpack(packed, blob, into, below, waits) {
                Ok(implied) => Said::Whole(implied),
                Err(error) => Said::Failed(error.to_string()),
            };
            let text = serde_json::to_vec(&said).map_err(|error| Error::said(error.to_string()))?;
            socket::send(&theirs, &text, &[])?;
            process::exit_now(0)
        })?;
        Ok(Unpacker { child, said: ours, below_waits: Some(ready) })
    }

    /// All layers below are whole.
    pub fn go_on(&mut self) {
        self.below_waits = None;
    }

    /// It has ended: whether its layer is right only above those below it.
    pub fn result(&self) -> Result<bool> {
        let exit = self.child.wait()?;
        match (exit, socket::receive(&self.said)?.0) {
            (Exit::Code(0), text) => match serde_json::from_slice(&text) {
                Ok(Said::Whole(implied)) => Ok(implied),
                Ok(Said::Failed(why)) => Err(Error::said(why)),
                Err(error) => Err(Error::said(format!("the unpacker talks nonsense: {error}"))),
            },
            (Exit::Signal(signal), _) => Err(Error::said(format!("the unpacker was killed by {}", process::signal_name(signal)))),
            (Exit::Code(code), _) => Err(Error::said(format!("the unpacker has ended with code {code}"))),
        }
    }
}

impl Drop for Unpacker {
    fn drop(&mut self) {
        // One that was reaped already is no error.
        if self.child.signal(libc::SIGKILL).is_ok() {
            let _ = self.child.wait();
        }
    }
}

fn unpack(packed: OwnedFd, blob: &Blob, into: &Path, below: &[PathBuf], waits: OwnedFd) -> Result<bool> {
    let below = || {
        let copy = waits.try_clone().map_err(|error| Error::io("dup", "", &error))?;
        File::from(copy).read(&mut [0]).map_err(|error| Error::io("read", "", &error))?;
        let layers: Vec<Unpacked> = below.iter().map(|path| Unpacked { name: String::new(), path: path.clone() }).collect();
        import::stack(layers.iter())
    };
    import::apply(File::from(packed), blob, file::open_dir(into)?, &below)
}

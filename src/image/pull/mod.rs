//! An image from a registry: two processes and one more for each layer, none of which can hold up who asked for it.
//!
//! ```text
//! supervisor, or       puller                        fetcher
//! `image pull`         root, writes the store        no rights; tokio, TLS, HTTP
//!   words ◀─ seqpacket ─┤ ─ seqpacket: {blob}, pipe ─▶ ├──▶ registries
//!                       ├─ unpacker of layer 1 ◀─ pipe ┤     (mirrors, tokens, retries,
//!                       ├─ unpacker of layer 2 ◀─ pipe ┤      the rest of a broken blob)
//!                       └─ checks, gives names
//! ```
//!
//! Who speaks to the network can do nothing here, and who writes to the disk believes nothing that comes: the fetcher may have any bug
//! and still only give bytes whose digests are wrong. A layer is downloaded, hashed, inflated and unpacked in one stream, several of
//! them at a time. All is made in a directory of this pull and gets its names at the end, so a failure or a kill leaves nothing that is seen;
//! the next writer of the store clears what a killed pull has left.
//!
//! Two pulls of one name wait for one another, and the second finds everything there.

mod fetcher;
mod process;
mod registry;
mod staging;
mod unpacker;

pub(super) use staging::clear as clear_killed;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::login::{Login, Logins};
use super::registries::{Registries, Settings};
use super::{Reference, Store};
use crate::error::{Error, Result};
use crate::sys::process::{Child, Exit};
use crate::sys::{self, socket};

/// What is to be pulled, and by what right.
#[derive(Debug, Clone)]
pub struct Ask {
    pub reference: Reference,
    pub settings: Settings,
    /// Those of the pod, looked through before the person's own.
    pub secrets: Logins,
}

/// What a puller tells. The last word is Pulled or Failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Word {
    /// The layers, bottom to top: digest, bytes as they are sent, whether the store has it already.
    Layers(Vec<(String, u64, bool)>),
    /// So many bytes of a layer have come.
    Came(usize, u64),
    /// A layer is unpacked.
    Unpacked(usize),
    /// The image is in the store. Bytes of its layers as its registry has them, and of those that were downloaded now.
    Pulled {
        id: String,
        bytes: u64,
        downloaded: u64,
    },
    Failed {
        message: String,
    },
}

/// A pull under way. Dropping it ends all of its processes, and nothing of it is seen.
#[derive(Debug)]
pub struct Puller {
    child: Child,
    socket: OwnedFd,
}

impl AsFd for Puller {
    /// Readable once there are words.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Puller {
    /// Forks the process. The caller must have one thread.
    pub fn start(store: &Store, ask: &Ask) -> Result<Puller> {
        let (ours, theirs) = socket::pair()?;
        sys::process::set_nonblocking(&ours)?;
        let child = sys::process::fork(|| process::run(store, ask, theirs)).map_err(|error| error.doing("starting the puller"))?;
        Ok(Puller { child, socket: ours })
    }

    /// What has been told since; never blocks. A puller that died has failed.
    pub fn words(&self) -> Vec<Word> {
        let mut words = Vec::new();
        loop {
            match socket::receive(&self.socket) {
                Ok((text, _)) if !text.is_empty() => match serde_json::from_slice(&text) {
                    Ok(word) => words.push(word),
                    Err(error) => return failed(words, format!("the puller talks nonsense: {error}")),
                },
                Err(error) if error.is(libc::EAGAIN) => return words,
                Err(error) => return failed(words, error.to_string()),
                // Whoever has told the end is not asked again.
                Ok(_) if matches!(words.last(), Some(Word::Pulled { .. } | Word::Failed { .. })) => return words,
                Ok(_) => return failed(words, format!("the puller {}", ended(&self.child))),
            }
        }
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        if self.child.signal(libc::SIGKILL).is_ok() {
            let _ = self.child.wait();
        }
    }
}

fn failed(mut words: Vec<Word>, message: String) -> Vec<Word> {
    words.push(Word::Failed { message });
    words
}

fn ended(child: &Child) -> String {
    match child.wait() {
        Ok(Exit::Signal(signal)) => format!("was killed by {}", sys::process::signal_name(signal)),
        Ok(Exit::Code(code)) => format!("has ended with code {code}"),
        Err(error) => format!("is gone: {error}"),
    }
}

/// Asks a registry whether it takes a login. Errors: it does not, or does not answer. The caller must have one thread.
pub fn check_login(host: &str, login: &Login, settings: &Settings) -> Result<()> {
    // A repository that nobody has: who may not come in is told so before anybody looks for it.
    let reference = Reference::parse(&format!("{host}/minipod/login"))?;
    let registries = Registries::read(&Settings { mirrors: Vec::new(), ..settings.clone() })?;
    let access = process::accesses(&reference, &registries, &mut |_| Ok(Some(login.clone())))?;
    let mut fetcher = fetcher::Fetcher::start(access, registries.patience())?;
    match fetcher.document(fetcher::What::Login) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::said(format!("registry {host} {error}"))),
    }
}

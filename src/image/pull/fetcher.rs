//! The process that speaks to registries, as the puller holds it.
//!
//! A question names a document or a layer and carries the end of a pipe. The bytes come through the pipe, then one answer says how it
//! ended. Between them the fetcher tells how far a layer has come.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::registry::{self, Access};
use crate::error::{Error, Result};
use crate::image::archive::MAX_DOCUMENT;
use crate::sys::process::{self, Child};
use crate::sys::socket;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A manifest or an index, by tag or digest.
    Manifest(String),
    /// A configuration.
    Blob(String),
    /// A layer: its digest and its bytes.
    Layer(String, u64),
    /// Nothing, if the registry lets us in.
    Login,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    pub id: u64,
    pub what: What,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// So many bytes of it have come.
    Came(u64, u64),
    /// It has ended; with a sentence, if badly.
    Done(u64, Option<String>),
}

/// Dropping it kills and reaps the process.
pub struct Fetcher {
    child: Child,
    socket: OwnedFd,
    questions: u64,
}

impl AsFd for Fetcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Fetcher {
    pub fn start(accesses: Vec<Access>, patience: Duration) -> Result<Fetcher> {
        let (ours, theirs) = socket::pair()?;
        process::set_nonblocking(&theirs)?;
        let child = process::fork(|| registry::run(theirs, accesses, patience)).map_err(|error| error.doing("starting the fetcher"))?;
        Ok(Fetcher { child, socket: ours, questions: 0 })
    }

    /// Asks for something whose bytes are to come through `pipe`; gives the number that the answer will have.
    pub fn ask(&mut self, what: What, pipe: OwnedFd) -> Result<u64> {
        let id = self.questions;
        self.questions += 1;
        let text = serde_json::to_vec(&Question { id, what }).map_err(|error| Error::said(error.to_string()))?;
        socket::send(&self.socket, &text, &[pipe.as_fd()]).map_err(|error| if error.is(libc::EPIPE) { self.gone() } else { error })?;
        Ok(id)
    }

    /// Waits for the next answer.
    pub fn hear(&self) -> Result<Answer> {
        match socket::receive(&self.socket)? {
            (text, _) if text.is_empty() => Err(self.gone()),
            (text, _) => serde_json::from_slice(&text).map_err(|error| Error::said(format!("the fetcher talks nonsense: {error}"))),
        }
    }

    /// The whole of a document, not checked yet. Nothing else must be under way.
    pub fn document(&mut self, what: What) -> Result<Vec<u8>> {
        let (reader, writer) = process::pipe()?;
        let id = self.ask(what, writer)?;
        let mut bytes = Vec::new();
        File::from(reader).take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).map_err(|error| Error::io("read", "", &error))?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(Error::said(format!("answers with a document of more than {MAX_DOCUMENT} bytes, which is none")));
        }
        loop {
            match self.hear()? {
                Answer::Done(of, None) if of == id => return Ok(bytes),
                Answer::Done(of, Some(why)) if of == id => return Err(Error::said(why)),
                _ => {}
            }
        }
    }

    fn gone(&self) -> Error {
        let memory = registry::MEMORY >> 20;
        Error::said(format!("the fetcher {} (it may use {memory} MiB, and needs the system's CA certificates)", super::ended(&self.child)))
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        if self.child.signal(libc::SIGKILL).is_ok() {
            let _ = self.child.wait();
        }
    }
}

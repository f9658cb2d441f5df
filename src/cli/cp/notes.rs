//! What went wrong in copying, and did not stop it.

use std::fmt;

use crate::error::Error;

/// All of it fits into a pipe that nobody reads yet.
const MOST: usize = 32 * 1024;

#[derive(Debug, Default)]
pub struct Notes {
    text: String,
    /// How many did not fit.
    more: usize,
    failed: bool,
}

impl Notes {
    /// One that is the end of all.
    pub fn of(error: &Error) -> Notes {
        let mut notes = Notes::default();
        notes.error(error);
        notes
    }

    /// Something was not copied that should have been.
    pub fn error(&mut self, error: &Error) {
        self.failed = true;
        self.line(&format!("error: {error}\n"));
    }

    /// Something was left out that cannot be copied.
    pub fn warning(&mut self, what: &str) {
        self.line(&format!("warning: {what}\n"));
    }

    fn line(&mut self, line: &str) {
        if self.text.len() + line.len() > MOST { self.more += 1 } else { self.text += line }
    }

    pub fn failed(&self) -> bool {
        self.failed
    }
}

impl fmt::Display for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.more > 0 { writeln!(f, "and {} more", self.more) } else { Ok(()) }
    }
}

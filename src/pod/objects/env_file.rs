//! Files of variables that an init container writes (KEP 3721): `KEY='value'`, a value over several lines if need be.
//!
//! The subset of the shell that every shell reads alike: blanks and `#` comments before a variable, no blank around `=`, the value in
//! single quotes and taken as it is, maybe a comment after it.

use std::path::Path;

use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::sys::file::{self, Within};

/// More than this, in bytes, is no file of variables.
const MOST: u64 = 1 << 20;

/// The text of a file in a volume that containers write to; None if it is not there. A link is not followed, and nothing is waited for.
pub fn read(volume: &Path, path: &str) -> Result<Option<String>> {
    let found = match file::open_within(file::open_dir(volume)?, path, Within::Beneath, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, 0) {
        Err(error) if error.is(libc::ENOENT) => return Ok(None),
        found => found?,
    };
    if rustix::fs::FileType::from_raw_mode(file::stat(&found)?.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(Error::said(format!("env file {path:?} is not a regular file")));
    }
    let bytes = file::read_limited(found, path, MOST)?;
    String::from_utf8(bytes).map(Some).map_err(|_| Error::said(format!("env file {path:?} is not UTF-8")))
}

/// The value of a key, the last one given; None if it is not there. The error says what is wrong in which line.
pub fn value(text: &str, key: &str) -> std::result::Result<Option<String>, String> {
    let mut found = None;
    let mut rest = text;
    let line = |rest: &str| text[..text.len() - rest.len()].matches('\n').count() + 1;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        if rest.is_empty() {
            return Ok(found);
        }
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        let here = line(rest);
        let (name, after) = rest.split_once('=').filter(|(name, _)| !name.contains('\n')).ok_or_else(|| format!("line {here}: no `=`"))?;
        if name.is_empty() || name.ends_with([' ', '\t']) {
            return Err(format!("line {here}: a name must stand right before `=`"));
        }
        let quoted = after.strip_prefix('\'').ok_or_else(|| format!("line {here}: the value must be in single quotes, right after `=`"))?;
        let (value, after) = quoted.split_once('\'').ok_or_else(|| format!("line {here}: the closing quote is missing"))?;
        let (tail, next) = after.split_once('\n').unwrap_or((after, ""));
        let tail = tail.trim_end_matches('\r');
        let comment = tail.trim_start_matches([' ', '\t']);
        if !comment.is_empty() && (comment.len() == tail.len() || !comment.starts_with('#')) {
            return Err(format!("line {}: only a comment may follow the value", line(after)));
        }
        if name == key {
            found = Some(value.to_owned());
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_what_is_between_its_quotes() {
        let file = "# head\n\n  A='one'\nB='two\n lines # no comment'\t# a comment\nA='again'\nEMPTY=''\nD='$(A) \"x\"'\r\n";
        for (key, expected) in [("A", Some("again")), ("B", Some("two\n lines # no comment")), ("EMPTY", Some("")), ("D", Some("$(A) \"x\"")), ("C", None)] {
            assert_eq!(value(file, key).unwrap().as_deref(), expected, "{key}");
        }
        assert_eq!(value("", "A"), Ok(None));
    }

    #[test]
    fn what_a_shell_might_read_otherwise_is_refused() {
        for text in ["A=one", "A = 'one'", "A= 'one'", "A=\"one\"", "A='one", "A='one'x", "A='one'#x", "nonsense", "='x'", "a\nB='x"] {
            assert!(value(text, "A").is_err(), "{text:?}");
        }
    }
}

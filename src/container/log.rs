//! What a container wrote, on disk in the kubelet's format (CRI), so that every log collector can read it.
//!
//! ```text
//! log/pods/NAMESPACE_NAME_UID/CONTAINER/0.log     one file per instance, by restart count
//!
//! 2026-03-07T09:05:00.123456789Z stdout F a whole line
//! 2026-03-07T09:05:00.123456790Z stderr P the first 16 KiB of a long line
//! 2026-03-07T09:05:00.123456791Z stderr F and its end
//! └─ time, UTC                   └─ stream └─ F: the line ends here; P: it goes on in the stream's next record
//! ```
//!
//! Writing: a [`Splitter`] per stream cuts bytes into records, as containerd does; a [`LogFile`] appends them, and puts the file
//! aside between two records when it is full ([`rotation`]).
//!
//! Reading: [`Records`] parses a file that may be growing, torn by a crash, or not ours at all; [`Joiner`] puts the parts
//! of a long line together again. Neither holds more than [`LONGEST`] or [`JOINED`] bytes, whatever the file holds.

pub mod rotation;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::error::{Error, Result};

/// A line is split after so many bytes (containerd's `max_container_log_line_size`).
pub const PART: usize = 16 * 1024;
/// The longest record that is read in one piece; what is longer comes as several parts.
pub const LONGEST: usize = 64 * 1024;
/// The longest line that is put together from parts; what is longer is given out in pieces.
pub const JOINED: usize = 1024 * 1024;

/// Which of its two outputs the container wrote to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// The directory of all logs of a pod below `logs` (which is `log/pods`). An error if a part could lead elsewhere.
pub fn pod_dir(logs: &Path, namespace: &str, name: &str, uid: &str) -> Result<PathBuf> {
    Ok(logs.join(component(&format!("{namespace}_{name}_{uid}"))?))
}

/// The log of one instance of a container in [`pod_dir`]; `instance` is its restart count.
pub fn file(pod_dir: &Path, container: &str, instance: u32) -> Result<PathBuf> {
    Ok(pod_dir.join(component(container)?).join(format!("{instance}.log")))
}

fn component(name: &str) -> Result<&str> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(Error::said(format!("{name:?} cannot be part of a log path")));
    }
    Ok(name)
}

/// Cuts what one stream writes into records. Pure: bytes and the time in, records out.
#[derive(Debug)]
pub struct Splitter {
    stream: Stream,
    /// The begun line, at most [`PART`] bytes: written out only when it ends or overflows.
    line: Vec<u8>,
}

impl Splitter {
    pub fn new(stream: Stream) -> Splitter {
        Splitter { stream, line: Vec::new() }
    }

    /// Appends to `records` what `bytes`, read at `now`, complete.
    pub fn feed(&mut self, mut bytes: &[u8], now: Timestamp, records: &mut Vec<u8>) {
        let head = head(now, self.stream);
        while let Some((line, rest)) = split_line(bytes) {
            let line = self.overflow(line, &head, records);
            record(records, &head, b"F ", &self.line, line);
            self.line.clear();
            bytes = rest;
        }
        let rest = self.overflow(bytes, &head, records);
        self.line.extend_from_slice(rest);
    }

    /// The stream has ended: a line without its newline becomes a part that nothing follows, as containerd writes it.
    pub fn end(&mut self, now: Timestamp, records: &mut Vec<u8>) {
        if !self.line.is_empty() {
            record(records, &head(now, self.stream), b"P ", &self.line, b"");
            self.line.clear();
        }
    }

    /// Writes full parts while the begun line and `bytes` exceed one; what is left of `bytes` then fits.
    fn overflow<'a>(&mut self, mut bytes: &'a [u8], head: &[u8], records: &mut Vec<u8>) -> &'a [u8] {
        while self.line.len() + bytes.len() > PART {
            let (part, rest) = bytes.split_at(PART - self.line.len());
            record(records, head, b"P ", &self.line, part);
            self.line.clear();
            bytes = rest;
        }
        bytes
    }
}

/// Up to the first newline, and after it.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes;
    // The standard library's fast search for one byte. Reading from a slice cannot fail.
    let length = rest.skip_until(b'\n').unwrap_or(0);
    bytes[..length].strip_suffix(b"\n").map(|line| (line, rest))
}

fn head(now: Timestamp, stream: Stream) -> Vec<u8> {
    format!("{now:.9} {} ", stream.name()).into_bytes()
}

fn record(records: &mut Vec<u8>, head: &[u8], tag: &[u8], begun: &[u8], line: &[u8]) {
    for piece in [head, tag, begun, line, b"\n"] {
        records.extend_from_slice(piece);
    }
}

/// The log of one running instance.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    path: PathBuf,
    splitters: [Splitter; 2],
    records: Vec<u8>,
    /// The file does not end with a newline: somebody died, or the disk was full, within a record.
    torn: bool,
    /// Bytes in the file.
    length: u64,
    /// As many are enough.
    full: u64,
}

impl LogFile {
    /// Opens the file for appending, and makes it and its directories if they are missing (0755, 0640: as the kubelet's).
    pub fn open(path: impl AsRef<Path>) -> Result<LogFile> {
        let path = path.as_ref().to_owned();
        let parent = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).map_err(|error| Error::io("mkdir", parent.display(), &error))?;
        let file = open_for_appending(&path)?;
        let length = file.metadata().map_err(|error| Error::io("fstat", path.display(), &error))?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1).map_err(|error| Error::io("pread", path.display(), &error))?;
        }
        let torn = last != [b'\n'];
        let splitters = [Splitter::new(Stream::Stdout), Splitter::new(Stream::Stderr)];
        Ok(LogFile { file, path, splitters, records: Vec::new(), torn, length, full: rotation::FULL })
    }

    /// Appends what the container wrote to `stream`, read at `now`. On an error these bytes are lost, later ones are not.
    pub fn take(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) -> Result<()> {
        self.splitters[stream as usize].feed(bytes, now, &mut self.records);
        self.append(now)
    }

    /// The stream has ended; what it had begun is written.
    pub fn end(&mut self, stream: Stream, now: Timestamp) -> Result<()> {
        self.splitters[stream as usize].end(now, &mut self.records);
        self.append(now)
    }

    fn append(&mut self, now: Timestamp) -> Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        if self.torn {
            self.records.insert(0, b'\n');
        }
        let written = self.file.write_all(&self.records);
        self.length += self.records.len() as u64;
        self.records.clear();
        self.torn = written.is_err();
        written.map_err(|error| Error::io("write", self.path.display(), &error))?;
        if self.length >= self.full && rotation::put_aside(&self.path, now)? {
            self.file = open_for_appending(&self.path)?;
            self.length = 0;
        }
        Ok(())
    }
}

fn open_for_appending(path: &Path) -> Result<File> {
    File::options().read(true).append(true).create(true).mode(0o640).open(path).map_err(|error| Error::io("open", path.display(), &error))
}

/// One record of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub time: Timestamp,
    pub stream: Stream,
    /// The line goes on in the next record of this stream.
    pub partial: bool,
    /// Without the newline.
    pub content: &'a [u8],
}

impl Record<'_> {
    /// Reads `TIME STREAM TAGS CONTENT`, without its newline; none if it is anything else. NULs before the time are
    /// skipped: a file system that lost the end of a file in a crash leaves a hole there. Of the tags, separated by `:`,
    /// only the first is known today.
    pub fn parse(line: &[u8]) -> Option<Record<'_>> {
        let line = &line[line.iter().position(|byte| *byte != 0).unwrap_or(line.len())..];
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let stream = match fields.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let tag = fields.next()?.split(|byte| *byte == b':').next()?;
        Some(Record { time, stream, partial: tag == b"P", content: fields.next()? })
    }
}

/// The records of a file, in order, while it may still grow.
#[derive(Debug)]
pub struct Records {
    reader: BufReader<File>,
    path: PathBuf,
    line: Vec<u8>,
    /// The line at hand was given out: the next call begins a new one.
    given: bool,
    /// Time, stream and tag of a record longer than [`LONGEST`], whose further pieces are still to come.
    begun: Option<(Timestamp, Stream, bool)>,
    /// The last piece was garbage without an end: what follows up to its newline is garbage as well.
    skipping: bool,
    /// How many lines were not in the format, and were left out.
    pub garbage: u64,
    /// The file was put aside since, and was read to its end after that was seen.
    aside: bool,
}

impl Records {
    pub fn open(path: impl AsRef<Path>) -> Result<Records> {
        let path = path.as_ref().to_owned();
        let file = File::open(&path).map_err(|error| Error::io("open", path.display(), &error))?;
        let reader = BufReader::with_capacity(LONGEST, file);
        Ok(Records { reader, path, line: Vec::new(), given: false, begun: None, skipping: false, garbage: 0, aside: false })
    }

    /// Goes to the last `lines` whole lines of the file, reading backwards from its end. A torn line at the end is not
    /// counted, but will be read.
    pub fn seek_tail(&mut self, lines: u64) -> Result<()> {
        let failed = |error: std::io::Error| Error::io("pread", self.path.display(), &error);
        let file = self.reader.get_ref();
        let mut left = file.metadata().map_err(failed)?.len();
        let mut block = vec![0; LONGEST];
        let mut found = 0;
        let mut start = 0;
        'blocks: while left > 0 {
            let length = left.min(LONGEST as u64) as usize;
            left -= length as u64;
            file.read_exact_at(&mut block[..length], left).map_err(failed)?;
            for (at, _) in block[..length].iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                found += 1;
                if found > lines {
                    start = left + at as u64 + 1;
                    break 'blocks;
                }
            }
        }
        self.reader.seek(SeekFrom::Start(start)).map(drop).map_err(|error| Error::io("lseek", self.path.display(), &error))
    }

    /// The next record; none at the present end of the file. What stands after the last newline is kept until its
    /// newline comes, unless it is the `end`: then nobody writes any more, and that is all there will ever be.
    pub fn next(&mut self, end: bool) -> Result<Option<Record<'_>>> {
        while let Some(ended) = self.read_piece(end)? {
            self.given = true;
            if let Some((time, stream, tag, content)) = self.understand(ended) {
                // Without its newline the line is not over, whatever its tag says.
                let partial = tag || !ended;
                let content = &self.line[content..self.line.len() - usize::from(ended)];
                return Ok(Some(Record { time, stream, partial, content }));
            }
        }
        Ok(None)
    }

    /// At the end of a file that was put aside meanwhile, goes on with the one after it. True: there may be more records now. (What was written
    /// between our reading and its being put aside is read first.)
    pub fn go_on(&mut self) -> Result<bool> {
        let failed = |error: std::io::Error| Error::io("stat", self.path.display(), &error);
        let own = self.reader.get_ref().metadata().map_err(failed)?.ino();
        let is_own = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.ino() == own);
        if is_own(&self.path) || !self.path.exists() {
            return Ok(false);
        }
        if !std::mem::replace(&mut self.aside, true) {
            return Ok(true);
        }
        let aside = rotation::put_aside_of(&self.path);
        let after = aside.iter().position(|path| is_own(path)).map_or(0, |at| at + 1);
        let next = aside.get(after).unwrap_or(&self.path);
        let file = File::open(next).map_err(|error| Error::io("open", next.display(), &error))?;
        self.reader = BufReader::with_capacity(LONGEST, file);
        self.aside = false;
        Ok(true)
    }

    /// Reads on to the next newline, but no more than [`LONGEST`] bytes; whether the newline came. None: there is no more.
    fn read_piece(&mut self, end: bool) -> Result<Option<bool>> {
        if std::mem::take(&mut self.given) {
            self.line.clear();
        }
        loop {
            let room = (LONGEST - self.line.len()) as u64;
            let read = (&mut self.reader).take(room).read_until(b'\n', &mut self.line);
            let read = read.map_err(|error| Error::io("read", self.path.display(), &error))?;
            if self.line.last() == Some(&b'\n') {
                return Ok(Some(true));
            }
            if self.line.len() == LONGEST || (end && read == 0 && !self.line.is_empty()) {
                return Ok(Some(false));
            }
            if read == 0 {
                return Ok(None);
            }
        }
    }

    /// Time, stream, whether tagged partial, and where the content begins in the piece at hand; none if it is garbage.
    fn understand(&mut self, ended: bool) -> Option<(Timestamp, Stream, bool, usize)> {
        if std::mem::take(&mut self.skipping) {
            self.skipping = !ended;
            return None;
        }
        let (time, stream, tag, content) = match self.begun.take() {
            Some((time, stream, tag)) => (time, stream, tag, 0),
            None => {
                let line = &self.line[..self.line.len() - usize::from(ended)];
                let Some(record) = Record::parse(line) else {
                    self.garbage += 1;
                    self.skipping = !ended;
                    return None;
                };
                (record.time, record.stream, record.partial, line.len() - record.content.len())
            }
        };
        self.begun = (!ended).then_some((time, stream, tag));
        Some((time, stream, tag, content))
    }
}

/// A line of a container's output, or a piece of a very long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// When its first part was written.
    pub time: Timestamp,
    pub stream: Stream,
    /// The line begins here (it does not go on from the piece before).
    pub begins: bool,
    /// The line ends here: a newline follows.
    pub ends: bool,
    pub content: &'a [u8],
}

/// Puts the parts of lines together again, each stream for itself.
#[derive(Debug, Default)]
pub struct Joiner {
    streams: [Joining; 2],
}

#[derive(Debug, Default)]
struct Joining {
    /// When the line at hand began, while one is.
    since: Option<Timestamp>,
    content: Vec<u8>,
    /// The content was given out: the next record begins a new piece,
    given: bool,
    /// which goes on with the same line.
    goes_on: bool,
}

impl Joiner {
    /// The line that this record completes, if it does.
    pub fn push<'a>(&'a mut self, record: Record<'a>) -> Option<Line<'a>> {
        let joining = &mut self.streams[record.stream as usize];
        if std::mem::take(&mut joining.given) {
            joining.content.clear();
        }
        let begins = !joining.goes_on;
        let time = *joining.since.get_or_insert(record.time);
        if record.partial && joining.content.len() + record.content.len() < JOINED {
            joining.content.extend_from_slice(record.content);
            return None;
        }
        joining.goes_on = record.partial;
        if !record.partial {
            joining.since = None;
        }
        let content = if joining.content.is_empty() {
            record.content
        } else {
            joining.content.extend_from_slice(record.content);
            joining.given = true;
            &joining.content
        };
        Some(Line { time, stream: record.stream, begins, ends: !record.partial, content })
    }

    /// Nothing more will come: what was begun and never ended, one stream at a time until there is none.
    pub fn rest(&mut self) -> Option<Line<'_>> {
        for (joining, stream) in self.streams.iter_mut().zip([Stream::Stdout, Stream::Stderr]) {
            if std::mem::take(&mut joining.given) {
                joining.content.clear();
            }
            if let Some(time) = joining.since.take().filter(|_| !joining.content.is_empty()) {
                joining.given = true;
                return Some(Line { time, stream, begins: !joining.goes_on, ends: false, content: &joining.content });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::new(second, 0).unwrap()
    }

    #[test]
    fn a_full_log_is_put_aside_and_a_reader_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = LogFile::open(&path).unwrap();
        log.full = 200;
        let mut reader = Records::open(&path).unwrap();
        let mut read = Vec::new();
        for number in 0..40 {
            log.take(Stream::Stdout, format!("line {number}\n").as_bytes(), at(1_000 + number)).unwrap();
            // Two files behind, at times.
            if number % 9 == 8 || number == 39 {
                loop {
                    while let Some(record) = reader.next(false).unwrap() {
                        read.push(String::from_utf8_lossy(record.content).into_owned());
                    }
                    if !reader.go_on().unwrap() {
                        break;
                    }
                }
            }
        }
        assert_eq!(read, (0..40).map(|number| format!("line {number}")).collect::<Vec<_>>());
        assert_eq!(rotation::put_aside_of(&path).len() + 1, rotation::FILES);
        assert!(std::fs::read_dir(dir.path()).unwrap().all(|entry| entry.unwrap().metadata().unwrap().len() < 300));
        rotation::remove(&path);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    fn text(records: &[u8]) -> String {
        String::from_utf8(records.to_vec()).unwrap()
    }

    /// The records of a file with these bytes, written `stream partial content`.
    fn read(bytes: &[u8]) -> (Vec<String>, u64) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut records = Records::open(file.path()).unwrap();
        let mut found = Vec::new();
        while let Some(record) = records.next(true).unwrap() {
            found.push(format!("{} {} {}", record.stream.name(), if record.partial { 'P' } else { 'F' }, String::from_utf8_lossy(record.content)));
        }
        (found, records.garbage)
    }

    #[test]
    fn a_line_waits_for_its_newline_and_carries_time_and_stream() {
        let (mut splitter, mut records) = (Splitter::new(Stream::Stderr), Vec::new());
        splitter.feed(b"hel", at(1), &mut records);
        assert_eq!(records, b"");
        splitter.feed(b"lo\n\nx", "2026-03-07T09:05:00.12Z".parse().unwrap(), &mut records);
        assert_eq!(text(&records), "2026-03-07T09:05:00.120000000Z stderr F hello\n2026-03-07T09:05:00.120000000Z stderr F \n");
    }

    #[test]
    fn a_line_of_exactly_one_part_stays_whole_and_one_byte_more_splits_it() {
        for (length, tags) in [(PART - 1, "F"), (PART, "F"), (PART + 1, "PF"), (2 * PART, "PF"), (2 * PART + 1, "PPF")] {
            for chunk in [1000, PART, 3 * PART] {
                let (mut splitter, mut records) = (Splitter::new(Stream::Stdout), Vec::new());
                let line = [vec![b'x'; length], vec![b'\n']].concat();
                line.chunks(chunk).for_each(|bytes| splitter.feed(bytes, at(0), &mut records));
                let parsed: Vec<Record> = records.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').map(|line| Record::parse(line).unwrap()).collect();
                assert_eq!(parsed.iter().map(|r| if r.partial { 'P' } else { 'F' }).collect::<String>(), tags, "{length} by {chunk}");
                assert_eq!(parsed.iter().map(|r| r.content.len()).sum::<usize>(), length);
            }
        }
    }

    #[test]
    fn an_unfinished_line_at_the_end_is_a_part() {
        let (mut splitter, mut records) = (Splitter::new(Stream::Stdout), Vec::new());
        splitter.feed(b"prompt> ", at(0), &mut records);
        splitter.end(at(0), &mut records);
        splitter.end(at(0), &mut records);
        assert_eq!(text(&records), "1970-01-01T00:00:00.000000000Z stdout P prompt> \n");
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&pod_dir(dir.path(), "default", "web", "u-1").unwrap(), "app", 3).unwrap();
        assert_eq!(path, dir.path().join("default_web_u-1/app/3.log"));
        let mut log = LogFile::open(&path).unwrap();
        log.take(Stream::Stdout, b"one\ntw", at(1)).unwrap();
        log.take(Stream::Stderr, b"\x00\xff\r\n", at(2)).unwrap();
        log.take(Stream::Stdout, b"o\n", at(3)).unwrap();
        log.end(Stream::Stdout, at(4)).unwrap();
        let mut records = Records::open(&path).unwrap();
        let mut seen = Vec::new();
        while let Some(record) = records.next(true).unwrap() {
            seen.push((record.time.as_second(), record.stream, record.content.to_vec()));
        }
        assert_eq!(seen, [(1, Stream::Stdout, b"one".to_vec()), (2, Stream::Stderr, b"\x00\xff\r".to_vec()), (3, Stream::Stdout, b"two".to_vec())]);
    }

    #[test]
    fn a_log_that_was_torn_by_a_crash_goes_on_in_a_new_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "1970-01-01T00:00:00Z stdout F torn he").unwrap();
        LogFile::open(file.path()).unwrap().take(Stream::Stdout, b"next\n", at(0)).unwrap();
        assert!(std::fs::read_to_string(file.path()).unwrap().ends_with("torn he\n1970-01-01T00:00:00.000000000Z stdout F next\n"));
    }

    #[test]
    fn garbage_is_left_out_and_counted() {
        let long = "z".repeat(3 * LONGEST);
        let good = "1970-01-01T00:00:00Z stdout F ok\n";
        let bytes = format!("\n{good}no log line\n1970-01-01T00:00:00Z stdmid F x\n{long}\n{good}1970-01-01T00:00:00Z stdout\n\0\0\0{good}");
        assert_eq!(read(bytes.as_bytes()), (vec!["stdout F ok".to_owned(); 3], 5));
    }

    #[test]
    fn a_later_tag_does_not_hide_the_first() {
        assert!(Record::parse(b"1970-01-01T00:00:00Z stdout P:x y").unwrap().partial);
        assert_eq!(Record::parse(b"1970-01-01T01:00:00.5+01:00 stdout F  y").unwrap().content, b" y");
    }

    #[test]
    fn a_record_longer_than_the_buffer_comes_in_pieces() {
        let content = "q".repeat(2 * LONGEST + 5);
        let (records, garbage) = read(format!("1970-01-01T00:00:00Z stderr F {content}\n1970-01-01T00:00:00Z stdout F end\n").as_bytes());
        assert_eq!(garbage, 0);
        let tags: Vec<&str> = records.iter().map(|record| &record[..8]).collect();
        assert_eq!(tags, ["stderr P", "stderr P", "stderr F", "stdout F"]);
        assert_eq!(records[..3].iter().map(|record| &record[9..]).collect::<String>(), content);
    }

    #[test]
    fn a_torn_last_line_is_awaited_while_somebody_writes_and_given_at_the_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "1970-01-01T00:00:00Z stdout F hal").unwrap();
        let mut records = Records::open(file.path()).unwrap();
        assert_eq!(records.next(false).unwrap(), None);
        File::options().append(true).open(file.path()).unwrap().write_all(b"f\n1970-01-01T00:00:00Z stdout F to").unwrap();
        assert_eq!(records.next(false).unwrap().unwrap().content, b"half");
        assert_eq!(records.next(false).unwrap(), None);
        let torn = records.next(true).unwrap().unwrap();
        assert_eq!((torn.content, torn.partial), (b"to".as_slice(), true));
        assert_eq!(records.next(true).unwrap(), None);
    }

    #[test]
    fn the_tail_is_found_from_the_end_across_blocks() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines: String = (0..9000).map(|n| format!("1970-01-01T00:00:00Z stdout F line {n}\n")).collect();
        std::fs::write(file.path(), lines + "1970-01-01T00:00:00Z stdout F torn").unwrap();
        for tail in [0, 1, 2, 5000, 8999, 9000, 9001, u64::MAX] {
            let mut records = Records::open(file.path()).unwrap();
            records.seek_tail(tail).unwrap();
            let mut count = 0;
            while records.next(false).unwrap().is_some() {
                count += 1;
            }
            assert_eq!(count, tail.min(9000));
        }
    }

    fn part(stream: Stream, partial: bool, content: &[u8], second: i64) -> Record<'_> {
        Record { time: at(second), stream, partial, content }
    }

    #[test]
    fn parts_are_joined_per_stream_and_keep_the_first_time() {
        let mut joiner = Joiner::default();
        assert_eq!(joiner.push(part(Stream::Stdout, true, b"ab", 1)), None);
        let between = joiner.push(part(Stream::Stderr, false, b"err", 2)).unwrap();
        assert_eq!((between.content, between.time, between.begins, between.ends), (b"err".as_slice(), at(2), true, true));
        let line = joiner.push(part(Stream::Stdout, false, b"cd", 3)).unwrap();
        assert_eq!((line.content, line.time, line.begins, line.ends), (b"abcd".as_slice(), at(1), true, true));
        let next = joiner.push(part(Stream::Stdout, false, b"e", 4)).unwrap();
        assert_eq!((next.content, next.time), (b"e".as_slice(), at(4)));
        assert_eq!(joiner.rest(), None);
    }

    #[test]
    fn an_endless_line_is_given_out_in_bounded_pieces() {
        let mut joiner = Joiner::default();
        let block = vec![b'x'; PART];
        let (mut pieces, mut sum) = (0, 0);
        for n in 0..200 {
            if let Some(line) = joiner.push(part(Stream::Stdout, true, &block, n)) {
                assert_eq!((line.begins, line.ends, line.time), (pieces == 0, false, at(0)));
                (pieces, sum) = (pieces + 1, sum + line.content.len());
                assert!(line.content.len() <= JOINED + PART);
            }
        }
        let rest = joiner.rest().unwrap();
        assert!(pieces >= 2 && !rest.ends && !rest.begins);
        assert_eq!(sum + rest.content.len(), 200 * PART);
        assert_eq!(joiner.rest(), None);
    }

    #[test]
    fn a_name_that_could_lead_elsewhere_is_refused() {
        assert!(pod_dir(Path::new("/log"), "default", "web", "../../etc").is_err());
        assert!(file(Path::new("/log"), "..", 0).is_err());
    }
}

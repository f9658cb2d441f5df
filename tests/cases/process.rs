//! Programs that a case starts: run to the end within a deadline, or watched while they go on.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A deadline of so many seconds on a quick machine. Deadlines only bound a wait; they prove nothing.
pub fn seconds(n: u64) -> Duration {
    let slow = std::env::var("MINIPOD_SLOW").ok().and_then(|f| f.parse().ok()).unwrap_or(1);
    Duration::from_secs(n * slow)
}

/// Is this machine so slow (emulated) that upper bounds of durations mean nothing?
pub fn slow() -> bool {
    seconds(1) > Duration::from_secs(1)
}

/// Asks again and again until there is an answer or the deadline is over.
pub fn poll<T>(deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a program that ended left.
pub struct Done {
    /// The exit code; 128 + n for signal n.
    pub code: i32,
    pub out: String,
    pub raw: Vec<u8>,
    pub err: String,
    pub took: Duration,
}

impl Done {
    /// Demands exit code 0 and gives the output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "exit code; stderr: {}", self.err.trim_end());
        self.out
    }

    /// Demands a failure that is told in one line (and at most one hint), with every one of `words` in it.
    #[track_caller]
    pub fn fails_with(&self, words: &[&str]) {
        assert_ne!(self.code, 0, "must fail, but printed: {}", self.out);
        assert!(self.code < 128, "must not crash: exit code {}, {}", self.code, self.err);
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in the message: {}", self.err.trim_end());
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}

/// A program that goes on while the case does other things. It is killed when it is dropped.
pub struct Going {
    child: Child,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
    since: Instant,
    ended: bool,
    name: String,
}

impl Going {
    pub fn start(mut command: Command, input: Option<Vec<u8>>) -> Going {
        let name = format!("{:?}", command.get_program());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("starting {name}: {error}"));
        let (out, err) = (Arc::default(), Arc::default());
        let mut readers =
            vec![collect(child.stdout.take().expect("piped above"), Arc::clone(&out)), collect(child.stderr.take().expect("piped above"), Arc::clone(&err))];
        if let Some(input) = input {
            let mut stdin = child.stdin.take().expect("piped above");
            // A program may end without reading its input; that is not this thread's business.
            readers.push(std::thread::spawn(move || drop(stdin.write_all(&input))));
        }
        Going { child, out, err, readers, since: Instant::now(), ended: false, name }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("it still runs");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What came on stdout so far.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.out.lock().expect("readers do not panic")).into_owned()
    }

    /// Waits until `text` has come on stdout.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let came = poll(seconds(30), || self.out().contains(text).then_some(()));
        assert!(came.is_some(), "{text:?} never came; there was: {}", self.out());
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait(mut self) -> Done {
        let Some(status) = poll(seconds(60), || self.child.try_wait().expect("our child")) else {
            panic!("{} did not end; stdout: {} stderr: {}", self.name, self.out(), String::from_utf8_lossy(&self.err.lock().expect("as above")));
        };
        let took = self.since.elapsed();
        self.ended = true;
        // Not all readers end at once: a supervisor that was started may hold the pipe, which is a fault that a case must see.
        let closed = poll(seconds(10), || self.readers.iter().all(JoinHandle::is_finished).then_some(()));
        assert!(closed.is_some(), "{} ended, but something it started still holds its output", self.name);
        let code = std::os::unix::process::ExitStatusExt::signal(&status).map_or_else(|| status.code().unwrap_or(-1), |signal| 128 + signal);
        let raw = self.out.lock().expect("readers do not panic").clone();
        let err = String::from_utf8_lossy(&self.err.lock().expect("as above")).into_owned();
        Done { code, out: String::from_utf8_lossy(&raw).into_owned(), raw, err, took }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        if !self.ended {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut part) {
            into.lock().expect("nobody panics with it").extend_from_slice(&part[..n]);
        }
    })
}

//! `attach`, `cp`, `port-forward` and `wait`: what a person does with a pod that runs.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::pod::{Pod, await_file, once, serve};
use crate::process::{poll, seconds};
use crate::world::World;
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("ATT-01", |world| {
        let script = "while read -r line; do echo not $line >&2; echo heard $line; done; say End";
        world.apply(&Pod::new("p", "Always").app("a", script).with("a", "stdin", json!(true)).app("b", &serve("0", 0)));
        world.wait_ready("p");
        for word in ["one", "two"] {
            let session = world.start_with(&["attach", "-i", "p"], Some(format!("{word}\n").as_bytes()));
            session.wait_for(&format!("heard {word}\n"));
            session.signal(Signal::SIGINT);
            let done = session.wait();
            assert_eq!((done.code, done.out), (130, format!("heard {word}\n")), "{}", done.err);
            for words in ["Defaulted container \"a\" out of: a, b", "If you don't see a command prompt, try pressing enter.", &format!("not {word}\n")] {
                assert!(done.err.contains(words), "no {words:?} in {}", done.err);
            }
        }
        world.assert_silent("End");
        // What came by two pipes has no order.
        let log = world.minipod(&["logs", "p", "-c", "a"]).ok();
        assert_eq!(log.lines().collect::<std::collections::BTreeSet<_>>(), ["heard one", "heard two", "not one", "not two"].into());
    }),
    case("ATT-02", |world| {
        let pod = Pod::new("p", "Never").app("a", "cat; echo end").with("a", "stdin", json!(true)).with("a", "stdinOnce", json!(true));
        world.apply(&pod);
        world.wait_ready("p");
        let done = world.minipod_with(&["attach", "-iq", "p"], b"hello\n");
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "hello\nend\n", ""));
        world.wait_phase("p", "Succeeded");
        world.minipod(&["attach", "p"]).fails_with(&["error: cannot attach a container in a completed pod; current phase is Succeeded"]);
    }),
    case("ATT-03", |world| {
        world.apply(&Pod::new("p", "Always").app("a", "exec sh").with("a", "stdin", json!(true)).with("a", "tty", json!(true)));
        world.wait_ready("p");
        let mut person = Person::at(world, &["attach", "-it", "p"], 33, 77);
        person.wait_for("If you don't see a command prompt, try pressing enter.");
        person.types("stty size; x=kept; echo shell-$((6*7))\r");
        person.wait_for("shell-42");
        person.wait_for("33 77");
        person.resize(20, 50);
        person.types("until [ \"$(stty size)\" = '20 50' ]; do :; done; echo re-$((2+2))-sized\r");
        person.wait_for("re-4-sized");
        // The first key alone is the shell's: a line before in its history, of which there is none after a new line.
        person.types("\u{10}\u{11}");
        assert_eq!(person.leaves(), 0);
        assert!(person.seen().contains("Session ended, resume using 'minipod attach p -c a -i -t' command when the pod is running"), "{}", person.seen());
        // The program has gone on, and is the same.
        let mut again = Person::at(world, &["attach", "-it", "p"], 24, 80);
        again.wait_for("try pressing enter");
        again.types("echo x is $x\r");
        again.wait_for("x is kept");
        again.types("exit 0\r");
        assert_eq!(again.leaves(), 0);
    }),
    case("ATT-04", |world| {
        world.apply(&Pod::new("p", "Never").init("i", &await_file("go")).app("a", &once("0", 0)).app("b", &until_file("end")));
        world.wait_row("p", "0/2", "Init:0/1");
        world.minipod(&["attach", "p", "-c", "a"]).fails_with(&["error: unable to upgrade connection: container a not found in pod p_default"]);
        world.minipod(&["attach", "p", "-c", "x"]).fails_with(&["container x is not valid for pod p out of: a, b, i (init)"]);
        world.minipod(&["attach", "nobody"]).fails_with(&["Error from server (NotFound): pods \"nobody\" not found"]);
        world.touch("go");
        world.wait_story("b Waiting");
        let session = world.start_with(&["attach", "-it", "p", "-c", "b"], Some(b"nobody hears this\n"));
        session.wait_for("tick");
        world.touch("end");
        let done = session.wait();
        assert_eq!(done.code, 0, "{}", done.err);
        assert!(done.err.contains("error: Unable to use a TTY - container b did not allocate one"), "{}", done.err);
        assert!(done.err.contains("container b has none: its manifest does not say `stdin: true`"), "{}", done.err);
    }),
    case("ATT-05", |world| {
        // Who does not read holds the container up for a while, and is left then; nothing of the log is lost.
        let script = format!("read -r line; echo ready; {}; yes 0123456789abcde | head -n 120000; say Written", await_file("go"));
        world.apply(&Pod::new("p", "Never").app("a", &script).with("a", "stdin", json!(true)));
        world.wait_ready("p");
        let session = world.start_with(&["attach", "-i", "p"], Some(b"begin\n"));
        session.wait_for("ready");
        session.signal(Signal::SIGSTOP);
        world.touch("go");
        world.wait_story("a Written");
        session.signal(Signal::SIGCONT);
        let done = session.wait();
        done.fails_with(&["the output was not read for 5 seconds"]);
        world.wait_phase("p", "Succeeded");
        assert_eq!(world.minipod(&["logs", "p"]).raw.len(), "ready\n".len() + 120_000 * 16);
    }),
    case("CPF-01", |world| {
        world.apply(&Pod::new("p", "Always").app("a", &format!("mkdir /data; {}", serve("0", 0))).app("b", &serve("0", 0)));
        world.wait_ready("p");
        let (site, back) = (world.path("site"), world.path("back"));
        fs::create_dir_all(site.join("deep/empty")).unwrap();
        let bytes: Vec<u8> = (0..300_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        fs::write(site.join("deep/a name"), &bytes).unwrap();
        fs::write(site.join("run.sh"), "echo it runs\n").unwrap();
        fs::set_permissions(site.join("run.sh"), Permissions::from_mode(0o750)).unwrap();
        symlink("/etc/passwd", site.join("link")).unwrap();
        let words = |path: &std::path::Path| path.display().to_string();
        // Into a directory that is there: beneath it. To a name that is not: as it. With a dot: what is inside.
        for (source, target) in [(words(&site), "p:/data"), (words(&site), "default/p:/data/other"), (format!("{}/.", words(&site)), "p:/data")] {
            world.minipod(&["cp", &source, target, "-c", "a"]).ok();
        }
        let listed = world.exec("p", "a", &["sh", "-c", "cd /data; find . | sort; readlink site/link; stat -c %a run.sh; sh other/run.sh"]).ok();
        let one = |at: &str| ["", "/deep", "/deep/a name", "/deep/empty", "/link", "/run.sh"].map(|name| format!("{at}{name}"));
        let mut names: Vec<String> = [one("."), one("./other"), one("./site")].concat();
        names.sort();
        assert_eq!(listed, format!("{}\n/etc/passwd\n750\nit runs\n", names.join("\n")));
        // Out again: contents and modes; the link is left out and told.
        let done = world.minipod(&["cp", "p:/data/site", &words(&back), "-c", "a"]);
        assert!(done.err.contains("warning: skipping symlink: ") && done.err.contains("\"/etc/passwd\""), "{}", done.err);
        done.ok();
        assert!(fs::read(back.join("deep/a name")).unwrap() == bytes && back.join("deep/empty").is_dir());
        assert_eq!(fs::metadata(back.join("run.sh")).unwrap().mode() & 0o7777, 0o750);
        assert!(back.join("link").symlink_metadata().is_err());
        // What is mounted on is written into.
        fs::write(world.path("hosts"), "192.0.2.1 elsewhere\n").unwrap();
        world.minipod(&["cp", &words(&world.path("hosts")), "p:/etc/hosts", "-c", "b"]).ok();
        assert_eq!(world.exec("p", "a", &["cat", "/etc/hosts"]).ok(), "192.0.2.1 elsewhere\n");
        for (source, target, text) in [
            ("p:/nothing", words(&world.path("not/made")), "/nothing: No such file or directory"),
            ("p:/etc/hosts", words(&back), "the destination is a directory"),
            ("p:/a", "p:/b".into(), "error: one of src or dest must be a local file specification"),
            ("/a", "/b".into(), "error: one of src or dest must be a remote file specification"),
            ("/no/such/file", "p:/b".into(), "/no/such/file doesn't exist in local filesystem"),
            ("/etc/hostname", "p:/no/such/dir/x".into(), "/no/such/dir: No such file or directory"),
        ] {
            world.minipod(&["cp", source, &target, "-c", "a"]).fails_with(&[text]);
        }
        assert!(!world.path("not").exists());
    }),
    case("CPF-02", |world| {
        // The container's user, not root; and what the container puts in the way leads nowhere.
        let script = format!("mkdir /tmp/d && echo mine >/tmp/d/f && ln -s / /tmp/d/root && mkfifo /tmp/d/fifo && {}", serve("0", 0));
        let user = json!({ "runAsUser": 1000, "runAsGroup": 1000 });
        world.apply(&Pod::new("p", "Always").app("a", &format!("say Up; {script}")).with("a", "securityContext", user).with("a", "workingDir", json!("/tmp")));
        world.wait_ready("p");
        world.wait_story("a Started");
        let (mine, out) = (world.path("mine").display().to_string(), world.path("out").display().to_string());
        fs::write(&mine, "from outside\n").unwrap();
        fs::set_permissions(&mine, Permissions::from_mode(0o4755)).unwrap();
        world.minipod(&["cp", &mine, "p:d/copied"]).ok();
        assert_eq!(world.exec("p", "a", &["stat", "-c", "%u %g %a", "/tmp/d/copied"]).ok(), "1000 1000 4755\n");
        world.minipod(&["cp", &mine, "p:/etc/copied"]).fails_with(&["EACCES"]);
        world.minipod(&["cp", "--no-preserve", &mine, "p:d/plain"]).ok();
        assert_eq!(world.exec("p", "a", &["stat", "-c", "%a", "/tmp/d/plain"]).ok(), "755\n");
        // A link of the user's own that leads out of the destination: it is not written through.
        fs::create_dir(&out).unwrap();
        fs::write(world.path("precious"), "precious").unwrap();
        symlink(world.path("precious"), world.path("out/f")).unwrap();
        let done = world.minipod(&["cp", "p:d", &out]);
        assert!(done.err.contains("fifo") && done.err.contains("skipping symlink"), "{}", done.err);
        done.ok();
        assert_eq!(fs::read_to_string(world.path("precious")).unwrap(), "precious");
        assert_eq!(fs::read_to_string(world.path("out/f")).unwrap(), "mine\n");
        assert_eq!(fs::metadata(world.path("out/copied")).unwrap().mode() & 0o7777, 0o755, "no set-user-ID out of a container");
    }),
    case("PFW-01", |world| {
        let script = "mkdir /www; seq 200000 >/www/big; echo hello >/www/index.html; say Up; exec httpd -f -p 127.0.0.1:8080 -h /www";
        world.apply(&Pod::new("p", "Always").app("a", script).with("a", "ports", json!([{ "name": "http", "containerPort": 8080 }])));
        world.wait_ready("p");
        world.wait_story("a Up");
        let forward = world.start(&["port-forward", "pod/p", "18080:http", ":9"]);
        forward.wait_for("Forwarding from 127.0.0.1:18080 -> 8080\n");
        forward.wait_for(" -> 9\n");
        let get = |url: &str| world.tool("busybox", &["wget", "-q", "-O", "-", url]);
        let answer = poll(seconds(20), || Some(get("http://127.0.0.1:18080/")).filter(|done| done.code == 0)).expect("the server comes up");
        assert_eq!(answer.ok(), "hello\n");
        assert_eq!(get("http://127.0.0.1:18080/big").ok().lines().count(), 200_000);
        forward.wait_for("Handling connection for 18080\n");
        // Nobody listens there: this connection ends, the others go on.
        let told = forward.out();
        let nobody = told.lines().find_map(|line| line.strip_prefix("Forwarding from 127.0.0.1:")?.strip_suffix(" -> 9")).expect("it was told");
        get(&format!("http://127.0.0.1:{nobody}/")).fails_with(&[]);
        assert_eq!(get("http://127.0.0.1:18080/").ok(), "hello\n");
        // A second one on the same port cannot be, and says why.
        world.minipod(&["port-forward", "--address", "127.0.0.1", "p", "18080:8080"]).fails_with(&["Unable to listen on port 18080", "EADDRINUSE"]);
        world.delete("p");
        let done = forward.wait();
        done.fails_with(&["failed to connect to localhost:9 inside the pod", "ECONNREFUSED", "error: lost connection to pod"]);
        assert_eq!(done.code, 1);
    }),
    case("PFW-02", |world| {
        world.apply(&Pod::new("p", "Never").init("i", &await_file("go")).app("a", &until_file("end")));
        world.wait_row("p", "0/1", "Init:0/1");
        world.minipod(&["port-forward", "p", "80"]).fails_with(&["error: unable to forward port because pod is not running. Current status=Pending"]);
        world.touch("go");
        world.wait_ready("p");
        world.minipod(&["port-forward", "p", "80:https"]).fails_with(&["does not have a named port 'https'"]);
        let forward = world.start(&["port-forward", "p", "18081:80"]);
        forward.wait_for("Forwarding from 127.0.0.1:18081 -> 80\n");
        forward.signal(Signal::SIGINT);
        forward.wait().ok();
        let forward = world.start(&["port-forward", "p", "18081:80"]);
        forward.wait_for("Forwarding from");
        world.touch("end");
        forward.wait().fails_with(&["error: lost connection to pod"]);
    }),
    case("WAI-01", |world| {
        world.minipod(&["wait", "pod/p", "--for=condition=Ready"]).fails_with(&["Error from server (NotFound): pods \"p\" not found"]);
        let created = world.start(&["wait", "pod/p", "--for=create"]);
        world.apply(&Pod::new("p", "Never").init("i", &await_file("go")).app("a", &until_file("end")));
        assert_eq!(created.wait().ok(), "pod/p condition met\n");
        world.wait_row("p", "0/1", "Init:0/1");
        let late = world.minipod(&["wait", "pods", "--all", "--for=condition=Ready", "--timeout=0"]);
        late.fails_with(&["error: timed out waiting for the condition on pods/p"]);
        assert_eq!(late.code, 1);
        let waits = [
            world.start(&["wait", "p", "--for=condition=Ready"]),
            world.start(&["wait", "pod", "p", "--for=jsonpath={.status.phase}=Running"]),
            world.start(&["wait", "pods", "--all", "--for=jsonpath={.status.containerStatuses[?(@.name==\"a\")].started}=true", "--timeout=1m"]),
        ];
        world.touch("go");
        for wait in waits {
            assert_eq!(wait.wait().ok(), "pod/p condition met\n");
        }
        assert_eq!(world.minipod(&["get", "pod", "p", "-o", "jsonpath={.status.phase}/{.spec.containers[*].name}"]).ok(), "Running/a");
        assert_eq!(world.minipod(&["get", "pods", "-o", "jsonpath={.items[0].metadata.name}{\"\\n\"}"]).ok(), "p\n");
        let never = world.start(&["wait", "p", "--for=jsonpath={.status.phase}=Failed", "--timeout=-1s"]);
        world.touch("end");
        let done = never.wait();
        done.fails_with(&["error: pod/p: the pod has ended (Succeeded), so {.status.phase}=Failed can no longer come true"]);
        assert_eq!(done.code, 3);
        world.minipod(&["wait", "p", "--for=condition=Ready=false"]).ok();
        let gone = world.start(&["wait", "p", "--for=delete", "--timeout=1m"]);
        world.minipod(&["wait", "p", "--for=delete", "--timeout=0s"]).fails_with(&["timed out"]);
        world.delete("p");
        assert!(["", "pod/p condition met\n"].contains(&gone.wait().ok().as_str()));
        assert_eq!(world.minipod(&["wait", "p", "--for=delete"]).ok(), "");
    }),
];

/// Says that it waits, ticks until `file` is in the story's directory, and ends well.
fn until_file(file: &str) -> String {
    format!("say Waiting; until [ -e /story/{file} ]; do echo tick; sleep 0.02; done")
}

/// Somebody at a terminal.
pub struct Person {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    child: Child,
}

impl Person {
    pub fn at(world: &World, words: &[&str], rows: u16, columns: u16) -> Person {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let ends = openpty(&size, None).expect("a terminal");
        let theirs = || Stdio::from(ends.slave.try_clone().expect("a descriptor"));
        let program = std::env::var_os("MINIPOD").unwrap_or_else(|| env!("CARGO_BIN_EXE_minipod").into());
        let child = world.command(program).args(words).stdin(theirs()).stdout(theirs()).stderr(theirs()).spawn().expect("the program starts");
        let keyboard = File::from(ends.master);
        let (mut from, screen) = (keyboard.try_clone().expect("a descriptor"), Arc::new(Mutex::new(String::new())));
        let into = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut part) {
                into.lock().expect("nobody panics with it").push_str(&String::from_utf8_lossy(&part[..n]));
            }
        });
        Person { keyboard, screen, child }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal is there");
    }

    fn resize(&self, rows: u16, columns: u16) {
        rustix::termios::tcsetwinsize(&self.keyboard, rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
            .expect("a terminal");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id().cast_signed()), Signal::SIGWINCH).expect("it still runs");
    }

    pub fn seen(&self) -> String {
        self.screen.lock().expect("nobody panics with it").clone()
    }

    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let came = poll(seconds(30), || self.seen().contains(text).then_some(()));
        assert!(came.is_some(), "{text:?} never came; there was: {}", self.seen());
    }

    /// Waits until the command ends, and gives its exit code.
    #[track_caller]
    pub fn leaves(&mut self) -> i32 {
        let status = poll(seconds(30), || self.child.try_wait().expect("our child"));
        status.unwrap_or_else(|| panic!("it did not end; there was: {}", self.seen())).code().unwrap_or(-1)
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

//! The world of one case: a root directory, a cgroup name, and a mount and a network namespace that only its commands see.
//!
//! A process that only waits for its end of file holds the namespaces; every command of the case joins them between fork and exec.
//! So addresses, links, routes, firewall rules and mounts of two cases never meet, and when this process dies, so does the holder.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use minipod::sys::published;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::left::{self, Marks};
use crate::needs;
use crate::pod::Pod;
use crate::process::{Done, Going, poll, seconds};

static WORLDS: AtomicUsize = AtomicUsize::new(0);

pub struct World {
    dir: TempDir,
    holder: Child,
    marks: Marks,
    /// The mount table of the holder, as it was before the case.
    mounts: std::collections::BTreeSet<String>,
    /// What was run and what it said, for the report of a failure.
    told: RefCell<String>,
    files: RefCell<usize>,
}

/// A row of `get pods`.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    pub ready: String,
    pub status: String,
    pub restarts: String,
}

impl World {
    pub fn new(id: &str) -> io::Result<World> {
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::Builder::new().prefix(&format!("minipod-{id}-")).tempdir()?;
        // Containers may run as any user, and the story is theirs.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        fs::create_dir_all(dir.path().join("root/lib/images"))?;
        fs::create_dir(dir.path().join("story"))?;
        fs::set_permissions(dir.path().join("story"), fs::Permissions::from_mode(0o1777))?;
        fs::write(dir.path().join("story/lines"), "")?;
        fs::set_permissions(dir.path().join("story/lines"), fs::Permissions::from_mode(0o666))?;
        // A case about images has a store of its own, empty at first.
        let lent = (!id.starts_with("IMG-")).then(needs::images);
        let holder = hold(lent, &dir.path().join("root/lib/images"))?;
        let pid = holder.id().cast_signed();
        let inode = |name: &str| fs::metadata(format!("/proc/{pid}/ns/{name}")).map(|m| m.ino());
        let cgroup = format!("minipod-case-{}-{number}", std::process::id());
        let marks = Marks { entry: format!("MINIPOD_CASE={cgroup}"), cgroup, namespaces: [inode("mnt")?, inode("net")?], holder: pid };
        let mounts = left::mounts(pid);
        let world = World { dir, holder, marks, mounts, told: RefCell::default(), files: RefCell::default() };
        world.tool("ip", &["link", "set", "lo", "up"]).ok();
        Ok(world)
    }

    /// The directory that everything of the program is beneath.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// A path in the world's scratch directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn cgroup(&self) -> &str {
        &self.marks.cgroup
    }

    /// The world's network namespace, to be joined.
    pub fn network(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.holder.id())).expect("the holder lives as long as the world")
    }

    /// The inode of the world's network namespace: the host, as its pods see it.
    pub fn network_namespace(&self) -> u64 {
        self.marks.namespaces[1]
    }

    // ---- running things ------------------------------------------------------------------------------------------

    /// A command inside the world's namespaces.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let (key, value) = self.marks.entry.split_once('=').expect("made with one");
        command.env(key, value).env("MINIPOD_ROOT", self.root()).env("MINIPOD_CGROUP", &self.marks.cgroup).env("NO_COLOR", "1");
        let open = |name: &str| File::open(format!("/proc/{}/ns/{name}", self.holder.id())).expect("the holder lives as long as the world");
        join(&mut command, open("mnt"), open("net"));
        command
    }

    /// Starts the program under test.
    pub fn start(&self, words: &[&str]) -> Going {
        self.start_with(words, None)
    }

    pub fn start_with(&self, words: &[&str], input: Option<&[u8]>) -> Going {
        let mut command = self.command(program());
        command.args(words);
        Going::start(command, input.map(<[u8]>::to_vec))
    }

    /// Runs the program under test to its end.
    #[track_caller]
    pub fn minipod(&self, words: &[&str]) -> Done {
        self.tell(words, self.start(words).wait())
    }

    /// As [`World::minipod`], with `input` on its stdin.
    #[track_caller]
    pub fn minipod_with(&self, words: &[&str], input: &[u8]) -> Done {
        self.tell(words, self.start_with(words, Some(input)).wait())
    }

    /// Runs another program in the world's namespaces.
    #[track_caller]
    pub fn tool(&self, program: &str, words: &[&str]) -> Done {
        let mut command = self.command(program);
        command.args(words);
        self.tell(&[&[program], words].concat(), Going::start(command, None).wait())
    }

    fn tell(&self, words: &[&str], done: Done) -> Done {
        let mut told = self.told.borrow_mut();
        *told += &format!("$ {}\n{}{}", words.join(" "), done.out, done.err);
        if done.code != 0 {
            *told += &format!("[{}]\n", done.code);
        }
        done
    }

    /// What was run and said, then what the pods were when it ended, for a failure's report.
    pub fn transcript(&self) -> String {
        let mut text = self.told.borrow().clone();
        text += &format!("story:\n{}", fs::read_to_string(self.path("story/lines")).unwrap_or_default());
        for (name, pod) in self.pods() {
            text += &format!("pod {name}: {}\n", pod["status"]);
        }
        let start = text.len().saturating_sub(12_000);
        text.split_off(text.ceil_char_boundary(start))
    }

    // ---- the verbs -----------------------------------------------------------------------------------------------

    /// Writes a manifest and gives its path.
    pub fn file(&self, text: &str) -> String {
        *self.files.borrow_mut() += 1;
        let path = self.path(&format!("{}.yaml", self.files.borrow()));
        fs::write(&path, text).expect("our own directory");
        path.display().to_string()
    }

    pub fn manifest(&self, pod: &Pod) -> String {
        self.file(&pod.manifest(&self.path("story").display().to_string()))
    }

    /// Starts a pod in the background.
    #[track_caller]
    pub fn apply(&self, pod: &Pod) {
        self.apply_with(pod, &[]);
    }

    #[track_caller]
    pub fn apply_with(&self, pod: &Pod, flags: &[&str]) {
        let file = self.manifest(pod);
        self.minipod(&[&["apply", "-f", &file], flags].concat()).ok();
    }

    #[track_caller]
    pub fn delete(&self, name: &str) {
        self.minipod(&["delete", "pod", name]).ok();
        assert!(!self.root().join("lib/pods/default").join(name).exists(), "the pod's directory is still there after delete");
    }

    /// The Pod object, by `get -o json`.
    #[track_caller]
    pub fn get(&self, name: &str) -> Value {
        let done = self.start(&["get", "pods", name, "-o", "json"]).wait();
        serde_json::from_str(&done.ok()).expect("get -o json gives JSON")
    }

    /// The pod's line of `get pods`.
    #[track_caller]
    pub fn row(&self, name: &str) -> Row {
        let out = self.start(&["get", "pods", name]).wait().ok();
        rows(&out, name).pop().unwrap_or_else(|| panic!("no row of {name} in: {out}"))
    }

    /// All the statuses that a `get pods -w` has told of a pod so far, repeats left out.
    pub fn statuses(watch: &Going, name: &str) -> Vec<String> {
        let mut told: Vec<String> = rows(&watch.out(), name).into_iter().map(|row| row.status).collect();
        told.dedup();
        told
    }

    /// Waits until the pod is as `like` says, and gives it.
    #[track_caller]
    pub fn wait(&self, name: &str, what: &str, like: impl Fn(&Value) -> bool) -> Value {
        let file = self.root().join("lib/pods/default").join(name).join("pod.json");
        let read = || published::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match poll(seconds(40), || read().filter(|pod| like(pod))) {
            Some(pod) => pod,
            None => panic!("waited for {what}; the pod is {}", read().unwrap_or_default()["status"]),
        }
    }

    /// Waits until a condition of a job holds, and gives the job.
    #[track_caller]
    pub fn wait_job(&self, name: &str, condition: &str) -> Value {
        let file = self.root().join("lib/jobs/default").join(name).join("job.json");
        let read = || published::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        match poll(seconds(40), || read().filter(|job| self::condition(job, condition)["status"] == "True")) {
            Some(job) => job,
            None => panic!("waited for {condition}; the job is {}", read().unwrap_or_default()["status"]),
        }
    }

    #[track_caller]
    pub fn wait_phase(&self, name: &str, phase: &str) -> Value {
        self.wait(name, &format!("phase {phase}"), |pod| pod["status"]["phase"] == phase)
    }

    /// Waits until all of the pod is ready.
    #[track_caller]
    pub fn wait_ready(&self, name: &str) -> Value {
        self.wait(name, "condition Ready", |pod| condition(pod, "Ready")["status"] == "True")
    }

    /// Waits until the pod's `get` line is as given.
    #[track_caller]
    pub fn wait_row(&self, name: &str, ready: &str, status: &str) -> Row {
        let mut last = None;
        let came = poll(seconds(40), || {
            let row = self.row(name);
            let fits = row.ready == ready && row.status == status;
            if fits {
                return Some(row);
            }
            last = Some(row);
            None
        });
        came.unwrap_or_else(|| panic!("waited for {ready} {status}; the row is {last:?}"))
    }

    /// Runs a command in a container.
    #[track_caller]
    pub fn exec(&self, pod: &str, container: &str, words: &[&str]) -> Done {
        self.minipod(&[&["exec", pod, "-c", container, "--"], words].concat())
    }

    // ---- the story -----------------------------------------------------------------------------------------------

    /// Makes a file that containers wait for.
    pub fn touch(&self, name: &str) {
        fs::write(self.path("story").join(name), "").expect("our own directory");
    }

    /// What a container wrote into the story's directory.
    pub fn written(&self, name: &str) -> String {
        let path = self.path("story").join(name);
        poll(seconds(20), || fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))).unwrap_or_else(|| panic!("{name} was never written"))
    }

    /// The story so far: uptime in seconds, and the words.
    pub fn story(&self) -> Vec<(f64, String)> {
        let text = fs::read_to_string(self.path("story/lines")).expect("made with the world");
        let whole = text.lines().filter_map(|line| line.split_once(' '));
        whole.map(|(up, words)| (up.parse().expect("an uptime"), words.to_owned())).collect()
    }

    /// The moments at which the story says `words`.
    pub fn moments(&self, words: &str) -> Vec<f64> {
        self.story().into_iter().filter(|(_, line)| line == words).map(|(up, _)| up).collect()
    }

    #[track_caller]
    pub fn wait_story(&self, words: &str) {
        let came = poll(seconds(40), || (!self.moments(words).is_empty()).then_some(()));
        assert!(came.is_some(), "the story never said {words:?}; it is {:?}", self.story());
    }

    /// Waits until `logs` prints just this: that a container goes on does not say that its words are in the log yet.
    #[track_caller]
    pub fn wait_logs(&self, which: &[&str], text: &str) {
        let words: Vec<&str> = ["logs"].iter().chain(which).copied().collect();
        let came = poll(seconds(20), || (self.minipod(&words).out == text).then_some(()));
        assert!(came.is_some(), "{words:?} never printed {text:?}");
    }

    /// Demands that the story has these lines in this order (and maybe others between).
    #[track_caller]
    pub fn assert_order(&self, lines: &[&str]) {
        let story = self.story();
        let mut from = 0;
        for line in lines {
            match story[from..].iter().position(|(_, words)| words == line) {
                Some(at) => from += at + 1,
                None => panic!("{line:?} is not in its place of {lines:?}; the story is {story:?}"),
            }
        }
    }

    /// Demands that the story never names this container.
    #[track_caller]
    pub fn assert_silent(&self, container: &str) {
        let story = self.story();
        assert!(!story.iter().any(|(_, line)| line.split(' ').next() == Some(container)), "{container} ran: {story:?}");
    }

    /// Kills the processes that hold the pods' namespaces.
    pub fn kill_pauses(&self) {
        for cgroup in left::cgroups(&self.marks.cgroup).iter().filter(|path| path.ends_with("pause")) {
            let processes = fs::read_to_string(cgroup.join("cgroup.procs")).expect("a cgroup of ours");
            for pid in processes.lines().filter_map(|line| line.parse().ok()) {
                kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it holds the namespaces of a running pod");
            }
        }
    }

    // ---- the end -------------------------------------------------------------------------------------------------

    /// The pods that are on disk, by name.
    pub fn pods(&self) -> Vec<(String, Value)> {
        let Ok(entries) = fs::read_dir(self.root().join("lib/pods/default")) else { return Vec::new() };
        let read = |path: PathBuf| published::read(path.join("pod.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        entries.flatten().map(|entry| (entry.file_name().to_string_lossy().into_owned(), read(entry.path()))).collect()
    }

    /// Deletes the jobs and pods that the case left running, as its last command.
    #[track_caller]
    pub fn delete_all(&self) {
        for entry in fs::read_dir(self.root().join("lib/jobs/default")).into_iter().flatten().flatten() {
            self.minipod(&["delete", "job", &entry.file_name().to_string_lossy(), "--now"]).ok();
        }
        for (name, _) in self.pods() {
            self.minipod(&["delete", "pod", &name, "--now"]).ok();
        }
    }

    /// Demands that nothing of the world's pods exists any more. A moment is given to processes that are just ending.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let mut left = self.left();
        let clean = poll(seconds(5), || {
            left = self.left();
            left.is_empty().then_some(())
        });
        // What a container has made can be anything.
        let told: Vec<String> = left.iter().take(30).map(|one| one.chars().take(200).collect()).collect();
        assert!(clean.is_some(), "left behind ({}): {}", left.len(), told.join("; "));
    }

    fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = self.marks.processes().into_iter().map(|(pid, command)| format!("process {pid} {command}")).collect();
        left.extend(left::mounts(self.marks.holder).difference(&self.mounts).map(|mount| format!("mount {mount}")));
        left.extend(self.mounts.difference(&left::mounts(self.marks.holder)).map(|mount| format!("mount missing {mount}")));
        left.extend(left::cgroups(&self.marks.cgroup).iter().map(|path| format!("cgroup {}", path.display())));
        left.extend(left::network(self.marks.holder));
        left.extend(self.rules());
        left.extend(left::files(&self.root()));
        left
    }

    /// The firewall rules of the world's network namespace.
    fn rules(&self) -> Vec<String> {
        match self.command("nft").args(["list", "ruleset"]).stdin(Stdio::null()).output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).lines().map(|line| format!("rule {}", line.trim())).collect(),
            // Without the tool the other lookers have to do.
            Err(_) => Vec::new(),
        }
    }

    /// Ends everything by force, after a failure has been told.
    pub fn sweep(&self) {
        self.marks.sweep();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// The program under test.
pub fn program() -> std::ffi::OsString {
    std::env::var_os("MINIPOD").unwrap_or_else(|| env!("CARGO_BIN_EXE_minipod").into())
}

/// The rows of a pod in a table (or in several, as `-w` prints them).
pub fn rows(table: &str, name: &str) -> Vec<Row> {
    let cells = table.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>());
    let of_pod = cells.filter(|cells| cells.len() >= 4 && cells[0] == name);
    of_pod.map(|cells| Row { ready: cells[1].to_owned(), status: cells[2].to_owned(), restarts: cells[3].to_owned() }).collect()
}

/// A condition of a pod, by its type.
pub fn condition<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|c| c["type"] == name).unwrap_or(&Value::Null)
}

/// The status of a container of either list, by its name.
pub fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainerStatuses", "containerStatuses"].map(|list| pod["status"][list].as_array().map(Vec::as_slice).unwrap_or_default());
    lists.into_iter().flatten().find(|c| c["name"] == name).unwrap_or(&Value::Null)
}

/// How often a container was restarted.
pub fn restarts(pod: &Value, name: &str) -> u64 {
    container(pod, name)["restartCount"].as_u64().unwrap_or(0)
}

/// Starts the holder: a `cat` in new namespaces, which ends when our end of its stdin does. The image store is lent by a bind mount.
#[allow(unsafe_code)]
fn hold(images: Option<PathBuf>, place: &Path) -> io::Result<Child> {
    let place = place.to_owned();
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec the child makes system calls on paths of its own; glibc's allocator is usable after fork.
    unsafe {
        command.pre_exec(move || {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
            images.as_ref().map_or(Ok(()), |images| mount(Some(images), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>))?;
            Ok(())
        });
    }
    command.spawn()
}

/// Makes the command join these namespaces just before it execs.
#[allow(unsafe_code)]
fn join(command: &mut Command, mounts: File, network: File) {
    // SAFETY: two system calls on descriptors that the closure owns.
    unsafe {
        command.pre_exec(move || {
            setns(&network, CloneFlags::CLONE_NEWNET)?;
            setns(&mounts, CloneFlags::CLONE_NEWNS)?;
            Ok(())
        });
    }
}

//! Cgroups on this machine's kernel, whatever its layout: pure v2, or hybrid with v1 controllers. Needs root.
//!
//! A limit is either seen to hold, or seen to be told as not enforced where the machine lacks the controller; nothing is
//! skipped. Each test has a base of its own and removes it, also when it fails.
#![allow(unsafe_code, clippy::disallowed_methods)]

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use minipod::cgroup::hierarchy::{Controller, Home};
use minipod::cgroup::{Cgroup, DeviceProgram, Devices, Hierarchies, Limits, PodCgroup, clear_pod, list_pods, remove_base};

/// Far beyond what a loaded machine, or an emulated one, needs.
const LONG: Duration = Duration::from_secs(60);

struct Base {
    hierarchies: Hierarchies,
    name: String,
}

impl Base {
    fn new() -> Base {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("minipod-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Base { hierarchies: Hierarchies::detect().unwrap(), name }
    }

    fn pod(&self, uid: &str, pod: &Limits, containers: &[Limits]) -> PodCgroup {
        PodCgroup::create(&self.hierarchies, &self.name, uid, pod, containers).unwrap()
    }

    /// A pod of one container with these limits, and what is not enforced of them.
    fn container(&self, limits: &Limits) -> (PodCgroup, Cgroup, Vec<String>) {
        let pod = self.pod("u", limits, std::slice::from_ref(limits));
        let (container, unenforced) = pod.container("web", 0, limits).unwrap();
        let told = pod.unenforced().iter().chain(&unenforced).map(|unenforced| unenforced.what.clone()).collect();
        (pod, container, told)
    }

    /// All directories of ours that are left, in all hierarchies.
    fn left(&self) -> Vec<std::path::PathBuf> {
        let mounts = self.hierarchies.v1().into_iter().chain([self.hierarchies.unified()]);
        mounts.map(|mount| mount.join(&self.name)).filter(|dir| dir.exists()).collect()
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        for uid in list_pods(&self.hierarchies, &self.name).unwrap_or_default() {
            clear_pod(&self.hierarchies, &self.name, &uid, LONG);
        }
        let _ = remove_base(&self.hierarchies, &self.name);
    }
}

/// A shell that moves itself into the cgroup, says so, and then runs the script.
fn shell(cgroup: &Cgroup, script: &str) -> Command {
    let files: Vec<_> = cgroup.join_files().unwrap().iter().map(|file| std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()).collect();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("for file; do echo 0 > $file || exit 99; done; {script}")).arg("sh").arg(cgroup.path().join("cgroup.procs")).args(files);
    command
}

fn run(cgroup: &Cgroup, script: &str) -> Output {
    shell(cgroup, script).stdin(Stdio::null()).output().unwrap()
}

/// A process in the cgroup that runs until it is killed; returns when it is inside.
fn start(cgroup: &Cgroup, script: &str) -> Child {
    let mut child = shell(cgroup, &format!("echo; {script}")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    child
}

fn file(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap().trim().to_owned()
}

#[test]
fn a_pod_is_made_and_removed_and_leaves_nothing() {
    let base = Base::new();
    let limits = Limits { memory_bytes: Some(64 << 20), cpu_quota_milli: Some(500), cpu_shares: Some(256), pids: Some(50), ..Limits::default() };
    let pod = base.pod("1-2-3", &limits, std::slice::from_ref(&limits));
    let (web, _) = pod.container("web", 0, &limits).unwrap();
    let pause = pod.pause().unwrap();
    assert!(web.path().ends_with(format!("{}/pod1-2-3/web-0", base.name)) && pause.path().ends_with("pod1-2-3/pause"));
    assert_eq!(list_pods(&base.hierarchies, &base.name).unwrap(), ["1-2-3"]);
    assert!(!web.is_populated().unwrap() && web.processes().unwrap().is_empty());
    assert_eq!(web.oom_kills().unwrap(), 0);
    assert_eq!(web.remove(LONG), []);
    assert_eq!(pod.remove(LONG), []);
    assert_eq!(list_pods(&base.hierarchies, &base.name).unwrap(), [""; 0]);
    remove_base(&base.hierarchies, &base.name).unwrap();
    assert!(base.left().is_empty(), "{:?}", base.left());
}

#[test]
fn only_hierarchies_that_the_pod_needs_are_used() {
    let base = Base::new();
    let pod = base.pod("u", &Limits::default(), &[Limits::default()]);
    let (web, unenforced) = pod.container("web", 0, &Limits::default()).unwrap();
    assert!(web.join_files().unwrap().is_empty() && unenforced.is_empty() && pod.unenforced().is_empty());
    assert_eq!(base.left(), [base.hierarchies.unified().join(&base.name)]);
}

#[test]
fn pages_that_nobody_asks_for_are_none() {
    let base = Base::new();
    let limits = Limits { huge_pages: [(2 << 20, 4 << 20)].into(), ..Limits::default() };
    let (pod, web, told) = base.container(&limits);
    let dirs = match base.hierarchies.home(Controller::Hugetlb) {
        Home::Unified => [pod.whole().path().to_owned(), web.path().to_owned()],
        Home::V1(mount) => ["podu", "podu/web-0"].map(|leaf| mount.join(&base.name).join(leaf)),
        Home::Nowhere => return assert_eq!(told, ["hugetlb limit"]),
    };
    for dir in dirs {
        let files = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let limits: Vec<String> = files.filter(|name| name.starts_with("hugetlb.") && (name.ends_with(".max") || name.ends_with(".limit_in_bytes"))).collect();
        assert_eq!(told.is_empty(), limits.iter().any(|name| name.contains("2MB")), "{told:?} {limits:?}");
        for name in limits {
            assert_eq!(file(&dir, &name), if name.contains(".2MB.") { "4194304" } else { "0" }, "{name}");
        }
    }
}

#[test]
fn the_values_are_in_the_files() {
    let base = Base::new();
    let limits = Limits { memory_bytes: Some(64 << 20), cpu_quota_milli: Some(500), cpu_shares: Some(256), pids: Some(50), ..Limits::default() };
    let (pod, web, told) = base.container(&limits);
    let v1 = |mount: &Path, file_name| file(&mount.join(&base.name).join("podu/web-0"), file_name);
    match base.hierarchies.home(Controller::Cpu) {
        Home::Unified => {
            assert_eq!((file(web.path(), "cpu.weight"), file(web.path(), "cpu.max")), ("35".into(), "50000 100000".into()));
            assert_eq!((file(pod.whole().path(), "cpu.weight"), file(pod.whole().path(), "cpu.max")), ("10".into(), "50000 100000".into()));
        }
        Home::V1(mount) => assert_eq!((v1(mount, "cpu.shares"), v1(mount, "cpu.cfs_quota_us")), ("256".into(), "50000".into())),
        Home::Nowhere => assert!(told.contains(&"cpu limit".into()) && told.contains(&"cpu request".into()), "{told:?}"),
    }
    match base.hierarchies.home(Controller::Memory) {
        Home::Unified => {
            assert_eq!((file(web.path(), "memory.max"), file(web.path(), "memory.oom.group")), ("67108864".into(), "1".into()));
            assert_eq!((file(pod.whole().path(), "memory.max"), file(pod.whole().path(), "memory.oom.group")), ("67108864".into(), "0".into()));
        }
        Home::V1(mount) => assert_eq!(v1(mount, "memory.limit_in_bytes"), "67108864"),
        Home::Nowhere => assert!(told.contains(&"memory limit".into()), "{told:?}"),
    }
}

#[test]
fn a_memory_limit_kills_and_the_kill_is_counted() {
    let base = Base::new();
    let (_pod, web, told) = base.container(&Limits { memory_bytes: Some(24 << 20), ..Limits::default() });
    if base.hierarchies.home(Controller::Memory) == Home::Nowhere {
        assert_eq!(told, ["memory limit"]);
        return;
    }
    assert_eq!(told, [""; 0]);
    // tail keeps the one endless line.
    let output = run(&web, "exec tail /dev/zero");
    assert_eq!(output.status.signal(), Some(libc::SIGKILL), "{output:?}");
    assert!(web.oom_kills().unwrap() > 0);
    let usage = web.usage().unwrap();
    assert!(usage.memory_bytes.is_some() && usage.cpu_usec > 0, "{usage:?}");
    assert!(usage.memory_peak_bytes.is_none_or(|peak| peak > 8 << 20 && peak <= 24 << 20), "{usage:?}");
}

#[test]
fn a_process_limit_refuses_a_fork() {
    let base = Base::new();
    let (_pod, web, told) = base.container(&Limits { pids: Some(1), ..Limits::default() });
    let output = run(&web, "(exit 7); exit 8");
    match base.hierarchies.home(Controller::Pids) {
        Home::Nowhere => assert_eq!((told, output.status.code()), (vec!["pids limit".into()], Some(8))),
        _ => assert!(told.is_empty() && output.status.code() == Some(2), "{output:?}"),
    }
}

#[test]
fn a_container_may_open_null_and_not_the_kernels_log() {
    let base = Base::new();
    let (_pod, web, _) = base.container(&Limits::default());
    let dir = tempfile::tempdir().unwrap();
    let script = format!("cat /dev/null && : > /dev/null && mknod {}/disk b 254 0 && cat /dev/kmsg", dir.path().display());
    DeviceProgram::load(&Devices::of_containers()).unwrap().attach(web.dir()).unwrap();
    let output = run(&web, &script);
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim(), "cat: /dev/kmsg: Operation not permitted");
    let output = run(&web, &format!("cat {}/disk", dir.path().display()));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not permitted"), "a node alone opens nothing: {output:?}");
}

#[test]
fn frozen_processes_stand_still_and_can_be_thawed_and_killed() {
    let base = Base::new();
    let (_pod, web, _) = base.container(&Limits::default());
    let mut child = start(&web, "while :; do :; done");
    assert!(web.is_populated().unwrap());
    assert_eq!(web.processes().unwrap(), [child.id()]);
    web.freeze(LONG).unwrap();
    let before = web.usage().unwrap().cpu_usec;
    for _ in 0..100 {
        assert_eq!(web.usage().unwrap().cpu_usec, before);
    }
    web.thaw().unwrap();
    web.freeze(LONG).unwrap();
    web.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(web.remove(LONG), []);
}

#[test]
fn a_kill_reaches_grandchildren_and_removal_waits_for_them() {
    let base = Base::new();
    let limits = Limits { pids: Some(100), ..Limits::default() };
    let (pod, web, _) = base.container(&limits);
    // What the container did to its own cgroup is removed as well.
    let inner = web.path().join("made-inside");
    std::fs::create_dir(&inner).unwrap();
    let script = format!("trap '' TERM; for n in 1 2 3 4 5; do (trap '' TERM; cat; cat) & done; (echo 0 > {}/cgroup.procs; cat) & wait", inner.display());
    let mut child = start(&web, &script);
    pod.whole().kill().unwrap();
    assert_eq!(web.remove(LONG), []);
    assert_eq!(pod.remove(LONG), []);
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    remove_base(&base.hierarchies, &base.name).unwrap();
    assert!(base.left().is_empty());
}

#[test]
fn removal_without_a_kill_names_who_is_still_there_and_can_be_repeated() {
    let base = Base::new();
    let (pod, web, _) = base.container(&Limits::default());
    let mut child = start(&web, "read line");
    let errors = web.remove(Duration::ZERO);
    assert!(errors.len() == 1 && errors[0].to_string().contains(&format!("[{}]", child.id())), "{errors:?}");
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(pod.remove(LONG), []);
}

#[test]
fn what_a_dead_supervisor_left_is_found_and_cleared() {
    let base = Base::new();
    let limits = Limits { memory_bytes: Some(64 << 20), ..Limits::default() };
    let (pod, web, _) = base.container(&limits);
    let mut child = start(&web, "cat; cat");
    let _stdin = child.stdin.take();
    drop((pod, web));
    let again = PodCgroup::create(&base.hierarchies, &base.name, "u", &limits, &[]).unwrap_err();
    assert!(again.is(libc::EBUSY) && again.to_string().contains("former run"), "{again}");
    assert_eq!(list_pods(&base.hierarchies, &base.name).unwrap(), ["u"]);
    assert_eq!(clear_pod(&base.hierarchies, &base.name, "u", LONG), []);
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(clear_pod(&base.hierarchies, &base.name, "u", LONG), [], "a second time there is nothing to do");
    base.pod("u", &limits, std::slice::from_ref(&limits));
}

/// clone3 into a cgroup; whether the child lives to exit with 7.
fn lives(cgroup: &Cgroup) -> bool {
    // CLONE_INTO_CGROUP | SIGCHLD, as struct clone_args up to `cgroup`.
    let args: [u64; 11] = [0x2_0000_0000, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0, 0, 0, cgroup.dir().as_raw_fd() as u64];
    // SAFETY: no memory is shared, and the child calls nothing but _exit.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) } as i32;
    if pid == 0 {
        unsafe { libc::_exit(7) };
    }
    assert!(pid > 0, "{}", std::io::Error::last_os_error());
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7
}

#[test]
fn a_restart_after_a_kill_gets_a_cgroup_that_does_not_kill_it() {
    let base = Base::new();
    let pod = base.pod("u", &Limits::default(), &[]);
    let (first, _) = pod.container("web", 0, &Limits::default()).unwrap();
    assert!(lives(&first));
    first.kill().unwrap();
    let (second, _) = pod.container("web", 1, &Limits::default()).unwrap();
    assert!(lives(&second));
    // The same name again is a new directory too.
    let (again, _) = pod.container("web", 0, &Limits::default()).unwrap();
    assert!(lives(&again));
}

#[test]
fn a_limit_that_cannot_be_handed_down_is_told_with_what_to_do() {
    let base = Base::new();
    let limits = Limits { memory_bytes: Some(64 << 20), cpu_shares: Some(100), ..Limits::default() };
    let (_pod, web, _) = base.container(&limits);
    // As in a container whose cgroup namespace begins at a cgroup that holds its processes: our cgroup2 mount is the container's.
    let mut child = start(&web, "cat");
    let mut inner = Hierarchies::of_mountinfo(format!("1 1 0:1 / {} rw - cgroup2 cgroup2 rw", web.path().display()).as_bytes()).unwrap();
    let nowhere = PodCgroup::create(&inner, "none", "u", &limits, &[]).unwrap();
    let told = |pod: &PodCgroup| pod.unenforced().iter().map(|one| (one.what.clone(), one.is_request, one.to_string())).collect::<Vec<_>>();
    let list = told(&nowhere);
    assert_eq!((list[0].0.as_str(), list[0].1, list[1].0.as_str(), list[1].1), ("cpu request", true, "memory limit", false));
    assert!(list[1].2.starts_with("the memory limit is not enforced: this machine has no memory controller"), "{list:?}");
    inner.list("cpu memory");
    let busy = PodCgroup::create(&inner, "busy", "u", &limits, &[]).unwrap();
    let list = told(&busy);
    assert_eq!(list.iter().map(|(what, ..)| what.as_str()).collect::<Vec<_>>(), ["cpu request", "memory limit"]);
    assert!(list.iter().all(|(_, _, why)| why.contains("processes live in") && why.contains("/own/cgroup.procs")), "{list:?}");
    // It is no worse a place for containers than before.
    assert!(lives(&busy.container("web", 0, &Limits::default()).unwrap().0));
    assert_eq!(busy.remove(LONG), []);
    assert_eq!(nowhere.remove(LONG), []);
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let base = Base::new();
    for (name, uid) in [("../x", "u"), ("/x", "u"), ("", "u"), (base.name.as_str(), "../u"), (base.name.as_str(), ""), (base.name.as_str(), "a\nb")] {
        assert!(PodCgroup::create(&base.hierarchies, name, uid, &Limits::default(), &[]).is_err(), "{name:?} {uid:?}");
    }
    assert!(base.left().is_empty());
}

#[test]
fn a_base_may_be_a_path() {
    let base = Base::new();
    let deep = format!("{}/a/b", base.name);
    let limits = Limits { memory_bytes: Some(64 << 20), ..Limits::default() };
    let pod = PodCgroup::create(&base.hierarchies, &deep, "u", &limits, std::slice::from_ref(&limits)).unwrap();
    assert_eq!(pod.unenforced().is_empty(), base.hierarchies.home(Controller::Memory) != Home::Nowhere);
    assert_eq!(pod.remove(LONG), []);
    for path in [deep, format!("{}/a", base.name)] {
        remove_base(&base.hierarchies, &path).unwrap();
    }
}

//! A container's start on a real kernel: the plan of a rich container, each of its steps made to fail once, and a run of it.
//!
//! One at a time: a fork of a process whose other threads are at work would inherit their locks.
//! Needs root, overlayfs and a static busybox at /bin/busybox. Everything happens in mount namespaces of the children.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use minipod::container::launch::{begin, launch};
use minipod::container::plan::{self, Layers, Plan};
use minipod::container::seccomp;
use minipod::container::spec::{self, Mount, Surroundings};
use minipod::container::step::{Hands, Step};
use minipod::image::{Image, User};
use minipod::sys::mount::Propagation;
use minipod::sys::process::{self, Child, Exit, Namespaces};
use minipod::sys::{file, removal};
use oci_spec::runtime::Spec;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType, LinuxIdMappingBuilder};
use rustix::fs::OFlags;
use serde_json::json;

/// A layer with a busybox, and directories for a start.
struct Lab {
    dir: tempfile::TempDir,
    holder: Child,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.holder.signal(libc::SIGKILL).unwrap();
        self.holder.wait().unwrap();
    }
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join("layers/base");
        for path in ["layers/base/bin", "layers/base/etc", "upper", "work", "root", "volume/part"] {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        std::fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", layer.join("bin/sh")).unwrap();
        std::fs::write(dir.path().join("volume/part/word"), "from the volume\n").unwrap();
        let shared = Namespaces::NET | Namespaces::IPC | Namespaces::UTS;
        // It holds namespaces as a pause does.
        let holder = process::clone(shared, None, || {
            loop {
                std::thread::park()
            }
        })
        .unwrap();
        Lab { dir, holder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn plan(&self, script: &str) -> Plan {
        self.container(script).1
    }

    /// A container with everything that a plan can have.
    fn container(&self, script: &str) -> (Spec, Plan) {
        let pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "rich" },
            "spec": { "containers": [{
                "name": "c", "image": "lab", "command": ["sh", "-c", script], "workingDir": "/made/on/the/way",
                "securityContext": { "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "capabilities": { "add": ["NET_ADMIN"], "drop": ["MKNOD"] } },
            }] },
        }))
        .unwrap();
        let image: Image = serde_json::from_value(json!({
            "reference": "lab", "id": "sha256:0", "digest": null, "entrypoint": [], "cmd": [], "env": ["PATH=/bin"], "user": "", "workingDir": "",
            "stopSignal": null, "exposedPorts": [], "volumes": [], "labels": {}, "architecture": "amd64", "created": null, "size": 0,
            "layers": ["base"], "documents": [], "accounts": { "passwd": "", "group": "" },
        }))
        .unwrap();
        let user = User { uid: 1000, gid: 2000, groups: vec![2000, 3000], home: "/home/app".into(), name: String::new() };
        let mount = |destination: &str, sub_path: Option<&str>, read_only| Mount {
            source: self.path("volume"),
            sub_path: sub_path.map(str::to_owned),
            destination: destination.into(),
            read_only,
            recursive_read_only: read_only,
            ..Default::default()
        };
        let env = [("A", "a"), ("B", "ab")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let around = Surroundings {
            image: &image,
            user: &user,
            root: self.path("root"),
            env: &env,
            hostname: "rich",
            mounts: vec![
                mount("/data", None, false),
                mount("/part", Some("part"), true),
                Mount { propagation: Propagation::Slave, ..mount("/slave", None, false) },
                Mount { propagation: Propagation::Shared, ..mount("/shared", Some("part"), false) },
            ],
            pause: Some(self.holder.pid),
            target: None,
            users: None,
            cgroup: "minipod/podx/c-0".into(),
            oom_score_adj: Some(1000),
            seccomp: Some(seccomp::runtime_default()),
            kernel: (6, 1),
            capabilities: Vec::new(),
            devices: vec![device("/dev/deep/full", 1, 7), device("/dev/null", 1, 3)],
        };
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let spec = spec::compile(&pod, container, &around).unwrap();
        let layers = Layers { dir: self.path("layers"), names: vec!["base".into()], upper: self.path("upper"), work: self.path("work") };
        let plan = plan::compile(&spec, layers, false).unwrap();
        (spec, plan)
    }

    /// A start uses its upper directory once: a volatile overlay refuses it a second time.
    fn renew(&self) {
        for name in ["upper", "work"] {
            removal::remove_tree(self.path(name)).unwrap();
            std::fs::create_dir(self.path(name)).unwrap();
        }
    }
}

fn device(path: &str, major: i64, minor: i64) -> LinuxDevice {
    LinuxDeviceBuilder::default().path(path).typ(LinuxDeviceType::C).major(major).minor(minor).file_mode(0o640u32).uid(0u32).gid(7u32).build().unwrap()
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// Runs a plan with its output in a file; what it wrote.
fn run(lab: &Lab, plan: &Plan) -> (Exit, String) {
    let output = lab.path("output");
    let out = file::open(&output, OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY).unwrap();
    let hands = Hands { holder: Some(lab.holder.as_fd()), streams: [None, Some(out.as_fd()), Some(out.as_fd())], ..Default::default() };
    let exit = launch(plan, &hands, None).unwrap().wait().unwrap();
    (exit, std::fs::read_to_string(output).unwrap())
}

#[test]
#[serial_test::serial]
fn a_rich_container_is_what_its_spec_says() {
    let lab = Lab::new();
    let script = "busybox stat -c '%n %a %g %t:%T' /dev/deep/full /dev/null; busybox grep -E '^Seccomp:' /proc/self/status; \
                  busybox unshare -U true 2>&1; busybox cat /shared/word; echo yes >/slave/x; busybox id; echo $B; busybox pwd; busybox cat /part/word; echo no >/part/word; echo no >/etc/x; echo yes >/data/x; \
                  busybox cat /proc/sys/kernel/ostype; echo x >/proc/sys/kernel/hostname; busybox grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; \
                  busybox ls /proc/self/fd | busybox wc -l; busybox ls / ; exit 7";
    let (exit, text) = run(&lab, &lab.plan(script));
    assert_eq!(exit, Exit::Code(7), "{text}");
    for line in [
        "uid=1000 gid=2000 groups=2000,3000",
        "ab",
        "/made/on/the/way",
        "from the volume",
        "sh: can't create /part/word: Read-only file system",
        "sh: can't create /etc/x: Read-only file system",
        "Linux",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "/dev/deep/full 640 7 1:7",
        "/dev/null 666 0 1:3",
        "Seccomp:\t2",
        "unshare: unshare(0x10000000): Operation not permitted",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
    }
    // The default 14 with NET_ADMIN and without MKNOD: 0xa80425fb + (1 << 12) - (1 << 27).
    assert!(text.contains("CapBnd:\t00000000a00435fb"), "{text}");
    // 0, 1, 2 and the directory that ls reads.
    assert!(text.lines().any(|line| line == "4"), "a descriptor leaked:\n{text}");
    assert_eq!(std::fs::read_to_string(lab.path("volume/x")).unwrap_or_default(), "", "uid 1000 may not write to a volume of root");
}

#[test]
#[serial_test::serial]
fn every_step_fails_cleanly_and_is_named() {
    let lab = Lab::new();
    let whole = lab.plan("exit 0");
    let before = mounts();
    for number in 0..whole.steps.len() {
        lab.renew();
        let mut plan = whole.clone();
        // Fails wherever it stands: the name is longer than the kernel takes, and later the right to set it is gone.
        let failing = Step::HostName("x".repeat(100));
        plan.steps.insert(number, failing.clone());
        let hands = Hands { holder: Some(lab.holder.as_fd()), ..Default::default() };
        let error = launch(&plan, &hands, None).expect_err("the step must fail");
        assert_eq!(error.doing, [failing.to_string()], "at step {number}");
        assert!(error.to_string().contains("sethostname: E"), "at step {number}: {error}");
        assert_eq!(error.reason, Some("RunContainerError"));
        assert_eq!(mounts(), before, "a mount is left after step {number}");
    }
    lab.renew();
    assert_eq!(run(&lab, &whole).0, Exit::Code(0), "and without it all goes well");
}

#[test]
#[serial_test::serial]
fn a_missing_program_is_told_as_people_know_it() {
    let lab = Lab::new();
    let mut plan = lab.plan("exit 0");
    let Some(Step::Execute(program)) = plan.steps.last_mut() else { panic!("a plan ends with its program") };
    program.args = vec![c"nope".into()];
    program.paths = vec![c"/bin/nope".into(), c"/sbin/nope".into()];
    let hands = Hands { holder: Some(lab.holder.as_fd()), ..Default::default() };
    let error = launch(&plan, &hands, None).expect_err("there is no such program");
    assert_eq!(error.to_string(), r#"exec: "nope": executable file not found in $PATH"#);
}

#[test]
#[serial_test::serial]
fn a_link_in_a_volume_does_not_lead_out() {
    let lab = Lab::new();
    std::fs::remove_dir_all(lab.path("volume/part")).unwrap();
    std::os::unix::fs::symlink("/etc", lab.path("volume/part")).unwrap();
    let hands = Hands { holder: Some(lab.holder.as_fd()), ..Default::default() };
    let error = launch(&lab.plan("exit 0"), &hands, None).expect_err("the sub path leads out");
    assert!(error.is(libc::EXDEV), "{error}");
    assert_eq!(error.reason, Some("CreateContainerConfigError"));
}

#[test]
#[serial_test::serial]
fn no_descriptor_of_ours_is_a_way_out() {
    // A working directory, and a program, that are links to what was open before the exec (CVE-2024-21626).
    for number in 3..40 {
        let lab = Lab::new();
        let target = format!("/proc/self/fd/{number}");
        std::os::unix::fs::symlink(&target, lab.path("layers/base/way")).unwrap();
        let mut plan = lab.plan("exit 0");
        for step in &mut plan.steps {
            match step {
                Step::WorkingDirectory(path) => *path = "/way".into(),
                Step::Execute(program) => program.paths = vec![c"/way".into()],
                _ => {}
            }
        }
        let hands = Hands { holder: Some(lab.holder.as_fd()), ..Default::default() };
        let error = launch(&plan, &hands, None).expect_err("the working directory leads out");
        // A descriptor that is open is a magic link, which is not followed; another is not there.
        assert!(error.is(libc::ELOOP) || error.is(libc::ENOENT), "by descriptor {number}: {error}");
        lab.renew();
        plan.steps.retain(|step| !matches!(step, Step::WorkingDirectory(_)));
        let error = launch(&plan, &hands, None).expect_err("the program is nowhere in the container");
        assert!(error.is(libc::ENOENT) || error.is(libc::EACCES), "by descriptor {number}: {error}");
    }
}

#[test]
#[serial_test::serial]
fn the_hosts_null_device_cannot_be_changed() {
    let lab = Lab::new();
    let before = std::fs::metadata("/dev/null").unwrap();
    let mut plan = lab.plan("busybox chmod 600 /proc/keys /proc/timer_list; busybox chmod 600 /proc/self/fd/0; exit 0");
    // As root with the default capabilities, who may change what he owns.
    plan.steps.retain(|step| !matches!(step, Step::User { .. }));
    let (exit, text) = run(&lab, &plan);
    assert_eq!(exit, Exit::Code(0), "{text}");
    assert!(text.contains("/proc/keys: Read-only file system"), "{text}");
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let after = std::fs::metadata("/dev/null").unwrap();
    assert_eq!((after.permissions().mode(), after.uid()), (before.permissions().mode(), before.uid()));
}

/// The plan with one of its binds put elsewhere.
fn moved(mut plan: Plan, to: &str) -> Plan {
    let bind = plan.steps.iter_mut().find_map(|step| match step {
        Step::Bind { at, .. } if *at == Path::new("/slave") => Some(at),
        _ => None,
    });
    *bind.unwrap() = to.into();
    plan
}

#[test]
#[serial_test::serial]
fn a_mount_point_behind_a_link_stays_inside() {
    // A volume that another container writes to is on the way to a mount point (CVE-2021-30465, CVE-2024-45310).
    let lab = Lab::new();
    let outside = tempfile::tempdir().unwrap();
    for (name, target) in
        [("absolute", outside.path().to_path_buf()), ("upwards", Path::new("../../../../../../../..").join(outside.path().strip_prefix("/").unwrap()))]
    {
        std::os::unix::fs::symlink(target, lab.path("volume").join(name)).unwrap();
        lab.renew();
        let plan = moved(lab.plan("exit 0"), &format!("/data/{name}/deep/er"));
        let hands = Hands { holder: Some(lab.holder.as_fd()), ..Default::default() };
        // Within the container the link leads nowhere.
        let error = launch(&plan, &hands, None).expect_err("there is no such directory in the image");
        assert!(error.is(libc::ENOENT), "{error}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "{name}: something was made on the host");
    }
}

#[test]
#[serial_test::serial]
fn a_volume_in_the_place_of_dev_moves_neither_masks_nor_streams() {
    // /dev/null and /dev/console that are links to files of /proc (CVE-2025-31133, CVE-2025-52565).
    let lab = Lab::new();
    for name in ["null", "console"] {
        std::os::unix::fs::symlink("/proc/sys/kernel/hostname", lab.path("volume").join(name)).unwrap();
    }
    let plan = |terminal: bool| {
        let mut plan = moved(lab.plan("busybox cat /proc/keys; echo >/proc/sys/kernel/hostname; exit 0"), "/dev");
        let volume = plan.steps.iter().position(|step| matches!(step, Step::Bind { at, .. } if *at == Path::new("/dev"))).unwrap();
        let volume = plan.steps.remove(volume);
        let dev = plan.steps.iter_mut().find(|step| matches!(step, Step::Mount { kind, .. } if kind == "tmpfs")).unwrap();
        *dev = volume;
        plan.steps.retain(|step| !matches!(step, Step::Devices | Step::HostDevices(_)));
        let streams = plan.steps.iter_mut().find(|step| **step == Step::Streams).unwrap();
        if terminal {
            *streams = Step::Terminal { console: true };
        }
        plan
    };
    let (_ours, theirs) = minipod::sys::socket::pair().unwrap();
    let hands = Hands { holder: Some(lab.holder.as_fd()), terminal: Some(theirs.as_fd()), ..Default::default() };
    let error = launch(&plan(false), &hands, None).expect_err("stdin would be a file of /proc");
    assert!(error.is(libc::ELOOP), "{error}");
    lab.renew();
    let error = launch(&plan(true), &hands, None).expect_err("the console would cover a file of /proc");
    assert!(error.is(libc::EEXIST), "{error}");
    lab.renew();
    let null = file::open("/dev/null", OFlags::RDWR).unwrap();
    let output = lab.path("output");
    let out = file::open(&output, OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY).unwrap();
    let hands = Hands { holder: Some(lab.holder.as_fd()), streams: [Some(null.as_fd()), Some(out.as_fd()), Some(out.as_fd())], ..Default::default() };
    assert_eq!(launch(&plan(false), &hands, None).unwrap().wait().unwrap(), Exit::Code(0));
    let text = std::fs::read_to_string(output).unwrap();
    assert_eq!(text.trim_end(), "sh: can't create /proc/sys/kernel/hostname: Read-only file system", "and /proc/keys is masked");
}

#[test]
#[serial_test::serial]
fn nothing_is_written_through_the_containers_proc_and_nobody_looks_in() {
    // Writes that a container redirects (CVE-2025-52881, CVE-2019-19921), and a child that it traces before its exec (CVE-2016-9962).
    let lab = Lab::new();
    let (spec, plan) = lab.container("exit 0");
    let root = plan.steps.iter().position(|step| matches!(step, Step::Root { .. })).unwrap();
    assert!(plan.steps[root..].iter().all(|step| !step.calls().split(", ").any(|call| call == "write")), "a step writes after the root is made");
    let further = plan::compile_exec(spec.process().as_ref().unwrap(), None, plan.filter(), false).unwrap();
    for plan in [&plan, &further] {
        assert_eq!(plan.steps[0], Step::Hide);
        assert!(matches!(plan.steps[plan.steps.len() - 2], Step::Filter(_)));
    }
}

#[test]
#[serial_test::serial]
fn proc_in_the_image_must_be_a_directory() {
    let lab = Lab::new();
    std::os::unix::fs::symlink("etc", lab.path("layers/base/proc")).unwrap();
    let hands = Hands { holder: Some(lab.holder.as_fd()), ..Default::default() };
    let error = launch(&lab.plan("exit 0"), &hands, None).expect_err("a link in the place of /proc");
    assert!(error.is(libc::ELOOP), "{error}");
}

#[test]
#[serial_test::serial]
fn the_steps_are_in_the_order_that_is_safe() {
    let lab = Lab::new();
    let plan = lab.plan("exit 0");
    let at = |wanted: &dyn Fn(&Step) -> bool| plan.steps.iter().position(wanted).expect("the plan has the step");
    let switch = at(&|step| *step == Step::SwitchRoot);
    let user = at(&|step| matches!(step, Step::User { .. }));
    assert!(at(&|step| matches!(step, Step::Root { .. })) < at(&|step| matches!(step, Step::Mount { kind, .. } if kind == "proc")));
    assert!(plan.steps.iter().rposition(|step| matches!(step, Step::Bind { .. } | Step::Mask(_) | Step::ReadOnly(_) | Step::ReadOnlyRoot)) < Some(switch));
    assert!(switch < at(&|step| matches!(step, Step::BoundCapabilities(_))));
    assert!(at(&|step| matches!(step, Step::BoundCapabilities(_))) < user && user < at(&|step| matches!(step, Step::Capabilities(_))));
    assert!(user < at(&|step| *step == Step::DieWithSupervisor), "a change of user takes the death signal away");
    assert!(matches!(plan.steps.last(), Some(Step::Execute(_))));
    assert_eq!(at(&|step| matches!(step, Step::Filter(_))), plan.steps.len() - 2, "with no_new_privs nothing but the exec is filtered");
    assert!(at(&|step| matches!(step, Step::Share { .. })) < at(&|step| *step == Step::LeaveHostMounts));
    let close = at(&|step| matches!(step, Step::CloseDescriptors { .. }));
    assert!(switch < close && close < at(&|step| matches!(step, Step::WorkingDirectory(_))), "no path of the container is resolved while ours are open");
    assert_eq!(plan.namespaces, Namespaces::MOUNT | Namespaces::CGROUP | Namespaces::PID);
    assert!(Path::new("/bin/busybox").exists());
}

#[test]
fn a_user_namespace_is_joined_when_all_is_mounted_and_before_any_right_is_given_up() {
    let lab = Lab::new();
    let (mut spec, _) = lab.container("exit 0");
    let map = LinuxIdMappingBuilder::default().container_id(0u32).host_id(0x7000_0000u32).size(65536u32).build().unwrap();
    spec.linux_mut().as_mut().unwrap().set_uid_mappings(Some(vec![map]));
    let layers = Layers { dir: lab.path("layers"), names: vec!["base".into()], upper: lab.path("upper"), work: lab.path("work") };
    let plan = plan::compile(&spec, layers, false).unwrap();
    let at = |wanted: &dyn Fn(&Step) -> bool| plan.steps.iter().position(wanted).expect("the plan has the step");
    let (create, join) = (at(&|step| matches!(step, Step::CreateAs { uid: 0x7000_0000, .. })), at(&|step| *step == Step::JoinUsers));
    assert!(at(&|step| matches!(step, Step::Root { .. })) < create && create < at(&|step| matches!(step, Step::Mount { .. })));
    assert_eq!(plan.steps[join + 1], Step::Unshare(Namespaces::MOUNT | Namespaces::CGROUP), "the copy whose mounts are locked together");
    assert!(at(&|step| *step == Step::SwitchRoot) < join && at(&|step| matches!(step, Step::CloseDescriptors { .. })) < join);
    assert!(at(&|step| matches!(step, Step::OwnStreams { uid } if *uid >= 0x7000_0000)) < join, "who is in it may give nothing away");
    assert!(join < at(&|step| matches!(step, Step::BoundCapabilities(_))), "joining it gives all capabilities");
    let devpts = plan.steps.iter().find_map(|step| if let Step::Mount { kind, options, .. } = step { (kind == "devpts").then_some(options) } else { None });
    assert!(devpts.unwrap().contains(&("gid".into(), (0x7000_0000u32 + 5).to_string())));
    let further = plan::compile_exec(spec.process().as_ref().unwrap(), plan::host_root(&spec), None, false).unwrap();
    assert!(further.steps.contains(&Step::JoinUsers) && !further.steps.iter().any(|step| matches!(step, Step::Unshare(_))));
}

#[test]
#[serial_test::serial]
fn a_further_process_is_begun_without_waiting_and_we_come_home() {
    let lab = Lab::new();
    let (spec, plan) = lab.container("read line");
    // A process with one thread, as a supervisor is: only such a one may go to another mount namespace.
    let tester = process::fork(|| {
        // The harness would keep the message for a test that never ends here.
        std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
        std::env::set_current_dir(lab.path("volume")).unwrap();
        let (input, _ours) = process::pipe()?;
        let hands = Hands { holder: Some(lab.holder.as_fd()), streams: [Some(input.as_fd()), None, None], ..Default::default() };
        let main = launch(&plan, &hands, None).unwrap();
        let here = || (mounts(), std::env::current_dir().unwrap(), std::fs::read_link("/proc/self/ns/pid_for_children").unwrap());
        let before = here();
        let further = |command: &[&str]| {
            let mut process = spec.process().clone().unwrap();
            process.set_args(Some(command.iter().map(|word| word.to_string()).collect()));
            let plan = plan::compile_exec(&process, None, plan.filter(), false).unwrap();
            let (output, theirs) = process::pipe().unwrap();
            let hands = Hands { holder: Some(main.as_fd()), streams: [None, Some(theirs.as_fd()), None], ..Default::default() };
            let begun = begin(&plan, &hands, None).unwrap();
            drop(theirs);
            let exit = begun.child.wait().unwrap();
            let mut said = [0; 64];
            let n = minipod::sys::tty::read(&output, &mut said).unwrap();
            (exit, String::from_utf8_lossy(&said[..n]).into_owned(), begun.failure(&plan).unwrap().map(|error| error.to_string()))
        };
        assert_eq!(further(&["sh", "-c", "echo $B; pwd; exit 7"]), (Exit::Code(7), "ab\n/made/on/the/way\n".into(), None));
        let missing = "execve \"no-such-program\": ENOENT (No such file or directory)";
        assert_eq!(further(&["no-such-program"]), (Exit::Code(127), String::new(), Some(missing.into())));
        assert_eq!(here(), before, "mounts, directory and namespace are ours again");
        main.signal(libc::SIGKILL)?;
        main.wait()?;
        process::exit_now(0)
    });
    assert_eq!(tester.unwrap().wait().unwrap(), Exit::Code(0), "see what the process said above");
}

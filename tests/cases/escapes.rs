//! Published ways out of a container, tried here. docs/escapes.md is the list; each row of it names its test. (ESC-01 stands in `ending.rs`.)

use std::fs;

use serde_json::json;

use crate::pod::{Pod, serve};
use crate::world::World;
use crate::{Case, case};

/// Starts an ordinary pod, whose container is root with the default rights.
fn pod(world: &World) {
    world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)));
    world.wait_ready("p");
}

fn ask(world: &World, script: &str) -> String {
    world.exec("p", "a", &["sh", "-c", script]).out
}

pub const CASES: &[Case] = &[
    // Capabilities that a file could give to any user.
    case("ESC-02", |world| {
        pod(world);
        let sets = ask(world, "cat /proc/1/status /proc/self/status | grep -E '^Cap(Inh|Amb)' | cut -f 2");
        assert_eq!(sets, "0000000000000000\n".repeat(4), "inheritable and ambient sets of the main process and of exec");
    }),
    // A cgroup v1 hierarchy with a release_agent, mounted in namespaces of the container's own.
    case("ESC-03", |world| {
        pod(world);
        let attack = |options: &str| {
            format!(
                "unshare {options} sh -c 'mkdir /tmp/c; for k in rdma memory pids cpu; do mount -t cgroup -o $k cgroup /tmp/c && break; done; \
                     echo /bin/evil >/tmp/c/release_agent && echo escaped'; echo done"
            )
        };
        for options in ["-U -r -m -C", "-m -C", "-m"] {
            assert_eq!(ask(world, &attack(options)), "done\n", "{options}");
        }
    }),
    // A file of the pod that is kept on the host cannot fill its disk.
    case("ESC-04", |world| {
        pod(world);
        let grown = ask(world, "dd if=/dev/zero of=/etc/hosts bs=64k count=64 2>/dev/null; stat -c %s /etc/hosts");
        assert!(grown.trim().parse::<u64>().expect("a size") <= 1 << 20, "{grown}");
    }),
    // Where no host path may be seen: sockets of the runtime in a shared network namespace, descriptors, the exe of PID 1.
    case("ESC-05", |world| {
        world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)).spec("hostNetwork", json!(true)).spec("shareProcessNamespace", json!(true)));
        world.wait_ready("p");
        assert!(!ask(world, "cat /proc/net/unix").lines().any(|line| line.contains('@') && line.contains("minipod")), "an abstract socket can be reached");
        assert_eq!(ask(world, "ls /proc/1/root/ /proc/1/fd 2>/dev/null | grep -v '^/proc\\|^$'; ls /proc/self/fd | wc -l"), "4\n");
    }),
    // Disks, handles of files outside, and the kernel's memory.
    case("ESC-06", |world| {
        pod(world);
        let disk = fs::read_to_string("/proc/partitions").ok().and_then(|all| {
            let mut words = all.lines().nth(2)?.split_whitespace().map(str::to_owned);
            Some((words.next()?, words.next()?))
        });
        let (major, minor) = disk.unwrap_or(("8".into(), "0".into()));
        for node in [format!("b {major} {minor}"), "c 1 1".into(), "c 1 11".into(), "c 10 200".into()] {
            let said = ask(world, &format!("rm -f /tmp/n; mknod /tmp/n {node} && head -c 1 /tmp/n 2>&1 >/dev/null"));
            assert!(said.contains("Operation not permitted"), "{node}: {said}");
        }
        // CAP_DAC_READ_SEARCH (2), CAP_SYS_PTRACE (19), CAP_SYS_MODULE (16), CAP_SYS_ADMIN (21) are not among the rights.
        let held = u64::from_str_radix(ask(world, "grep CapBnd /proc/self/status | cut -f 2").trim(), 16).expect("a set");
        assert_eq!(held & (1 << 2 | 1 << 16 | 1 << 19 | 1 << 21), 0);
    }),
    // Files by which the kernel starts programs as root, or changes the machine.
    case("ESC-07", |world| {
        pod(world);
        for path in [
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/modprobe",
            "/proc/sys/vm/panic_on_oom",
            "/proc/sysrq-trigger",
            "/proc/irq/default_smp_affinity",
            "/sys/kernel/uevent_helper",
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "/sys/fs/cgroup/cgroup.procs",
            "/sys/fs/cgroup/cgroup.subtree_control",
        ] {
            assert_eq!(ask(world, &format!("echo x 2>/dev/null >{path} && echo written; echo end")), "end\n", "{path}");
        }
        assert_eq!(ask(world, "mkdir /sys/fs/cgroup/own 2>/dev/null && echo made; mount -o remount,rw /proc/sys 2>/dev/null && echo again; echo end"), "end\n");
    }),
    // A volume over /proc, which could pass for the kernel's word.
    case("ESC-08", |world| {
        let proc = Pod::new("p", "Never").app("a", &serve("0", 0)).volume("v", json!({ "emptyDir": {} }), &[("a", "/proc/self")]);
        let done = world.minipod(&["run", &world.manifest(&proc)]);
        assert_eq!(done.code, 128, "{}", done.err);
        assert!(done.err.contains("cannot be mounted at \"/proc/self\", because it is inside /proc"), "{}", done.err);
    }),
    // What a sysctl's value could smuggle in (CRI-O split it at a plus sign).
    case("ESC-09", |world| {
        let before = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("every kernel has it");
        let sysctls = json!([{ "name": "kernel.shm_rmid_forced", "value": "1+kernel.core_pattern=|/evil" }]);
        world.apply(&Pod::new("p", "Never").app("a", &serve("0", 0)).spec("securityContext", json!({ "sysctls": sysctls })));
        world.wait("p", "a warning", |_| world.start(&["get", "events"]).wait().out.contains("setting kernel.shm_rmid_forced"));
        assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").expect("every kernel has it"), before);
        world.assert_silent("a");
    }),
];

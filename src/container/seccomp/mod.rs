//! Which system calls a container may make: profiles as people write them, and what they come to for one container.
//!
//! ```text
//! default.json, or a file of the user ──parse──▶ Profile ──resolve──▶ linux.seccomp of the OCI spec ──filter──▶ instructions
//!                                                  capabilities, architecture, kernel
//! ```
//!
//! A profile is the JSON that the containers projects share (`defaultAction`, `archMap`, `syscalls` with `includes` and `excludes`), or the
//! plainer one of the OCI runtime spec. `default.json` is what `RuntimeDefault` means here. As containerd's, it answers EPERM to what
//! changes the machine, makes namespaces or looks into other processes' kernel state; as podman's, it answers ENOSYS to what it does not
//! know, so that a program falls back to what it did before that call was invented.

mod filter;

use std::sync::LazyLock;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompBuilder, LinuxSeccompFilterFlag, LinuxSyscall, LinuxSyscallBuilder,
};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::sys::seccomp::{NATIVE, OF_32_BITS};

pub use filter::{Filter, compile};

/// A profile, before it is known for whom.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<Arch>>,
    arch_map: Option<Vec<Family>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    syscalls: Option<Vec<Rule>>,
}

/// An architecture and those whose programs its kernel runs as well.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    names: Vec<String>,
    /// Docker's old form: one name.
    name: Option<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

/// For whom a rule holds (or does not).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// What `RuntimeDefault` means.
pub fn runtime_default() -> &'static Profile {
    static PROFILE: LazyLock<Profile> = LazyLock::new(|| Profile::parse(include_bytes!("default.json")).expect("a test reads it"));
    &PROFILE
}

impl Profile {
    pub fn parse(text: &[u8]) -> std::result::Result<Profile, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// The profile for a container with these capabilities in its bounding set (names without `CAP_`), on this kernel.
    pub fn resolve(&self, capabilities: &[String], kernel: (u32, u32)) -> Result<LinuxSeccomp> {
        let rules = self.syscalls.iter().flatten().filter(|rule| rule.holds(capabilities, kernel));
        let mut seccomp = LinuxSeccompBuilder::default()
            .default_action(self.default_action)
            .architectures(self.architectures())
            .syscalls(rules.map(Rule::resolve).collect::<Result<Vec<_>>>()?);
        if let Some(errno) = self.default_errno_ret {
            seccomp = seccomp.default_errno_ret(errno);
        }
        if let Some(flags) = &self.flags {
            seccomp = seccomp.flags(flags.clone());
        }
        seccomp.build().map_err(broken)
    }

    fn architectures(&self) -> Vec<Arch> {
        let is_ours = |arch: &Arch| word(*arch) == NATIVE.name;
        let family = self.arch_map.iter().flatten().find(|family| is_ours(&family.architecture));
        match family {
            Some(family) => std::iter::once(family.architecture).chain(family.sub_architectures.iter().flatten().copied()).collect(),
            None => self.architectures.clone().unwrap_or_default(),
        }
    }
}

/// `SCMP_ARCH_X86_64`.
fn word(arch: Arch) -> String {
    // An enum without data is a string in JSON.
    serde_json::to_value(arch).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

impl Rule {
    fn holds(&self, capabilities: &[String], kernel: (u32, u32)) -> bool {
        let has = |name: &String| capabilities.iter().any(|held| held == name.trim_start_matches("CAP_"));
        let is_here = |arch: &String| arch == NATIVE.short || arch == OF_32_BITS.short;
        let new_enough = |wanted: &String| version(wanted).is_some_and(|wanted| kernel >= wanted);
        let Condition { caps, arches, min_kernel } = &self.includes;
        let included = caps.iter().flatten().all(has) && arches.as_ref().is_none_or(|all| all.is_empty() || all.iter().any(is_here));
        let excluded = self.excludes.caps.iter().flatten().any(has) || self.excludes.arches.iter().flatten().any(is_here);
        included && min_kernel.iter().all(new_enough) && !excluded && !self.excludes.min_kernel.iter().any(new_enough)
    }

    fn resolve(&self) -> Result<LinuxSyscall> {
        let names: Vec<String> = self.names.iter().chain(&self.name).cloned().collect();
        let mut rule = LinuxSyscallBuilder::default().names(names).action(self.action);
        if let Some(errno) = self.errno_ret {
            rule = rule.errno_ret(errno);
        }
        if let Some(args) = self.args.as_ref().filter(|args| !args.is_empty()) {
            rule = rule.args(args.clone());
        }
        rule.build().map_err(broken)
    }
}

/// `4.8` as (4, 8).
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn broken(error: oci_spec::OciSpecError) -> Error {
    Error::said(format!("the seccomp profile: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::seccomp::Architecture;

    const KERNEL: (u32, u32) = (6, 1);

    fn names(capabilities: &[&str]) -> Vec<String> {
        capabilities.iter().map(|name| (*name).to_owned()).collect()
    }

    /// What a container with these capabilities is answered.
    fn answer(capabilities: &[&str], architecture: Architecture, call: &str, args: &[u64]) -> u32 {
        let filter = compile(&runtime_default().resolve(&names(capabilities), KERNEL).unwrap()).unwrap();
        filter::run(&filter.instructions, architecture.audit, architecture.number(call).unwrap(), args)
    }

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const EINVAL: u32 = 0x0005_0016;
    const ENOSYS: u32 = 0x0005_0026;
    const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;

    #[test]
    fn the_default_profile_says_what_containers_may_do() {
        for (call, args, expected) in [
            ("read", &[][..], ALLOW),
            ("openat2", &[], ALLOW),
            ("execve", &[], ALLOW),
            ("ptrace", &[], ALLOW),
            ("mount", &[], EPERM),
            ("unshare", &[NEWUSER], EPERM),
            ("setns", &[], EPERM),
            ("bpf", &[], EPERM),
            ("keyctl", &[], EPERM),
            ("userfaultfd", &[], EPERM),
            ("io_uring_setup", &[], EPERM),
            ("kexec_load", &[], EPERM),
            ("open_by_handle_at", &[], EPERM),
            ("clone", &[libc::SIGCHLD as u64], ALLOW),
            ("clone", &[libc::SIGCHLD as u64 | NEWUSER], EPERM),
            ("clone3", &[], ENOSYS),
            ("personality", &[0xffff_ffff], ALLOW),
            ("personality", &[0x0004_0000], EPERM),
            ("socket", &[libc::AF_INET as u64, 1, 0], ALLOW),
            ("socket", &[libc::AF_NETLINK as u64, 3, 9], ALLOW),
            ("socket", &[libc::AF_VSOCK as u64, 1, 0], EPERM),
        ] {
            assert_eq!(answer(&["CHOWN", "AUDIT_WRITE", "SYS_CHROOT"], NATIVE, call, args), expected, "{call} {args:x?}");
        }
        assert_eq!(answer(&[], NATIVE, "chroot", &[]), EPERM);
        assert_eq!(answer(&["SYS_CHROOT"], NATIVE, "chroot", &[]), ALLOW);
        assert_eq!(answer(&[], NATIVE, "socket", &[16, 3, 9]), EINVAL);
        for call in ["mount", "unshare", "clone3", "bpf"] {
            assert_eq!(answer(&["SYS_ADMIN"], NATIVE, call, &[u64::MAX]), ALLOW, "{call}");
        }
        // A 32-bit program is held to the same rules; a call that nobody knows yet, and x32, are not there.
        assert_eq!(answer(&[], OF_32_BITS, "read", &[]), ALLOW);
        assert_eq!(answer(&[], OF_32_BITS, "mount", &[]), EPERM);
        let filter = compile(&runtime_default().resolve(&[], KERNEL).unwrap()).unwrap();
        for number in [9999, 0x4000_0000, u32::MAX] {
            assert_eq!(filter::run(&filter.instructions, NATIVE.audit, number, &[]), ENOSYS, "{number:#x}");
        }
        assert_eq!(filter::run(&filter.instructions, 0x1234, 0, &[]), 0x8000_0000, "a foreign architecture");
    }

    #[test]
    fn every_name_of_the_default_profile_is_known_to_one_architecture_or_belongs_to_another() {
        let known = |name: &String| NATIVE.number(name).or(OF_32_BITS.number(name)).is_some();
        let unknown: Vec<_> = runtime_default().syscalls.iter().flatten().flat_map(|rule| &rule.names).filter(|name| !known(name)).collect();
        assert!(unknown.len() < 40, "{unknown:?}");
    }

    #[test]
    fn profiles_are_read_in_both_forms() {
        let oci = br#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
            "syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":13},{"name":"rmdir","action":"SCMP_ACT_KILL_PROCESS","args":null}]}"#;
        let filter = compile(&Profile::parse(oci).unwrap().resolve(&[], KERNEL).unwrap()).unwrap();
        let ask = |call: &str| filter::run(&filter.instructions, NATIVE.audit, NATIVE.number(call).unwrap_or(9999), &[]);
        assert_eq!(ask("rmdir"), 0x8000_0000);
        assert_eq!(ask("mkdir"), 0x0005_000d);
        assert_eq!(ask("read"), ALLOW);
        let conditions = br#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["read"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"7.0"}},
            {"names":["write"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_KILL"]}},
            {"names":["close"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}}]}"#;
        let profile = Profile::parse(conditions).unwrap();
        let rules = |capabilities: &[&str], kernel| {
            let seccomp = profile.resolve(&names(capabilities), kernel).unwrap();
            seccomp.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect::<Vec<_>>()
        };
        assert_eq!(rules(&["KILL"], (6, 9)), [""; 0]);
        assert_eq!(rules(&[], (7, 0)), ["read", "write"]);
        assert!(Profile::parse(b"{}").is_err() && Profile::parse(b"nonsense").is_err());
        let notify = Profile::parse(br#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#).unwrap().resolve(&[], KERNEL).unwrap();
        assert!(compile(&notify).unwrap_err().to_string().contains("SCMP_ACT_NOTIFY"));
    }
}

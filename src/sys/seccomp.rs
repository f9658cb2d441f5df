//! seccomp(2): a filter over system calls that a process takes for itself and all its children, for ever.
//!
//! Numbers belong to an architecture: a 64-bit machine also runs 32-bit programs, which count system calls otherwise. The names come
//! from the `syscalls` crate, which is made from the kernel's own tables.

use std::str::FromStr;

use crate::error::{Error, Result};

/// One instruction of classic BPF, `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub if_true: u8,
    pub if_false: u8,
    pub value: u32,
}

/// How a program of this machine may speak to the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// The word of OCI profiles.
    pub name: &'static str,
    /// Go's word, by which profiles include and exclude.
    pub short: &'static str,
    /// What the kernel tells a filter (audit.h).
    pub audit: u32,
    number: fn(&str) -> Option<u32>,
}

impl Architecture {
    /// The number of a system call; None if this architecture, or our table of it, has none of that name.
    pub fn number(&self, name: &str) -> Option<u32> {
        (self.number)(name)
    }
}

#[cfg(target_arch = "x86_64")]
pub const NATIVE: Architecture = Architecture { name: "SCMP_ARCH_X86_64", short: "amd64", audit: 0xc000_003e, number: number::<syscalls::x86_64::Sysno> };
#[cfg(target_arch = "x86_64")]
pub const OF_32_BITS: Architecture = Architecture { name: "SCMP_ARCH_X86", short: "x86", audit: 0x4000_0003, number: number::<syscalls::x86::Sysno> };
#[cfg(target_arch = "aarch64")]
pub const NATIVE: Architecture = Architecture { name: "SCMP_ARCH_AARCH64", short: "arm64", audit: 0xc000_00b7, number: number::<syscalls::aarch64::Sysno> };
#[cfg(target_arch = "aarch64")]
pub const OF_32_BITS: Architecture = Architecture { name: "SCMP_ARCH_ARM", short: "arm", audit: 0x4000_0028, number: number::<syscalls::arm::Sysno> };

trait Number: FromStr {
    fn number(self) -> u32;
}

macro_rules! numbered {
    ($($table:ty),*) => { $(impl Number for $table { fn number(self) -> u32 { self.id() as u32 } })* };
}
#[cfg(target_arch = "x86_64")]
numbered!(syscalls::x86_64::Sysno, syscalls::x86::Sysno);
#[cfg(target_arch = "aarch64")]
numbered!(syscalls::aarch64::Sysno, syscalls::arm::Sysno);

fn number<T: Number>(name: &str) -> Option<u32> {
    name.parse::<T>().ok().map(Number::number)
}

bitflags::bitflags! {
    /// What else a filter wants; the bits are the kernel's.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Flags: u32 {
        /// Each answer but "allow" is logged (4.14).
        const LOG = 1 << 1;
        /// No mitigation of speculative store bypass for its sake (4.17).
        const SPEC_ALLOW = 1 << 2;
    }
}

const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;

/// Takes the filter. Without no_new_privs it needs CAP_SYS_ADMIN in our user namespace.
pub fn install(program: &[Instruction], flags: Flags) -> Result<()> {
    let failed = |errno| Error::call("seccomp", format!("{} instructions", program.len()), errno);
    #[repr(C)]
    struct Program {
        length: libc::c_ushort,
        instructions: *const Instruction,
    }
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| failed(libc::E2BIG))?;
    let program = Program { length, instructions: program.as_ptr() };
    // SAFETY: the structure is `struct sock_fprog`; it points to as many instructions as it says, which outlive the call.
    match unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags.bits(), &raw const program) } {
        0 => Ok(()),
        _ => Err(failed(super::process::last_errno())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        assert_eq!(NATIVE.number("openat2"), Some(libc::SYS_openat2 as u32));
        assert_eq!(NATIVE.number("seccomp"), Some(libc::SYS_seccomp as u32));
        assert_eq!(NATIVE.number("no_such_call"), None);
        assert_ne!(OF_32_BITS.number("mount"), NATIVE.number("mount"));
    }
}

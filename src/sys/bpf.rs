//! bpf(2): programs that decide which devices a cgroup may use.
//!
//! cgroup2 has no file for device rules; a program of type `BPF_PROG_TYPE_CGROUP_DEVICE` (since 4.15), attached to a
//! cgroup, is asked at each open and mknod of a device by a process in it. Only the two commands that this takes are here.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::{Error, Result};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Other programs may be attached beside ours (a systemd in the container does); all must allow.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`, up to the fields that we leave zero.
#[repr(C)]
struct ProgramLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The same for `BPF_PROG_ATTACH`.
#[repr(C)]
struct ProgramAttach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// One command on one of the structures above.
///
/// # Safety
/// `T` must be `repr(C)` without padding, a prefix of `union bpf_attr` as `command` reads it, and every address in it must
/// be valid for the call with the length that stands beside it.
unsafe fn bpf<T>(command: libc::c_int, attr: &T) -> std::io::Result<libc::c_long> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes behind a live reference, takes all later fields as zero and writes
    // nothing back for these commands; the addresses inside are the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}

/// Loads a cgroup device program; each instruction as one `struct bpf_insn` in the machine's byte order. It can be
/// attached to many cgroups, and lives while a descriptor or a cgroup holds it. Needs CAP_BPF or CAP_SYS_ADMIN.
pub fn load_cgroup_device(instructions: &[u64]) -> Result<OwnedFd> {
    let load = ProgramLoad {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(instructions.len()).map_err(|_| Error::call("bpf", "program", libc::E2BIG))?,
        insns: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: the layout is the kernel's; `insns` points to `insn_cnt` instructions of 8 bytes that outlive the call,
    // `license` to a C string of static life.
    let program = unsafe { bpf(BPF_PROG_LOAD, &load) }.map_err(|e| Error::io("bpf", "BPF_PROG_LOAD", &e))?;
    // SAFETY: the call returned a new descriptor (close-on-exec, as all of bpf's) that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(program as i32) })
}

/// Attaches a device program to a cgroup2 directory, until that is removed.
pub fn attach_cgroup_device(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>) -> Result<()> {
    let attach = ProgramAttach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the layout is the kernel's and holds no address.
    unsafe { bpf(BPF_PROG_ATTACH, &attach) }.map(drop).map_err(|e| Error::io("bpf", "BPF_PROG_ATTACH", &e))
}

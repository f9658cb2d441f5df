//! The fence: every system call and every `unsafe` of minipod is in this module.
//!
//! It speaks our words (a container's process, a tree of mounts, a path beneath a root) and knows no pod. Functions take
//! and return `OwnedFd`/`BorrowedFd`, open everything close-on-exec, and fail with an [`crate::error::Error`] that names
//! the call, its object and the errno. Three crates stand behind it, never two for one call: rustix (files, the new
//! mount API, pidfd, openat2), nix (signals, setns, sockets with descriptors, inotify, users), libc (clone3, bpf,
//! mount_setattr, close_range: what neither has).
#![allow(unsafe_code)]

pub mod bpf;
pub mod devices;
pub mod file;
pub mod huge_pages;
pub mod leaf;
pub mod mount;
pub mod net;
pub mod netlink;
pub mod notify;
pub mod poll;
pub mod process;
pub mod published;
pub mod removal;
pub mod seccomp;
pub mod socket;
pub mod tree;
pub mod tty;
pub mod user;
pub mod users;
pub mod visit;

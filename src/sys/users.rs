//! User namespaces: a range of the machine's user and group ids that looks like 0 and up from within (user_namespaces(7)).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;

use super::file;
use super::process::{self, Namespaces};
use crate::error::{Error, Result};

/// Makes a user namespace in which the ids from 0 on are the machine's from `first` on, `count` of them. It lives as long as the descriptor, or
/// a process in it. The maps can only be written from outside, for a process inside: one is born for it, and does nothing but wait for its end.
pub fn new_user_namespace(first: u32, count: u32) -> Result<OwnedFd> {
    let (wait, end) = process::pipe()?;
    let child = process::clone(Namespaces::USER, None, || {
        process::close_others(3, &[wait.as_fd()]);
        super::tty::read(&wait, &mut [0])?;
        process::exit_now(0)
    })?;
    let made = (|| {
        for map in ["uid_map", "gid_map"] {
            let path = format!("/proc/{}/{map}", child.pid);
            std::fs::write(&path, format!("0 {first} {count}")).map_err(|error| Error::io("write", &path, &error))?;
        }
        file::open(format!("/proc/{}/ns/user", child.pid), OFlags::RDONLY)
    })();
    drop(end);
    child.wait()?;
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_namespace_outlives_its_first_process_and_has_the_ids_it_was_given() {
        let namespace = new_user_namespace(0x7000_0000, 65536).unwrap();
        let child = process::fork(|| {
            process::join_namespace_fd(&namespace)?;
            let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
            let words: Vec<&str> = map.split_whitespace().collect();
            process::exit_now(i32::from(words != ["0", "1879048192", "65536"]))
        });
        assert_eq!(child.unwrap().wait().unwrap().code(), 0);
    }

    #[test]
    fn ids_that_the_machine_does_not_have_are_refused() {
        assert!(new_user_namespace(u32::MAX, 65536).unwrap_err().is(libc::EINVAL));
    }
}

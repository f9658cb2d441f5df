//! The pause program: it holds a pod's namespaces and sleeps. Built on its own by `build.rs`; not a module of minipod.
//!
//! As PID 1 of a shared PID namespace it must also reap orphans: whoever starts it ignores SIGCHLD, which outlives an exec, so
//! the kernel reaps them. Nothing else is left to do.
#![no_std]
#![no_main]

use core::arch::asm;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Sleeps until a signal ends the process; as PID 1 of its namespace that is SIGKILL from outside alone.
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    loop {
        // SAFETY: ppoll(NULL, 0, NULL, NULL) reads and writes no memory of ours; the clobbered registers are named.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!("syscall", inlateout("rax") 271usize => _, in("rdi") 0, in("rsi") 0, in("rdx") 0, in("r10") 0, in("r8") 0, lateout("rcx") _, lateout("r11") _);
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!("svc 0", in("x8") 73usize, inlateout("x0") 0usize => _, in("x1") 0, in("x2") 0, in("x3") 0, in("x4") 0);
        }
    }
}

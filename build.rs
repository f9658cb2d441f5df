//! Builds the pause program, a static executable of a few hundred bytes, and hands it to `container::pause` as bytes.
//!
//! It is a program of its own so that no container of a pod with a shared PID namespace finds minipod's binary, memory or
//! root behind /proc/1; and it costs 8 KiB of memory where a copy of minipod would cost a hundred.

use std::path::PathBuf;
use std::process::Command;

// The rule is for the library; a build script has no other way to run the compiler.
#[allow(clippy::disallowed_methods)]
fn main() {
    let source = "src/sys/pause_program.rs";
    println!("cargo::rerun-if-changed={source}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("pause");
    let rustc = std::env::var_os("RUSTC").expect("cargo sets RUSTC");
    let target = std::env::var("TARGET").expect("cargo sets TARGET");
    let status = Command::new(rustc)
        .args(["--edition", "2024", "--crate-name", "pause", "--crate-type", "bin", "--target", &target])
        .args(["-C", "opt-level=z", "-C", "panic=abort", "-C", "strip=symbols", "-C", "relocation-model=static"])
        .args(["-C", "target-feature=+crt-static"])
        // No C start-up code, no libc, and one small page of program: the linker's default is 64 KiB alignment on some machines.
        .args(["-C", "link-arg=-nostartfiles", "-C", "link-arg=-nostdlib", "-C", "link-arg=-static", "-C", "link-arg=-Wl,--build-id=none,-z,noseparate-code"])
        .arg("-o")
        .arg(&out)
        .arg(source)
        .status()
        .expect("rustc starts");
    assert!(status.success(), "the pause program does not build");
}

//! The floors of `src/lib.rs`: a module names only modules on strictly lower floors, and a pure one no kernel.

use std::path::Path;

const FLOORS: &[(&str, u8)] = &[
    ("cli", 6),
    ("pod", 5),
    ("container", 4),
    ("image", 3),
    ("volume", 3),
    ("network", 3),
    ("cgroup", 3),
    ("probe", 3),
    ("lifecycle", 2),
    ("manifest", 1),
    ("sys", 1),
    ("error", 0),
];
const PURE: &[&str] = &["lifecycle", "manifest", "error"];
const IMPURE: &[&str] = &["crate::sys", "std::fs", "std::net", "std::process", "std::time::Instant", "SystemTime", "Timestamp::now", "rustix::", "libc::clock"];

fn sources(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found)
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path)
        }
    }
}

/// The code of a file without its tests and comments.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let body = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn each_module(mut visit: impl FnMut(&str, u8, &Path, String)) {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (module, floor) in FLOORS {
        let mut files = Vec::new();
        if src.join(module).is_dir() {
            sources(&src.join(module), &mut files)
        } else {
            files.push(src.join(format!("{module}.rs")))
        }
        assert!(!files.is_empty(), "{module} has no source");
        files.iter().for_each(|file| visit(module, *floor, file, code(file)));
    }
}

#[test]
fn a_module_names_only_lower_floors() {
    let mut faults = Vec::new();
    each_module(|module, floor, file, text| {
        for (other, height) in FLOORS {
            if other != &module && *height >= floor && text.contains(&format!("crate::{other}")) {
                faults.push(format!("{}: {module} (floor {floor}) names {other} (floor {height})", file.display()));
            }
        }
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_pure_module_names_no_kernel_and_no_clock() {
    let mut faults = Vec::new();
    each_module(|module, _, file, text| {
        if PURE.contains(&module) {
            faults.extend(IMPURE.iter().filter(|word| text.contains(*word)).map(|word| format!("{}: {module} is pure but names {word}", file.display())));
        }
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn unsafe_stands_only_in_sys() {
    let mut faults = Vec::new();
    each_module(|module, _, file, text| {
        if module != "sys" && (text.contains("unsafe ") || text.contains("RawFd")) {
            faults.push(file.display().to_string());
        }
    });
    assert!(faults.is_empty(), "unsafe or RawFd outside sys: {}", faults.join("\n"));
}

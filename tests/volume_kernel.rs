//! Volumes on a real kernel: each test in a mount namespace of its own thread, so that no mount is seen outside. Needs root.
#![allow(clippy::disallowed_methods)]

use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use k8s_openapi::api::core::v1::PodSpec;
use minipod::sys::file;
use minipod::volume::{Volumes, open_sub_path, prepare_sub_path};
use nix::mount::{MsFlags, mount};
use rustix::fs::OFlags;
use serde_json::{Value, json};

/// Runs a test in a private mount namespace with a fresh directory.
fn privately(test: impl FnOnce(&Path) + Send) {
    let dir = tempfile::tempdir().unwrap();
    let run = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>).unwrap();
        test(dir.path());
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
}

fn pod(volumes: Value) -> PodSpec {
    serde_json::from_value(json!({"containers": [{"name": "c"}], "volumes": volumes})).unwrap()
}

/// No volume of these pods is made of files.
fn nothing(_: &k8s_openapi::api::core::v1::Volume) -> minipod::error::Result<minipod::volume::Payload> {
    unreachable!("asked for the files of another kind of volume")
}

fn no_claim(_: &k8s_openapi::api::core::v1::Volume) -> minipod::error::Result<std::path::PathBuf> {
    unreachable!("asked for the claim of another kind of volume")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn is_tmpfs(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).unwrap().filesystem_type() == nix::sys::statfs::TMPFS_MAGIC
}

#[test]
fn what_a_claim_holds_outlives_the_pod_and_follows_its_group() {
    use std::os::unix::fs::MetadataExt;
    let root = tempfile::tempdir().unwrap();
    let claim = root.path().join("claims/c");
    let set_up = |read_only: bool, policy: &str| {
        let volume = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "c", "readOnly": read_only}}]);
        let mut spec = pod(volume);
        spec.security_context = serde_json::from_value(json!({"fsGroup": 123, "fsGroupChangePolicy": policy})).unwrap();
        Volumes::set_up(&spec, &root.path().join("pod"), None, &nothing, &|_| Ok(claim.clone())).unwrap()
    };
    let group = |path: &Path| std::fs::metadata(path).unwrap().gid();
    assert_eq!(set_up(true, "Always").source("d").unwrap(), claim);
    assert_eq!((group(&claim), mode(&claim)), (0, 0o777), "what is only read is left as it is");
    let file = claim.join("file");
    std::fs::write(&file, "kept").unwrap();
    assert!(set_up(false, "Always").tear_down().is_empty());
    assert_eq!((group(&claim), group(&file), mode(&claim)), (123, 123, 0o2777));
    std::os::unix::fs::chown(&file, None, Some(7)).unwrap();
    set_up(false, "OnRootMismatch");
    assert_eq!(group(&file), 7, "the root is as it should be, so nothing below is looked at");
    minipod::volume::remove(&claim).unwrap();
    minipod::volume::remove(&claim).unwrap();
    assert!(!claim.exists());
}

#[test]
fn an_empty_dir_is_open_to_all_keeps_its_content_and_goes_with_the_pod() {
    privately(|dir| {
        let pod = pod(json!([{"name": "content", "emptyDir": {}}, {"name": "unset"}]));
        let volumes = Volumes::set_up(&pod, dir, None, &nothing, &no_claim).unwrap();
        let path = volumes.source("content").unwrap().to_owned();
        assert_eq!((path.as_path(), mode(&path)), (dir.join("kubernetes.io~empty-dir/content").as_path(), 0o777));
        assert_eq!(mode(path.parent().unwrap()), 0o700, "closed to the machine's users");
        assert!(volumes.source("unset").unwrap().is_dir() && volumes.source("none").is_err());
        std::fs::write(path.join("index.html"), "hi").unwrap();
        let again = Volumes::set_up(&pod, dir, None, &nothing, &no_claim).unwrap();
        assert_eq!(std::fs::read_to_string(again.source("content").unwrap().join("index.html")).unwrap(), "hi");
        assert_eq!(again.tear_down(), []);
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);
    });
}

#[test]
fn an_empty_dir_in_memory_has_its_size_and_is_full_when_it_is_full() {
    privately(|dir| {
        let pod = pod(json!([{"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "10Mi"}}]));
        let volumes = Volumes::set_up(&pod, dir, Some(1 << 30), &nothing, &no_claim).unwrap();
        let path = volumes.source("m").unwrap().to_owned();
        assert_eq!(mode(&path), 0o1777);
        let room = nix::sys::statvfs::statvfs(&path).unwrap();
        assert_eq!(room.blocks() * room.fragment_size() / 1024, 10240);
        let full = std::fs::write(path.join("big"), vec![1; 11 << 20]).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
        let host = std::fs::read_to_string("/proc/1/mountinfo").unwrap();
        assert!(!host.contains(path.to_str().unwrap()), "the host sees nothing of it");
        assert_eq!(volumes.tear_down(), []);
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);
    });
}

#[test]
fn an_empty_dir_of_huge_pages_has_the_pages_that_the_pod_asks_for() {
    privately(|dir| {
        for pool in minipod::sys::huge_pages::pools() {
            let resource = minipod::manifest::huge_pages::resource_of(pool.page_size);
            let mut pod = pod(json!([{"name": "h", "emptyDir": {"medium": "HugePages", "sizeLimit": (2 * pool.page_size).to_string()}}]));
            pod.containers[0].resources = serde_json::from_value(json!({"limits": {resource: (4 * pool.page_size).to_string()}})).unwrap();
            let volumes = Volumes::set_up(&pod, dir, None, &nothing, &no_claim).unwrap();
            let path = volumes.source("h").unwrap().to_owned();
            let found = rustix::fs::statfs(&path).unwrap();
            assert_eq!((found.f_bsize as u64, found.f_blocks as u64, mode(&path)), (pool.page_size, 2, 0o777));
            assert_eq!(volumes.tear_down(), []);
            assert!(!path.exists());
        }
    });
}

#[test]
fn the_pods_memory_bounds_a_tmpfs_without_a_size() {
    privately(|dir| {
        let volumes = Volumes::set_up(&pod(json!([{"name": "m", "emptyDir": {"medium": "Memory"}}])), dir, Some(2 << 20), &nothing, &no_claim).unwrap();
        let room = nix::sys::statvfs::statvfs(volumes.source("m").unwrap()).unwrap();
        assert_eq!(room.blocks() * room.fragment_size(), 2 << 20);
        assert_eq!(volumes.tear_down(), []);
    });
}

#[test]
fn fs_group_owns_an_empty_dir_and_what_is_made_in_it() {
    privately(|dir| {
        let mut pod = pod(json!([{"name": "d"}, {"name": "m", "emptyDir": {"medium": "Memory"}}]));
        pod.security_context = serde_json::from_value(json!({"fsGroup": 123})).unwrap();
        let volumes = Volumes::set_up(&pod, dir, None, &nothing, &no_claim).unwrap();
        let (disk, memory) = (volumes.source("d").unwrap(), volumes.source("m").unwrap());
        assert_eq!((mode(disk), mode(memory)), (0o2777, 0o3777));
        let root = file::open_dir(memory).unwrap();
        open_sub_path(root.as_fd(), "made/deep").unwrap();
        let made = std::fs::metadata(memory.join("made/deep")).unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (0, 123, 0o3777));
        assert_eq!(volumes.tear_down(), []);
    });
}

#[test]
fn each_type_of_host_path_takes_its_kind_and_refuses_the_others() {
    privately(|dir| {
        let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        std::fs::create_dir(at("directory")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        symlink("directory", at("link")).unwrap();
        nix::sys::stat::mknod(&dir.join("block"), nix::sys::stat::SFlag::S_IFBLK, nix::sys::stat::Mode::S_IRUSR, nix::sys::stat::makedev(7, 99)).unwrap();
        let set_up = |path: &str, kind: Option<&str>| {
            let source = kind.map_or(json!({"path": path}), |kind| json!({"path": path, "type": kind}));
            Volumes::set_up(&pod(json!([{"name": "v", "hostPath": source}])), &dir.join("volumes"), None, &nothing, &no_claim)
        };
        let table: &[(&str, &[&str], &str)] = &[
            ("DirectoryOrCreate", &["directory", "link"], "directory"),
            ("Directory", &["directory", "link"], "directory"),
            ("FileOrCreate", &["file"], "file"),
            ("File", &["file"], "file"),
            ("Socket", &["socket"], "socket file"),
            ("CharDevice", &["/dev/null"], "character device"),
            ("BlockDevice", &["block"], "block device"),
        ];
        for (kind, right, what) in table {
            for name in ["directory", "link", "file", "socket", "block", "/dev/null"] {
                let path = if name.starts_with('/') { name.to_owned() } else { at(name) };
                match set_up(&path, Some(kind)) {
                    Ok(volumes) => assert!(right.contains(&name) && volumes.source("v").unwrap() == Path::new(&path), "{kind} {name}"),
                    Err(error) => {
                        assert!(!right.contains(&name), "{kind} {name}: {error}");
                        assert_eq!(
                            (error.to_string(), error.reason),
                            (format!("MountVolume.SetUp failed for volume \"v\" : hostPath type check failed: {path} is not a {what}"), Some("FailedMount"))
                        );
                    }
                }
            }
        }
        for (kind, what) in [("Directory", "directory"), ("File", "file"), ("Socket", "socket file")] {
            let error = set_up(&at("missing"), Some(kind)).unwrap_err().to_string();
            assert!(error.ends_with(&format!("missing is not a {what}")), "{error}");
        }
        for kind in [None, Some("")] {
            assert!(set_up(&at("missing"), kind).is_ok(), "no type, no check");
        }
        assert!(set_up("relative", None).is_err() && set_up("/a/../etc", None).is_err() && set_up(&at("file"), Some("Nonsense")).is_err());
    });
}

#[test]
fn a_missing_host_path_is_made_with_its_exact_mode() {
    privately(|dir| {
        let set_up = |path: &Path, kind: &str| {
            let volumes = json!([{"name": "v", "hostPath": {"path": path.to_str().unwrap(), "type": kind}}]);
            Volumes::set_up(&pod(volumes), &dir.join("volumes"), None, &nothing, &no_claim)
        };
        let made = dir.join("a/b");
        let volumes = set_up(&made, "DirectoryOrCreate").unwrap();
        assert!(made.is_dir() && mode(&made) == 0o755);
        assert_eq!(volumes.tear_down(), []);
        assert!(made.is_dir(), "what is the host's stays");
        set_up(&dir.join("file"), "FileOrCreate").unwrap();
        assert!(dir.join("file").is_file() && mode(&dir.join("file")) == 0o644);
        let error = set_up(&dir.join("no/file"), "FileOrCreate").unwrap_err();
        assert!(error.is(libc::ENOENT) && !dir.join("no").exists(), "the parent is not made: {error}");
    });
}

#[test]
fn a_failed_set_up_takes_back_what_it_made_and_nothing_else() {
    privately(|dir| {
        let good = json!([{"name": "kept"}]);
        let kept = Volumes::set_up(&pod(good), dir, None, &nothing, &no_claim).unwrap().source("kept").unwrap().to_owned();
        std::fs::write(kept.join("data"), "x").unwrap();
        let bad = json!([{"name": "kept"}, {"name": "new"}, {"name": "m", "emptyDir": {"medium": "Memory"}},
                         {"name": "bad", "hostPath": {"path": "/dev/null", "type": "Directory"}}]);
        Volumes::set_up(&pod(bad), dir, None, &nothing, &no_claim).unwrap_err();
        let left: Vec<_> = std::fs::read_dir(kept.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
        assert!(kept.join("data").exists());
        for volume in
            [json!({"name": "h", "emptyDir": {"medium": "HugePages"}}), json!({"name": "n", "nfs": {"server": "s", "path": "/"}}), json!({"name": "../x"})]
        {
            let error = Volumes::set_up(&pod(json!([volume])), dir, None, &nothing, &no_claim).unwrap_err();
            assert_eq!(error.reason, Some("FailedMount"), "{error}");
        }
        assert_eq!(std::fs::read_dir(kept.parent().unwrap()).unwrap().count(), 1);
    });
}

#[test]
fn removal_does_not_delete_what_is_mounted_inside() {
    privately(|dir| {
        let host = dir.join("host");
        std::fs::create_dir(&host).unwrap();
        std::fs::write(host.join("precious"), "x").unwrap();
        let volumes = Volumes::set_up(&pod(json!([{"name": "v"}])), &dir.join("volumes"), None, &nothing, &no_claim).unwrap();
        let inside = volumes.source("v").unwrap().join("inside");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(volumes.source("v").unwrap().join("own"), "x").unwrap();
        mount(Some(&host), &inside, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let errors = volumes.tear_down();
        assert!(errors.len() == 1 && errors[0].is(libc::EBUSY), "{errors:?}");
        assert!(host.join("precious").exists());
        nix::mount::umount(&inside).unwrap();
        assert_eq!(minipod::volume::remove_dirs(&dir.join("volumes")), []);
        assert!(host.join("precious").exists() && !inside.exists());
    });
}

#[test]
fn a_sub_path_is_a_file_a_directory_or_made() {
    privately(|dir| {
        std::fs::create_dir_all(dir.join("v/etc")).unwrap();
        std::fs::write(dir.join("v/etc/conf"), "text").unwrap();
        symlink("etc/conf", dir.join("v/link")).unwrap();
        std::fs::set_permissions(dir.join("v"), PermissionsExt::from_mode(0o3775)).unwrap();
        // As the volume may be opened: to be walked, or only as a place.
        for flags in [OFlags::RDONLY, OFlags::PATH] {
            let root = file::open(dir.join("v"), flags | OFlags::DIRECTORY).unwrap();
            for name in ["etc/conf", "link"] {
                let conf = open_sub_path(root.as_fd(), name).unwrap();
                assert_eq!(std::fs::read_to_string(file::path_of(conf.as_fd())).unwrap(), "text");
            }
            let name = format!("made{}/deep", flags.bits());
            let made = open_sub_path(root.as_fd(), &name).unwrap();
            assert_eq!(file::stat(&made).unwrap().st_mode & 0o7777, 0o3775);
            assert_eq!(file::stat(&made).unwrap().st_ino, std::fs::metadata(dir.join("v").join(&name)).unwrap().ino());
        }
    });
}

#[test]
fn a_sub_path_cannot_leave_its_volume() {
    privately(|dir| {
        std::fs::create_dir_all(dir.join("v/sub")).unwrap();
        std::fs::write(dir.join("secret"), "secret").unwrap();
        let root = file::open_dir(dir.join("v")).unwrap();
        for (link, to) in
            [("up", "../secret"), ("abs", "/etc/passwd"), ("sub/up", "../.."), ("dangling", "../new"), ("proc", "/proc/self/root/etc"), ("loop", "loop")]
        {
            symlink(to, dir.join("v").join(link)).unwrap();
        }
        for path in
            ["up", "abs", "sub/up", "sub/up/secret", "sub/up/made", "dangling", "dangling/made", "proc", "loop", "../secret", "sub/../../secret", "/etc"]
        {
            let error = prepare_sub_path(root.as_fd(), path, "data", "web").unwrap_err();
            assert_eq!(error.reason, Some("CreateContainerConfigError"));
            let told = "container web: failed to prepare subPath for volumeMount \"data\" of container \"web\": ";
            assert!(error.to_string().starts_with(told), "{path}: {error}");
        }
        let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["secret", "v"]);
    });
}

#[test]
fn what_is_opened_stays_itself_when_the_path_is_swapped() {
    privately(|dir| {
        std::fs::create_dir_all(dir.join("v/data")).unwrap();
        std::fs::write(dir.join("v/data/own"), "").unwrap();
        let root = file::open_dir(dir.join("v")).unwrap();
        let opened = open_sub_path(root.as_fd(), "data").unwrap();
        std::fs::rename(dir.join("v/data"), dir.join("v/old")).unwrap();
        symlink("/etc", dir.join("v/data")).unwrap();
        assert!(file::path_of(opened.as_fd()).join("own").exists());
    });
}

#[test]
fn a_volume_in_memory_is_a_mount_in_our_namespace_only() {
    privately(|dir| {
        let volumes = Volumes::set_up(&pod(json!([{"name": "m", "emptyDir": {"medium": "Memory"}}, {"name": "d"}])), dir, None, &nothing, &no_claim).unwrap();
        assert!(is_tmpfs(volumes.source("m").unwrap()));
        assert_eq!(is_tmpfs(volumes.source("d").unwrap()), is_tmpfs(dir));
        assert_eq!(volumes.tear_down(), []);
    });
}

//! Volumes, as containers see them.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::pod::{Pod, await_file, serve};
use crate::world::restarts;
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("VOL-01", |world| {
        let write = format!(
            "if [ -e /one/mark ]; then say Kept; {}; fi; stat -c %a /one >/story/mode; echo common-words >/one/mark; say Wrote; {}; exit 1",
            serve("0", 0),
            await_file("go")
        );
        let read = format!("until [ -e /two/place/mark ]; do sleep 0.02; done; cp /two/place/mark /story/seen; {}", serve("0", 0));
        let pod = Pod::new("p", "Always").app("a", &write).app("b", &read);
        world.apply(&pod.volume("v", json!({ "emptyDir": {} }), &[("a", "/one"), ("b", "/two/place")]));
        assert_eq!(world.written("seen"), "common-words\n");
        assert_eq!(world.written("mode"), "777\n");
        world.touch("go");
        world.wait_story("a Kept");
        assert_eq!(restarts(&world.get("p"), "a"), 1);
        assert!(holds(&world.root(), b"common-words\n"), "the volume is somewhere beneath the root");
        world.delete("p");
        assert!(!holds(&world.root(), b"common-words\n"), "the volume is still on disk");
    }),
    case("VOL-02", |world| {
        let app = "df -P -k /m | tail -n 1 >/story/size; dd if=/dev/zero of=/m/big bs=1M count=11 2>/dev/null; echo $? >/story/code";
        let volume = json!({ "emptyDir": { "medium": "Memory", "sizeLimit": "10Mi" } });
        world.apply(&Pod::new("p", "Never").app("a", app).volume("m", volume, &[("a", "/m")]));
        world.wait_phase("p", "Succeeded");
        assert_eq!(world.written("size").split_whitespace().nth(1), Some("10240"));
        assert_eq!(world.written("code"), "1\n");
    }),
    case("VOL-07", |world| {
        // A link in the volume that leads out of it must not lead a subPath out.
        let outside = world.path("outside");
        std::fs::create_dir(&outside).expect("our own directory");
        let inside = world.path("inside");
        std::fs::create_dir_all(inside.join("deep")).expect("our own directory");
        std::fs::write(inside.join("deep/word"), "deep\n").expect("our own directory");
        std::os::unix::fs::symlink("../outside", inside.join("evil")).expect("our own directory");
        let mounted = |name: &str, sub: &str, script: &str| {
            let mounts = json!([{ "name": "story", "mountPath": "/story" }, { "name": "h", "mountPath": "/h", "subPath": sub, "readOnly": true }]);
            let pod = Pod::new(name, "Never").app(name, script).volume("h", json!({ "hostPath": { "path": inside.display().to_string() } }), &[]);
            pod.with(name, "volumeMounts", mounts)
        };
        world.apply(&mounted("good", "deep", "cat /h/word >/story/got; touch /h/new && say Written; exit 0"));
        world.wait_phase("good", "Succeeded");
        assert_eq!(world.written("got"), "deep\n");
        assert!(world.moments("good Written").is_empty(), "readOnly");
        world.apply(&mounted("bad", "evil", "say Ran"));
        world.wait("bad", "the refusal", |pod| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError");
        world.assert_silent("bad");
        assert_eq!(std::fs::read_dir(&outside).expect("still there").count(), 0);
        assert_eq!(std::fs::metadata(&outside).expect("still there").permissions().mode() & 0o777, 0o755);
    }),
];

/// Is there a file with exactly this content beneath a directory (the image store apart)?
fn holds(dir: &std::path::Path, content: &[u8]) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => entry.file_name() != "images" && holds(&entry.path(), content),
        Ok(kind) if kind.is_file() => std::fs::read(entry.path()).is_ok_and(|found| found == content),
        _ => false,
    })
}

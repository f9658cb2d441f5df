//! Volumes, as containers see them.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::pod::{Pod, await_file, serve};
use crate::world::{World, container, restarts};
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
    case("VOL-E1", |world| {
        let app = "trap 'echo asked >/story/end; exit 0' TERM; dd if=/dev/zero of=/m/big bs=1k count=1500 2>/dev/null; sleep 1000 & wait";
        let disk = |limit: &str| json!({ "emptyDir": { "sizeLimit": limit } });
        let pod = Pod::new("p", "Always").app("a", app).app("b", "sleep 1000").volume("m", disk("1Mi"), &[("a", "/m")]);
        world.apply(&pod.volume("roomy", disk("1Gi"), &[("a", "/roomy")]));
        let pod = world.wait_phase("p", "Failed");
        let why = "Usage of EmptyDir volume \"m\" exceeds the limit \"1Mi\". ";
        assert_eq!((&pod["status"]["reason"], &pod["status"]["message"]), (&json!("Evicted"), &json!(why)));
        assert_eq!(world.written("end"), "asked\n");
        let described = world.minipod(&["describe", "pod", "p"]).ok();
        assert!(described.contains("Evicted\nMessage:") && described.contains("Warning  Evicted"), "{described}");
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
    case("VOL-I1", |world| images(world, true)),
    Case { id: "VOL-I2", needs: &["idmap"], run: |world| images(world, false) },
    case("VOL-I3", |world| {
        // What is missing is told of the container, as its own image would be, and found when it is there.
        let missing = json!({ "image": { "reference": "nowhere/to/be:found", "pullPolicy": "Never" } });
        world.apply(&Pod::new("p", "Always").app("a", &serve("0", 0)).volume("i", missing, &[("a", "/i")]));
        let pod = world.wait("p", "a reason", |pod| container(pod, "a")["state"]["waiting"]["reason"] == "ErrImageNeverPull");
        let said = container(&pod, "a")["state"]["waiting"]["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(said, "Container image \"nowhere/to/be:found\" is not present with pull policy of Never");
        world.delete("p");
        let empty = Pod::new("p", "Always").app("a", &serve("0", 0)).volume("i", json!({ "image": {} }), &[("a", "/i")]);
        world.minipod(&["apply", "-f", &world.manifest(&empty)]).fails_with(&["spec.volumes[1].image.reference: Required"]);
    }),
];

/// Images of one layer and of two as volumes, whole and in part, for two containers and over a restart.
fn images(world: &World, host_users: bool) {
    let look = "stat -c '%u %g' /one/usr/bin/busybox /two/etc/nginx /part; ls /part; /one/usr/bin/busybox true || echo noexec; touch /two/x || echo sealed";
    let script = format!("{{ {look}; }} >/story/said 2>/dev/null; echo end >/story/end; {}; exit 1", await_file("go"));
    let image = |name: &str| json!({ "image": { "reference": name } });
    let pod = Pod::new("p", "Always")
        .app("a", &script)
        .app("b", &serve("0", 0))
        .spec("hostUsers", json!(host_users))
        .volume("one", image("busybox"), &[("a", "/one"), ("b", "/one")])
        .volume("two", image("nginx"), &[("a", "/two")]);
    let mut object: Value = serde_json::from_str(&pod.manifest(&world.path("story").display().to_string())).expect("made from JSON");
    let mounts = object["spec"]["containers"][0]["volumeMounts"].as_array_mut().expect("made as an array");
    mounts.push(json!({ "name": "two", "mountPath": "/part", "subPath": "etc/nginx" }));
    let file = world.file(&object.to_string());
    let plan = world.minipod(&["explain", &file, "-c", "a"]).ok();
    assert!(plan.contains("/scene/images/two (only etc/nginx in it) at /part (ro)"), "{plan}");
    world.minipod(&["apply", "-f", &file]).ok();
    let look_again = || {
        world.written("end");
        let said = world.written("said");
        assert!(said.starts_with("0 0\n0 0\n0 0\n") && said.contains("nginx.conf\n") && said.ends_with("noexec\nsealed\n"), "{said}");
    };
    look_again();
    world.exec("p", "b", &["test", "-e", "/one/usr/bin/busybox"]).ok();
    std::fs::remove_file(world.path("story").join("end")).expect("it was written");
    world.touch("go");
    world.wait("p", "a restart", |pod| restarts(pod, "a") == 1);
    look_again();
}

/// Is there a file with exactly this content beneath a directory (the image store apart)?
fn holds(dir: &std::path::Path, content: &[u8]) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => entry.file_name() != "images" && holds(&entry.path(), content),
        Ok(kind) if kind.is_file() => std::fs::read(entry.path()).is_ok_and(|found| found == content),
        _ => false,
    })
}

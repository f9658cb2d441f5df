//! The manifests in `examples/`, as the README runs them.

use std::path::PathBuf;

use crate::process::{poll, seconds};
use crate::{Case, case};

pub fn example(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).display().to_string()
}

pub const CASES: &[Case] = &[
    case("EXM-01", |world| {
        let watch = world.start(&["get", "pods", "-w"]);
        world.minipod(&["apply", "-f", &example("web-e2e.yaml")]).ok();
        world.wait_ready("web-e2e");
        watch.wait_for("2/2");
        let told = crate::world::World::statuses(&watch, "web-e2e");
        assert!(told.contains(&"Init:0/1".to_owned()) && told.last().is_some_and(|s| s == "Running"), "{told:?}");
        let page = poll(seconds(20), || Some(world.exec("web-e2e", "web", &["curl", "-s", "localhost"])).filter(|done| done.code == 0));
        assert!(page.is_some_and(|done| done.out.contains("nginx")), "nginx answers, if only that there is no index");
        let follow = world.start(&["logs", "web-e2e", "-c", "log-shipper", "-f"]);
        follow.wait_for("\"GET / HTTP/1.1\"");
        drop((follow, watch));
        world.delete("web-e2e");
    }),
    case("EXM-02", |world| {
        world.minipod(&["apply", "-f", &example("git-server.yaml")]).ok();
        world.minipod(&["apply", "-f", &example("web-git.yaml")]).ok();
        world.wait_ready("web-git");
        let page = poll(seconds(20), || Some(world.exec("web-git", "web", &["curl", "-s", "localhost"])).filter(|done| done.code == 0));
        let page = page.expect("nginx answers").out;
        assert!(page.contains("from git-server"), "the page is the one that git-server holds: {page}");
        let follow = world.start(&["logs", "web-git", "-c", "log-shipper", "-f"]);
        follow.wait_for("\"GET / HTTP/1.1\" 200");
        drop(follow);
        world.delete("web-git");
        world.delete("git-server");
    }),
    case("EXM-03", |world| {
        world.minipod(&["apply", "-f", &example("wait-for-db.yaml")]).ok();
        world.wait_row("wait-for-db", "0/1", "Init:0/1");
        world.minipod(&["apply", "-f", &example("db.yaml")]).ok();
        world.wait_ready("wait-for-db");
        world.wait_row("wait-for-db", "1/1", "Running");
        world.delete("wait-for-db");
        world.delete("db");
    }),
];

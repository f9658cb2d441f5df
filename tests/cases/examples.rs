//! The manifests in `examples/`, as the README runs them.

use std::path::PathBuf;

use crate::process::{poll, seconds};
use crate::world::World;
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
        let told = World::statuses(&watch, "web-e2e");
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
    case("EXM-11", |world| {
        world.minipod(&["apply", "-f", &example("sidecars/log-shipper.yaml")]).ok();
        world.wait_ready("log-shipper");
        asked(world, "log-shipper", "web", "localhost/first", "404");
        let follow = world.start(&["logs", "log-shipper", "-c", "shipper", "-f"]);
        follow.wait_for("\"GET /first HTTP/1.1\" 404");
        drop(follow);
        world.delete("log-shipper");
    }),
    case("EXM-12", |world| {
        world.minipod(&["apply", "-f", &example("sidecars/proxy.yaml")]).ok();
        world.wait_ready("proxy");
        world.wait_ready("proxy-client");
        let page = asked(world, "proxy-client", "client", "http://proxy", "200 OK");
        assert!(page.contains("X-Proxied-By: sidecar"), "the proxy answers for the app: {page}");
        let page = asked(world, "proxy", "app", "localhost", "200 OK");
        assert!(!page.contains("X-Proxied-By"), "within the pod the app answers itself: {page}");
        world.delete("proxy");
        world.delete("proxy-client");
    }),
    case("EXM-13", |world| {
        let file = example("sidecars/reloader.yaml");
        world.minipod(&["apply", "-f", &file]).ok();
        world.wait_ready("reloader");
        world.wait_logs(&["reloader", "-c", "app"], "greeting: hello\n");
        let changed = std::fs::read_to_string(file).expect("it is in the repository").replace("hello", "good morning");
        world.minipod(&["apply", "-f", &world.file(&changed)]).ok();
        world.wait_logs(&["reloader", "-c", "app"], "greeting: hello\ngreeting: good morning\n");
        world.wait_logs(&["reloader", "-c", "reload"], "the configuration has changed\n");
        world.delete("reloader");
    }),
    case("EXM-14", |world| {
        world.minipod(&["apply", "-f", &example("git-server.yaml")]).ok();
        world.minipod(&["apply", "-f", &example("sidecars/git-sync.yaml")]).ok();
        world.wait_ready("git-sync");
        asked(world, "git-sync", "web", "localhost", "Hello from git-server");
        // The daemon only reads; whoever writes the repository has its volume.
        let site = "git -c safe.directory=* clone -q /git/site /tmp/new && cd /tmp/new && echo '<h1>News</h1>' >index.html && \
                    git -c user.name=m -c user.email=m@example.invalid commit -qam News && git -c safe.directory=* push -q";
        world.exec("git-server", "editor", &["sh", "-c", site]).ok();
        asked(world, "git-sync", "web", "localhost", "News");
        world.delete("git-sync");
        world.delete("git-server");
    }),
    case("EXM-15", |world| {
        world.minipod(&["apply", "-f", &example("sidecars/metrics-adapter.yaml")]).ok();
        world.wait_ready("metrics-adapter");
        let figures = asked(world, "metrics-adapter", "web", "localhost:9113/cgi-bin/metrics", "nginx_connections_active 1");
        assert!(figures.contains("nginx_http_requests_total "), "{figures}");
        world.delete("metrics-adapter");
    }),
    case("EXM-04", |world| {
        let stack = example("stack.yaml");
        world.minipod(&["apply", "-f", &stack]).ok();
        world.wait_ready("client");
        let kept = world.root().join("lib/claims/default/visits/log");
        let pages = || std::fs::read_to_string(&kept).unwrap_or_default();
        assert!(poll(seconds(40), || (pages().lines().filter(|line| line.contains("Hello from")).count() > 2).then_some(())).is_some(), "{}", pages());
        let web = || world.pods().into_iter().map(|(name, _)| name).filter(|name| name.starts_with("web-")).collect::<Vec<_>>();
        assert_eq!(web().len(), 2);
        assert!(world.minipod(&["get", "svc", "web"]).ok().contains("ClusterIP"));
        world.minipod(&["delete", "-f", &stack, "--now"]).ok();
        assert_eq!((web(), kept.exists()), (vec![], false));
    }),
];

/// What `curl -si` prints in a container once `words` are in it.
#[track_caller]
fn asked(world: &World, pod: &str, container: &str, url: &str, words: &str) -> String {
    let told = poll(seconds(20), || Some(world.exec(pod, container, &["curl", "-si", url]).out).filter(|page| page.contains(words)));
    told.unwrap_or_else(|| panic!("{url} never says {words:?} to {pod}, but {:?}", world.exec(pod, container, &["curl", "-si", url]).out))
}

//! `top pod`: what pods use, whether or not a controller counts it.

use serde_json::json;

use crate::pod::{Pod, once, serve};
use crate::world::World;
use crate::{Case, case};

/// The cells of each line.
fn table(world: &World, words: &[&str]) -> Vec<Vec<String>> {
    let out = world.minipod(&[&["top"], words].concat()).ok();
    out.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

fn number(cell: &str) -> u64 {
    cell.trim_end_matches(['m', 'M', 'i']).parse().unwrap_or_else(|_| panic!("no amount: {cell}"))
}

pub const CASES: &[Case] = &[
    case("TOP-01", |world| {
        let hold = "x=$(head -c 30000000 /dev/zero | tr '\\0' x); say Full; ";
        let busy = format!("{hold} while :; do :; done");
        let quiet = format!("{hold} {}", serve("0", 0));
        world.apply(&Pod::new("p", "Always").app("busy", &busy).app("quiet", &quiet).spec("terminationGracePeriodSeconds", json!(1)));
        world.apply(&Pod::new("done", "Never").app("a", &once("0", 0)));
        world.wait_phase("done", "Succeeded");
        world.wait_story("busy Full");
        world.wait_story("quiet Full");
        let rows = table(world, &["pod", "--containers", "--sort-by", "cpu"]);
        assert_eq!(rows[0], ["POD", "NAME", "CPU(cores)", "MEMORY(bytes)"]);
        assert_eq!([&rows[1][..2], &rows[2][..2]], [["p", "busy"], ["p", "quiet"]]);
        // A loop of its own, however slow the machine, against nothing at all.
        assert!(number(&rows[1][2]) >= 50 && number(&rows[2][2]) < 50, "{rows:?}");
        assert!(rows[1..].iter().all(|row| (28..200).contains(&number(&row[3]))), "{rows:?}");
        let whole = table(world, &["pods", "-A", "--no-headers", "--sum"]);
        assert_eq!((whole.len(), &whole[0][..2]), (3, &["default".to_owned(), "p".to_owned()][..]), "what has ended uses nothing");
        assert_eq!(whole[2], whole[0][2..]);
        let done = world.minipod(&["top", "pod", "done"]);
        assert!(done.code == 1 && done.err.starts_with("error: Metrics not available for pod default/done"), "{}", done.err);
        assert!(world.minipod(&["top", "pod", "none"]).err.contains("pods \"none\" not found"));
        assert_eq!(world.minipod(&["top", "pod", "-l", "app=none"]).err, "No resources found in default namespace.\n");
    }),
    Case {
        id: "TOP-02",
        needs: &["cgroup.memory", "disk"],
        run: |world| {
            // With a limit a controller counts: what was written once and could be dropped is left out.
            let read = "dd if=/dev/zero of=/file bs=1M count=40 2>/dev/null; sync; say Read; ";
            let pod = Pod::new("p", "Always").app("a", &(read.to_owned() + &serve("0", 0)));
            world.apply(&pod.with("a", "resources", json!({ "limits": { "memory": "256Mi" } })));
            world.wait_story("a Read");
            let rows = table(world, &["pod", "p", "--no-headers"]);
            assert!(rows.len() == 1 && rows[0][0] == "p" && number(&rows[0][2]) < 30, "{rows:?}");
        },
    },
];

//! `logs`.

use crate::pod::{Pod, await_file, serve};
use crate::world::{container, restarts};
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("LOG-01", |world| {
        let tell = |name: &str| format!("echo words of {name}; {}", serve("0", 0));
        world.apply(&Pod::new("p", "Always").init("i", "echo words of i").app("a", &tell("a")).app("b", &tell("b")).app("c", &tell("c")));
        for name in ["a", "b", "c"] {
            world.wait_logs(&["p", "-c", name], &format!("words of {name}\n"));
        }
        let done = world.minipod(&["logs", "p"]);
        assert_eq!(done.err.trim_end(), "Defaulted container \"a\" out of: a, b, c, i (init)");
        assert_eq!(done.ok(), "words of a\n");
        for name in ["b", "i"] {
            let done = world.minipod(&["logs", "p", "-c", name]);
            assert_eq!(done.err, "");
            assert_eq!(done.ok(), format!("words of {name}\n"));
        }
        world.minipod(&["logs", "p", "-c", "x"]).fails_with(&["container x is not valid for pod p out of: a, b, c, i (init)"]);
        world.minipod(&["logs", "q"]).fails_with(&["q", "not found"]);
    }),
    case("LOG-02", |world| {
        world.apply(&Pod::new("p", "Always").init("i", &await_file("go")).app("c", &serve("0", 0)));
        world.wait_row("p", "0/1", "Init:0/1");
        let done = world.minipod(&["logs", "p", "-c", "c"]);
        done.fails_with(&["container \"c\" in pod \"p\" is waiting to start: PodInitializing"]);
        assert_eq!(done.code, 1);
        world.touch("go");
        world.wait_ready("p");
    }),
    case("LOG-03", |world| {
        let app = format!("for n in 1 2 3 4 5; do echo line $n; done; printf unfinished; say Wrote; {}; echo; echo last", await_file("go"));
        world.apply(&Pod::new("p", "Never").app("c", &app));
        world.wait_story("c Wrote");
        assert_eq!(world.minipod(&["logs", "p", "--tail", "2"]).ok().lines().next_back(), Some("line 5"));
        let follow = world.start(&["logs", "p", "-f"]);
        follow.wait_for("line 5");
        world.touch("go");
        // -f ends with the container, and has all of it.
        let all = follow.wait().ok();
        assert_eq!(all, "line 1\nline 2\nline 3\nline 4\nline 5\nunfinished\nlast\n");
        assert_eq!(world.minipod(&["logs", "p", "--tail", "3"]).ok(), "line 5\nunfinished\nlast\n");
        assert_eq!(world.minipod(&["logs", "p", "--prefix", "--tail", "1"]).ok(), "[pod/p/c] last\n");
        let stamped = world.minipod(&["logs", "p", "--timestamps", "--tail", "1"]).ok();
        let (time, rest) = stamped.split_once(' ').expect("a time, then the line");
        assert_eq!(rest, "last\n");
        assert!(time.len() == "2026-01-01T00:00:00.123456789Z".len() && time.ends_with('Z'), "{time}");
        assert_eq!(world.minipod(&["logs", "p", "--since", "1h"]).ok(), all);
        assert_eq!(world.minipod(&["logs", "p", "--all-containers"]).ok(), all);
    }),
    case("LOG-05", |world| {
        let app = "say Starting; n=$(grep -c 'c Starting' /story/lines); echo run $n; [ $n -ge 2 ] || exit 1; trap 'exit 0' TERM; sleep 100000 & wait";
        world.apply(&Pod::new("p", "Always").app("c", app).app("d", &serve("0", 0)));
        world.wait("p", "the second run", |pod| restarts(pod, "c") == 1 && container(pod, "c")["ready"] == true);
        assert_eq!(world.minipod(&["logs", "p", "-c", "c", "-p"]).ok(), "run 1\n");
        let current = world.start(&["logs", "p", "-c", "c", "-f"]);
        current.wait_for("run 2\n");
        drop(current);
        world.minipod(&["logs", "p", "-c", "d", "-p"]).fails_with(&["previous terminated container \"d\" in pod \"p\" not found"]);
    }),
];

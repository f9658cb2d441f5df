//! The rules of a pod's life, one row each: a sentence, a pod, what happens, and what the engine does or shows.
//!
//! The notation of pods and scripts is in `lifecycle_sim`, that of pictures in `lifecycle_sim::picture`. Every row is also watched by
//! `lifecycle_sim::watch`, and every status in it judged by `picture::judge`.

mod lifecycle_sim;

use lifecycle_sim::picture::{find, picture};
use lifecycle_sim::{Answer, World, pod};
use minipod::lifecycle::{Action, At, Event, Notice, Spec};

/// A sentence, a pod, a script, and what comes of it.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// What is done: `SECONDS: deed deed | SECONDS: deed`.
const DEEDS: &[Row] = &[
    // --- order
    ("an init runs alone", "Always : i.init j.init a", "+1", "0: sandbox#0 i"),
    ("the next init starts when the one before has exited 0", "Always : i.init j.init a", "i=0", "0: sandbox#0 i j"),
    ("apps start in spec order when the last init has exited 0", "Always : i.init j.init a b", "i=0 j=0", "0: sandbox#0 i j a b"),
    ("an init that cannot be run fails a Never pod", "Never : i.init a", "i!run", "0: sandbox#0 i down Failed"),
    ("an init that fails ends a Never pod", "Never : i.init a", "i=1", "0: sandbox#0 i down Failed"),
    ("an init that was killed for memory ends a Never pod", "Never : i.init a", "i=oom", "0: sandbox#0 i down Failed"),
    ("a failed init waits before its second rerun", "Always : i.init j.init a", "i=1 i=1 +9.999", "0: sandbox#0 i i#1"),
    ("and is rerun then, alone", "Always : i.init j.init a", "i=1 i=1 +10", "0: sandbox#0 i i#1 | 10: i#2"),
    ("OnFailure reruns an init as Always does", "OnFailure : i.init a", "i=1 i=0 a=0", "0: sandbox#0 i i#1 a down Succeeded"),
    ("inits do not run again when an app restarts", "Always : i.init a", "i=0 a=1 a=0 +10", "0: sandbox#0 i a a#1 | 10: a#2"),
    ("a missing image is pulled again after 10 and 20 seconds, also under Never", "Never : i.init a", "i!pull +9.9 +0.1 +20", "0: sandbox#0 i | 10: i | 30: i"),
    ("an image that may not be pulled is looked for every 10 seconds", "Never : i.init a", "i!never +25", "0: sandbox#0 i | 10: i | 20: i"),
    ("missing configuration is looked for again every 10 seconds", "Never : i.init a", "i!config +10", "0: sandbox#0 i | 10: i"),
    ("an app without image does not hold up the next one", "Never : a b", "a!pull +30", "0: sandbox#0 a b | 10: a | 30: a"),
    ("a pod with an app that was never made does not end", "Never : a b", "a!config +10 b=0 +10", "0: sandbox#0 a b | 10: a | 20: a"),
    ("an app that cannot be run has ended", "Never : a b", "a!run b=0", "0: sandbox#0 a b down Failed"),
    ("the next app starts after the postStart of the one before", "Always : a.post b", "+5 a:post", "0: sandbox#0 a | 5: b"),
    ("not even a failed postStart is overtaken", "Always : a.post b", "+5 a:post!", "0: sandbox#0 a | 5: term-a"),
    ("nor is a start that takes its time", "Always : a b", "a!later +5", "0: sandbox#0 a"),
    ("which lets the next one on when it is done", "Always : a b", "a!later +5 a:spawned", "0: sandbox#0 a | 5: b"),
    ("a start under way is given up when the pod stops", "Always : a b", "a!later +5 stop", "0: sandbox#0 a | 5: abort-a down Failed"),
    // --- ephemeral containers
    ("an ephemeral container starts at once", "Always : a e.eph", "+1 add", "0: sandbox#0 a | 1: e"),
    ("each in its turn", "Always : a e.eph f.eph", "add add", "0: sandbox#0 a e f"),
    ("while an init runs", "Always : i.init a e.eph", "add", "0: sandbox#0 i e"),
    ("while an init waits in its back-off", "Always : i.init a e.eph", "i=1 i=1 +1 add", "0: sandbox#0 i i#1 | 1: e"),
    ("while a postStart hangs", "Always : a.post b e.eph", "+1 add", "0: sandbox#0 a | 1: e"),
    ("while another start takes its time, and holds nobody up itself", "Always : a b e.eph", "a!later add e!later a:spawned", "0: sandbox#0 a e b"),
    ("not before there is a sandbox", "Always : a e.eph", "nosandbox add sandbox +10", "0: sandbox#0 | 10: sandbox#0 e a"),
    ("it is never started again", "Always max=10 : a e.eph", "add e=1 +700 a=0 +700", "0: sandbox#0 a e | 700: a#1"),
    ("not even in a new sandbox", "Always : a e.eph", "add lost a=137 e=137", "0: sandbox#0 a e term-a term-e down sandbox#1 a#1"),
    ("one that cannot be run has ended", "Always : a e.eph", "e!run add +60", "0: sandbox#0 a e"),
    ("one whose image is missing is tried again after 10 and 20 seconds", "Always : a e.eph", "e!pull add +30", "0: sandbox#0 a e | 10: e | 30: e"),
    ("it does not keep the pod alive", "Never : a e.eph", "add a=0 e=143", "0: sandbox#0 a e term-e down Succeeded"),
    ("nor does its failure count", "Never : a e.eph", "add e=1 a=0", "0: sandbox#0 a e down Succeeded"),
    ("it has the grace, then it is killed", "Never grace=5 : a e.eph", "add a=0 +5", "0: sandbox#0 a e term-e | 5: kill-e down Succeeded"),
    ("it stops with the apps; sidecars do not wait for it", "Never : s.side a e.eph", "add stop a=0", "0: sandbox#0 s a e term-a term-e term-s"),
    ("a failed init stops it", "Never : i.init a e.eph", "add i=1 e=0", "0: sandbox#0 i e term-e down Failed"),
    ("one that is asked for in the end does not start", "Never : a e.eph", "stop add a=0", "0: sandbox#0 a term-a down Succeeded"),
    ("a start under way is given up", "Never : a e.eph", "e!later add stop a=0", "0: sandbox#0 a e term-a abort-e down Succeeded"),
    ("RestartAllContainers ends it and does not bring it back", "Never : a.Never.all42 e.eph", "add a=42 e=143", "0: sandbox#0 a e term-e reset a#1"),
    // --- sidecars
    ("sidecars start in line with inits", "Never : i.init s.side j.init a", "i=0 j=0", "0: sandbox#0 i s j a"),
    ("nothing passes a sidecar whose startup probe has not", "Always : s.side.startup j.init a", "+5", "0: sandbox#0 s"),
    ("the startup probe opens the gate", "Always : s.side.startup j.init a", "+5 s:started", "0: sandbox#0 s | 5: j"),
    ("and so does postStart", "Always : s.side.post j.init a", "+5 s:post", "0: sandbox#0 s | 5: j"),
    ("readiness of a sidecar is not waited for", "Always : s.side.ready j.init a", "+1", "0: sandbox#0 s j"),
    ("a sidecar restarts under Never, also before the apps", "Never : s.side j.init a", "s=0 s=0 j=0", "0: sandbox#0 s j s#1 a"),
    ("a sidecar in back-off holds nobody up whose gate it had opened", "Never : s.side j.init a", "s=1 s=1 j=0 +10", "0: sandbox#0 s j s#1 a | 10: s#2"),
    ("a sidecar without image blocks what follows", "Never : s.side t.side a", "s!pull +1", "0: sandbox#0 s"),
    ("a sidecar that cannot be run blocks what follows", "Never : s.side t.side a", "s!run +1", "0: sandbox#0 s s#1"),
    (
        "the pod ends with its apps; sidecars are stopped then",
        "Never : s.side a",
        "s=0 s=1 +10 a=0 s=143",
        "0: sandbox#0 s a s#1 | 10: s#2 term-s down Succeeded",
    ),
    ("a sidecar in back-off does not hold up the end", "Never : s.side a", "s=1 s=1 +1 a=0", "0: sandbox#0 s a s#1 | 1: down Succeeded"),
    ("a failed init stops the sidecars before it", "Never : s.side i.init a", "i=1 s=0", "0: sandbox#0 s i term-s down Failed"),
    ("a sidecar that outlives the grace is killed, and the pod succeeds", "Never : s.side a", "a=0 +30", "0: sandbox#0 s a term-s | 30: kill-s down Succeeded"),
    ("sidecars wait for the last app", "Never : s.side a b", "a=0 b=1 s=0", "0: sandbox#0 s a b term-s down Failed"),
    ("under Always the work is never done", "Always : s.side a", "a=0", "0: sandbox#0 s a a#1"),
    (
        "a sidecar whose startup probe fails is stopped and started again",
        "Never : s.side.startup.live a",
        "s:stuck +30",
        "0: sandbox#0 s term-s | 30: kill-s s#1",
    ),
    ("so is one whose liveness probe fails", "Never : s.side.live a", "s:unhealthy s=0", "0: sandbox#0 s a term-s s#1"),
    // --- restart
    ("Never and exit 0: Succeeded", "Never : a", "a=0", "0: sandbox#0 a down Succeeded"),
    ("Never and exit 3: Failed", "Never : a", "a=3", "0: sandbox#0 a down Failed"),
    ("OnFailure and exit 0: Succeeded", "OnFailure : a", "a=0", "0: sandbox#0 a down Succeeded"),
    ("OnFailure and exit 1: once more", "OnFailure : a", "a=1 a=0", "0: sandbox#0 a a#1 down Succeeded"),
    ("Always and exit 0: once more", "Always : a", "a=0", "0: sandbox#0 a a#1"),
    ("nothing is restarted once the pod stops", "Always : a b", "stop a=0", "0: sandbox#0 a b term-a term-b"),
    ("a classic sidecar keeps a Never pod alive", "Never : a b", "a=0 +100", "0: sandbox#0 a b"),
    ("OnFailure restarts only what failed", "OnFailure : a b", "a=0 b=1 b=0", "0: sandbox#0 a b b#1 down Succeeded"),
    ("a container's Always wins over the pod's Never", "Never : a.Always", "a=0", "0: sandbox#0 a a#1"),
    ("a container's Never wins over the pod's Always", "Always : a.Never b.Never", "a=1 b=0", "0: sandbox#0 a b down Failed"),
    ("a container's OnFailure wins over the pod's Always", "Always : a.OnFailure", "a=1 a=0", "0: sandbox#0 a a#1 down Succeeded"),
    ("a rule restarts on its exit code only", "Never : a.Never.on42", "a=42 a=1", "0: sandbox#0 a a#1 down Failed"),
    ("rules without an own policy do not count", "Never : a.on42", "a=42", "0: sandbox#0 a down Failed"),
    ("a rule restarts an init of a Never pod", "Never : i.init.Never.on42 a", "i=42 i=0 a=0", "0: sandbox#0 i i#1 a down Succeeded"),
    (
        "RestartAllContainers takes one victim after the other, then all from the first",
        "Never : i.init s.side a.Never.all42 b",
        "i=0 a=42 b=0 s=0",
        "0: sandbox#0 i s a b term-b term-s reset i#1",
    ),
    (
        "its victims have no grace but the floor",
        "Never : i.init s.side a.Never.all42 b",
        "i=0 a=42 +2 +2",
        "0: sandbox#0 i s a b term-b | 2: kill-b term-s | 4: kill-s reset i#1",
    ),
    ("a deletion overtakes RestartAllContainers", "Never : a.Never.all42 b", "a=42 stop b=0", "0: sandbox#0 a b term-b down Failed"),
    // --- back-off
    (
        "0, 10, 20, 40, 80, 160, 300, 300 seconds",
        "Always : a",
        "a=1 a=1 +10 a=1 +20 a=1 +40 a=1 +80 a=1 +160 a=1 +300 a=1 +300",
        "0: sandbox#0 a a#1 | 10: a#2 | 30: a#3 | 70: a#4 | 150: a#5 | 310: a#6 | 610: a#7 | 910: a#8",
    ),
    ("ten minutes do not reset it", "Always : a", "a=1 a=1 +10 +600 a=1", "0: sandbox#0 a a#1 | 10: a#2"),
    ("more than ten minutes do", "Always : a", "a=1 a=1 +10 +600.1 a=1 a=1 +10", "0: sandbox#0 a a#1 | 10: a#2 | 610.1: a#3 | 620.1: a#4"),
    ("a maximum below 10 seconds is the first wait as well", "Always max=5 : a", "a=1 a=1 +5 a=1 +5", "0: sandbox#0 a a#1 | 5: a#2 | 10: a#3"),
    ("a maximum above cuts the doubling", "Always max=15 : a", "a=1 a=1 +10 a=1 +15", "0: sandbox#0 a a#1 | 10: a#2 | 25: a#3"),
    ("a start that fails counts like an exit", "Always : a", "a!run +10 +20", "0: sandbox#0 a a#1 | 10: a#2 | 30: a#3"),
    (
        "two restarts after probe kills are immediate, the third waits",
        "Always : a.startup",
        "+3 a:stuck a=0 +3 a:stuck a=0 +3 a:stuck a=0 +10",
        "0: sandbox#0 a | 3: term-a a#1 | 6: term-a a#2 | 9: term-a | 19: a#3",
    ),
    (
        "a probe kill looks at the end before, so what lives longer than its wait is restarted at once",
        "Always : a.live",
        "+30 a:unhealthy a=0 +30 a:unhealthy a=0 +30 a:unhealthy a=0",
        "0: sandbox#0 a | 30: term-a a#1 | 60: term-a a#2 | 90: term-a a#3",
    ),
    ("OnFailure brings back what a probe killed, whatever its exit code", "OnFailure : a.live", "a:unhealthy a=0", "0: sandbox#0 a term-a a#1"),
    ("a resize that needs a restart restarts at once", "OnFailure : a b", "+5 a:resize a=0", "0: sandbox#0 a b | 5: term-a a#1"),
    ("a container that is deaf has its grace", "Always grace=5 : a", "a:resize +5", "0: sandbox#0 a term-a | 5: kill-a a#1"),
    ("a container that a crash keeps waiting is not resized", "Always : a", "a=1 a=1 a:resize +10", "0: sandbox#0 a a#1 | 10: a#2"),
    ("Never does not", "Never : a.live", "a:unhealthy a=0", "0: sandbox#0 a term-a down Succeeded"),
    ("a failed postStart restarts with back-off", "Always : a.post", "a:post! a=0 a:post! a=0 +10", "0: sandbox#0 a term-a a#1 term-a | 10: a#2"),
    ("a lost image has its own delays", "Always : a", "a=1 a!pull a=1 +60", "0: sandbox#0 a a#1 | 10: a#2 | 20: a#2 | 40: a#2"),
    // --- drain
    ("the stop signal at once, the kill when the grace is over", "Always grace=30 : a", "stop +30", "0: sandbox#0 a term-a | 30: kill-a down Failed"),
    ("what exits in time is not killed", "Always : a", "stop +1 a=0", "0: sandbox#0 a term-a | 1: down Succeeded"),
    ("apps stop all at once", "Always : a b", "stop a=143", "0: sandbox#0 a b term-a term-b"),
    ("grace 0 still leaves two seconds", "Always : a", "stop=0 +2", "0: sandbox#0 a term-a | 2: kill-a down Failed"),
    ("grace 1 too", "Always : a", "stop=1 +2", "0: sandbox#0 a term-a | 2: kill-a down Failed"),
    ("an eviction leaves a second, of which the floor makes two", "Always grace=30 : a", "evict +2", "0: sandbox#0 a term-a | 2: kill-a down Failed"),
    ("a deletion does not lengthen that", "Always grace=30 : a", "evict stop +2", "0: sandbox#0 a term-a | 2: kill-a down Failed"),
    ("an evicted pod has failed, however its containers end", "Always : a", "evict a=0", "0: sandbox#0 a term-a down Failed"),
    ("a second request shortens the grace", "Always : a", "stop=60 +5 stop=10 +10", "0: sandbox#0 a term-a | 15: kill-a down Failed"),
    ("but never lengthens it", "Always : a", "stop=10 +5 stop=60 +5", "0: sandbox#0 a term-a | 10: kill-a down Failed"),
    (
        "preStop first, and its time is taken from the grace",
        "Always : a.pre",
        "stop=30 +10 a:pre +20",
        "0: sandbox#0 a pre-a | 10: term-a | 30: kill-a down Failed",
    ),
    ("an endless preStop leaves the floor", "Always : a.pre", "stop=5 +5 +2", "0: sandbox#0 a pre-a | 5: term-a | 7: kill-a down Failed"),
    ("grace 0 skips preStop", "Always : a.pre", "stop=0 +2", "0: sandbox#0 a term-a | 2: kill-a down Failed"),
    ("a failed preStop changes nothing", "Always : a.pre", "stop=30 +3 a:pre!", "0: sandbox#0 a pre-a | 3: term-a"),
    ("what ended by itself has no preStop", "Always : a.pre", "a=1", "0: sandbox#0 a a#1"),
    (
        "sidecars stop from the last to the first, after the apps",
        "Always : s.side t.side a",
        "stop a=0 +1 t=0 +1 s=0",
        "0: sandbox#0 s t a term-a term-t | 1: term-s | 2: down Succeeded",
    ),
    (
        "every preStop begins at once, only the signal is ordered",
        "Always : s.side t.side.pre a",
        "stop +1 t:pre +1 a=0",
        "0: sandbox#0 s t a pre-t term-a | 2: term-t",
    ),
    (
        "three endless preStops end together, grace and two seconds later",
        "Never grace=30 : s.side.pre t.side.pre u.side.pre a",
        "a=0 +32",
        "0: sandbox#0 s t u a pre-s pre-t pre-u | 30: term-s term-t term-u | 32: kill-s kill-t kill-u down Succeeded",
    ),
    (
        "an app that overruns costs the sidecars their order",
        "Always : s.side t.side u.side a",
        "stop=5 +5 +1 t=0 +1",
        "0: sandbox#0 s t u a term-a | 5: term-s term-t term-u kill-a | 7: kill-s kill-u down Failed",
    ),
    ("an init is stopped at once", "Always : i.init a", "stop i=143", "0: sandbox#0 i term-i down Failed"),
    (
        "nothing waits for what never started",
        "Always : s.side.startup t.side.startup a",
        "s:started stop=180 t=0 s=0",
        "0: sandbox#0 s t term-t term-s down Failed",
    ),
    ("a pod in back-off ends at once when it is asked to", "Always : a", "a=1 a=1 +3 stop", "0: sandbox#0 a a#1 | 3: down Failed"),
    ("so does one without image", "Always : a", "a!pull +3 stop", "0: sandbox#0 a | 3: down Failed"),
    ("the deadline stops the pod and fails it", "Always deadline=5 : a", "+5 a=143", "0: sandbox#0 a | 5: term-a down Failed"),
    ("also during its inits", "Always deadline=5 : i.init a", "+5 i=0", "0: sandbox#0 i | 5: term-i down Failed"),
    ("also in back-off", "Always deadline=5 : a", "a=1 a=1 +5", "0: sandbox#0 a a#1 | 5: down Failed"),
    ("a deletion before the deadline wins", "Always deadline=5 : a", "+4 stop=30 +2 a=0", "0: sandbox#0 a | 4: term-a | 6: down Succeeded"),
    ("the deadline gives the pod's grace", "Always deadline=5 grace=1 : a", "+9", "0: sandbox#0 a | 5: term-a | 7: kill-a down Failed"),
    ("a probe's own grace may be longer than the pod's", "Always : a.live60", "a:unhealthy +60", "0: sandbox#0 a term-a | 60: kill-a a#1"),
    ("but a deletion shortens it", "Always : a.live60", "a:unhealthy +10 stop +30", "0: sandbox#0 a term-a | 40: kill-a down Failed"),
    ("a probe kill leaves the others alone", "Always : a.live60 b", "a:unhealthy +10 a=0", "0: sandbox#0 a b term-a | 10: a#1"),
    ("after a failed postStart preStop runs", "Always grace=4 : a.post.pre", "a:post! +4 +2", "0: sandbox#0 a pre-a | 4: term-a | 6: kill-a a#1"),
    // --- sandbox
    ("nothing starts without a sandbox", "Always : a", "nosandbox", "0: sandbox#0"),
    ("a sandbox that fails is tried again every 10 seconds", "Always : a", "nosandbox +10 sandbox +10", "0: sandbox#0 | 10: sandbox#0 | 20: sandbox#0 a"),
    ("a lost sandbox begins again at the first init", "Always : i.init a", "i=0 lost a=137 i=0", "0: sandbox#0 i a term-a down sandbox#1 i#1 a#1"),
    ("its containers stop in order", "Always : s.side a", "lost a=0 s=0", "0: sandbox#0 s a term-a term-s down sandbox#1 s#1 a#1"),
    ("Never gets no second sandbox", "Never : a", "lost a=137", "0: sandbox#0 a term-a down Failed"),
    ("not even in its inits", "Never : i.init a", "lost i=137", "0: sandbox#0 i term-i down Failed"),
    ("unless no container was ever made", "Never : a", "a!pull lost +1", "0: sandbox#0 a down sandbox#1"),
    ("OnFailure does not start again what exited 0", "OnFailure : i.init a b", "i=0 a=0 lost b=137 i=0", "0: sandbox#0 i a b term-b down sandbox#1 i#1 b#1"),
    ("and ends if nothing is left", "OnFailure : a", "lost a=0", "0: sandbox#0 a term-a down Succeeded"),
    ("the pod's grace counts", "Always : a", "lost +30", "0: sandbox#0 a term-a | 30: kill-a down sandbox#1 a#1"),
    ("a deletion meanwhile ends the pod", "Always : a", "lost stop a=0", "0: sandbox#0 a term-a down Succeeded"),
    ("a sandbox that dies while the pod stops is not made again", "Always : a", "stop lost a=0", "0: sandbox#0 a term-a down Succeeded"),
    ("a start under way is given up and made again", "Always : a", "a!later lost", "0: sandbox#0 a abort-a down sandbox#1 a"),
];

/// What is shown in the end.
const SHOWS: &[Row] = &[
    // --- phase
    ("a pod that pulls is Pending", "Always : a", "a!later", "Pending S+ I+ R-ContainersNotReady[a] | a=ContainerCreating"),
    (
        "and waits with another reason if it has inits",
        "Always : i.init a",
        "i!later",
        "Pending S+ I-ContainersNotInitialized[i] R-ContainersNotReady[a] | i=PodInitializing a=PodInitializing",
    ),
    ("a running app is ready without a probe", "Always : a b", "+1", "Running S+ I+ R+ | a=running*+ b=running*+"),
    (
        "a running init is not ready, what follows initializes",
        "Always : i.init j.init a",
        "+1",
        "Pending S+ I-ContainersNotInitialized[i j] R-ContainersNotReady[a] | i=running* j=PodInitializing a=PodInitializing",
    ),
    (
        "an init that is done is ready",
        "Always : i.init j.init a",
        "i=0",
        "Pending S+ I-ContainersNotInitialized[j] R-ContainersNotReady[a] | i=Completed:0+ j=running* a=PodInitializing",
    ),
    (
        "a failed init of a Never pod",
        "Never : i.init j.init a",
        "i=0 j=1",
        "Failed S- I-ContainersNotInitialized[j] R-PodFailed | i=Completed:0+ j=Error:1 a=PodInitializing",
    ),
    (
        "the terminal phase waits for the sidecar",
        "Never : i.init s.side j.init a",
        "i=0 j=1",
        "Pending S+ I-ContainersNotInitialized[j] R-PodFailed | i=Completed:0+ s=running*+ j=Error:1 a=PodInitializing",
    ),
    (
        "an init that is rerun",
        "Always : i.init j.init a",
        "i=1",
        "Pending S+ I-ContainersNotInitialized[i j] R-ContainersNotReady[a] | i=running*<Error:1#1 j=PodInitializing a=PodInitializing",
    ),
    (
        "an init in back-off",
        "Always : i.init j.init a",
        "i=1 i=1",
        "Pending S+ I-ContainersNotInitialized[i j] R-ContainersNotReady[a] | i=CrashLoopBackOff<Error:1#1 j=PodInitializing a=PodInitializing",
    ),
    (
        "a sidecar that runs and has not started",
        "Never : s.side.startup a",
        "+1",
        "Pending S+ I-ContainersNotInitialized[s] R-ContainersNotReady[s a] | s=running a=PodInitializing",
    ),
    ("and that has", "Never : s.side.startup a", "s:started", "Running S+ I+ R+ | s=running*+ a=running*+"),
    ("one neighbour of two has ended: Running, not ready", "Never : a b", "a=1", "Running S+ I+ R-ContainersNotReady[a] | a=Error:1 b=running*+"),
    ("Succeeded", "Never : a b", "a=0 b=0", "Succeeded S- I+PodCompleted R-PodCompleted | a=Completed:0 b=Completed:0"),
    ("Failed", "Never : a", "a=3", "Failed S- I+ R-PodFailed | a=Error:3"),
    ("OOMKilled", "Never : a", "a=oom", "Failed S- I+ R-PodFailed | a=OOMKilled:137"),
    ("the work is done, the sidecar still runs", "Never : s.side a", "a=0", "Running S+ I+ R-ContainersNotReady[a] | s=running*+ a=Completed:0"),
    ("a sidecar's exit code does not matter", "Never : s.side a", "a=0 s=7", "Succeeded S- I+PodCompleted R-PodCompleted | s=Error:7 a=Completed:0"),
    ("OnFailure: one is done, one is back", "OnFailure : a b", "a=0 b=1", "Running S+ I+ R-ContainersNotReady[a] | a=Completed:0 b=running*+<Error:1#1"),
    ("containers are told by name, inits in order", "Always : z.side y.side b a", "+1", "Running S+ I+ R+ | z=running*+ y=running*+ a=running*+ b=running*+"),
    // --- ready
    ("readiness is asked of those with a probe", "Always : s.side.ready a.ready", "s:ready", "Running S+ I+ R-ContainersNotReady[a] | s=running*+ a=running*"),
    ("all are ready", "Always : s.side.ready a.ready", "s:ready a:ready", "Running S+ I+ R+ | s=running*+ a=running*+"),
    ("one is not any more", "Always : s.side.ready a.ready", "s:ready a:ready a:unready", "Running S+ I+ R-ContainersNotReady[a] | s=running*+ a=running*"),
    ("no readiness before the startup probe", "Always : a.startup.ready", "a:ready", "Running S+ I+ R-ContainersNotReady[a] | a=running"),
    ("a readiness gate that nobody has set", "Always gate=x : a", "+1", "Running S+ I+ R-ReadinessGatesNotReady | a=running*+"),
    // --- reasons
    ("a crash loop", "Always : a", "a=1 a=1", "Running S+ I+ R-ContainersNotReady[a] | a=CrashLoopBackOff<Error:1#1"),
    ("also after exit 0", "Always : a", "a=0 a=0", "Running S+ I+ R-ContainersNotReady[a] | a=CrashLoopBackOff<Completed:0#1"),
    ("the restart has the exit before it as last state", "Always : a", "a=1 a=1 +10", "Running S+ I+ R+ | a=running*+<Error:1#2"),
    ("a failed pull", "Always : a b", "a!pull", "Pending S+ I+ R-ContainersNotReady[a] | a=ErrImagePull b=running*+"),
    ("soon shows its back-off", "Always : a b", "a!pull +2", "Pending S+ I+ R-ContainersNotReady[a] | a=ImagePullBackOff b=running*+"),
    ("what may not be pulled has no back-off", "Always : a", "a!never +2", "Pending S+ I+ R-ContainersNotReady[a] | a=ErrImageNeverPull"),
    ("missing configuration", "Always : a", "a!config +2", "Pending S+ I+ R-ContainersNotReady[a] | a=CreateContainerConfigError"),
    ("a pull after a crash keeps the crash", "Always : a", "a=1 a!pull a=1 +15", "Running S+ I+ R-ContainersNotReady[a] | a=ImagePullBackOff<Error:1#1"),
    (
        "a missing program: Running, although nothing ever ran",
        "Always : a",
        "a!run",
        "Running S+ I+ R-ContainersNotReady[a] | a=RunContainerError<StartError:128#1",
    ),
    ("in its back-off", "Always : a", "a!run +2", "Running S+ I+ R-ContainersNotReady[a] | a=CrashLoopBackOff<StartError:128#1"),
    ("under Never it never waits", "Never : a", "a!run", "Failed S- I+ R-PodFailed | a=StartError:128"),
    (
        "as an init it keeps the pod Pending",
        "Always : i.init a",
        "i!run",
        "Pending S+ I-ContainersNotInitialized[i] R-ContainersNotReady[a] | i=RunContainerError<StartError:128#1 a=PodInitializing",
    ),
    ("while postStart runs nothing runs", "Always : a.post", "+1", "Pending S+ I+ R-ContainersNotReady[a] | a=ContainerCreating"),
    ("a failed postStart", "Always : a.post", "a:post! a=0 a:post! a=0", "Running S+ I+ R-ContainersNotReady[a] | a=PostStartHookError<Completed:0#1"),
    ("under Never the exit code decides", "Never : a.post", "a:post! a=0", "Succeeded S- I+PodCompleted R-PodCompleted | a=Completed:0"),
    (
        "a program that ends before its hook",
        "Always : a.post",
        "a:post! a=0 a=0 a:post!",
        "Running S+ I+ R-ContainersNotReady[a] | a=PostStartHookError<Completed:0#1",
    ),
    // --- the end
    ("deletion shows nothing before the end", "Always : a", "stop", "Running S+ I+ R+ | a=running*+"),
    ("deletion in back-off follows the last exit, bad", "Always : a", "a=1 a=1 +1 stop", "Failed S- I+ R-PodFailed | a=Error:1<Error:1#1"),
    ("or good", "Always : a", "a=0 a=0 +1 stop", "Succeeded S- I+PodCompleted R-PodCompleted | a=Completed:0<Completed:0#1"),
    ("deletion of what was never made", "Always : a", "a!config +2 stop", "Failed S- I+ R-ContainersNotReady[a] | a=ContainerStatusUnknown:137"),
    (
        "with a neighbour that was",
        "Always : a b",
        "a!config +2 stop b=0",
        "Failed S- I+ R-ContainersNotReady[a b] | a=ContainerStatusUnknown:137 b=Completed:0",
    ),
    ("deletion of a failed start", "Always : a", "a!run +2 stop", "Failed S- I+ R-PodFailed | a=StartError:128<StartError:128#1"),
    (
        "deletion behind an init without image",
        "Always : i.init a",
        "i!never stop",
        "Failed S- I-ContainersNotInitialized[i] R-ContainersNotReady[a] | i=ContainerStatusUnknown:137 a=PodInitializing",
    ),
    (
        "deletion behind a sidecar without image",
        "Always : s.side i.init a",
        "s!never stop",
        "Failed S- I-ContainersNotInitialized[s i] R-ContainersNotReady[s a] | s=ContainerStatusUnknown:137 i=PodInitializing a=PodInitializing",
    ),
    (
        "deletion while the gate is closed",
        "Always : s.side.startup t.side a",
        "stop s=0",
        "Failed S- I-ContainersNotInitialized[s t] R-ContainersNotReady[s t a] | s=Completed:0 t=PodInitializing a=PodInitializing",
    ),
    (
        "a sidecar in back-off when the work is done is lost",
        "Never : s.side a",
        "s=1 s=1 +1 a=0",
        "Succeeded S- I+PodCompleted R-PodCompleted | s=ContainerStatusUnknown:137<Error:1#1 a=Completed:0",
    ),
    (
        "when the pod is deleted it is not",
        "Never : s.side a",
        "s=1 s=1 +1 stop a=0",
        "Succeeded S- I+PodCompleted R-PodCompleted | s=Error:1<Error:1#1 a=Completed:0",
    ),
    ("while the deadline stops containers only readiness turns", "Always deadline=5 : a", "+5", "Running S+ I+ R-PodFailed | a=running*+"),
    ("the reason comes with the phase", "Always deadline=5 : a", "+5 a=0", "Failed DeadlineExceeded S- I+ R-PodFailed | a=Completed:0"),
    ("the deadline in an init", "Never deadline=5 : i.init a", "+5", "Pending S+ I-ContainersNotInitialized[i] R-PodFailed | i=running* a=PodInitializing"),
    ("an init that exits 0 then", "Never deadline=5 : i.init a", "+5 i=0", "Failed DeadlineExceeded S- I+ R-PodFailed | i=Completed:0+ a=PodInitializing"),
    ("the deadline in back-off", "Always deadline=5 : a", "a=1 a=1 +5", "Failed DeadlineExceeded S- I+ R-PodFailed | a=ContainerStatusUnknown:137<Error:1#1"),
    ("while an eviction stops containers only readiness turns", "Always : a", "evict", "Running S+ I+ R-PodFailed | a=running*+"),
    ("its reason comes with the phase", "Always : a", "evict a=143", "Failed Evicted S- I+ R-PodFailed | a=Error:143"),
    ("an eviction during a deletion is none", "Always : a", "stop +1 evict a=0", "Succeeded S- I+PodCompleted R-PodCompleted | a=Completed:0"),
    // --- ephemeral containers
    ("an ephemeral container counts for nothing", "Always : a e.eph", "add", "Running S+ I+ R+ | a=running*+ e=running"),
    ("nor when it has failed", "Always : a e.eph", "add e=3", "Running S+ I+ R+ | a=running*+ e=Error:3"),
    ("nor when it waits", "Always : a e.eph", "e!config add", "Running S+ I+ R+ | a=running*+ e=CreateContainerConfigError"),
    (
        "nor before the others run",
        "Always : i.init a e.eph",
        "add",
        "Pending S+ I-ContainersNotInitialized[i] R-ContainersNotReady[a] | i=running* a=PodInitializing e=running",
    ),
    ("a new sandbox does not hide its end", "Always : a e.eph", "add lost a=137 e=137", "Running S+ I+ R+ | a=running*+<Error:137#1 e=Error:137"),
    // --- restart all
    (
        "the cause has exited, the victims run",
        "Never : i.init s.side a.Never.all42 b",
        "i=0 a=42",
        "Running S+ I+ R-ContainersNotReady[a] | i=Completed:0+ s=running*+ a=Error:42 b=running*+",
    ),
    (
        "all are removed",
        "Never : i.init s.side a.Never.all42 b",
        "i=0 a=42 b=0 i!later s=0",
        "Running S+ I+ R-ContainersNotReady[s a b] | i=RestartingAllContainers<RestartingAllContainers:137#1 s=RestartingAllContainers<RestartingAllContainers:137#1 a=RestartingAllContainers<RestartingAllContainers:137#1 b=RestartingAllContainers<RestartingAllContainers:137#1",
    ),
    (
        "the inits run again, and Initialized stays",
        "Never : i.init s.side a.Never.all42 b",
        "i=0 a=42 b=0 s=0",
        "Pending S+ I+ R-ContainersNotReady[s a b] | i=running*<RestartingAllContainers:137#1 s=PodInitializing<RestartingAllContainers:137#1 a=PodInitializing<RestartingAllContainers:137#1 b=PodInitializing<RestartingAllContainers:137#1",
    ),
    (
        "all are back",
        "Never : i.init s.side a.Never.all42 b",
        "i=0 a=42 b=0 s=0 i=0",
        "Running S+ I+ R+ | i=Completed:0+<RestartingAllContainers:137#1 s=running*+<RestartingAllContainers:137#1 a=running*+<RestartingAllContainers:137#1 b=running*+<RestartingAllContainers:137#1",
    ),
    // --- lost sandbox
    ("a pod that gets no sandbox", "Always : a", "nosandbox", "Pending S- I+ R-ContainersNotReady[a] | a=ContainerCreating"),
    ("a lost sandbox", "Always : i.init s.side a", "i=0 lost", "Running S- I+ R+ | i=Completed:0+ s=running*+ a=running*+"),
    (
        "the inits run again",
        "Always : i.init s.side a",
        "i=0 lost a=0 s=0",
        "Pending S+ I+ R-ContainersNotReady[s a] | i=running*<Completed:0#1 s=PodInitializing<Completed:0 a=Completed:0",
    ),
    (
        "and all are back",
        "Always : i.init s.side a",
        "i=0 lost a=0 s=0 i=0",
        "Running S+ I+ R+ | i=Completed:0+<Completed:0#1 s=running*+<Completed:0#1 a=running*+<Completed:0#1",
    ),
    ("Never ends", "Never : i.init a", "i=0 lost a=137", "Failed S- I+ R-PodFailed | i=Completed:0+ a=Error:137"),
];

fn every(rows: &[Row], draw: impl Fn(&World) -> String) {
    let faults: Vec<String> = rows
        .iter()
        .filter_map(|(sentence, notation, script, expected)| {
            let spec = pod(notation);
            let mut world = World::new(&spec, Answer::Spawned);
            world.play(script);
            let got = draw(&world);
            (got != *expected).then(|| format!("{sentence}: {notation} >> {script}\n  expected {expected}\n  got      {got}"))
        })
        .collect();
    assert!(faults.is_empty(), "{} of {} rules:\n{}", faults.len(), rows.len(), faults.join("\n"));
}

#[test]
fn the_engine_does_what_each_rule_says() {
    every(DEEDS, |world| world.story());
}

#[test]
fn the_status_shows_what_each_rule_says() {
    every(SHOWS, |world| picture(world.status.as_ref().expect("a status after every word")));
}

fn played<'a>(spec: &'a Spec, script: &str) -> World<'a> {
    let mut world = World::new(spec, Answer::Spawned);
    world.play(script);
    world
}

fn told(world: &World, wanted: Notice) -> Vec<String> {
    let told = world.deeds.iter().filter_map(|(_, action)| match action {
        Action::Tell { notice, message, .. } if *notice == wanted => Some(message.clone()),
        _ => None,
    });
    told.collect()
}

#[test]
fn killing_is_told_once_for_each_container_and_in_the_words_of_its_cause() {
    let rows: &[(&str, &str, &[&str])] = &[
        ("Always : s.side a", "stop a=0 s=0", &["Stopping container s", "Stopping container a"]),
        ("Always : a.live", "a:unhealthy", &["Container a failed liveness probe, will be restarted"]),
        ("Always : a.startup", "a:stuck", &["Container a failed startup probe, will be restarted"]),
        ("Never : a.live", "a:unhealthy", &["Stopping container a"]),
        ("Never : s.side.live a", "s:unhealthy", &["Init container s failed liveness probe"]),
        ("Always : a.post", "a:post!", &["FailedPostStartHook"]),
        ("Always : a", "a:resize", &["Container a resize requires restart"]),
        ("Never : a.Never.all42 b", "a=42", &["killing"]),
        ("Always : a.live60", "a:unhealthy +3 stop", &["Container a failed liveness probe, will be restarted"]),
    ];
    for (notation, script, expected) in rows {
        assert_eq!(told(&played(&pod(notation), script), Notice::Killing), *expected, "{notation} >> {script}");
    }
}

#[test]
fn back_off_is_told_once_for_each_wait_and_never_without_one() {
    let spec = pod("Always : a");
    let message = "Back-off restarting failed container a in pod p_ns(UID)".to_owned();
    assert_eq!(told(&played(&spec, "a=1"), Notice::BackOff), [] as [String; 0]);
    assert_eq!(told(&played(&spec, "a=1 a=1 +1 +1 +8 a=1 +3"), Notice::BackOff), [message.clone(), message]);
}

#[test]
fn the_messages_of_a_wait_are_the_kubelets() {
    let waiting = |notation: &str, script: &str| {
        let spec = pod(notation);
        let status = played(&spec, script).status.unwrap();
        let state = status.container_statuses.unwrap()[0].state.clone().unwrap();
        state.waiting.unwrap().message.unwrap()
    };
    assert_eq!(waiting("Always : a", "a=1 a=1 +10 a=1 +1"), "back-off 20s restarting failed container=a pod=p_ns(UID)");
    assert_eq!(waiting("Always : a", "a=1 a=1 +10 a=1 +20 a=1 +40 a=1"), "back-off 1m20s restarting failed container=a pod=p_ns(UID)");
    assert_eq!(waiting("Always : a", "a!pull +3"), "Back-off pulling image \"busybox:1.36\": ErrImagePull: not found");
    assert_eq!(waiting("Always : a", "a!config"), "configmap \"x\" not found");
}

#[test]
fn what_may_have_come_is_looked_for_at_once_and_an_image_is_not() {
    for (script, due) in [("a!config +1", true), ("a!never +1", false), ("a!pull +1", false)] {
        let spec = pod("Never : a");
        let mut world = played(&spec, script);
        let starts = |world: &World| matches!(minipod::lifecycle::decide(&spec, &world.facts, world.now).0.as_slice(), [Action::Start { .. }]);
        assert!(!starts(&world), "{script}: it waits");
        minipod::lifecycle::observe(&spec, &mut world.facts, Event::LookAgain, At { mono: world.now, wall: 0 });
        assert_eq!(starts(&world), due, "{script}");
    }
}

#[test]
fn conditions_come_in_upstreams_order_and_say_upstreams_words() {
    let spec = pod("Never : i.init s.side a.Never.all42 b");
    let status = played(&spec, "i=0 a=42").status.unwrap();
    let names: Vec<&str> = status.conditions.iter().flatten().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(names, ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled", "AllContainersRestarting"]);
    let restarting = find(&status, "AllContainersRestarting").unwrap();
    assert_eq!((restarting.status.as_str(), restarting.reason.as_deref()), ("True", Some("RestartAllContainersStarted")));
    assert_eq!(restarting.message.as_deref(), Some("container exited with restart policy rule"));
    assert_eq!(find(&status, "Ready").unwrap().message.as_deref(), Some("containers with unready status: [a]"));
    let status = played(&spec, "+1").status.unwrap();
    assert_eq!(find(&status, "Initialized").unwrap().message.as_deref(), Some("containers with incomplete status: [i s]"));
    assert_eq!(find(&status, "AllContainersRestarting").unwrap().status, "False");
}

#[test]
fn the_deadline_is_told_in_the_status_of_the_ended_pod() {
    let spec = pod("Always deadline=5 : a");
    let status = played(&spec, "+5 a=0").status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(status.message.as_deref(), Some("Pod was active on the node longer than the specified deadline"));
}

#[test]
fn what_the_engine_knows_nothing_of_stays_in_the_status() {
    let spec = pod("Always : a");
    let mut world = World::new(&spec, Answer::Spawned);
    world.settle();
    let status = world.status.as_mut().unwrap();
    status.host_ip = Some("192.0.2.7".into());
    status.qos_class = Some("Burstable".into());
    world.word("+1");
    let status = world.status.unwrap();
    assert_eq!((status.host_ip.as_deref(), status.qos_class.as_deref(), status.pod_ip.as_deref()), (Some("192.0.2.7"), Some("Burstable"), Some("10.88.0.2")));
}

#[test]
fn a_program_that_never_ran_started_at_the_epoch() {
    let spec = pod("Never : a");
    let status = played(&spec, "a!run").status.unwrap();
    let end = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((end.exit_code, end.started_at.unwrap().0.as_second()), (128, 0));
}

#[test]
fn a_pod_of_the_api_becomes_a_spec() {
    let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "generation": 3},
        "spec": {
            "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 7, "activeDeadlineSeconds": 60,
            "initContainers": [
                {"name": "i", "image": "x"},
                {"name": "s", "image": "x", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}, "terminationGracePeriodSeconds": 4}},
            ],
            "containers": [{
                "name": "a", "image": "y", "restartPolicy": "Never", "readinessProbe": {"exec": {"command": ["x"]}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
                "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0, 1]}}],
            }],
        },
    }))
    .unwrap();
    let spec = Spec::of(&pod);
    use minipod::lifecycle::{C, Policy, ProbeSpec, Role, Rule};
    assert_eq!((spec.grace_seconds, spec.active_deadline_seconds, spec.restart_policy), (7, Some(60), Policy::OnFailure));
    assert_eq!(spec.all().map(|c| spec.role(c)).collect::<Vec<_>>(), [Role::Init, Role::Sidecar, Role::App]);
    assert_eq!(spec.container(C(1)).startup, Some(ProbeSpec { grace_seconds: Some(4), ..ProbeSpec::default() }));
    let app = spec.container(C(2));
    assert_eq!((app.pre_stop, app.post_start, app.readiness.is_some(), app.restart_policy), (true, false, true, Some(Policy::Never)));
    assert_eq!(app.restart_rules, [Rule { all_containers: false, not_in: true, codes: vec![0, 1] }]);
    assert_eq!((spec.to_string().as_str(), spec.find("s"), spec.generation), ("web_shop(u1)", Some(C(1)), Some(3)));
}

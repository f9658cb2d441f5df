//! Acceptance cases, black box: the built program, real images, a real kernel.
//!
//! ```text
//!  case ──► World: temp root + cgroup name + mount and network namespace of its own
//!             │ apply, get, logs, exec, delete …       (the program, as a user calls it)
//!             │ /story: one file that every container appends to   (order is judged from it)
//!             ▼
//!           nothing left: process, mount, cgroup, veth, route, rule, lease, pod, log
//! ```
//!
//! The names of the tests are the ids of the acceptance list. A case names what it needs by word; on a machine that lacks
//! it the case shows as ignored with that word, and with `MINIPOD_REQUIRE=all` it fails, so that no check turns green by
//! skipping.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `MINIPOD` | the program under test; else the one that cargo built beside this test |
//! | `MINIPOD_CASES_IMAGES` | the image store to lend to every world; else `target/cases/root/lib/images` |
//! | `MINIPOD_REQUIRE` | `all`: an unmet need is a failure |
//! | `MINIPOD_CASES` | ids of the cases to run, or their beginning (`IMG`), with spaces between; else all |
//! | `MINIPOD_CASES_REGISTRY` | Debian's docker-registry, as `scripts/registry` fetches it |
//! | `MINIPOD_SLOW` | factor on every deadline, for emulated machines (1) |

// What is tested is a program: these tests start it as a user's shell would.
#![allow(clippy::disallowed_methods)]

mod archives;
mod describe;
mod disk;
mod ending;
mod environment;
mod ephemeral;
mod escapes;
mod examples;
mod faults;
mod foreground;
mod hooks;
mod host_ports;
#[path = "../image_maker/mod.rs"]
mod image_maker;
mod inits;
mod inside;
mod jobs;
mod kinds;
mod layers;
mod left;
mod limits;
mod logs;
mod names;
mod needs;
mod objects;
mod pod;
mod probes;
mod process;
mod pull;
mod registries;
mod registry;
mod resize;
mod restart;
mod security;
mod shared;
mod sidecars;
mod status;
mod store;
mod top;
mod users;
mod validation;
mod verbs;
mod volumes;
mod words;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use world::World;

/// One acceptance case.
pub struct Case {
    /// The id of the acceptance list, and the name of the test.
    pub id: &'static str,
    /// What the machine must have beyond [`needs::BASE`], by word.
    pub needs: &'static [&'static str],
    pub run: fn(&World),
}

/// A case that any machine can run that can run pods at all.
pub const fn case(id: &'static str, run: fn(&World)) -> Case {
    Case { id, needs: &[], run }
}

thread_local! {
    /// Where and why the case on this thread gave up; the default hook would mix it into the list of results.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        let what = info.payload_as_str().unwrap_or("panicked");
        let at = info.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
        PANIC.with_borrow_mut(|said| *said = format!("{what}{at}"));
    }));
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let cases = [
        restart::LONG_CASES,
        inits::CASES,
        sidecars::CASES,
        shared::CASES,
        host_ports::CASES,
        restart::CASES,
        status::CASES,
        describe::CASES,
        ending::CASES,
        hooks::CASES,
        probes::CASES,
        foreground::CASES,
        logs::CASES,
        inside::CASES,
        verbs::CASES,
        ephemeral::CASES,
        volumes::CASES,
        environment::CASES,
        names::CASES,
        objects::CASES,
        kinds::CASES,
        security::CASES,
        users::CASES,
        escapes::CASES,
        limits::CASES,
        resize::CASES,
        top::CASES,
        faults::CASES,
        words::CASES,
        jobs::CASES,
        validation::CASES,
        examples::CASES,
        pull::CASES,
        registries::CASES,
        layers::CASES,
        archives::CASES,
        store::CASES,
        disk::CASES,
    ];
    let wanted = std::env::var("MINIPOD_CASES").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split_whitespace().collect();
    // A word without a number stands for a whole list.
    let named = |id: &str, word: &str| id == word || id.strip_prefix(word).is_some_and(|rest| rest.starts_with('-'));
    if let Some(unknown) = wanted.iter().find(|word| !cases.iter().any(|list| list.iter().any(|case| named(case.id, word)))) {
        eprintln!("no such case: {unknown}");
        return ExitCode::from(2);
    }
    let chosen = cases.into_iter().flatten().filter(|case| wanted.is_empty() || wanted.iter().any(|word| named(case.id, word)));
    // The long ones begin before all others, and are asked after them: they wait, so they hold up nobody.
    let is_long = |case: &&Case| restart::LONG_CASES.iter().any(|long| long.id == case.id);
    let (long, short): (Vec<_>, Vec<_>) = chosen.partition(is_long);
    let all_run = !arguments.list && arguments.filter.is_none() && arguments.skip.is_empty();
    let begun = long.into_iter().map(|case| {
        let early = all_run.then(|| std::thread::spawn(|| judge(case)));
        Trial::ignorable_test(case.id, move || match early {
            Some(early) => early.join().unwrap_or_else(|_| Err(Failed::from("its thread died"))),
            None => judge(case),
        })
    });
    let begun: Vec<Trial> = begun.collect();
    let trials = short.into_iter().map(|case| Trial::ignorable_test(case.id, || judge(case))).chain(begun).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs one case in a world of its own, then demands that the world is as empty as it was.
fn judge(case: &'static Case) -> Result<Completion, Failed> {
    if let Some(word) = needs::BASE.iter().chain(case.needs).find(|need| !needs::met(need)) {
        return match std::env::var("MINIPOD_REQUIRE").as_deref() {
            Ok("all") if !needs::OF_THE_VM.contains(word) => Err(Failed::from(format!("needs {word}"))),
            _ => Ok(Completion::ignored_with(word)),
        };
    }
    let world = World::new(case.id).map_err(|error| Failed::from(format!("making the world: {error}")))?;
    let ran = catch_unwind(AssertUnwindSafe(|| {
        (case.run)(&world);
        world.delete_all();
        world.assert_nothing_left();
    }));
    match ran {
        Ok(()) => Ok(Completion::Completed),
        Err(_) => {
            let why = PANIC.with_borrow(Clone::clone);
            let transcript = world.transcript();
            world.sweep();
            Err(Failed::from(format!("{why}\n{transcript}")))
        }
    }
}

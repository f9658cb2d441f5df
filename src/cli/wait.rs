//! `minipod wait`: until an object is as it should be, and no longer than that can still come.
//!
//! ```text
//! watch (inotify) ──▶ read what is there ──▶ judge each: met ─▶ say so     never ─▶ say why, exit code 3
//!       ▲                                       │ not yet
//!       └───────────── wait ◀───────────────────┘          --timeout over ─▶ say so, exit code 1
//! ```
//!
//! What is judged is the object as JSON (`what`). So what is asked for may be of any kind of object; only where objects are found, and when
//! nothing of one can change any more, is a matter of the kind (`subject`).

mod subject;
mod what;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use self::subject::Subject;
use self::what::{For, Verdict};
use super::get::{Kind, Refusal, Selector};
use super::{duration, need_root};
use crate::pod::places::Places;
use crate::sys::notify::Notify;

/// Wait until pods or jobs are ready, complete, gone, made, or as a JSONPath says
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod wait pod/web --for=condition=Ready
  minipod wait web db --for=condition=Ready --timeout=2m     both of them
  minipod wait pods --all --for=delete
  minipod wait pods -l app=shop --for=jsonpath='{.status.phase}'=Succeeded --timeout=-1s
  minipod wait pod/web --for=create
  minipod wait job/pi --for=condition=Complete --timeout=10m

Exit codes: 0 it has come; 1 the time was over, or there is no such object; 3 it can no longer come,
for example the condition Ready of a pod that has ended, or Complete of a job that has failed.")]
pub struct WaitArgs {
    /// `pod NAME...`, `pod/NAME...`, the same with `job`, or just the names of pods; `pods` or `jobs` with --all or -l
    #[arg(value_name = "OBJECT", required = true)]
    what: Vec<String>,
    /// What to wait for: condition=NAME[=VALUE] (True), delete, create, or jsonpath='{PATH}'[=VALUE]
    #[arg(long = "for", value_name = "WHAT")]
    what_for: String,
    /// How long: 30s, 2m, 1h30m; 0 looks once, less than 0 is a week
    #[arg(long, value_name = "DURATION", default_value = "30s", allow_hyphen_values = true)]
    timeout: String,
    /// All of the namespace
    #[arg(long, conflicts_with = "selector")]
    all: bool,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// The namespace of the objects
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
}

/// The exit code when what is waited for can no longer come.
pub const NEVER: u8 = 3;

impl WaitArgs {
    /// kubectl's: 0 is one look, a negative time is a week.
    fn patience(&self) -> Result<Duration, Refusal> {
        let given = duration::parse(&self.timeout).ok_or_else(|| Refusal::client(format!("invalid argument {:?} for \"--timeout\" flag", self.timeout)))?;
        Ok(Duration::try_from(given).unwrap_or(Duration::from_secs(7 * 24 * 3600)))
    }

    /// What the words say: of which kind, and the names; none: all that fit.
    fn named(&self) -> Result<(Subject, Vec<String>), Refusal> {
        let (first, rest) = self.what.split_first().ok_or_else(|| Refusal::client("you must say what to wait for"))?;
        let of = first.split_once('/').map(|(word, _)| word);
        let (subject, names) = match (of, Kind::of(first)) {
            (Some(word), _) => (Subject::of(word)?, self.what.as_slice()),
            (None, Some(_)) => (Subject::of(first)?, rest),
            (None, None) => (Subject::Pod, self.what.as_slice()),
        };
        let names = names.iter().map(|word| match word.split_once('/') {
            None if of.is_none() => Ok(word.clone()),
            Some((of, name)) if Kind::of(of) == Some(subject.kind()) && !name.is_empty() => Ok(name.to_owned()),
            _ => Err(Refusal::client(format!("there is no {word:?} here: name a pod as pod/NAME and a job as job/NAME, of one kind only"))),
        });
        let names = names.collect::<Result<Vec<_>, _>>()?;
        match (names.is_empty(), self.all || self.selector.is_some()) {
            (true, false) => Err(Refusal::client("resource(s) were provided, but no name was specified")),
            (false, true) => Err(Refusal::client("name cannot be provided when a selector or --all is specified")),
            _ => Ok((subject, names)),
        }
    }
}

pub fn wait(args: &WaitArgs, places: &Places) -> Result<u8> {
    let (what, (subject, names), patience) = (For::parse(&args.what_for)?, args.named()?, args.patience()?);
    let selector = Selector::parse(args.selector.as_deref().unwrap_or_default())?;
    need_root()?;
    let end = Instant::now() + patience;
    let notify = Notify::new()?;
    let open = names.into_iter().map(|name| (name, None)).collect();
    let mut waiting = Waiting { places, namespace: &args.namespace, subject, what, open, code: 0 };
    loop {
        // Before anything is read, so that no change falls in between.
        subject.watch(places, &notify)?;
        let found = !waiting.open.is_empty() || waiting.select(&selector)?;
        match &waiting.what {
            For::Delete if !found => return Ok(0),
            For::Create => {}
            _ if !found => return Err(Refusal::client("no matching resources found").into()),
            _ => {}
        }
        waiting.look()?;
        if found && waiting.open.is_empty() {
            return Ok(waiting.code);
        }
        if !notify.wait(Some(end.saturating_duration_since(Instant::now())))? {
            waiting.open.keys().for_each(|name| eprintln!("error: timed out waiting for the condition on {}/{name}", subject.kind().plural()));
            if !found {
                eprintln!("error: timed out waiting for the condition: no matching resources found");
            }
            return Ok(waiting.code.max(1));
        }
    }
}

/// What is still waited for.
struct Waiting<'a> {
    places: &'a Places,
    namespace: &'a str,
    subject: Subject,
    what: For,
    /// By name, with the uid that was seen first.
    open: BTreeMap<String, Option<String>>,
    code: u8,
}

impl Waiting<'_> {
    /// Without names: those that fit now, for good. False: there are none.
    fn select(&mut self, selector: &Selector) -> Result<bool> {
        self.open = self.subject.select(self.places, self.namespace, selector)?.into_iter().map(|name| (name, None)).collect();
        Ok(!self.open.is_empty())
    }

    /// Judges all, and says what has come of them; those of which nothing has stay.
    fn look(&mut self) -> Result<()> {
        for (name, seen) in std::mem::take(&mut self.open) {
            let object = self.subject.read(self.places, self.namespace, &name)?;
            match self.what.judge(self.subject, object.as_ref(), seen.as_deref()) {
                Verdict::Met => self.met(&name, seen.is_some() || object.is_some())?,
                Verdict::NotYet => {
                    let uid = object.and_then(|object| object["metadata"]["uid"].as_str().map(str::to_owned));
                    self.open.insert(name, seen.or(uid));
                }
                Verdict::Never(why) => {
                    self.failed(NEVER, &format!("error: {}/{name}: {why}, so {} can no longer come true", self.subject.kind().resource(), self.what))
                }
                Verdict::Unfit(why) => self.failed(1, &format!("error: {why}")),
                Verdict::NotFound => self.failed(1, &Refusal::not_found_of(self.subject.kind(), &name).to_string()),
            }
        }
        Ok(())
    }

    /// As kubectl: of what is gone and was never seen nothing is said.
    fn met(&self, name: &str, seen: bool) -> Result<()> {
        if self.what == For::Delete {
            self.subject.wait_until_gone(self.places, self.namespace, name)?;
        }
        if seen {
            println!("{}/{name} condition met", self.subject.kind().resource());
        }
        Ok(())
    }

    fn failed(&mut self, code: u8, message: &str) {
        eprintln!("{message}");
        self.code = self.code.max(code);
    }
}

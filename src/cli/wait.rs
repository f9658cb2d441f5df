//! `minipod wait`: until an object is as it should be, and no longer than that can still come.
//!
//! ```text
//! watch (inotify) ──▶ read what is there ──▶ judge each: met ─▶ say so     never ─▶ say why, exit code 3
//!       ▲                                       │ not yet
//!       └───────────── wait ◀───────────────────┘          --timeout over ─▶ say so, exit code 1
//! ```
//!
//! What is judged is the object as JSON. So what is asked for may be of any kind of object; only when nothing can change any more is
//! a matter of the kind.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::get::{Refusal, Selector};
use super::jsonpath::{self, JsonPath};
use super::{duration, need_root, pods};
use crate::pod::dir::{self, PodDir};
use crate::pod::places::Places;
use crate::sys::notify::Notify;

/// Wait until pods are ready, gone, made, or as a JSONPath says
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod wait pod/web --for=condition=Ready
  minipod wait web db --for=condition=Ready --timeout=2m     both of them
  minipod wait pods --all --for=delete
  minipod wait pods -l app=shop --for=jsonpath='{.status.phase}'=Succeeded --timeout=-1s
  minipod wait pod/web --for=create

Exit codes: 0 it has come; 1 the time was over, or there is no such pod; 3 it can no longer come,
for example the condition Ready of a pod that has ended.")]
pub struct WaitArgs {
    /// `pod NAME...`, `pod/NAME...` or just names; `pods` with --all or -l
    #[arg(value_name = "POD", required = true)]
    what: Vec<String>,
    /// What to wait for: condition=NAME[=VALUE] (True), delete, create, or jsonpath='{PATH}'[=VALUE]
    #[arg(long = "for", value_name = "WHAT")]
    what_for: String,
    /// How long: 30s, 2m, 1h30m; 0 looks once, less than 0 is a week
    #[arg(long, value_name = "DURATION", default_value = "30s", allow_hyphen_values = true)]
    timeout: String,
    /// All pods of the namespace
    #[arg(long, conflicts_with = "selector")]
    all: bool,
    /// The pods with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// The namespace of the pods
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
}

/// The exit code when what is waited for can no longer come.
pub const NEVER: u8 = 3;

/// A kind of object that can be waited for.
struct Kind {
    /// As it is shown and as it is counted: pod, pods.
    one: &'static str,
    many: &'static str,
    words: &'static [&'static str],
    /// The object by its name, if there is one.
    read: fn(&Places, &str, &str) -> Result<Option<Value>>,
    /// The names of those in a namespace whose labels fit.
    select: fn(&Places, &str, &Selector) -> Result<Vec<String>>,
    /// Why the object's status will not change any more, if it will not.
    finished: fn(&Value) -> Option<String>,
}

const POD: Kind = Kind { one: "pod", many: "pods", words: &["pod", "pods", "po"], read: read_pod, select: select_pods, finished: finished_pod };

fn read_pod(places: &Places, namespace: &str, name: &str) -> Result<Option<Value>> {
    Ok(pods::read(places, namespace, name)?.map(serde_json::to_value).transpose()?)
}

fn select_pods(places: &Places, namespace: &str, selector: &Selector) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for dir in dir::all(places)?.into_iter().filter(|dir| dir.namespace == namespace) {
        names.extend(dir.read()?.filter(|known| selector.matches(known.pod.metadata.labels.as_ref())).map(|_| dir.name.clone()));
    }
    Ok(names)
}

fn finished_pod(pod: &Value) -> Option<String> {
    let phase = pod["status"]["phase"].as_str().filter(|phase| matches!(*phase, "Succeeded" | "Failed"))?;
    Some(format!("the pod has ended ({phase})"))
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq)]
enum For {
    Condition { name: String, value: String },
    Delete,
    Create,
    JsonPath { text: String, path: JsonPath, value: Option<String> },
}

/// What is known of one object.
#[derive(Debug, PartialEq)]
enum Verdict {
    Met,
    NotYet,
    /// And never: why.
    Never(String),
    /// There is none, which kubectl takes for a mistake.
    NotFound,
    /// The JSONPath leads to what cannot be compared.
    Unfit(&'static str),
}

impl For {
    fn parse(text: &str) -> Result<For, Refusal> {
        let lower = text.to_ascii_lowercase();
        if let Some(rest) = text.strip_prefix("jsonpath=") {
            let (path, value) = split_value(rest)?;
            let read = JsonPath::parse_relaxed(path).map_err(|error| Refusal::client(format!("jsonpath {path:?}: {error}")))?;
            return Ok(For::JsonPath { text: path.to_owned(), path: read, value: value.map(str::to_owned) });
        }
        match (lower.as_str(), text.get(..10).filter(|_| lower.starts_with("condition="))) {
            ("delete", _) => Ok(For::Delete),
            ("create", _) => Ok(For::Create),
            (_, Some(_)) if text.len() > 10 => {
                let (name, value) = text[10..].split_once('=').unwrap_or((&text[10..], "True"));
                Ok(For::Condition { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err(Refusal::client(format!("unrecognized condition: {text:?}"))),
        }
    }

    /// Judges an object, if it is there. `seen` is the uid that it had first.
    fn judge(&self, kind: &Kind, object: Option<&Value>, seen: Option<&str>) -> Verdict {
        let same = |object: &Value| seen.is_none_or(|uid| object["metadata"]["uid"].as_str() == Some(uid));
        let Some(object) = object.filter(|object| same(object)) else {
            return match (self, seen) {
                (For::Delete, _) => Verdict::Met,
                (For::Create, _) => Verdict::NotYet,
                (_, None) => Verdict::NotFound,
                (_, Some(_)) => Verdict::Never(format!("the {} was deleted", kind.one)),
            };
        };
        let met = match self {
            For::Create => true,
            For::Delete => return Verdict::NotYet,
            For::Condition { name, value } => {
                let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
                let found = conditions.iter().find(|condition| condition["type"].as_str().is_some_and(|known| known.eq_ignore_ascii_case(name)));
                found.is_some_and(|condition| condition["status"].as_str().is_some_and(|status| status.eq_ignore_ascii_case(value)))
            }
            For::JsonPath { path, value, .. } => match (path.find(object).as_slice(), value) {
                ([found], Some(_)) if found.is_object() || found.is_array() => {
                    return Verdict::Unfit("jsonpath leads to a nested object or list which is not supported");
                }
                ([found], Some(value)) => jsonpath::text_of(found) == *value,
                ([_, _, ..], Some(_)) => return Verdict::Unfit("given jsonpath expression matches more than one value"),
                (found, _) => !found.is_empty(),
            },
        };
        match (met, (kind.finished)(object)) {
            (true, _) => Verdict::Met,
            (false, Some(why)) => Verdict::Never(why),
            (false, None) => Verdict::NotYet,
        }
    }
}

impl std::fmt::Display for For {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            For::Condition { name, value } => write!(f, "condition {name}={value}"),
            For::Delete => f.write_str("its deletion"),
            For::Create => f.write_str("its creation"),
            For::JsonPath { text, value: Some(value), .. } => write!(f, "{text}={value}"),
            For::JsonPath { text, value: None, .. } => write!(f, "{text}"),
        }
    }
}

/// Splits `{.a[?(@.b=="c")]}=d` at the `=` after the braces; without braces at the first that is not within brackets.
fn split_value(text: &str) -> Result<(&str, Option<&str>), Refusal> {
    let wrong = || Refusal::client("jsonpath wait format must be --for=jsonpath='{.status.readyReplicas}'=3 or --for=jsonpath='{.status.readyReplicas}'");
    let mut depth = 0;
    let end = text.char_indices().find(|(_, c)| {
        depth += i32::from(matches!(c, '{' | '[')) - i32::from(matches!(c, '}' | ']'));
        *c == '=' && depth == 0
    });
    let (path, value) = match end {
        Some((at, _)) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let value = value.map(|value| ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value));
    if path.is_empty() || value == Some("") { Err(wrong()) } else { Ok((path, value)) }
}

impl WaitArgs {
    /// kubectl's: 0 is one look, a negative time is a week.
    fn patience(&self) -> Result<Duration, Refusal> {
        let given = duration::parse(&self.timeout).ok_or_else(|| Refusal::client(format!("invalid argument {:?} for \"--timeout\" flag", self.timeout)))?;
        Ok(Duration::try_from(given).unwrap_or(Duration::from_secs(7 * 24 * 3600)))
    }

    /// The names that the words say; none: all that fit.
    fn names(&self, kind: &Kind) -> Result<Vec<String>, Refusal> {
        let words = match self.what.split_first() {
            Some((first, rest)) if kind.words.contains(&first.as_str()) => rest,
            _ => self.what.as_slice(),
        };
        let names = words.iter().map(|word| match word.split_once('/') {
            None => Ok(word.clone()),
            Some((of, name)) if kind.words.contains(&of) && !name.is_empty() => Ok(name.to_owned()),
            Some(_) => Err(Refusal::client(format!("there is no {word:?} here: name a pod as NAME or pod/NAME"))),
        });
        let names = names.collect::<Result<Vec<_>, _>>()?;
        match (names.is_empty(), self.all || self.selector.is_some()) {
            (true, false) => Err(Refusal::client("resource(s) were provided, but no name was specified")),
            (false, true) => Err(Refusal::client("name cannot be provided when a selector or --all is specified")),
            _ => Ok(names),
        }
    }
}

pub fn wait(args: &WaitArgs, places: &Places) -> Result<u8> {
    let kind = &POD;
    let (what, names, patience) = (For::parse(&args.what_for)?, args.names(kind)?, args.patience()?);
    let selector = Selector::parse(args.selector.as_deref().unwrap_or_default())?;
    need_root()?;
    let end = Instant::now() + patience;
    let notify = Notify::new()?;
    let open = names.into_iter().map(|name| (name, None)).collect();
    let mut waiting = Waiting { places, namespace: &args.namespace, kind, what, open, code: 0 };
    loop {
        // Before anything is read, so that no change falls in between.
        dir::watch(places, &notify)?;
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
            waiting.open.keys().for_each(|name| eprintln!("error: timed out waiting for the condition on {}/{name}", kind.many));
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
    kind: &'a Kind,
    what: For,
    /// By name, with the uid that was seen first.
    open: BTreeMap<String, Option<String>>,
    code: u8,
}

impl Waiting<'_> {
    /// Without names: those that fit now, for good. False: there are none.
    fn select(&mut self, selector: &Selector) -> Result<bool> {
        self.open = (self.kind.select)(self.places, self.namespace, selector)?.into_iter().map(|name| (name, None)).collect();
        Ok(!self.open.is_empty())
    }

    /// Judges all, and says what has come of them; those of which nothing has stay.
    fn look(&mut self) -> Result<()> {
        for (name, seen) in std::mem::take(&mut self.open) {
            let object = (self.kind.read)(self.places, self.namespace, &name)?;
            match self.what.judge(self.kind, object.as_ref(), seen.as_deref()) {
                Verdict::Met => self.met(&name, seen.is_some() || object.is_some())?,
                Verdict::NotYet => {
                    let uid = object.and_then(|object| object["metadata"]["uid"].as_str().map(str::to_owned));
                    self.open.insert(name, seen.or(uid));
                }
                Verdict::Never(why) => self.failed(NEVER, &format!("error: {}/{name}: {why}, so {} can no longer come true", self.kind.one, self.what)),
                Verdict::Unfit(why) => self.failed(1, &format!("error: {why}")),
                Verdict::NotFound => self.failed(1, &Refusal::not_found(&name).to_string()),
            }
        }
        Ok(())
    }

    /// As kubectl: of what is gone and was never seen nothing is said.
    fn met(&self, name: &str, seen: bool) -> Result<()> {
        if self.what == For::Delete {
            PodDir::new(self.places, self.namespace, name).wait_until_gone()?;
        }
        if seen {
            println!("{}/{name} condition met", self.kind.one);
        }
        Ok(())
    }

    fn failed(&mut self, code: u8, message: &str) {
        eprintln!("{message}");
        self.code = self.code.max(code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(phase: &str, ready: &str) -> Value {
        json!({ "metadata": { "uid": "u1" }, "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }], "list": [1, 2] } })
    }

    fn judge(what: &str, object: Option<&Value>, seen: Option<&str>) -> Verdict {
        For::parse(what).unwrap().judge(&POD, object, seen)
    }

    #[test]
    fn a_condition_is_met_by_name_and_value_in_any_case() {
        for (what, ready, verdict) in [
            ("condition=Ready", "True", Verdict::Met),
            ("condition=ready=true", "True", Verdict::Met),
            ("condition=Ready", "False", Verdict::NotYet),
            ("condition=Ready=false", "False", Verdict::Met),
            ("condition=Nothing", "True", Verdict::NotYet),
        ] {
            assert_eq!(judge(what, Some(&pod("Running", ready)), None), verdict, "{what} of {ready}");
        }
    }

    #[test]
    fn what_can_no_longer_come_is_not_waited_for() {
        let ended = Verdict::Never("the pod has ended (Succeeded)".into());
        assert_eq!(judge("condition=Ready", Some(&pod("Succeeded", "False")), None), ended);
        assert_eq!(judge("jsonpath={.status.phase}=Running", Some(&pod("Succeeded", "False")), None), ended);
        assert_eq!(judge("condition=Ready=False", Some(&pod("Failed", "False")), None), Verdict::Met);
        assert_eq!(judge("delete", Some(&pod("Failed", "False")), Some("u1")), Verdict::NotYet);
        assert_eq!(judge("condition=Ready", None, Some("u1")), Verdict::Never("the pod was deleted".into()));
    }

    #[test]
    fn another_pod_of_the_name_is_not_the_one_that_was_seen() {
        assert_eq!(judge("delete", Some(&pod("Running", "True")), Some("u0")), Verdict::Met);
        assert_eq!(judge("condition=Ready", Some(&pod("Running", "True")), Some("u0")), Verdict::Never("the pod was deleted".into()));
        assert_eq!(judge("delete", None, None), Verdict::Met);
        assert_eq!(judge("create", None, None), Verdict::NotYet);
        assert_eq!(judge("create", Some(&pod("Pending", "False")), None), Verdict::Met);
        assert_eq!(judge("condition=Ready", None, None), Verdict::NotFound);
    }

    #[test]
    fn a_path_is_compared_as_text_and_only_one_value_of_it() {
        let pod = pod("Running", "True");
        for (what, verdict) in [
            ("jsonpath={.status.phase}=Running", Verdict::Met),
            ("jsonpath=.status.phase=Running", Verdict::Met),
            ("jsonpath={.status.phase}", Verdict::Met),
            ("jsonpath={.status.phase}='Running'", Verdict::Met),
            ("jsonpath={.status.phase}=Pending", Verdict::NotYet),
            ("jsonpath={.status.podIP}", Verdict::NotYet),
            ("jsonpath={.status.list[1]}=2", Verdict::Met),
            ("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True", Verdict::Met),
            ("jsonpath=.status.conditions[?(@.type=='Ready')].status=False", Verdict::NotYet),
            ("jsonpath={.status.list[*]}=2", Verdict::Unfit("given jsonpath expression matches more than one value")),
            ("jsonpath={.status.list}=2", Verdict::Unfit("jsonpath leads to a nested object or list which is not supported")),
        ] {
            assert_eq!(judge(what, Some(&pod), None), verdict, "{what}");
        }
    }

    #[test]
    fn what_is_no_wish_is_refused() {
        for what in ["", "Ready", "condition=", "condition", "deleted", "jsonpath=", "jsonpath={.a}=", "jsonpath={.a"] {
            assert!(For::parse(what).is_err(), "{what}");
        }
    }
}

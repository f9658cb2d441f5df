//! What is waited for, and whether an object is so.

use anyhow::Result;
use serde_json::Value;

use super::subject::Subject;
use crate::cli::get::Refusal;
use crate::cli::jsonpath::{self, JsonPath};

/// What is waited for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum For {
    Condition { name: String, value: String },
    Delete,
    Create,
    JsonPath { text: String, path: JsonPath, value: Option<String> },
}

/// What is known of one object.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
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
    pub fn parse(text: &str) -> Result<For, Refusal> {
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
    pub fn judge(&self, subject: Subject, object: Option<&Value>, seen: Option<&str>) -> Verdict {
        let same = |object: &Value| seen.is_none_or(|uid| object["metadata"]["uid"].as_str() == Some(uid));
        let Some(object) = object.filter(|object| same(object)) else {
            return match (self, seen) {
                (For::Delete, _) => Verdict::Met,
                (For::Create, _) => Verdict::NotYet,
                (_, None) => Verdict::NotFound,
                (_, Some(_)) => Verdict::Never(format!("the {} was deleted", subject.word())),
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
        match (met, subject.finished(object)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(phase: &str, ready: &str) -> Value {
        json!({ "metadata": { "uid": "u1" }, "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }], "list": [1, 2] } })
    }

    fn judge(what: &str, object: Option<&Value>, seen: Option<&str>) -> Verdict {
        For::parse(what).unwrap().judge(Subject::Pod, object, seen)
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
    fn a_job_that_has_failed_never_completes() {
        let job = |condition: &str, reason: Option<&str>| json!({ "status": { "conditions": [{ "type": condition, "status": "True", "reason": reason }] } });
        let judge = |what: &str, job: Value| For::parse(what).unwrap().judge(Subject::Job, Some(&job), None);
        assert_eq!(judge("condition=complete", job("Complete", None)), Verdict::Met);
        assert_eq!(judge("condition=complete", job("FailureTarget", None)), Verdict::NotYet);
        assert_eq!(judge("condition=complete", job("Suspended", None)), Verdict::NotYet);
        let failed = || job("Failed", Some("BackoffLimitExceeded"));
        assert_eq!(judge("condition=complete", failed()), Verdict::Never("the job has failed (BackoffLimitExceeded)".into()));
        assert_eq!(judge("condition=failed", failed()), Verdict::Met);
        assert_eq!(judge("condition=failed", job("Complete", None)), Verdict::Never("the job is complete".into()));
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

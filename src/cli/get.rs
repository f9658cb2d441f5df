//! `minipod get`: pods, jobs and what is kept for them as a table, or as they are.
//!
//! ```text
//! pod.json ─┐
//! job.json ─┤
//! FILE, -  ─┴─> objects ─ select (names, -l) ─┬─ row ── cells ── columns ──> table, wide, watch
//!                                             └─ object ───────────────────> json, yaml, name
//! ```
//!
//! All of it is a function of objects and the time: an [`Answer`] says what to print where, and with which exit code.

mod job;
mod kind;
mod object;
mod row;
mod selector;
mod watch;

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use serde::Serialize;
use serde_json::{Value, json};

pub use self::job::{JobRow, job_row};
pub use self::kind::{Kind, Line, Listed, What};
pub use self::object::access_modes;
pub use self::row::{Row, row};
pub use self::selector::Selector;
pub use self::watch::{EventWatch, Watch};
use super::events;
use super::jsonpath::JsonPath;
use super::table::cell;
use crate::error::{Error, Result};
use crate::sys::published;

/// List pods, jobs, configmaps, secrets, claims or services, or what has happened to pods and jobs.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  minipod get pods                          all pods of the namespace \"default\"
  minipod get pods web db                   two of them
  minipod get pod/web -o yaml               one pod, with its status, as Kubernetes would give it
  minipod get pod web -o jsonpath='{.status.podIP}'
  minipod get pods -A -o wide               pods of all namespaces, with address and node
  minipod get pods -l 'app=web,tier in (front,back)'
  minipod get pods -w                       a line for each change, until interrupted
  minipod get jobs                          all jobs; -w and -o as with pods
  minipod get cm                            all ConfigMaps; their values are in -o yaml; the same with secrets
  minipod get pvc; minipod get svc          all PersistentVolumeClaims; all Services
  minipod get pods --from-file status.json  the table of saved pods; - reads standard input
  minipod get events                        what has happened, oldest first
  minipod get events --for pod/web -w       to one pod, and what happens from now on")]
pub struct GetArgs {
    /// What to list, then the names of those to list alone: `pods [NAME...]`, `pod/NAME...`, the same with `jobs`, `configmaps` (cm), `secrets`, `persistentvolumeclaims` (pvc) and `services` (svc), or `events`
    #[arg(value_name = "pods|jobs|configmaps|secrets|pvc|svc|events", required = true)]
    pub what: Vec<String>,
    /// How to print: a table by default; wide (with address and node), json, yaml, name, or jsonpath='{TEMPLATE}'
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Print the table, then a line for each change, until interrupted
    #[arg(short, long)]
    pub watch: bool,
    /// Those of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    #[arg(short, long, value_name = "NAME", help = "The namespace to look in [default: default; with --from-file: all]")]
    pub namespace: Option<String>,
    /// Only those with these labels: `app=web`, `app!=web`, `tier in (front,back)`, `tier notin (x)`, `app`, `!app`; commas mean "and"
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Only events of this object, as pod/NAME or job/NAME
    #[arg(long = "for", value_name = "pod/NAME")]
    pub about: Option<String>,
    /// Leave out the line with the column names
    #[arg(long)]
    pub no_headers: bool,
    /// Read pods (objects or lists, JSON or YAML) from files instead; `-` is standard input
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub from_file: Vec<PathBuf>,
}

/// What `-o` may say.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// The table with more columns.
    Wide,
    /// The object, or a List of them.
    Json,
    /// The same in YAML.
    Yaml,
    /// Only pod/NAME, job.batch/NAME.
    Name,
    /// What a template takes out of the object, or of the List.
    JsonPath(JsonPath),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Format, String> {
        match (text, text.strip_prefix("jsonpath=")) {
            ("wide", _) => Ok(Format::Wide),
            ("json", _) => Ok(Format::Json),
            ("yaml", _) => Ok(Format::Yaml),
            ("name", _) => Ok(Format::Name),
            (_, Some(template)) => JsonPath::parse(template).map(Format::JsonPath).map_err(|error| format!("error parsing jsonpath {template}, {error}")),
            _ => Err("allowed formats are: json, jsonpath='{TEMPLATE}', name, wide, yaml".into()),
        }
    }
}

/// Something that we decline to do, in kubectl's words. It prints as the whole line, with its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// kubectl itself would have refused.
    Client(String),
    /// The API server would have, with this reason.
    Server { reason: &'static str, message: String },
}

impl Refusal {
    pub fn client(message: impl Into<String>) -> Refusal {
        Refusal::Client(message.into())
    }

    pub fn bad_request(message: impl Into<String>) -> Refusal {
        Refusal::Server { reason: "BadRequest", message: message.into() }
    }

    /// There is no such pod.
    pub fn not_found(name: &str) -> Refusal {
        Refusal::not_found_of(Kind::Pod, name)
    }

    pub fn not_found_of(kind: Kind, name: &str) -> Refusal {
        Refusal::Server { reason: "NotFound", message: format!("{} {name:?} not found", kind.plural()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Client(message) => write!(f, "error: {message}"),
            Refusal::Server { reason, message } => write!(f, "Error from server ({reason}): {message}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What to print, where, and how to exit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub stdout: String,
    pub stderr: String,
    pub code: u8,
}

impl GetArgs {
    /// What is asked for; or why it cannot be.
    pub fn what(&self) -> std::result::Result<What, Refusal> {
        let what = What::read(&self.what)?;
        if self.watch && !self.is_table() {
            return Err(Refusal::client("--watch prints a table: leave out --output, or use -o wide"));
        }
        let Some(names) = what.names() else { return self.about().map(|_| what) };
        if self.about.is_some() {
            return Err(Refusal::client("--for chooses events: `get events --for pod/NAME`"));
        }
        if !names.is_empty() && self.selector.is_some() {
            return Err(Refusal::client("name cannot be provided when a selector is specified"));
        }
        if !names.is_empty() && self.all_namespaces {
            return Err(Refusal::client("a resource cannot be retrieved by name across all namespaces"));
        }
        Ok(what)
    }

    /// The object that `--for` means.
    fn about(&self) -> std::result::Result<Option<(Kind, &str)>, Refusal> {
        let Some(about) = &self.about else { return Ok(None) };
        match about.split_once('/').map(|(word, name)| (Kind::of(&word.to_lowercase()), name)) {
            Some((Some(kind), name)) if !name.is_empty() => Ok(Some((kind, name))),
            _ => Err(Refusal::client("--for must be in resource/name form: pod/NAME")),
        }
    }

    fn is_table(&self) -> bool {
        matches!(self.output, None | Some(Format::Wide))
    }

    fn wide(&self) -> bool {
        self.output == Some(Format::Wide)
    }

    /// The namespace to look in, unless it is all.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }

    fn is_here(&self, namespace: Option<&str>) -> bool {
        let any = self.all_namespaces || (self.namespace.is_none() && !self.from_file.is_empty());
        any || namespace.is_none_or(|namespace| namespace == self.namespace())
    }

    /// The objects that are meant, by namespace and name, and the names of those that are not there.
    fn select<O: Listed>(&self, names: &[String], mut all: Vec<O>) -> std::result::Result<(Vec<O>, Vec<String>), Refusal> {
        let selector = Selector::parse(self.selector.as_deref().unwrap_or_default())?;
        all.retain(|object| self.is_here(object.metadata().namespace.as_deref()));
        all.retain(|object| selector.matches(object.metadata().labels.as_ref()));
        let key = |object: &O| (object.metadata().namespace.clone(), object.metadata().name.clone());
        all.sort_by_cached_key(key);
        if names.is_empty() {
            return Ok((all, Vec::new()));
        }
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for name in names {
            match all.iter().find(|object| object.metadata().name.as_ref() == Some(name)) {
                Some(object) => found.push(object.clone()),
                None => missing.push(name.clone()),
            }
        }
        Ok((found, missing))
    }

    /// Answers for these pods; those of other namespaces and labels are left out here.
    pub fn pods(&self, pods: Vec<Pod>, now: Timestamp) -> std::result::Result<Answer, Refusal> {
        self.objects(pods, now)
    }

    /// Answers for these jobs, likewise.
    pub fn jobs(&self, jobs: Vec<Job>, now: Timestamp) -> std::result::Result<Answer, Refusal> {
        self.objects(jobs, now)
    }

    /// Answers for objects of any kind, likewise.
    pub fn objects<O: Listed>(&self, all: Vec<O>, now: Timestamp) -> std::result::Result<Answer, Refusal> {
        let what = self.what()?;
        let Some(names) = what.names() else { return Err(Refusal::client("events are not read from objects")) };
        let (found, missing) = self.select(names, all)?;
        let missing_code = u8::from(!missing.is_empty());
        let stderr: String = missing.iter().map(|name| format!("{}\n", Refusal::not_found_of(O::OF, name))).collect();
        let one = names.len() == 1;
        let stdout = match &self.output {
            _ if found.is_empty() && !missing.is_empty() => String::new(),
            Some(Format::Json) => to_json(&document(&found, one)),
            Some(Format::Yaml) => to_yaml(&document(&found, one)),
            Some(Format::JsonPath(template)) => template.print(&document(&found, one)),
            None | Some(Format::Wide | Format::Name) if found.is_empty() => {
                return Ok(Answer { stdout: String::new(), stderr: nothing_found((!self.all_namespaces).then(|| self.namespace())), code: 0 });
            }
            Some(Format::Name) => {
                found.iter().map(|object| format!("{}/{}\n", O::OF.resource(), object.metadata().name.as_deref().unwrap_or_default())).collect()
            }
            None | Some(Format::Wide) => Watch::new(self).print(&found, now),
        };
        Ok(Answer { stdout, stderr, code: missing_code })
    }

    /// The events that are meant, oldest first.
    fn select_events<'a>(&self, events: &'a [Event]) -> std::result::Result<Vec<&'a Event>, Refusal> {
        let about = self.about()?;
        let is_here = |event: &&Event| self.is_here(event.metadata.namespace.as_deref());
        let is_about = |event: &&Event| {
            about.is_none_or(|(kind, name)| {
                let object = &event.involved_object;
                object.name.as_deref() == Some(name) && object.kind.as_deref() == Some(kind.word())
            })
        };
        Ok(events::sorted(events).into_iter().filter(is_here).filter(is_about).collect())
    }

    /// Answers `get events`, for the events of all pods that were read.
    pub fn events(&self, events: &[Event], now: Timestamp) -> std::result::Result<Answer, Refusal> {
        let meant = self.select_events(events)?;
        let stdout = match &self.output {
            Some(Format::Json) => to_json(&list(meant.into_iter().map(object))),
            Some(Format::Yaml) => to_yaml(&list(meant.into_iter().map(object))),
            Some(Format::JsonPath(template)) => template.print(&list(meant.into_iter().map(object))),
            _ if meant.is_empty() => return Ok(Answer { stderr: nothing_found((!self.all_namespaces).then(|| self.namespace())), ..Answer::default() }),
            Some(Format::Name) => meant.iter().map(|event| format!("event/{}\n", event.metadata.name.as_deref().unwrap_or_default())).collect(),
            None | Some(Format::Wide) => EventWatch::new(self).print(&meant, now),
        };
        Ok(Answer { stdout, ..Answer::default() })
    }

    /// Lines of cells with tabs between them; the namespace comes first with `-A`.
    fn lines<'a>(&self, headers: Option<&[&'a str]>, rows: impl Iterator<Item = (&'a str, Vec<&'a str>)>) -> String {
        let mut text = String::new();
        let headers = headers.filter(|_| !self.no_headers).map(|headers| ("NAMESPACE", headers.to_vec()));
        for (namespace, mut cells) in headers.into_iter().chain(rows) {
            if self.all_namespaces {
                cells.insert(0, namespace);
            }
            text.push_str(&cells.into_iter().map(cell).collect::<Vec<_>>().join("\t"));
            text.push('\n');
        }
        text
    }

    /// Answers for pods in files (`--from-file`); `-` is `stdin`. Without `-n` or `-A` they are taken whatever their namespace.
    pub fn render_files(&self, stdin: &mut dyn Read, now: Timestamp) -> anyhow::Result<Answer> {
        let mut pods = Vec::new();
        for path in &self.from_file {
            let mut text = String::new();
            let read = if path == Path::new("-") {
                stdin.read_to_string(&mut text)
            } else {
                std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
            };
            read.map_err(|error| Error::io("read", path.display(), &error))?;
            for value in documents(&text).map_err(|error| error.doing(format!("reading {}", path.display())))? {
                pods_of(value, &mut pods).map_err(|error| error.doing(format!("reading {}", path.display())))?;
            }
        }
        Ok(self.pods(pods, now)?)
    }
}

/// What is said on standard error instead of an empty table.
pub fn nothing_found(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "No resources found\n".to_owned(), |namespace| format!("No resources found in {namespace} namespace.\n"))
}

/// One object as itself if it was asked for by name, else a List.
fn document(all: &[impl Serialize], one: bool) -> Value {
    match all {
        [only] if one => object(only),
        _ => list(all.iter().map(object)),
    }
}

fn list(items: impl Iterator<Item = Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items.collect::<Vec<_>>()})
}

/// An object without what is bookkeeping (managedFields, as kubectl) or says nothing (empty lists of the status).
fn object(object: &impl Serialize) -> Value {
    // Kubernetes' types have string keys and no float that JSON lacks, which is all that could fail here.
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if let Some(status) = value.get_mut("status").and_then(Value::as_object_mut) {
        status.retain(|_, value| !(value.is_null() || value.as_array().is_some_and(Vec::is_empty)));
    }
    value
}

fn to_json(value: &Value) -> String {
    let mut bytes = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    // Writing a Value into memory cannot fail.
    let _ = Serialize::serialize(value, &mut serde_json::Serializer::with_formatter(&mut bytes, indent));
    bytes.push(b'\n');
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn to_yaml(value: &Value) -> String {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(value, options).unwrap_or_default()
}

/// The documents of a file, JSON or YAML.
fn documents(text: &str) -> Result<Vec<Value>> {
    if text.trim_start().starts_with(['{', '[']) {
        return serde_json::Deserializer::from_str(text).into_iter().collect::<std::result::Result<_, _>>().map_err(|error| Error::said(error.to_string()));
    }
    serde_saphyr::from_multiple(text).map_err(|error| Error::said(error.to_string()))
}

/// The pods of a value: a Pod, a List or PodList of them, or an array.
fn pods_of(value: Value, pods: &mut Vec<Pod>) -> Result<()> {
    match value {
        Value::Null => Ok(()),
        Value::Array(items) => items.into_iter().try_for_each(|item| pods_of(item, pods)),
        Value::Object(mut fields) if fields.get("kind").and_then(Value::as_str).is_some_and(|kind| kind == "List" || kind == "PodList") => {
            pods_of(fields.remove("items").unwrap_or_default(), pods)
        }
        value => {
            pods.push(pod_of(value)?);
            Ok(())
        }
    }
}

/// A Pod out of its JSON. The items of a PodList may leave out what they are.
pub fn pod_of(mut value: Value) -> Result<Pod> {
    let fields = value.as_object_mut().ok_or_else(|| Error::said("this is no Kubernetes object"))?;
    let kind = fields.entry("kind").or_insert_with(|| "Pod".into());
    if kind != "Pod" {
        return Err(Error::said(format!("this is a {}, not a Pod", kind.as_str().unwrap_or("thing without a kind"))));
    }
    fields.entry("apiVersion").or_insert_with(|| "v1".into());
    let name = fields.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Value::as_str).unwrap_or("without a name").to_owned();
    serde_json::from_value(value).map_err(|error| Error::said(format!("pod {name}: {error}")))
}

/// The pod that a file (`pod.json`) holds; none if there is no such file.
pub fn read_pod(path: &Path) -> Result<Option<Pod>> {
    let bytes = match published::read(path) {
        Err(error) if error.is(libc::ENOENT) => return Ok(None),
        bytes => bytes?,
    };
    let value = serde_json::from_slice(&bytes).map_err(|error| Error::said(error.to_string()).doing(format!("reading {}", path.display())))?;
    pod_of(value).map(Some).map_err(|error| error.doing(format!("reading {}", path.display())))
}

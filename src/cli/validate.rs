//! `minipod validate`: what is wrong with manifests, before anything runs; and the table of what minipod does with each field.
//!
//! ```text
//!                 ┌ faults ───> stderr as `run` tells them  │ -o json: one list of findings on stdout
//! FILE ─ examine ─┤ warnings ─> stderr                      │
//!                 └ objects ──> "pod/web is valid"          │ -o yaml: as an API server would store them
//! ```
//!
//! It reads nothing but the files, so it needs no root. Several files are all judged; one that cannot be read does not
//! keep the others from it.

mod fields;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

pub use self::fields::markdown;
use super::get::{Kind as Resource, Refusal, to_yaml};
use super::run::bytes_of;
use super::{tell, tell_faults};
use crate::manifest::{self, Fault, Faults, Kind, Loaded, Object, Subject, Warning};

/// Say all that is wrong with manifests, and run nothing
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod validate pod.yaml                    every fault with its path, rule and line; exit code 1 if there is one
  minipod validate -o json *.yaml              the same for programs, warnings included
  minipod validate -o yaml pod.yaml            the object with all defaults filled in, as a cluster would store it
  kubectl get pod web -o yaml | minipod validate -
  minipod validate --fields Pod                what minipod does with each field of a Pod

Each field of an object has one of three verdicts:
  done        it does what Kubernetes says
  no effect   it is accepted, means nothing on one machine, and a warning says why
  refused     it is \"not supported\": a manifest that sets it does not run

A finding in JSON has file, object, severity (error or warning), field, type, value, detail, suggestion, line and column, as far as they
are known. type is the API server's (\"Required value\", \"Invalid value\", ...), or \"unknown field\", \"duplicate field\", \"wrong type\",
\"syntax\"; \"not supported\" where a cluster would accept what minipod refuses; \"no effect\" where a warning comes from the table.")]
pub struct ValidateArgs {
    /// Manifests, YAML or JSON; - is standard input
    #[arg(value_name = "FILE", required_unless_present_any = ["filename", "fields"])]
    files: Vec<PathBuf>,
    /// The same, as kubectl's -f; may be given several times
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// How to print: json (findings), yaml (the defaulted objects), list (the same as a List in JSON), markdown (with --fields)
    #[arg(short, long, value_name = "FORM")]
    output: Option<Form>,
    /// Print the table of fields and verdicts instead, of one kind or of all
    #[arg(long, value_name = "KIND", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["files", "filename"])]
    fields: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Json,
    Yaml,
    List,
    Markdown,
}

pub fn validate(args: &ValidateArgs) -> Result<u8> {
    let mut out = anstream::stdout().lock();
    if let Some(kind) = &args.fields {
        let tables = fields::of(kind)?;
        let text = match args.output {
            None => fields::table(&tables),
            Some(Form::Markdown) => markdown(&tables),
            Some(Form::Json) => format!("{:#}\n", fields::json(&tables)),
            Some(Form::Yaml | Form::List) => return Err(Refusal::client("--fields prints a table, json or markdown").into()),
        };
        write!(out, "{text}")?;
        return Ok(0);
    }
    if args.output == Some(Form::Markdown) {
        return Err(Refusal::client("-o markdown is for --fields").into());
    }
    let (mut findings, mut stored, mut code) = (Vec::new(), Vec::new(), 0);
    for path in args.files.iter().chain(&args.filename) {
        let (loaded, faults) = match judged(path) {
            Ok(judged) => judged,
            Err(error) => {
                tell(&error);
                code = 1;
                continue;
            }
        };
        let faultless = faults.faults.is_empty();
        code = if faultless { code } else { 1 };
        if args.output == Some(Form::Json) {
            findings.extend(listed(&loaded, &faults));
            continue;
        }
        loaded.warnings.iter().for_each(|warning| eprintln!("Warning: {warning}"));
        if !faultless {
            tell_faults(&faults);
        }
        match args.output {
            None if faultless => loaded.objects.iter().try_for_each(|object| writeln!(out, "{} is valid", name_of(object)))?,
            // What only minipod refuses, a cluster would store.
            Some(_) if faults.faults.iter().all(|fault| fault.kind == Kind::NotSupported) => stored.extend(loaded.objects.iter().map(Object::stored)),
            _ => {}
        }
    }
    match args.output {
        None | Some(Form::Markdown) => {}
        Some(Form::Json) => writeln!(out, "{:#}", Value::Array(findings))?,
        Some(Form::Yaml) => write!(out, "{}", stored.iter().map(to_yaml).collect::<Vec<_>>().join("---\n"))?,
        Some(Form::List) => writeln!(out, "{:#}", json!({ "apiVersion": "v1", "kind": "List", "items": stored }))?,
    }
    Ok(code)
}

fn judged(path: &Path) -> Result<(Loaded, Faults)> {
    Ok(manifest::examine_bytes(&bytes_of(path)?, &path.display().to_string()))
}

/// `pod/web`; of a name that is still to be made, what it begins with.
fn name_of(object: &Object) -> String {
    let metadata = object.metadata();
    let name = metadata.name.as_ref().or(metadata.generate_name.as_ref()).map_or("", String::as_str);
    format!("{}/{name}", Resource::of_object(object).resource())
}

/// Errors and warnings of a file, in the order of its lines.
fn listed(loaded: &Loaded, faults: &Faults) -> Vec<Value> {
    let errors = faults.faults.iter().map(|fault| (fault.line, fault.column, error(fault)));
    let warnings = loaded.warnings.iter().map(|warning| (warning.line, warning.column, self::warning(warning)));
    let mut all: Vec<_> = errors.chain(warnings).collect();
    all.sort_by_key(|(line, column, _)| (*line, *column));
    all.into_iter().map(|(line, column, finding)| finished(finding, &faults.file, line, column)).collect()
}

fn error(fault: &Fault) -> Value {
    let value = fault.value.as_ref().map(|value| serde_json::from_str(value).unwrap_or_else(|_| Value::from(value.as_str())));
    json!({
        "severity": "error", "object": fault.subject.as_ref().map(object), "field": fault.path, "type": fault.kind.words(), "value": value,
        "detail": fault.detail, "suggestion": fault.suggestion,
    })
}

fn warning(warning: &Warning) -> Value {
    let kind = if warning.no_effect { "no effect" } else { "warning" };
    json!({ "severity": "warning", "object": object(&warning.subject), "field": warning.path, "type": kind, "detail": warning.said })
}

fn object(subject: &Subject) -> String {
    format!("{}/{}", subject.kind, subject.name)
}

/// What is not known is left out.
fn finished(finding: Value, file: &str, line: usize, column: usize) -> Value {
    let mut whole = Map::from_iter([("file".to_owned(), json!(file))]);
    let Value::Object(fields) = finding else { return finding };
    whole.extend(fields.into_iter().filter(|(_, value)| !value.is_null() && value != ""));
    whole.extend([("line".to_owned(), json!(line)), ("column".to_owned(), json!(column))]);
    Value::Object(whole)
}

//! YAML text becomes valid, defaulted Pods, or a list of faults with file, line, column and path.
//!
//! ```text
//! text ─ yaml ─> located tree ─ kinds ─> one tree per object ─ decode ─> Pod ─ default ─> validate ─> Loaded
//!                                             │                  │                          │
//!                                             └─ support ────────┴──────── findings ────────┴──────> Faults
//! ```
//!
//! Everything is judged before anything starts, and everything is told at once: the text is parsed a single time into a
//! tree that knows where each key and value stands ([`tree`]), so a rule that is broken deep inside still points at its
//! line. Three judges look at it: the types ([`decode`]), the table of what minipod does ([`support`]), and the API
//! server's rules ([`validate`]), which speak its words.
//!
//! What this floor does not do: it reads no file, knows no clock and no machine, and gives no uid; a Pod with
//! `generateName` leaves here without a name.

mod decode;
mod default;
pub mod expand;
mod fault;
mod kinds;
mod path;
pub mod quantity;
mod suggest;
pub mod support;
mod tree;
mod validate;
mod yaml;

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

pub use expand::expand;
pub use fault::{Fault, Faults, Kind};
pub use quantity::Quantity;

use fault::{Findings, Syntax};
use tree::Place;

/// What a manifest holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// In the order of the text; defaulted.
    pub pods: Vec<Pod>,
    /// Legal, but probably not meant: `spec.nodeSelector: has no effect here: …`.
    pub warnings: Vec<String>,
}

/// Reads every Pod of a manifest. `file` is only a name for the messages.
pub fn read(text: &str, file: &str) -> Result<Loaded, Faults> {
    let (loaded, faults) = examine(text, file);
    if faults.faults.is_empty() { Ok(loaded) } else { Err(faults) }
}

/// As [`read`], for bytes that may be no text.
pub fn read_bytes(bytes: &[u8], file: &str) -> Result<Loaded, Faults> {
    match std::str::from_utf8(bytes) {
        Ok(text) => read(text, file),
        Err(error) => {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
            let (line, column) = (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1);
            let fault = Fault::from(Syntax::new(line, column, format!("byte {} is not UTF-8; a manifest is UTF-8 text", error.valid_up_to())));
            Err(Faults::new(file, &before, vec![fault]))
        }
    }
}

/// As [`read`], for those who want to see the faults and what was understood in spite of them. The list of faults may
/// be empty here.
pub fn examine(text: &str, file: &str) -> (Loaded, Faults) {
    let mut loaded = Loaded::default();
    let mut faults = Vec::new();
    match yaml::documents(text) {
        Err(syntax) => faults.push(syntax.into()),
        Ok(documents) => {
            let mut objects = Vec::new();
            documents.iter().for_each(|document| kinds::pods(document, &mut objects, &mut faults));
            if objects.is_empty() && faults.is_empty() {
                faults.push(Syntax::new(1, 1, "there is no object in this manifest; a Pod begins with `apiVersion: v1` and `kind: Pod`".to_owned()).into());
            }
            objects.into_iter().for_each(|object| self::object(object, &mut loaded, &mut faults));
        }
    }
    (loaded, Faults::new(file, text, faults))
}

fn object(tree: &Place, loaded: &mut Loaded, faults: &mut Vec<Fault>) {
    let metadata = tree.get("metadata");
    let name = metadata.and_then(|it| it.get("name").or_else(|| it.get("generateName"))).and_then(Place::text).unwrap_or_default();
    let mut findings = Findings::new(tree, format!("The Pod {name:?}"));
    let mut pod = decode::pod(tree, &mut findings);
    support::judge(tree, &mut findings);
    default::pod(&mut pod);
    validate::pod(&pod, &mut findings);
    loaded.warnings.append(&mut findings.warnings);
    loaded.pods.push(pod);
    faults.extend(findings.finish());
}

/// A Pod from its JSON, as it is kept on disk: the one way to read a Pod beside a manifest. The error is one line.
pub fn from_json(json: &Value) -> Result<Pod, String> {
    decode::from_value(json)
}

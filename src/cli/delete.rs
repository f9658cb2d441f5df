//! `minipod delete`: pods are stopped gracefully and removed with all that is theirs.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::get::Refusal;
use super::need_root;
use super::run::manifest_of;
use crate::pod::dir::{self, PodDir};
use crate::pod::places::Places;
use crate::pod::start;

/// Stop pods and remove them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod delete pod web               SIGTERM, the pod's grace, SIGKILL; then everything of it is removed
  minipod delete pod/web --now         with a grace of one second
  minipod delete web db --grace-period 5
  minipod delete -f pod.yaml           the pods that a file names
  minipod delete pods --all")]
pub struct DeleteArgs {
    /// `pod NAME...`, `pod/NAME...` or just names
    #[arg(value_name = "pod NAME", required_unless_present = "filename")]
    what: Vec<String>,
    /// Delete the pods that this file names; - is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "what")]
    filename: Vec<PathBuf>,
    /// Seconds between the stop signal and SIGKILL; it can only shorten a deletion that is under way
    #[arg(long, value_name = "SECONDS", conflicts_with = "now", allow_negative_numbers = true)]
    grace_period: Option<i64>,
    /// A grace of one second
    #[arg(long)]
    now: bool,
    /// With no grace at all: SIGKILL follows the stop signal after two seconds, the least that Kubernetes gives
    #[arg(long)]
    force: bool,
    /// All pods of the namespace
    #[arg(long)]
    all: bool,
    /// Do not fail when a pod is not there
    #[arg(long)]
    ignore_not_found: bool,
    /// Wait until the pods are gone
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    wait: bool,
    /// The namespace of the pods
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
}

impl DeleteArgs {
    /// kubectl's rules: --now is 1; 0 without --force is 1; negative is the pod's own.
    fn grace_seconds(&self) -> Option<u64> {
        let period = self.grace_period.or(self.force.then_some(0)).or(self.now.then_some(1)).filter(|seconds| *seconds >= 0)?;
        Some(if period == 0 && !self.force { 1 } else { period as u64 })
    }

    fn pods(&self, places: &Places) -> Result<Vec<PodDir>> {
        let mut pods = Vec::new();
        for file in &self.filename {
            for pod in manifest_of(file)?.pods {
                let namespace = pod.metadata.namespace.unwrap_or_else(|| self.namespace.clone());
                pods.push(PodDir::new(places, &namespace, pod.metadata.name.as_deref().unwrap_or_default()));
            }
        }
        let mut words = self.what.iter().map(String::as_str).peekable();
        if words.next_if(|word| matches!(*word, "pod" | "pods" | "po")).is_some() && words.peek().is_none() && !self.all {
            return Err(Refusal::client("resource(s) were provided, but no name was specified").into());
        }
        if self.all {
            pods.extend(dir::all(places)?.into_iter().filter(|dir| dir.namespace == self.namespace));
        }
        for word in words {
            let name = word.split_once('/').map_or(word, |(_, name)| name);
            pods.push(PodDir::new(places, &self.namespace, name));
        }
        Ok(pods)
    }
}

/// Stops all at once and then waits for each, as kubectl does.
pub fn delete(args: &DeleteArgs, places: &Places) -> Result<u8> {
    need_root()?;
    let (pods, grace) = (args.pods(places)?, args.grace_seconds());
    let mut code = 0;
    let mut stopping = Vec::new();
    for dir in pods {
        match start::delete(places, &dir, grace, false)? {
            Some(()) => {
                println!("pod {:?} deleted from {} namespace", dir.name, dir.namespace);
                stopping.push(dir);
            }
            None if args.ignore_not_found => {}
            None => {
                eprintln!("{}", Refusal::not_found(&dir.name));
                code = 1;
            }
        }
    }
    if args.wait {
        stopping.iter().try_for_each(PodDir::wait_until_gone)?;
    }
    Ok(code)
}

//! `minipod explain`: every step of a start, with its system calls, before anything is started.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::Pod;

use super::get::Refusal;
use super::need_root;
use super::run::manifest_of;
use crate::manifest::Object;
use crate::pod::explain::{self, Explained};
use crate::pod::job;
use crate::pod::places::Places;
use crate::sys::process::Namespaces;

/// Show how a pod, or the first pod of a job, would be started: each step with its system calls, or the OCI runtime spec
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod explain pod.yaml                  the steps of the pause and of each container, in the order in which they start
  minipod explain pod.yaml -c web           those of one container
  minipod explain pod.yaml -c web -o oci    its OCI runtime spec (config.json)")]
pub struct ExplainArgs {
    /// The manifest; - is standard input
    #[arg(value_name = "FILE", required_unless_present = "filename")]
    file: Option<PathBuf>,
    /// The manifest, as kubectl's -f
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    filename: Option<PathBuf>,
    /// Only this container
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// What to print
    #[arg(short, long, value_name = "FORM", default_value = "steps")]
    output: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One line a step
    Steps,
    /// The OCI runtime spec of each container, as JSON
    Oci,
}

pub fn explain(args: &ExplainArgs, places: &Places) -> Result<u8> {
    need_root()?;
    let path = args.file.as_ref().or(args.filename.as_ref()).expect("clap requires one");
    let mut out = std::io::stdout().lock();
    let objects = manifest_of(path)?.objects;
    for object in &objects {
        let pod = match object {
            Object::Pod(pod) => Pod::clone(pod),
            Object::Job(asked) => job::first_pod(asked),
            Object::ConfigMap(_) | Object::Secret(_) | Object::PersistentVolumeClaim(_) | Object::Service(_) => continue,
        };
        let all = explain::explain(places, &pod, &objects, args.container.as_deref())?;
        if all.is_empty() {
            let (container, name) = (args.container.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
            return Err(Refusal::client(format!("container {container} is not valid for pod {name} out of: {}", super::logs::container_names(&pod))).into());
        }
        match args.output {
            Form::Steps => all.iter().try_for_each(|one| steps(one, &mut out))?,
            Form::Oci => {
                let specs: Vec<_> = all.iter().filter_map(|one| one.spec.as_ref()).collect();
                match specs.as_slice() {
                    [spec] => writeln!(out, "{}", serde_json::to_string_pretty(spec)?)?,
                    specs => writeln!(out, "{}", serde_json::to_string_pretty(specs)?)?,
                }
            }
        }
    }
    Ok(0)
}

/// The clone is the first step: it is the parent's.
fn steps(one: &Explained, out: &mut impl Write) -> Result<()> {
    match &one.image {
        Some(image) => writeln!(out, "container {} ({image})", one.name)?,
        None => writeln!(out, "{}", one.name)?,
    }
    let pid = if one.plan.born_in.contains(Namespaces::PID) { ", in the pause's pid namespace" } else { "" };
    writeln!(out, "  {:>2}  {:<32} a process with its own {}{pid}, born in cgroup {}", 0, "clone3", one.plan.namespaces, one.cgroup.display())?;
    for (step, number) in one.plan.steps.iter().zip(1..) {
        writeln!(out, "  {number:>2}  {:<32} {step}", step.calls())?;
    }
    writeln!(out)?;
    Ok(())
}

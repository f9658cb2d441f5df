//! `minipod resize`: other cpu and memory for a container that runs, or for the pod as a whole.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;

use super::get::Refusal;
use super::{need_root, pods};
use crate::error::Error;
use crate::pod::control::{self, Reply, Request};
use crate::pod::dir::PodDir;
use crate::pod::places::Places;
use crate::pod::status::is_finished;
use crate::pod::{all_containers, pod_spec};

/// Change cpu and memory of a container that runs, or of the pod as a whole
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod resize web --limits cpu=500m,memory=128Mi         the only container of the pod
  minipod resize web -c app --requests cpu=200m --limits cpu=1
  minipod resize web --pod --limits memory=1Gi              what all its containers share (spec.resources)
  minipod get pod web -o jsonpath='{.status.containerStatuses[0].resources}'

As `kubectl patch --subresource resize` does it: what is not named stays, limits cannot be removed, and the pod's
QoS class cannot change. A container goes on running, unless its resizePolicy says RestartContainer. A memory
limit below what the container uses is not set before it uses less; the condition PodResizeInProgress says so.")]
pub struct ResizeArgs {
    /// The pod, as NAME or pod/NAME
    #[arg(value_name = "POD")]
    pod: String,
    /// The container; needed if the pod has several
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// The pod as a whole, if its manifest gives it resources
    #[arg(long = "pod", conflicts_with = "container")]
    pod_level: bool,
    /// The most it may use, as cpu=AMOUNT,memory=AMOUNT
    #[arg(long, value_name = "RESOURCES", required_unless_present = "requests")]
    limits: Option<String>,
    /// What is kept for it, as cpu=AMOUNT,memory=AMOUNT
    #[arg(long, value_name = "RESOURCES")]
    requests: Option<String>,
    /// The namespace of the pod
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
}

pub fn resize(args: &ResizeArgs, places: &Places) -> Result<u8> {
    let (limits, requests) = (amounts(args.limits.as_deref())?, amounts(args.requests.as_deref())?);
    need_root()?;
    let name = pods::name_of(&args.pod)?;
    let pod = pods::find(places, &args.namespace, name)?;
    if is_finished(&pod) {
        let phase = pod.status.and_then(|status| status.phase).unwrap_or_default();
        return Err(Refusal::client(format!("a completed pod cannot be resized; current phase is {phase}")).into());
    }
    let names: Vec<&str> = all_containers(pod_spec(&pod)).map(|container| container.name.as_str()).collect();
    let container = match (&args.container, &names[..]) {
        _ if args.pod_level => None,
        (Some(name), _) => Some(name.clone()),
        (None, [only]) => Some((*only).to_owned()),
        (None, several) => {
            return Err(
                Refusal::client(format!("the pod has several containers, name one with -c, or the pod as a whole with --pod: {}", several.join(", "))).into()
            );
        }
    };
    let request = Request::Resize { container, limits, requests };
    match control::ask(&PodDir::new(places, &args.namespace, name), &request)? {
        Some((Reply::Done {}, ..)) => {
            println!("pod/{name} resized");
            Ok(0)
        }
        Some((Reply::Refused { why }, ..)) => Err(Error::said(why).into()),
        Some(_) => Err(Error::said("the supervisor answered something else").into()),
        None => Err(Refusal::client(format!("the pod {name} has no supervisor any more")).into()),
    }
}

/// `cpu=500m,memory=64Mi`, as `kubectl set resources` takes it.
fn amounts(text: Option<&str>) -> Result<BTreeMap<String, String>, Refusal> {
    let mut amounts = BTreeMap::new();
    for part in text.into_iter().flat_map(|text| text.split(',')) {
        let Some((name, amount)) = part.split_once('=').filter(|(name, amount)| !name.is_empty() && !amount.is_empty()) else {
            return Err(Refusal::client(format!("invalid argument syntax {part:?}, expected <resource>=<value>")));
        };
        amounts.insert(name.trim().to_owned(), amount.trim().to_owned());
    }
    Ok(amounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_pairs() {
        let both = amounts(Some("cpu=500m,memory=64Mi")).unwrap();
        assert_eq!(both.into_iter().collect::<Vec<_>>(), [("cpu".to_owned(), "500m".to_owned()), ("memory".to_owned(), "64Mi".to_owned())]);
        assert_eq!(amounts(None).unwrap(), BTreeMap::new());
        assert!(amounts(Some("cpu")).is_err() && amounts(Some("=1")).is_err() && amounts(Some("cpu=1,")).is_err());
    }
}

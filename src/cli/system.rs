//! `minipod system df`: what minipod keeps on disk, and what of it nobody uses.
//!
//! What is counted are blocks, as by du(1), each file once; layers that images share are counted once as well.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use super::image::{age_of, short_id, size};
use super::table::Columns;
use super::{need_root, pods};
use crate::image::{Image, Store};
use crate::pod::dir::PodDir;
use crate::pod::objects::claims;
use crate::pod::places::Places;
use crate::pod::status;
use crate::sys::tree::disk_use;

/// What minipod keeps on this machine
#[derive(Debug, Args)]
pub struct SystemArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Df(Df),
}

/// Show what images, pods, claims and logs take of the disk
///
/// SIZE is what is on disk, in blocks, so it may differ from that of `image ls`. A pod has what its containers wrote, and its own volumes.
/// ACTIVE are the images that pods use, the pods that have not ended, the claims that pods have. RECLAIMABLE is what goes with the others:
/// `minipod image prune --all`, `minipod delete pod NAME`, `minipod delete pvc NAME`.
#[derive(Debug, Args)]
struct Df {
    /// A line for each image, pod and claim
    #[arg(short, long, conflicts_with = "output")]
    verbose: bool,
    /// Another form: bytes, of each single thing, too
    #[arg(short, long, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
}

/// Sizes are bytes on disk.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    #[serde(rename = "type")]
    kind: &'static str,
    total: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OneImage {
    names: Vec<String>,
    id: String,
    created: Option<String>,
    size: u64,
    /// Of layers that another image has, too.
    shared: u64,
    active: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OnePod {
    namespace: String,
    name: String,
    phase: String,
    size: u64,
    logs: u64,
    active: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OneClaim {
    namespace: String,
    name: String,
    pods: Vec<String>,
    size: u64,
}

#[derive(Debug, Serialize)]
struct All {
    types: Vec<Whole>,
    images: Vec<OneImage>,
    pods: Vec<OnePod>,
    claims: Vec<OneClaim>,
}

pub fn system(args: &SystemArgs, places: &Places) -> Result<u8> {
    need_root()?;
    let Verb::Df(df) = &args.verb;
    let all = measure(places)?;
    if df.output.is_some() {
        println!("{:#}", serde_json::to_value(&all)?);
    } else if df.verbose {
        print!("{}", verbose(&all, jiff::Timestamp::now()));
    } else {
        print!("{}", summary(&all.types));
    }
    Ok(0)
}

fn measure(places: &Places) -> Result<All> {
    let store = Store::open(places.images())?;
    let (in_use, known) = (pods::images_in_use(places, &store)?, pods::all(places)?);
    let (images, of_images) = images(&store.list()?, &in_use)?;
    let pods = known.iter().map(|(dir, pod)| one_pod(places, dir, pod)).collect::<Result<Vec<_>>>()?;
    let claims = claims::directories(places)?.into_iter().map(|(namespace, name, path)| {
        let users = known.iter().filter(|(dir, pod)| dir.namespace == namespace && claims::of_pod(pod).any(|claim| claim == name));
        let pods = users.map(|(dir, _)| dir.name.clone()).collect();
        Ok(OneClaim { namespace, name, pods, size: disk_use(path)? })
    });
    let claims = claims.collect::<Result<Vec<_>>>()?;
    let of_pods = whole("Pods", pods.iter().map(|pod| (pod.active, pod.size)));
    let of_claims = whole("Claims", claims.iter().map(|claim| (!claim.pods.is_empty(), claim.size)));
    let of_logs = whole("Logs", pods.iter().map(|pod| (pod.active, pod.logs)));
    Ok(All { types: vec![of_images, of_pods, of_claims, of_logs], images, pods, claims })
}

fn whole(kind: &'static str, things: impl Iterator<Item = (bool, u64)>) -> Whole {
    let mut whole = Whole { kind, ..Whole::default() };
    for (active, size) in things {
        whole.total += 1;
        whole.active += usize::from(active);
        whole.size += size;
        whole.reclaimable += if active { 0 } else { size };
    }
    whole
}

/// An image with several names is one.
fn images(records: &[Image], in_use: &BTreeSet<String>) -> Result<(Vec<OneImage>, Whole)> {
    let mut users: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut sizes = BTreeMap::new();
    for image in records {
        for layer in &image.layers {
            users.entry(layer).or_default().insert(&image.id);
            if !sizes.contains_key(layer.as_str()) {
                sizes.insert(layer.as_str(), disk_use(image.layers_dir().join(layer))?);
            }
        }
    }
    let size_of = |layer: &&String| sizes.get(layer.as_str()).copied().unwrap_or(0);
    let mut found: Vec<OneImage> = Vec::new();
    for image in records {
        let name = image.reference.familiar();
        if let Some(same) = found.iter_mut().find(|other| other.id == image.id) {
            same.names.push(name);
            continue;
        }
        let shared = image.layers.iter().filter(|layer| users[layer.as_str()].len() > 1).map(|layer| size_of(&layer)).sum();
        let (created, active) = (image.created.clone(), in_use.contains(&image.id));
        found.push(OneImage { names: vec![name], id: image.id.clone(), created, size: image.layers.iter().map(|layer| size_of(&layer)).sum(), shared, active });
    }
    let idle = |layer: &&str| !users[*layer].iter().any(|id| in_use.contains(*id));
    let whole = Whole {
        kind: "Images",
        total: found.len(),
        active: found.iter().filter(|image| image.active).count(),
        size: sizes.values().sum(),
        reclaimable: sizes.iter().filter(|(layer, _)| idle(layer)).map(|(_, size)| size).sum(),
    };
    Ok((found, whole))
}

fn one_pod(places: &Places, dir: &PodDir, pod: &Pod) -> Result<OnePod> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    Ok(OnePod {
        namespace: dir.namespace.clone(),
        name: dir.name.clone(),
        phase,
        size: disk_use(dir.path())?,
        logs: disk_use(places.logs(&dir.namespace, &dir.name, pod.metadata.uid.as_deref().unwrap_or_default()))?,
        active: !status::is_finished(pod),
    })
}

fn summary(types: &[Whole]) -> String {
    let row = |whole: &Whole| {
        let part = (whole.reclaimable * 100).checked_div(whole.size).map_or(String::new(), |part| format!(" ({part}%)"));
        format!("{}\t{}\t{}\t{}\t{}{part}\n", whole.kind, whole.total, whole.active, size(whole.size), size(whole.reclaimable))
    };
    let rows: String = types.iter().map(row).collect();
    Columns::of_get().align(&("TYPE\tTOTAL\tACTIVE\tSIZE\tRECLAIMABLE\n".to_owned() + &rows))
}

fn verbose(all: &All, now: jiff::Timestamp) -> String {
    let none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    let images = all.images.iter().map(|image| {
        let active = if image.active { "yes" } else { "no" };
        let (id, age) = (short_id(&image.id).to_owned(), age_of(image.created.as_deref(), now));
        [image.names.join(","), id, age, size(image.size), size(image.shared), size(image.size - image.shared), active.to_owned()].join("\t")
    });
    let pods = all.pods.iter().map(|pod| [pod.namespace.clone(), pod.name.clone(), none(pod.phase.clone()), size(pod.size), size(pod.logs)].join("\t"));
    let claims = all.claims.iter().map(|claim| [claim.namespace.clone(), claim.name.clone(), size(claim.size), none(claim.pods.join(","))].join("\t"));
    let table = |title: &str, header: &str, rows: &mut dyn Iterator<Item = String>| {
        let text = std::iter::once(header.to_owned()).chain(rows).map(|row| row + "\n").collect::<String>();
        format!("{title}:\n\n{}", Columns::of_get().align(&text))
    };
    [
        table("Images", "IMAGE\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tACTIVE", &mut { images }),
        table("Pods", "NAMESPACE\tNAME\tPHASE\tSIZE\tLOGS", &mut { pods }),
        table("Claims", "NAMESPACE\tNAME\tSIZE\tPODS", &mut { claims }),
    ]
    .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_can_be_had_back() {
        let pods = whole("Pods", [(true, 3000), (false, 1000)].into_iter());
        assert_eq!(pods, Whole { kind: "Pods", total: 2, active: 1, size: 4000, reclaimable: 1000 });
        let text = summary(&[pods, whole("Claims", std::iter::empty())]);
        assert_eq!(
            text,
            "TYPE     TOTAL   ACTIVE   SIZE     RECLAIMABLE\nPods     2       1        4.00kB   1.00kB (25%)\nClaims   0       0        0B       0B\n"
        );
    }
}

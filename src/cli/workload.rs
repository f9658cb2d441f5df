//! The pods of workloads, whatever the template that made them. No controller remembers them: they are known by their owner.

use anyhow::Result;
use std::collections::BTreeSet;

use crate::manifest::Object;
use crate::pod::dir::{self, PodDir};
use crate::pod::places::Places;

/// The pods that have an owner in common with those asked for and are not among them: of an earlier template, or of a greater count.
pub fn others(places: &Places, asked: &[Object]) -> Result<Vec<PodDir>> {
    let (mut owners, mut named) = (BTreeSet::new(), BTreeSet::new());
    for metadata in asked.iter().filter(|object| matches!(object, Object::Pod(_))).map(Object::metadata) {
        let namespace = metadata.namespace.clone().unwrap_or_default();
        owners.extend(metadata.owner_references.iter().flatten().map(|owner| (namespace.clone(), owner.uid.clone())));
        named.insert((namespace, metadata.name.clone().unwrap_or_default()));
    }
    if owners.is_empty() {
        return Ok(Vec::new());
    }
    let mut others = Vec::new();
    for dir in dir::all(places)?.into_iter().filter(|dir| !named.contains(&(dir.namespace.clone(), dir.name.clone()))) {
        // One that cannot be read is nobody's.
        let Ok(Some(known)) = dir.read() else { continue };
        if known.pod.metadata.owner_references.iter().flatten().any(|owner| owners.contains(&(dir.namespace.clone(), owner.uid.clone()))) {
            others.push(dir);
        }
    }
    Ok(others)
}

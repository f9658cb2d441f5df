//! PersistentVolumeClaims, and volumes that name or make one (`ValidatePersistentVolumeClaimSpec`).

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, Volume};

use super::containers::word;
use super::metadata;
use crate::manifest::fault::{Findings, Kind};
use crate::manifest::path::At;
use crate::manifest::quantity::Quantity;

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

pub fn claim(claim: &PersistentVolumeClaim, findings: &mut Findings) {
    metadata::object(&claim.metadata, &At::ROOT.field("metadata"), findings);
    if let Some(spec) = &claim.spec {
        self::spec(spec, &At::ROOT.field("spec"), findings);
    }
}

pub fn spec(spec: &PersistentVolumeClaimSpec, at: &At, findings: &mut Findings) {
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let place = at.field("accessModes");
    if modes.is_empty() {
        findings.required(&place, "at least 1 access mode is required");
    }
    modes.iter().for_each(|mode| word(Some(mode), MODES, &place, findings));
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        findings.forbidden(&place, "may not use ReadWriteOncePod with other access modes");
    }
    let resources = at.field("resources");
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let place = resources.field("requests");
    match requests.and_then(|requests| requests.get("storage")).map(|storage| (storage, Quantity::parse(&storage.0))) {
        None => findings.required(&resources.key("storage"), ""),
        Some((storage, Err(said))) => findings.invalid(&place.key("storage"), &storage.0, said),
        Some((storage, Ok(size))) if size.is_negative() || size.bytes() == 0 => {
            findings.invalid(&place.key("storage"), &storage.0, "must be greater than zero");
        }
        Some((_, Ok(_))) => {}
    }
    word(spec.volume_mode.as_deref(), &["Block", "Filesystem"], &at.field("volumeMode"), findings);
    if spec.volume_mode.as_deref() == Some("Block") {
        findings.add(at.field("volumeMode").steps(), Kind::NotSupported, None, "raw block volumes are not supported");
    }
}

/// `validatePersistentClaimVolumeSource`, `validateEphemeralVolumeSource`.
pub fn volume(volume: &Volume, at: &At, findings: &mut Findings) {
    if let Some(source) = &volume.persistent_volume_claim {
        let at = at.field("persistentVolumeClaim");
        // A name that no claim can have is the scheduler's to miss.
        if source.claim_name.is_empty() {
            findings.required(&at.field("claimName"), "");
        }
    }
    if let Some(source) = &volume.ephemeral {
        let at = at.field("ephemeral");
        match &source.volume_claim_template {
            None => findings.required(&at.field("volumeClaimTemplate"), ""),
            Some(template) => spec(&template.spec, &at.field("volumeClaimTemplate").field("spec"), findings),
        }
    }
}

//! The volumes of a pod in `describe`. Upstream explains each kind in a few words and names some of its fields; a kind
//! that minipod cannot mount is still described, for the object may come from elsewhere.

use std::fmt::Display;

use k8s_openapi::api::core::v1::{EphemeralVolumeSource, LocalObjectReference, ProjectedVolumeSource, Volume};

use super::container::milli;
use super::{Text, plain, shorten};

/// The section of all volumes.
pub fn volumes(text: &mut Text, volumes: &[Volume]) {
    if volumes.is_empty() {
        return text.field(0, "Volumes", Some("<none>"));
    }
    text.at(0, format_args!("Volumes:\n"));
    for volume in volumes {
        text.at(1, format_args!("{}:\n", volume.name));
        let known = local(text, volume) || of_objects(text, volume) || of_network(text, volume) || of_cloud(text, volume);
        if !known {
            text.at(1, format_args!("<unknown>\n"));
        }
    }
}

/// The lines of a volume: what it is, then its fields.
fn lines(text: &mut Text, kind: &str, fields: &[(&str, &dyn Display)]) -> bool {
    text.field(2, "Type", Some(kind));
    fields.iter().for_each(|(label, value)| text.field(2, label, Some(value)));
    true
}

fn yes(flag: Option<bool>) -> bool {
    flag.unwrap_or_default()
}

/// A reference to a secret as Go prints the structure.
fn secret_ref(secret: &Option<LocalObjectReference>) -> String {
    secret.as_ref().map_or_else(|| "nil".to_owned(), |secret| format!("&LocalObjectReference{{Name:{},}}", secret.name))
}

/// Volumes of this machine.
fn local(text: &mut Text, volume: &Volume) -> bool {
    if let Some(host) = &volume.host_path {
        let kind = host.type_.as_deref().unwrap_or("<none>");
        return lines(text, "HostPath (bare host directory volume)", &[("Path", &host.path), ("HostPathType", &kind)]);
    }
    if let Some(empty) = &volume.empty_dir {
        let limit = empty.size_limit.as_ref().filter(|limit| milli(limit).is_some_and(|limit| limit > 0)).map_or("<unset>", |limit| &limit.0);
        let kind = "EmptyDir (a temporary directory that shares a pod's lifetime)";
        return lines(text, kind, &[("Medium", &plain(&empty.medium)), ("SizeLimit", &limit)]);
    }
    if let Some(image) = &volume.image {
        let fields: [(&str, &dyn Display); 2] = [("Reference", &plain(&image.reference)), ("PullPolicy", &plain(&image.pull_policy))];
        return lines(text, "Image (a container image or OCI artifact)", &fields);
    }
    if let Some(git) = &volume.git_repo {
        let kind = "GitRepo (a volume that is pulled from git when the pod is created)";
        return lines(text, kind, &[("Repository", &git.repository), ("Revision", &plain(&git.revision))]);
    }
    false
}

/// Volumes filled from Kubernetes' own objects.
fn of_objects(text: &mut Text, volume: &Volume) -> bool {
    if let Some(secret) = &volume.secret {
        let fields: [(&str, &dyn Display); 2] = [("SecretName", &plain(&secret.secret_name)), ("Optional", &yes(secret.optional))];
        return lines(text, "Secret (a volume populated by a Secret)", &fields);
    }
    if let Some(map) = &volume.config_map {
        return lines(text, "ConfigMap (a volume populated by a ConfigMap)", &[("Name", &map.name), ("Optional", &yes(map.optional))]);
    }
    if let Some(downward) = &volume.downward_api {
        lines(text, "DownwardAPI (a volume populated by information about the pod)", &[]);
        text.at(2, format_args!("Items:\n"));
        for item in downward.items.iter().flatten() {
            let field = item.field_ref.as_ref().map(|field| &field.field_path);
            let resource = item.resource_field_ref.as_ref().map(|field| &field.resource);
            field.into_iter().chain(resource).for_each(|from| text.at(3, format_args!("{from} -> {}\n", item.path)));
        }
        return true;
    }
    if let Some(projected) = &volume.projected {
        return projection(text, projected);
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        let kind = "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)";
        return lines(text, kind, &[("ClaimName", &claim.claim_name), ("ReadOnly", &yes(claim.read_only))]);
    }
    volume.ephemeral.as_ref().is_some_and(|ephemeral| claim_template(text, ephemeral))
}

fn projection(text: &mut Text, projected: &ProjectedVolumeSource) -> bool {
    lines(text, "Projected (a volume that contains injected data from multiple sources)", &[]);
    for source in projected.sources.iter().flatten() {
        if let Some(secret) = &source.secret {
            text.field(2, "SecretName", Some(&secret.name));
            text.field(2, "Optional", Some(yes(secret.optional)));
        } else if source.downward_api.is_some() {
            text.field(2, "DownwardAPI", Some(true));
        } else if let Some(map) = &source.config_map {
            text.field(2, "ConfigMapName", Some(&map.name));
            text.field(2, "Optional", Some(yes(map.optional)));
        } else if let Some(token) = &source.service_account_token {
            text.field(2, "TokenExpirationSeconds", Some(token.expiration_seconds.unwrap_or_default()));
        }
    }
    true
}

/// A claim made for the pod. Upstream writes it through a writer that indents each piece of a line, also within the line:
/// hence the four blanks before the values of Labels and Annotations.
fn claim_template(text: &mut Text, ephemeral: &EphemeralVolumeSource) -> bool {
    lines(text, "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)", &[]);
    let Some(template) = &ephemeral.volume_claim_template else { return true };
    let (spec, metadata) = (&template.spec, template.metadata.clone().unwrap_or_default());
    text.field(2, "StorageClass", Some(plain(&spec.storage_class_name)));
    text.field(2, "Volume", Some(plain(&spec.volume_name)));
    let labels = metadata.labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    pieces(text, "Labels", 4, labels.collect());
    let annotations = metadata.annotations.iter().flatten().map(|(key, value)| format!("{key}: {value}"));
    pieces(text, "Annotations", 2, annotations.collect());
    text.field(2, "Capacity", Some(""));
    text.field(2, "Access Modes", Some(""));
    text.field(2, "VolumeMode", spec.volume_mode.as_ref());
    if let Some(source) = &spec.data_source {
        text.at(2, format_args!("DataSource:\n"));
        text.field(3, "APIGroup", source.api_group.as_ref());
        text.field(3, "Kind", Some(&source.kind));
        text.field(3, "Name", Some(&source.name));
    }
    true
}

fn pieces(text: &mut Text, label: &str, further: usize, pieces: Vec<String>) {
    text.at(2, format_args!("{label}:"));
    for (index, piece) in pieces.iter().enumerate() {
        text.at(if index == 0 { 0 } else { further }, format_args!("\t    {piece}\n"));
    }
    if pieces.is_empty() {
        text.on(format_args!("\t    <none>\n"));
    }
}

/// Volumes of other machines, by a protocol or a plugin.
fn of_network(text: &mut Text, volume: &Volume) -> bool {
    if let Some(nfs) = &volume.nfs {
        let kind = "NFS (an NFS mount that lasts the lifetime of a pod)";
        return lines(text, kind, &[("Server", &nfs.server), ("Path", &nfs.path), ("ReadOnly", &yes(nfs.read_only))]);
    }
    if let Some(iscsi) = &volume.iscsi {
        let kind = "ISCSI (an ISCSI Disk resource that is attached to a kubelet's host machine and then exposed to the pod)";
        lines(text, kind, &[("TargetPortal", &iscsi.target_portal), ("IQN", &iscsi.iqn), ("Lun", &iscsi.lun)]);
        // Upstream forgot the colon.
        text.at(2, format_args!("ISCSIInterface\t{}\n", plain(&iscsi.iscsi_interface)));
        let fields: [(&str, &dyn Display); 7] = [
            ("FSType", &plain(&iscsi.fs_type)),
            ("ReadOnly", &yes(iscsi.read_only)),
            ("Portals", &format_args!("[{}]", iscsi.portals.as_deref().unwrap_or_default().join(" "))),
            ("DiscoveryCHAPAuth", &yes(iscsi.chap_auth_discovery)),
            ("SessionCHAPAuth", &yes(iscsi.chap_auth_session)),
            ("SecretRef", &secret_ref(&iscsi.secret_ref)),
            ("InitiatorName", &iscsi.initiator_name.as_deref().unwrap_or("<none>")),
        ];
        fields.iter().for_each(|(label, value)| text.field(2, label, Some(value)));
        return true;
    }
    if let Some(fc) = &volume.fc {
        let lun = fc.lun.map_or_else(|| "<none>".to_owned(), |lun| lun.to_string());
        let names = fc.target_wwns.as_deref().unwrap_or_default().join(", ");
        let fields: [(&str, &dyn Display); 4] = [("TargetWWNs", &names), ("LUN", &lun), ("FSType", &plain(&fc.fs_type)), ("ReadOnly", &yes(fc.read_only))];
        return lines(text, "FC (a Fibre Channel disk)", &fields);
    }
    if let Some(csi) = &volume.csi {
        let fields: [(&str, &dyn Display); 3] = [("Driver", &csi.driver), ("FSType", &plain(&csi.fs_type)), ("ReadOnly", &yes(csi.read_only))];
        lines(text, "CSI (a Container Storage Interface (CSI) volume source)", &fields);
        return attributes(text, csi.volume_attributes.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect());
    }
    if let Some(flex) = &volume.flex_volume {
        let options: Vec<String> = flex.options.iter().flatten().map(|(key, value)| format!("{key}:{value}")).collect();
        let fields: [(&str, &dyn Display); 5] = [
            ("Driver", &flex.driver),
            ("FSType", &plain(&flex.fs_type)),
            ("SecretRef", &secret_ref(&flex.secret_ref)),
            ("ReadOnly", &yes(flex.read_only)),
            ("Options", &format_args!("map[{}]", options.join(" "))),
        ];
        return lines(text, "FlexVolume (a generic volume resource that is provisioned/attached using an exec based plugin)", &fields);
    }
    of_cluster(text, volume)
}

/// The attributes of a CSI volume; like the claim's labels they carry the indentation within their line.
fn attributes(text: &mut Text, attributes: Vec<String>) -> bool {
    text.at(2, format_args!("VolumeAttributes:\t"));
    if attributes.is_empty() {
        text.on(format_args!("<none>\n"));
    }
    for (index, line) in attributes.iter().enumerate() {
        if index > 0 {
            text.on(format_args!("        \t"));
        }
        text.at(2, format_args!("{}\n", shorten(line, super::LONGEST_ANNOTATION)));
    }
    true
}

/// File systems that are spread over machines.
fn of_cluster(text: &mut Text, volume: &Volume) -> bool {
    if let Some(ceph) = &volume.cephfs {
        let fields: [(&str, &dyn Display); 6] = [
            ("Monitors", &format_args!("[{}]", ceph.monitors.join(" "))),
            ("Path", &plain(&ceph.path)),
            ("User", &plain(&ceph.user)),
            ("SecretFile", &plain(&ceph.secret_file)),
            ("SecretRef", &secret_ref(&ceph.secret_ref)),
            ("ReadOnly", &yes(ceph.read_only)),
        ];
        return lines(text, "CephFS (a CephFS mount on the host that shares a pod's lifetime)", &fields);
    }
    if let Some(rbd) = &volume.rbd {
        let fields: [(&str, &dyn Display); 8] = [
            ("CephMonitors", &format_args!("[{}]", rbd.monitors.join(" "))),
            ("RBDImage", &rbd.image),
            ("FSType", &plain(&rbd.fs_type)),
            ("RBDPool", &plain(&rbd.pool)),
            ("RadosUser", &plain(&rbd.user)),
            ("Keyring", &plain(&rbd.keyring)),
            ("SecretRef", &secret_ref(&rbd.secret_ref)),
            ("ReadOnly", &yes(rbd.read_only)),
        ];
        return lines(text, "RBD (a Rados Block Device mount on the host that shares a pod's lifetime)", &fields);
    }
    if let Some(gluster) = &volume.glusterfs {
        let fields: [(&str, &dyn Display); 3] = [("EndpointsName", &gluster.endpoints), ("Path", &gluster.path), ("ReadOnly", &yes(gluster.read_only))];
        return lines(text, "Glusterfs (a Glusterfs mount on the host that shares a pod's lifetime)", &fields);
    }
    if let Some(quobyte) = &volume.quobyte {
        let fields: [(&str, &dyn Display); 3] = [("Registry", &quobyte.registry), ("Volume", &quobyte.volume), ("ReadOnly", &yes(quobyte.read_only))];
        return lines(text, "Quobyte (a Quobyte mount on the host that shares a pod's lifetime)", &fields);
    }
    if let Some(storageos) = &volume.storageos {
        let fields: [(&str, &dyn Display); 4] = [
            ("VolumeName", &plain(&storageos.volume_name)),
            ("VolumeNamespace", &plain(&storageos.volume_namespace)),
            ("FSType", &plain(&storageos.fs_type)),
            ("ReadOnly", &yes(storageos.read_only)),
        ];
        return lines(text, "StorageOS (a StorageOS Persistent Disk resource)", &fields);
    }
    if let Some(scale) = &volume.scale_io {
        let fields: [(&str, &dyn Display); 8] = [
            ("Gateway", &scale.gateway),
            ("System", &scale.system),
            ("Protection Domain", &plain(&scale.protection_domain)),
            ("Storage Pool", &plain(&scale.storage_pool)),
            ("Storage Mode", &plain(&scale.storage_mode)),
            ("VolumeName", &plain(&scale.volume_name)),
            ("FSType", &plain(&scale.fs_type)),
            ("ReadOnly", &yes(scale.read_only)),
        ];
        return lines(text, "ScaleIO (a persistent volume backed by a block device in ScaleIO)", &fields);
    }
    if let Some(flocker) = &volume.flocker {
        let fields: [(&str, &dyn Display); 2] = [("DatasetName", &plain(&flocker.dataset_name)), ("DatasetUUID", &plain(&flocker.dataset_uuid))];
        return lines(text, "Flocker (a Flocker volume mounted by the Flocker agent)", &fields);
    }
    false
}

/// Disks that a provider attaches.
fn of_cloud(text: &mut Text, volume: &Volume) -> bool {
    if let Some(disk) = &volume.gce_persistent_disk {
        let fields: [(&str, &dyn Display); 4] = [
            ("PDName", &disk.pd_name),
            ("FSType", &plain(&disk.fs_type)),
            ("Partition", &disk.partition.unwrap_or_default()),
            ("ReadOnly", &yes(disk.read_only)),
        ];
        return lines(text, "GCEPersistentDisk (a Persistent Disk resource in Google Compute Engine)", &fields);
    }
    if let Some(disk) = &volume.aws_elastic_block_store {
        let fields: [(&str, &dyn Display); 4] = [
            ("VolumeID", &disk.volume_id),
            ("FSType", &plain(&disk.fs_type)),
            ("Partition", &disk.partition.unwrap_or_default()),
            ("ReadOnly", &yes(disk.read_only)),
        ];
        return lines(text, "AWSElasticBlockStore (a Persistent Disk resource in AWS)", &fields);
    }
    if let Some(disk) = &volume.azure_disk {
        let fields: [(&str, &dyn Display); 6] = [
            ("DiskName", &disk.disk_name),
            ("DiskURI", &disk.disk_uri),
            ("Kind", &plain(&disk.kind)),
            ("FSType", &plain(&disk.fs_type)),
            ("CachingMode", &plain(&disk.caching_mode)),
            ("ReadOnly", &yes(disk.read_only)),
        ];
        return lines(text, "AzureDisk (an Azure Data Disk mount on the host and bind mount to the pod)", &fields);
    }
    if let Some(share) = &volume.azure_file {
        let fields: [(&str, &dyn Display); 3] = [("SecretName", &share.secret_name), ("ShareName", &share.share_name), ("ReadOnly", &yes(share.read_only))];
        return lines(text, "AzureFile (an Azure File Service mount on the host and bind mount to the pod)", &fields);
    }
    if let Some(disk) = &volume.cinder {
        let fields: [(&str, &dyn Display); 4] = [
            ("VolumeID", &disk.volume_id),
            ("FSType", &plain(&disk.fs_type)),
            ("ReadOnly", &yes(disk.read_only)),
            ("SecretRef", &secret_ref(&disk.secret_ref)),
        ];
        return lines(text, "Cinder (a Persistent Disk resource in OpenStack)", &fields);
    }
    if let Some(disk) = &volume.vsphere_volume {
        let fields: [(&str, &dyn Display); 3] =
            [("VolumePath", &disk.volume_path), ("FSType", &plain(&disk.fs_type)), ("StoragePolicyName", &plain(&disk.storage_policy_name))];
        return lines(text, "vSphereVolume (a Persistent Disk resource in vSphere)", &fields);
    }
    if let Some(disk) = &volume.photon_persistent_disk {
        let kind = "PhotonPersistentDisk (a Persistent Disk resource in photon platform)";
        return lines(text, kind, &[("PdID", &disk.pd_id), ("FSType", &plain(&disk.fs_type))]);
    }
    if let Some(disk) = &volume.portworx_volume {
        return lines(text, "PortworxVolume (a Portworx Volume resource)", &[("VolumeID", &disk.volume_id)]);
    }
    false
}

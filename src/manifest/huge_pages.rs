//! Huge pages as a pod names them: the resources `hugepages-SIZE`, and the media `HugePages` and `HugePages-SIZE` of an emptyDir.
//!
//! More of them than there are cannot be promised, so a request is its limit, and a pod is as large as the sum of what runs at once
//! (`pkg/apis/core/v1/helper`, `pkg/volume/emptydir`).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::api::resource;

use super::default;
use super::quantity::Quantity;

const RESOURCE: &str = "hugepages-";
/// The medium that leaves the size of its pages to the pod, which must have one only.
const MEDIUM: &str = "HugePages";

pub fn is_resource(name: &str) -> bool {
    name.starts_with(RESOURCE)
}

/// The size in bytes of the pages that a resource counts; None if its name has no size.
pub fn page_size(resource: &str) -> Option<u64> {
    size(resource.strip_prefix(RESOURCE)?)
}

/// The resource that a machine with pages of this size has: the size in binary units, as in `hugepages-2Mi`.
pub fn resource_of(page_size: u64) -> String {
    let (number, unit) = in_units(page_size);
    format!("{RESOURCE}{number}{}", ["", "Ki", "Mi", "Gi"][unit])
}

/// The size in the words of the kernel's cgroup files, as in `hugetlb.2MB.max`.
pub fn kernel_name(page_size: u64) -> String {
    let (number, unit) = in_units(page_size);
    format!("{number}{}", ["B", "KB", "MB", "GB"][unit])
}

fn in_units(bytes: u64) -> (u64, usize) {
    let unit = (1..=3).rev().find(|unit| bytes >> (10 * unit) > 0 && bytes.trailing_zeros() >= 10 * unit).unwrap_or(0);
    (bytes >> (10 * unit), unit as usize)
}

fn size(text: &str) -> Option<u64> {
    let size = Quantity::parse(text).ok().filter(|size| size.is_whole())?;
    u64::try_from(size.bytes()).ok().filter(|size| *size > 0)
}

/// The resources of huge pages that the pod names anywhere.
pub fn resources(spec: &PodSpec) -> BTreeSet<&str> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let all = containers.map(|container| &container.resources).chain([&spec.resources]).flatten();
    let lists = all.flat_map(|resources| [resources.limits.as_ref(), resources.requests.as_ref()]);
    lists.flatten().flat_map(BTreeMap::keys).map(String::as_str).filter(|name| is_resource(name)).collect()
}

/// The bytes of a resource that the whole pod has: what it asks for as a whole, or its containers at once.
pub fn total(spec: &PodSpec, name: &str) -> u64 {
    let given = |list: &Option<BTreeMap<String, resource::Quantity>>| Quantity::parse(&list.as_ref()?.get(name)?.0).ok();
    let whole = spec.resources.as_ref().and_then(|resources| given(&resources.requests).or_else(|| given(&resources.limits)));
    whole.or_else(|| default::together(spec, name)).map_or(0, |amount| u64::try_from(amount.bytes()).unwrap_or(0))
}

/// Whether the medium of an emptyDir is made of huge pages.
pub fn is_medium(medium: &str) -> bool {
    medium.strip_prefix(MEDIUM).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The size in bytes of the pages of a medium, in a pod that must ask for such pages (`getPageSizeMountOption`); else the kubelet's words.
pub fn page_size_of_medium(spec: &PodSpec, medium: &str) -> Result<u64, String> {
    let asked: BTreeSet<u64> = resources(spec).into_iter().filter_map(page_size).collect();
    let none = || format!("medium {medium}: hugePages storage requested, but there is no resource request for huge pages");
    match medium.strip_prefix(MEDIUM).and_then(|rest| rest.strip_prefix('-')) {
        None if asked.len() > 1 => Err(format!("medium: {medium} can't be used if container requests multiple huge page sizes")),
        None => asked.first().copied().ok_or_else(none),
        Some(text) => {
            let size = size(text).ok_or_else(|| format!("{text} is no size of pages, as in {MEDIUM}-2Mi"))?;
            asked.get(&size).copied().ok_or_else(none)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(limits: serde_json::Value) -> PodSpec {
        serde_json::from_value(json!({ "containers": [{ "name": "c", "resources": { "limits": limits, "requests": limits } }] })).unwrap()
    }

    #[test]
    fn a_size_has_a_name_in_kubernetes_and_one_in_the_kernel() {
        for (size, resource, kernel) in [(2 << 20, "hugepages-2Mi", "2MB"), (1 << 30, "hugepages-1Gi", "1GB"), (64 << 10, "hugepages-64Ki", "64KB")] {
            assert_eq!((resource_of(size).as_str(), kernel_name(size).as_str(), page_size(resource)), (resource, kernel, Some(size)));
        }
        for name in ["hugepages-", "hugepages-x", "hugepages-0", "hugepages-100m", "memory"] {
            assert_eq!(page_size(name), None, "{name}");
        }
    }

    #[test]
    fn a_medium_has_the_size_that_the_pod_asks_for() {
        let (one, two) = (pod(json!({ "hugepages-2Mi": "4Mi" })), pod(json!({ "hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi" })));
        assert_eq!(page_size_of_medium(&one, "HugePages"), Ok(2 << 20));
        assert_eq!(page_size_of_medium(&two, "HugePages-1Gi"), Ok(1 << 30));
        assert!(page_size_of_medium(&two, "HugePages").unwrap_err().contains("multiple huge page sizes"));
        assert!(page_size_of_medium(&one, "HugePages-1Gi").unwrap_err().contains("no resource request"));
        assert!(page_size_of_medium(&pod(json!({})), "HugePages").unwrap_err().contains("no resource request"));
        assert!(page_size_of_medium(&one, "HugePages-").unwrap_err().contains("no size"));
    }

    #[test]
    fn a_pod_has_what_its_containers_have_at_once() {
        let container = |name: &str, amount: &str| json!({ "name": name, "resources": { "requests": { "hugepages-2Mi": amount } } });
        let mut spec = json!({ "initContainers": [container("i", "8Mi")], "containers": [container("a", "2Mi"), container("b", "4Mi")] });
        let total = |spec: &serde_json::Value| super::total(&serde_json::from_value(spec.clone()).unwrap(), "hugepages-2Mi");
        assert_eq!(total(&spec), 8 << 20);
        spec["resources"] = json!({ "limits": { "hugepages-2Mi": "10Mi" } });
        assert_eq!(total(&spec), 10 << 20);
    }
}

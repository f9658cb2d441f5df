//! From numbers to cgroup files: which value goes into which file of which hierarchy. Pure.
//!
//! ```text
//!                     v2                                   v1
//! cpu request         cpu.weight                           cpu.shares
//! cpu limit           cpu.max                              cpu.cfs_period_us, cpu.cfs_quota_us
//! memory limit        memory.max (swap.max 0, oom.group 1) memory.limit_in_bytes, memory.memsw.limit_in_bytes
//! processes           pids.max                             pids.max
//! huge pages          hugetlb.2MB.max, hugetlb.2MB.rsvd.max hugetlb.2MB.limit_in_bytes, hugetlb.2MB.rsvd.limit_in_bytes
//! ```

use std::borrow::Cow;

use super::hierarchy::Controller;
use super::limits::Limits;
use crate::manifest::huge_pages::kernel_name;

/// The least time of a period that the kubelet grants, in microseconds; the kernel refuses less too.
const LEAST_QUOTA_US: u64 = 1000;
const PERIOD_US: u64 = 100_000;

/// The interface that a hierarchy has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V1,
    V2,
}

/// Whose cgroup it is. The pod's has other formulas, and no say in swap or in how its containers die.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    Pod,
    Container,
}

/// What it means when a value cannot be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// A limit that the manifest sets: the pod must not run without it unless the user says so.
    Limit,
    /// A request: the pod runs, only its share under load is not what it asked for.
    Request,
    /// Nothing that the manifest asked for.
    Nicety,
}

/// One value for one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    pub file: Cow<'static, str>,
    pub value: String,
    pub weight: Weight,
}

fn setting(file: impl Into<Cow<'static, str>>, value: impl ToString, weight: Weight) -> Setting {
    Setting { file: file.into(), value: value.to_string(), weight }
}

/// What `limits` mean for one controller, in the order in which the files must be written.
pub fn settings(limits: &Limits, controller: Controller, whose: Whose, version: Version) -> Vec<Setting> {
    match controller {
        Controller::Cpu => cpu(limits, whose, version),
        Controller::Memory => limits.memory_bytes.map_or(Vec::new(), |bytes| memory(bytes, whose, version)),
        Controller::Pids => limits.pids.map(|pids| setting("pids.max", pids, Weight::Limit)).into_iter().collect(),
        Controller::Hugetlb => limits.huge_pages.iter().flat_map(|(size, bytes)| huge_pages(&kernel_name(*size), *bytes, version)).collect(),
    }
}

/// Pages in use, the lack of which is SIGBUS, and since 5.7 those that are promised by mmap(2), the lack of which is ENOMEM.
fn huge_pages(size: &str, bytes: u64, version: Version) -> [Setting; 2] {
    let file = limit_file(version);
    [setting(format!("hugetlb.{size}.rsvd{file}"), bytes, Weight::Nicety), setting(format!("hugetlb.{size}{file}"), bytes, Weight::Limit)]
}

fn limit_file(version: Version) -> &'static str {
    match version {
        Version::V1 => ".limit_in_bytes",
        Version::V2 => ".max",
    }
}

/// No huge pages of those sizes of which the pod asks for none, as the kubelet has it; `files` are those of its cgroup.
pub fn no_other_huge_pages<'f>(limits: &Limits, files: impl Iterator<Item = &'f str>, version: Version) -> Vec<Setting> {
    let asked: Vec<String> = limits.huge_pages.keys().map(|size| kernel_name(*size)).collect();
    let limited = files.filter_map(|file| Some((file, file.strip_prefix("hugetlb.")?.strip_suffix(limit_file(version))?)));
    let other = limited.filter(|(_, size)| !asked.iter().any(|asked| size.strip_suffix(".rsvd").unwrap_or(size) == asked));
    other.map(|(file, _)| setting(file.to_owned(), 0, Weight::Nicety)).collect()
}

fn cpu(limits: &Limits, whose: Whose, version: Version) -> Vec<Setting> {
    let (shares, weight) = limits.cpu_shares.map_or((2, Weight::Nicety), |shares| (shares, Weight::Request));
    let mut list = vec![match (version, whose) {
        (Version::V1, _) => setting("cpu.shares", shares, weight),
        (Version::V2, Whose::Pod) => setting("cpu.weight", linear_weight(shares), weight),
        (Version::V2, Whose::Container) => setting("cpu.weight", weight_of(shares), weight),
    }];
    if let Some(milli) = limits.cpu_quota_milli {
        let quota = (milli.saturating_mul(PERIOD_US) / 1000).max(LEAST_QUOTA_US);
        match version {
            Version::V1 => {
                list.push(setting("cpu.cfs_period_us", PERIOD_US, Weight::Limit));
                list.push(setting("cpu.cfs_quota_us", quota, Weight::Limit));
            }
            Version::V2 => list.push(setting("cpu.max", format!("{quota} {PERIOD_US}"), Weight::Limit)),
        }
    }
    list
}

fn memory(bytes: u64, whose: Whose, version: Version) -> Vec<Setting> {
    let mut list = Vec::new();
    match version {
        Version::V1 => {
            list.push(setting("memory.limit_in_bytes", bytes, Weight::Limit));
            if whose == Whose::Container {
                // Memory and swap together: no swap. After the plain limit, as the kernel wants it the larger of the two.
                list.push(setting("memory.memsw.limit_in_bytes", bytes, Weight::Nicety));
            }
        }
        Version::V2 => {
            list.push(setting("memory.max", bytes, Weight::Limit));
            if whose == Whose::Container {
                list.push(setting("memory.swap.max", 0, Weight::Nicety));
                // One out-of-memory kill ends the whole container, not a part of it that the rest waits for. Since 4.19.
                list.push(setting("memory.oom.group", 1, Weight::Nicety));
            }
        }
    }
    list
}

/// v1 shares as a v2 weight, the way crun since 1.23 and runc since 1.3.2 do it: 1024 shares are the kernel's default of 100.
pub fn weight_of(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            // Where the result is whole, the last bits of a float must not round it up to the next.
            (10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0) - 1e-9).ceil() as u64
        }
    }
}

/// The same on a straight line, as the kubelet still does for the cgroups of pods (`CPUSharesToCPUWeight`, 1.36).
pub fn linear_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_as_the_table_says() {
        for (shares, new, old) in
            [(2, 1, 1), (10, 4, 1), (102, 17, 4), (256, 35, 10), (512, 59, 20), (1024, 100, 39), (2048, 174, 79), (4096, 303, 157), (262_144, 10_000, 10_000)]
        {
            assert_eq!((weight_of(shares), linear_weight(shares)), (new, old), "{shares} shares");
        }
    }

    #[test]
    fn a_weight_never_falls_and_stays_in_bounds() {
        let mut last = (1, 1);
        for shares in 0..=300_000 {
            let now = (weight_of(shares), linear_weight(shares));
            assert!(now.0 >= last.0 && now.1 >= last.1 && now.0 <= 10_000 && now.1 <= 10_000, "{shares}");
            last = now;
        }
    }

    fn written(controller: Controller, whose: Whose, version: Version) -> String {
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            cpu_quota_milli: Some(500),
            cpu_shares: Some(256),
            pids: Some(100),
            huge_pages: [(2 << 20, 4 << 20), (1 << 30, 0)].into(),
        };
        settings(&limits, controller, whose, version).iter().map(|s| format!("{}={} ", s.file, s.value)).collect()
    }

    #[test]
    fn limits_become_files() {
        use {Controller::*, Version::*, Whose::*};
        assert_eq!(written(Cpu, Container, V2), "cpu.weight=35 cpu.max=50000 100000 ");
        assert_eq!(written(Cpu, Pod, V2), "cpu.weight=10 cpu.max=50000 100000 ");
        assert_eq!(written(Cpu, Container, V1), "cpu.shares=256 cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000 ");
        assert_eq!(written(Memory, Container, V2), "memory.max=67108864 memory.swap.max=0 memory.oom.group=1 ");
        assert_eq!(written(Memory, Pod, V2), "memory.max=67108864 ");
        assert_eq!(written(Memory, Container, V1), "memory.limit_in_bytes=67108864 memory.memsw.limit_in_bytes=67108864 ");
        assert_eq!(written(Memory, Pod, V1), "memory.limit_in_bytes=67108864 ");
        assert_eq!(written(Pids, Pod, V1), written(Pids, Pod, V2));
        assert_eq!(written(Hugetlb, Container, V2), "hugetlb.2MB.rsvd.max=4194304 hugetlb.2MB.max=4194304 hugetlb.1GB.rsvd.max=0 hugetlb.1GB.max=0 ");
        assert_eq!(
            written(Hugetlb, Pod, V1),
            "hugetlb.2MB.rsvd.limit_in_bytes=4194304 hugetlb.2MB.limit_in_bytes=4194304 \
             hugetlb.1GB.rsvd.limit_in_bytes=0 hugetlb.1GB.limit_in_bytes=0 "
        );
    }

    #[test]
    fn sizes_of_pages_that_nobody_asks_for_are_closed() {
        let limits = Limits { huge_pages: [(2 << 20, 4 << 20)].into(), ..Limits::default() };
        let files = ["cgroup.procs", "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max", "hugetlb.1GB.current", "hugetlb.1GB.max", "hugetlb.1GB.rsvd.max"];
        let closed = no_other_huge_pages(&limits, files.into_iter(), Version::V2);
        assert_eq!(closed.iter().map(|s| format!("{}={} ", s.file, s.value)).collect::<String>(), "hugetlb.1GB.max=0 hugetlb.1GB.rsvd.max=0 ");
    }

    #[test]
    fn a_tiny_limit_is_ten_thousandths_of_a_cpu() {
        let limits = Limits { cpu_quota_milli: Some(1), ..Limits::default() };
        let list = settings(&limits, Controller::Cpu, Whose::Container, Version::V2);
        assert_eq!(list[1].value, "1000 100000");
        assert_eq!((list[0].value.as_str(), list[0].weight), ("1", Weight::Nicety), "nothing was requested");
    }
}

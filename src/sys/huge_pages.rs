//! The pools of huge pages that this machine keeps, `/sys/kernel/mm/hugepages` (the kernel's `hugetlbpage.rst`).

use std::path::Path;

const POOLS: &str = "/sys/kernel/mm/hugepages";

/// The huge pages of one size, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pool {
    pub page_size: u64,
    pub all: u64,
    /// In use, or promised to a mapping.
    pub taken: u64,
}

/// All pools; none where the kernel has no huge pages. What cannot be read is empty, so nothing is promised from it.
pub fn pools() -> Vec<Pool> {
    let entries = std::fs::read_dir(POOLS).into_iter().flatten().flatten();
    let size = |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()?.checked_mul(1024);
    entries.filter_map(|entry| Some(pool(&entry.path(), size(entry.file_name().to_str()?)?))).collect()
}

fn pool(dir: &Path, page_size: u64) -> Pool {
    let pages = |file: &str| std::fs::read_to_string(dir.join(file)).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
    let (all, free, promised) = (pages("nr_hugepages"), pages("free_hugepages"), pages("resv_hugepages"));
    // A promised page is still free.
    let taken = all.saturating_sub(free.saturating_sub(promised));
    Pool { page_size, all: all.saturating_mul(page_size), taken: taken.saturating_mul(page_size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promised_page_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        for (file, number) in [("nr_hugepages", "8\n"), ("free_hugepages", "5\n"), ("resv_hugepages", "2\n")] {
            std::fs::write(dir.path().join(file), number).unwrap();
        }
        assert_eq!(pool(dir.path(), 1024), Pool { page_size: 1024, all: 8192, taken: 5 * 1024 });
        assert_eq!(pool(&dir.path().join("none"), 1024), Pool { page_size: 1024, ..Pool::default() });
    }
}

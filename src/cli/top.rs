//! `minipod top pod`: what pods use now (`kubectl/pkg/metricsutil`), read from their cgroups.
//!
//! Processor time is counted from the start of a container, so it is read twice, and what was used meanwhile is the answer. Of memory the
//! working set is shown, as a kubelet tells it.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::get::{Refusal, Selector};
use super::table::Columns;
use super::{need_root, pods};
use crate::cgroup::{self, Hierarchies};
use crate::pod::places::Places;

/// Between the two readings. The kernel counts to the microsecond, so this is only for what comes and goes.
const APART: Duration = Duration::from_secs(1);

/// Show what pods use of cpu and memory
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod top pod                      all pods of the namespace
  minipod top pod web --containers     the containers of one
  minipod top pods -A --sort-by memory --sum

CPU is what was used within one second. Memory is the working set; where the machine does not count it for a container
(it has no memory limit, or there is no controller), it is what its processes hold, shared pages by their share.")]
pub struct TopArgs {
    /// `pod`
    #[arg(value_name = "KIND", value_parser = ["pod", "pods", "po"], hide_possible_values = true)]
    kind: String,
    /// One pod only
    #[arg(value_name = "NAME", conflicts_with_all = ["selector", "all_namespaces"])]
    name: Option<String>,
    /// A line for each container
    #[arg(long)]
    containers: bool,
    /// Pods with these labels: app=web, tier in (front,back), !legacy
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// The most first; else by name
    #[arg(long, value_name = "RESOURCE")]
    sort_by: Option<SortBy>,
    /// Add the sum of all
    #[arg(long)]
    sum: bool,
    /// Leave out the line of headers
    #[arg(long)]
    no_headers: bool,
    /// Pods of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// The namespace to look in
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SortBy {
    Cpu,
    Memory,
}

/// What something uses: thousandths of a CPU, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Use {
    milli_cpus: u64,
    bytes: u64,
}

/// A pod and its running containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Measured {
    namespace: String,
    name: String,
    containers: Vec<(String, Use)>,
}

impl Measured {
    fn whole(&self) -> Use {
        sum(self.containers.iter().map(|(_, used)| *used))
    }
}

fn sum(all: impl Iterator<Item = Use>) -> Use {
    all.fold(Use::default(), |sum, one| Use { milli_cpus: sum.milli_cpus + one.milli_cpus, bytes: sum.bytes + one.bytes })
}

pub fn top(args: &TopArgs, places: &Places) -> Result<u8> {
    need_root()?;
    let selector = args.selector.as_deref().map(Selector::parse).transpose()?.unwrap_or_default();
    let chosen: Vec<Pod> = match &args.name {
        Some(name) => vec![pods::find(places, &args.namespace, name)?],
        None => pods::pods(places)?.into_iter().filter(|pod| args.all_namespaces || pod.metadata.namespace.as_ref() == Some(&args.namespace)).collect(),
    };
    let chosen: Vec<Pod> = chosen.into_iter().filter(|pod| selector.matches(pod.metadata.labels.as_ref())).collect();
    if chosen.is_empty() {
        match args.all_namespaces {
            true => eprintln!("No resources found"),
            false => eprintln!("No resources found in {} namespace.", args.namespace),
        }
        return Ok(0);
    }
    let measured = measure(places, &chosen)?;
    let Some(first) = chosen.first().filter(|_| measured.is_empty()) else {
        print!("{}", args.render(measured));
        return Ok(0);
    };
    let word = |word: &Option<String>| word.clone().unwrap_or_default();
    let (namespace, name) = (word(&first.metadata.namespace), word(&first.metadata.name));
    Err(Refusal::client(format!("Metrics not available for pod {namespace}/{name}: no container of it runs")).into())
}

/// Reads what each running container has used, twice. One that was not there both times is left out, as is a pod without any.
fn measure(places: &Places, pods: &[Pod]) -> Result<Vec<Measured>> {
    let hierarchies = Hierarchies::detect()?;
    let read = |pod: &Pod, container: &ContainerStatus| {
        let (uid, attempt) = (pod.metadata.uid.as_deref()?, u32::try_from(container.restart_count).ok()?);
        cgroup::usage_of(&hierarchies, &places.cgroup, uid, &container.name, attempt).ok()?
    };
    let begun: Vec<(Instant, &Pod, &ContainerStatus, _)> = pods
        .iter()
        .flat_map(|pod| running(pod).map(move |container| (pod, container)))
        .filter_map(|(pod, container)| Some((Instant::now(), pod, container, read(pod, container)?)))
        .collect();
    if begun.is_empty() {
        return Ok(Vec::new());
    }
    std::thread::sleep(APART);
    let mut measured: Vec<Measured> = Vec::new();
    for (at, pod, container, before) in begun {
        let Some(after) = read(pod, container) else { continue };
        let (micros, spent) = (at.elapsed().as_micros().max(1), after.cpu_usec.saturating_sub(before.cpu_usec));
        let used = Use {
            // Rounded up, as a quantity is: what uses anything is not idle.
            milli_cpus: u64::try_from((u128::from(spent) * 1000).div_ceil(micros)).unwrap_or(u64::MAX),
            bytes: after.working_set_bytes.unwrap_or(0),
        };
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        let (namespace, name) = (word(&pod.metadata.namespace), word(&pod.metadata.name));
        match measured.last_mut().filter(|last| (&last.namespace, &last.name) == (&namespace, &name)) {
            Some(last) => last.containers.push((container.name.clone(), used)),
            None => measured.push(Measured { namespace, name, containers: vec![(container.name.clone(), used)] }),
        }
    }
    Ok(measured)
}

/// The containers of a pod that run, of every kind.
fn running(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    let lists = status.flat_map(|status| [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses]);
    lists.flat_map(|list| list.iter().flatten()).filter(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
}

impl TopArgs {
    fn render(&self, mut pods: Vec<Measured>) -> String {
        // The most first; what is alike stays in the order of names.
        let order = |used: Use| match self.sort_by {
            None => 0,
            Some(SortBy::Cpu) => u64::MAX - used.milli_cpus,
            Some(SortBy::Memory) => u64::MAX - used.bytes,
        };
        pods.sort_by_key(|pod| (order(pod.whole()), pod.namespace.clone(), pod.name.clone()));
        let above: Vec<&str> =
            [(self.all_namespaces, "NAMESPACE"), (self.containers, "POD")].iter().filter(|(shown, _)| *shown).map(|(_, name)| *name).collect();
        let mut text = String::new();
        // As kubectl, a tab behind every cell: the last column is padded, too.
        let mut line = |cells: &[&str]| text.extend(cells.iter().flat_map(|cell| [*cell, "\t"]).chain(["\n"]));
        if !self.no_headers {
            line(&[&above[..], &["NAME", "CPU(cores)", "MEMORY(bytes)"]].concat());
        }
        let total = sum(pods.iter().map(Measured::whole));
        for pod in &mut pods {
            let mut rows = vec![(pod.name.clone(), pod.whole())];
            if self.containers {
                pod.containers.sort_by_key(|(name, used)| (order(*used), name.clone()));
                rows = pod.containers.clone();
            }
            for (name, used) in rows {
                let before = above.iter().map(|column| if *column == "POD" { pod.name.as_str() } else { pod.namespace.as_str() });
                let (cpu, memory) = words(used);
                line(&before.chain([name.as_str(), &cpu, &memory]).collect::<Vec<_>>());
            }
        }
        if self.sum {
            let blank = vec![""; above.len() + 1];
            let (cpu, memory) = words(total);
            line(&[&blank[..], &["________", "________"]].concat());
            line(&[&blank[..], &[&cpu, &memory]].concat());
        }
        Columns::of_get().align(&text)
    }
}

fn words(used: Use) -> (String, String) {
    (format!("{}m", used.milli_cpus), format!("{}Mi", used.bytes >> 20))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        args: TopArgs,
    }

    fn rendered(words: &str) -> String {
        let of = |name: &str, milli_cpus, mebibytes: u64| (name.to_owned(), Use { milli_cpus, bytes: mebibytes << 20 });
        let pod = |namespace: &str, name: &str, containers: Vec<_>| Measured { namespace: namespace.into(), name: name.into(), containers };
        let pods = vec![
            pod("shop", "web", vec![of("proxy", 1, 30), of("app", 250, 10)]),
            pod("default", "db", vec![of("db", 7, 512)]),
            pod("default", "a", vec![of("a", 7, 1)]),
        ];
        Words::parse_from(["top"].into_iter().chain(words.split(' '))).args.render(pods)
    }

    #[test]
    fn the_table_is_kubectls() {
        assert_eq!(
            rendered("pod"),
            "NAME   CPU(cores)   MEMORY(bytes)   \na      7m           1Mi             \ndb     7m           512Mi           \nweb    251m         40Mi            \n"
        );
        assert_eq!(
            rendered("po -A --containers --no-headers"),
            "default   a     a       7m     1Mi     \ndefault   db    db      7m     512Mi   \nshop      web   app     250m   10Mi    \nshop      web   proxy   1m     30Mi    \n"
        );
    }

    #[test]
    fn the_most_comes_first_and_the_sum_last() {
        let lines = |words: &str| rendered(words).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
        assert_eq!(lines("pods --sort-by memory --no-headers --sum"), ["db 7m 512Mi", "web 251m 40Mi", "a 7m 1Mi", "________ ________", "265m 553Mi"]);
        assert_eq!(lines("pods --sort-by=cpu --no-headers"), ["web 251m 40Mi", "a 7m 1Mi", "db 7m 512Mi"]);
    }
}

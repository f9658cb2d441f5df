//! The verbs that only read: objects from their directories, rendered by `get`, `describe` and `logs`.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolumeClaim, Pod, Secret, Service};

use super::describe::DescribeArgs;
use super::get::{Answer, EventWatch, GetArgs, Kind, Listed, Refusal, Watch, What};
use super::image::ImageArgs;
use super::logs::{LogsArgs, Place};
use super::need_root;
use super::why::{View, reading};
use crate::image::Store;
use crate::network::dns::{Endpoints, Services};
use crate::pod::dir::{self, JobDir, PodDir};
use crate::pod::objects::services::Selected;
use crate::pod::objects::{self, Kept};
use crate::pod::places::Places;
use crate::pod::{all_containers, job, pod_spec, status};
use crate::sys::notify::Notify;

/// One pod as it is now; None if there is none.
pub fn read(places: &Places, namespace: &str, name: &str) -> Result<Option<Pod>> {
    Ok(PodDir::new(places, namespace, name).read()?.map(status::truth))
}

/// One pod, or kubectl's words that there is none.
pub fn find(places: &Places, namespace: &str, name: &str) -> Result<Pod> {
    read(places, namespace, name)?.ok_or_else(|| Refusal::not_found(name).into())
}

/// The pod that a word names, NAME or pod/NAME.
pub fn name_of(word: &str) -> Result<&str, Refusal> {
    match word.split_once('/') {
        None => Ok(word),
        Some(("pod" | "pods" | "po", name)) => Ok(name),
        Some(_) => Err(Refusal::client(format!("there is no {word:?} here: name a pod as NAME or pod/NAME"))),
    }
}

/// Every pod as it is now, by namespace and name.
pub(super) fn all(places: &Places) -> Result<Vec<(PodDir, Pod)>> {
    let mut pods = Vec::new();
    for dir in dir::all(places)? {
        match dir.read() {
            Ok(known) => pods.extend(known.map(|known| (dir, status::truth(known)))),
            // One that cannot be read must not hide the others.
            Err(error) => eprintln!("Warning: {error}"),
        }
    }
    Ok(pods)
}

/// Every job as it is now, by namespace and name.
fn all_jobs(places: &Places) -> Result<Vec<(JobDir, Job)>> {
    let mut jobs = Vec::new();
    for dir in dir::all_jobs(places)? {
        match dir.read() {
            Ok(Some(known)) => jobs.push((dir, job::truth(places, known)?)),
            Ok(None) => {}
            Err(error) => eprintln!("Warning: {error}"),
        }
    }
    Ok(jobs)
}

pub fn get(args: &GetArgs, places: &Places) -> Result<u8> {
    if !args.from_file.is_empty() {
        return print(&args.render_files(&mut std::io::stdin().lock(), Timestamp::now())?);
    }
    need_root()?;
    match args.what()? {
        What::Objects(Kind::Pod, _) => list(args, || pods(places), |notify| dir::watch(places, notify)),
        What::Objects(Kind::Job, _) => list(args, || jobs(places), |notify| dir::watch_jobs(places, notify)),
        What::Objects(Kind::ConfigMap, _) => list(args, || kept::<ConfigMap>(places), |notify| objects::watch::<ConfigMap>(places, notify)),
        What::Objects(Kind::Secret, _) => list(args, || kept::<Secret>(places), |notify| objects::watch::<Secret>(places, notify)),
        What::Objects(Kind::PersistentVolumeClaim, _) => {
            list(args, || kept::<PersistentVolumeClaim>(places), |notify| objects::watch::<PersistentVolumeClaim>(places, notify))
        }
        What::Objects(Kind::Service, _) => list(args, || kept::<Service>(places), |notify| objects::watch::<Service>(places, notify)),
        What::Events if args.watch => {
            let mut watch = EventWatch::new(args);
            let watched = |notify: &Notify| Ok(dir::watch(places, notify).and_then(|()| dir::watch_jobs(places, notify))?);
            print_changes(watched, || Ok(watch.update(&all_events(places)?, Timestamp::now())?))
        }
        What::Events => print(&args.events(&all_events(places)?, Timestamp::now())?),
    }
}

/// Lists objects of a kind once, or with each change.
fn list<O: Listed>(args: &GetArgs, all: impl Fn() -> Result<Vec<O>>, watched: impl Fn(&Notify) -> crate::error::Result<()>) -> Result<u8> {
    if !args.watch {
        return print(&args.objects(all()?, Timestamp::now())?);
    }
    let mut watch = Watch::new(args);
    print_changes(|notify| Ok(watched(notify)?), || Ok(watch.update(all()?, Timestamp::now())?))
}

/// Every object of a kind that is only kept.
fn kept<O: Kept>(places: &Places) -> Result<Vec<O>> {
    let mut all = Vec::new();
    for objects in objects::all(places)? {
        all.extend(objects.all::<O>()?);
    }
    Ok(all)
}

/// Every pod as it is now, by namespace and name.
pub fn pods(places: &Places) -> Result<Vec<Pod>> {
    Ok(all(places)?.into_iter().map(|(_, pod)| pod).collect())
}

fn jobs(places: &Places) -> Result<Vec<Job>> {
    Ok(all_jobs(places)?.into_iter().map(|(_, job)| job).collect())
}

fn all_events(places: &Places) -> Result<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    for (dir, _) in all(places)? {
        events.extend(dir.events()?);
    }
    for (dir, _) in all_jobs(places)? {
        events.extend(dir.events()?);
    }
    Ok(events)
}

/// Prints what `update` says, again and again, until interrupted. `watched` watches the directory of all objects, each namespace and each
/// object.
fn print_changes(watched: impl Fn(&Notify) -> Result<()>, mut update: impl FnMut() -> Result<String>) -> Result<u8> {
    let notify = Notify::new()?;
    loop {
        watched(&notify)?;
        let text = update()?;
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        drop(out);
        notify.wait(None)?;
    }
}

fn print(answer: &Answer) -> Result<u8> {
    std::io::stdout().write_all(answer.stdout.as_bytes())?;
    std::io::stderr().write_all(answer.stderr.as_bytes())?;
    Ok(answer.code)
}

pub fn describe(args: &DescribeArgs, places: &Places) -> Result<u8> {
    need_root()?;
    match What::read(&args.what)? {
        What::Objects(Kind::Job, _) => {
            let mut jobs = Vec::new();
            for (dir, job) in all_jobs(places)? {
                jobs.push((job, dir.events()?));
            }
            return print(&args.jobs(&jobs, Timestamp::now())?);
        }
        What::Objects(Kind::ConfigMap, _) => return print(&args.config_maps(kept(places)?)?),
        What::Objects(Kind::Secret, _) => return print(&args.secrets(kept(places)?)?),
        What::Objects(Kind::PersistentVolumeClaim, _) => return print(&args.claims(kept(places)?, &|claim| users(places, claim))?),
        What::Objects(Kind::Service, _) => return print(&args.services(kept(places)?, &|service| endpoints(places, service))?),
        What::Objects(Kind::Pod, _) | What::Events => {}
    }
    let mut pods = Vec::new();
    for (dir, pod) in all(places)? {
        pods.push((pod, dir.events()?));
    }
    print(&args.pods(&pods, &|pod| view(places, pod), Timestamp::now())?)
}

/// The pods that use a claim.
fn users(places: &Places, claim: &PersistentVolumeClaim) -> Vec<String> {
    let (namespace, name) = (claim.metadata.namespace.as_deref().unwrap_or("default"), claim.metadata.name.as_deref().unwrap_or_default());
    objects::claims::users(places, namespace, name).unwrap_or_default().iter().map(|dir| dir.name.clone()).collect()
}

/// What a Service leads to now.
fn endpoints(places: &Places, service: &Service) -> Endpoints {
    let (namespace, name) = (service.metadata.namespace.as_deref().unwrap_or("default"), service.metadata.name.as_deref().unwrap_or_default());
    let mut endpoints = Selected::new(places).find(namespace, name).unwrap_or_default();
    endpoints.pods.sort();
    endpoints
}

pub fn logs(args: &LogsArgs, places: &Places) -> Result<u8> {
    need_root()?;
    let chosen = match args.named()? {
        Some((Kind::Pod, name)) => vec![place(places, PodDir::new(places, &args.namespace, name), find(places, &args.namespace, name)?)],
        Some((Kind::Job, name)) => vec![pod_of_job(places, &args.namespace, name)?],
        Some((kind, _)) => return Err(Refusal::client(format!("cannot get the logs from a {}", kind.word())).into()),
        None => {
            let selector = args.selector()?;
            let wanted = |dir: &PodDir, pod: &Pod| dir.namespace == args.namespace && selector.matches(pod.metadata.labels.as_ref());
            all(places)?.into_iter().filter(|(dir, pod)| wanted(dir, pod)).map(|(dir, pod)| place(places, dir, pod)).collect()
        }
    };
    args.print(&chosen, Timestamp::now(), &mut std::io::stdout().lock(), &mut std::io::stderr().lock())?;
    Ok(0)
}

/// What is to be known around a pod to say why it is not well.
pub fn view(places: &Places, pod: &Pod) -> View {
    let (namespace, name) = (pod.metadata.namespace.as_deref().unwrap_or("default"), pod.metadata.name.as_deref().unwrap_or_default());
    reading::view(places, &place(places, PodDir::new(places, namespace, name), pod.clone()), Timestamp::now())
}

/// The pod whose logs are those of a job: one that runs, or else the newest (`GetFirstPod` with `ByLogging` in kubectl).
fn pod_of_job(places: &Places, namespace: &str, name: &str) -> Result<Place> {
    let known = JobDir::new(places, namespace, name).read()?.ok_or_else(|| Refusal::not_found_of(Kind::Job, name))?;
    let pods = job::pods(places, &known.job)?;
    let count = pods.len();
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
    let best = pods.into_iter().max_by_key(|(_, pod)| (phase(pod).as_deref() == Some("Running"), pod.metadata.creation_timestamp.clone()));
    let Some((dir, pod)) = best else { return Err(Refusal::client(format!("job {name} has no pod")).into()) };
    if count > 1 {
        eprintln!("Found {count} pods, using pod/{}", dir.name);
    }
    Ok(place(places, dir, pod))
}

/// Where a pod's logs are.
pub fn place(places: &Places, dir: PodDir, pod: Pod) -> Place {
    Place { pod, state: dir.path().to_owned(), logs: places.log.join("pods") }
}

pub fn image(args: &ImageArgs, places: &Places) -> Result<u8> {
    need_root()?;
    let store = Store::open(places.images())?;
    let in_use = images_in_use(places, &store)?;
    super::image::run(args, &store, &places.registries, &in_use, &mut std::io::stdout().lock())?;
    Ok(0)
}

/// The ids of the images that pods have which have not ended, or will have.
pub fn images_in_use(places: &Places, store: &Store) -> Result<BTreeSet<String>> {
    let mut in_use = BTreeSet::new();
    // A job that has not finished will make further pods.
    let to_come = all_jobs(places)?.into_iter().filter(|(_, job)| !job::is_finished(job)).map(|(_, job)| job::first_pod(&job));
    let pods = all(places)?.into_iter().map(|(_, pod)| pod).chain(to_come);
    for pod in pods.filter(|pod| !status::is_finished(pod)) {
        let ephemerals = pod_spec(&pod).ephemeral_containers.iter().flatten().filter_map(|container| container.image.clone());
        let volumes = pod_spec(&pod).volumes.iter().flatten().filter_map(|volume| volume.image.as_ref()?.reference.clone());
        let names = all_containers(pod_spec(&pod)).filter_map(|container| container.image.clone()).chain(ephemerals).chain(volumes);
        let images = names.filter_map(|name| crate::image::Reference::parse(&name).ok()).filter_map(|reference| store.find(&reference).ok().flatten());
        in_use.extend(images.map(|image| image.id));
    }
    Ok(in_use)
}

//! The puller's own side: documents first, then the layers, four at a time, then the names.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::fetcher::{Answer, Fetcher, What};
use super::registry::Access;
use super::staging::Staging;
use super::unpacker::Unpacker;
use super::{Ask, Word};
use crate::error::{Error, Result};
use crate::image::digest::sha256;
use crate::image::document::{self, Offer, Part};
use crate::image::import::{Unpacked, names_of};
use crate::image::login::{Login, Logins};
use crate::image::registries::{Endpoint, Registries};
use crate::image::{Image, Reference, Store, plain};
use crate::sys::poll::Poll;
use crate::sys::{process, removal, socket, user};

/// Layers at a time: more gain nothing on a usual line, and each is a process.
const AT_ONCE: usize = 4;
/// What unpacking needs: owners, modes, devices, the attributes of overlayfs and of programs with capabilities. And SETPCAP, by which the
/// fetcher gives up the last of them.
const RIGHTS: [&str; 8] = ["SETPCAP", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP", "SYS_ADMIN"];
const FETCHER: u64 = 0;

/// The process, from its birth to its end.
pub fn run(store: &Store, ask: &Ask, socket: OwnedFd) -> Result<Infallible> {
    process::close_others(3, &[socket.as_fd()]);
    let tell = |word: &Word| {
        let text = serde_json::to_vec(word).map_err(|error| Error::said(error.to_string()))?;
        socket::send(&socket, &text, &[])
    };
    let last = match give_up_rights().and_then(|()| pull(store, ask, &tell)) {
        Ok((image, bytes, downloaded)) => Word::Pulled { id: image.id, bytes, downloaded },
        Err(error) => Word::Failed { message: plain(error).to_string() },
    };
    tell(&last)?;
    process::exit_now(0)
}

fn give_up_rights() -> Result<()> {
    process::set_name(c"minipod-pull");
    process::new_session()?;
    let held = user::held_capabilities()?.into_iter().filter(|held| RIGHTS.contains(&held.as_str()));
    let rights: Vec<String> = held.map(|right| format!("CAP_{right}")).collect();
    user::set_capabilities(&rights)?;
    process::hide()?;
    process::die_with_parent()
}

fn pull(store: &Store, ask: &Ask, tell: &dyn Fn(&Word) -> Result<()>) -> Result<(Image, u64, u64)> {
    let registries = Registries::read(&ask.settings)?;
    let person = Logins::of_person();
    let mut login = |endpoint: &Endpoint| match ask.secrets.find(&endpoint.host, &endpoint.repository)? {
        Some(login) => Ok(Some(login.clone())),
        None => Ok(person.as_ref().map_err(Clone::clone)?.find(&endpoint.host, &endpoint.repository)?.cloned()),
    };
    let accesses = accesses(&ask.reference, &registries, &mut login)?;
    let staging = Staging::new(store, &ask.reference)?;
    let mut fetcher = Fetcher::start(accesses, registries.patience())?;
    let offer = offer(store, &ask.reference, &mut fetcher)?;
    let bytes = offer.layers.iter().filter_map(|layer| layer.written.as_ref()).map(|(_, size)| size).sum();
    if let Some(known) = unchanged(store, &ask.reference, &offer)? {
        return Ok((known, bytes, 0));
    }
    let mut layers = Layers::new(store, &staging, &offer, tell)?;
    layers.fetch(&mut fetcher)?;
    let downloaded = layers.downloaded();
    let unpacked = layers.named()?;
    let (unpacked, images) = store.images(&offer, unpacked)?;
    let writer = store.write()?;
    if let Some(gone) = unpacked.iter().find(|layer| !layer.path.is_dir()) {
        return Err(Error::said(format!("layer {} was removed from the store meanwhile; pull again", gone.name)));
    }
    store.publish(&writer, staging.path(), &offer, &unpacked, &images)?;
    let image = images.into_iter().next().ok_or_else(|| Error::said("the image has no name"))?;
    Ok((image, bytes, downloaded))
}

/// Where to ask for an image, each place with who we are there.
pub fn accesses(reference: &Reference, registries: &Registries, login: &mut dyn FnMut(&Endpoint) -> Result<Option<Login>>) -> Result<Vec<Access>> {
    let access = |endpoint: Endpoint| {
        let authorities = if endpoint.plain_http { Vec::new() } else { registries.authorities(&endpoint.host)? };
        Ok(Access { login: login(&endpoint)?, authorities, endpoint })
    };
    registries.endpoints(reference)?.into_iter().map(access).collect()
}

/// What the registry has under the name, for this machine.
fn offer(store: &Store, reference: &Reference, fetcher: &mut Fetcher) -> Result<Offer> {
    let suffix = reference.digest().or(reference.tag()).unwrap_or("latest").to_owned();
    let top = fetcher.document(What::Manifest(suffix))?;
    let digest = reference.digest().map_or_else(|| sha256(&top), str::to_owned);
    let mut top = Some(top);
    let mut get = |part, wanted: &str| match (part, top.take_if(|_| wanted == digest)) {
        (_, Some(top)) => Ok(top),
        // What the store has need not be asked for; its digest is checked as of all others.
        _ if store.blob(wanted).is_file() => std::fs::read(store.blob(wanted)).map_err(|error| Error::io("read", wanted, &error)),
        (Part::Manifest, None) => fetcher.document(What::Manifest(wanted.to_owned())),
        (Part::Configuration, None) => fetcher.document(What::Blob(wanted.to_owned())),
    };
    let mut offer = document::offer_of(&digest, &mut get)?.ok_or_else(document::none_for_us)?;
    offer.names = vec![reference.clone()];
    offer.pulled = true;
    Ok(offer)
}

/// The image as it is in the store, if it is the same there.
fn unchanged(store: &Store, reference: &Reference, offer: &Offer) -> Result<Option<Image>> {
    let known = store.find(reference)?.filter(|image| image.pulled && image.digest == offer.digest && image.id == offer.id);
    Ok(known.filter(|image| image.reference == *reference && (0..offer.layers.len()).all(|at| store.known_layer(offer, at).is_some())))
}

/// The layers of one offer on their way into the staging directory.
struct Layers<'a> {
    staging: &'a Staging,
    offer: &'a Offer,
    tell: &'a dyn Fn(&Word) -> Result<()>,
    /// Bottom to top: where it is, or will be.
    paths: Vec<PathBuf>,
    states: Vec<State>,
}

enum State {
    Known(String),
    Waits,
    /// Under way: the unpacker, the number of the question, and whether its answer is there.
    Goes(Box<Unpacker>, u64, bool),
    /// Whether it is right only above those below it.
    Whole(bool),
}

impl<'a> Layers<'a> {
    fn new(store: &'a Store, staging: &'a Staging, offer: &'a Offer, tell: &'a dyn Fn(&Word) -> Result<()>) -> Result<Layers<'a>> {
        let (mut paths, mut states, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for (at, layer) in offer.layers.iter().enumerate() {
            let known = store.known_layer(offer, at);
            let (digest, size) = layer.written.clone().ok_or_else(|| Error::said("a layer has no digest"))?;
            told.push((digest, size, known.is_some()));
            paths.push(known.as_ref().map_or_else(|| staging.path().join(format!("{at}~")), |known| known.path.clone()));
            states.push(known.map_or(State::Waits, |known| State::Known(known.name)));
        }
        tell(&Word::Layers(told))?;
        Ok(Layers { staging, offer, tell, paths, states })
    }

    /// Downloads and unpacks what is missing. At the first failure all of it ends.
    fn fetch(&mut self, fetcher: &mut Fetcher) -> Result<()> {
        let mut poll = Poll::new()?;
        poll.add(&*fetcher, FETCHER)?;
        let mut waiting: VecDeque<usize> = (0..self.states.len()).filter(|at| matches!(self.states[*at], State::Waits)).collect();
        let mut under_way = 0;
        loop {
            while under_way < AT_ONCE
                && let Some(at) = waiting.pop_front()
            {
                self.begin(at, fetcher, &poll)?;
                under_way += 1;
            }
            if under_way == 0 {
                return Ok(());
            }
            for token in poll.wait(None)? {
                match token {
                    FETCHER => self.hear(fetcher.hear()?)?,
                    token => {
                        self.end(token as usize - 1, fetcher, &poll)?;
                        under_way -= 1;
                    }
                }
            }
        }
    }

    fn begin(&mut self, at: usize, fetcher: &mut Fetcher, poll: &Poll) -> Result<()> {
        let layer = &self.offer.layers[at];
        let (digest, size) = layer.written.clone().ok_or_else(|| Error::said("a layer has no digest"))?;
        let (reader, writer) = process::pipe()?;
        process::widen_pipe(&writer, 1 << 20);
        let unpacker = Unpacker::start(reader, layer, &self.paths[at], &self.paths[..at])?;
        poll.add(&unpacker.child, at as u64 + 1)?;
        let question = fetcher.ask(What::Layer(digest, size), writer)?;
        self.states[at] = State::Goes(Box::new(unpacker), question, false);
        self.let_go_on();
        Ok(())
    }

    /// Tells unpackers that all below them is whole.
    fn let_go_on(&mut self) {
        for state in &mut self.states {
            match state {
                State::Known(_) | State::Whole(_) => {}
                State::Goes(unpacker, ..) => return unpacker.go_on(),
                State::Waits => return,
            }
        }
    }

    /// Something from the fetcher. A bad end is an error; a good one shows in what the unpacker says.
    fn hear(&mut self, answer: Answer) -> Result<()> {
        let (Answer::Came(of, _) | Answer::Done(of, _)) = &answer;
        let found = self.states.iter_mut().enumerate().find_map(|(at, state)| match state {
            State::Goes(_, question, answered) if question == of => Some((at, answered)),
            _ => None,
        });
        match (answer, found) {
            (Answer::Came(_, bytes), Some((at, _))) => (self.tell)(&Word::Came(at, bytes)),
            (Answer::Done(_, Some(why)), Some(_)) => Err(Error::said(why)),
            (Answer::Done(..), Some((_, answered))) => {
                *answered = true;
                Ok(())
            }
            (_, None) => Ok(()),
        }
    }

    /// An unpacker has ended.
    fn end(&mut self, at: usize, fetcher: &mut Fetcher, poll: &Poll) -> Result<()> {
        let State::Goes(unpacker, question, answered) = &self.states[at] else { return Ok(()) };
        poll.remove(&unpacker.child);
        match unpacker.result() {
            Ok(implied) => {
                self.states[at] = State::Whole(implied);
                self.let_go_on();
                (self.tell)(&Word::Unpacked(at))
            }
            Err(error) => {
                // It may have failed because nothing more came; then the fetcher knows why.
                let (question, mut answered) = (*question, *answered);
                while !answered {
                    match fetcher.hear()? {
                        Answer::Done(of, Some(why)) if of == question => return Err(Error::said(why)),
                        Answer::Done(of, None) => answered = of == question,
                        _ => {}
                    }
                }
                Err(error.doing(format!("layer {}", self.offer.layers[at].diff_id)))
            }
        }
    }

    fn downloaded(&self) -> u64 {
        let new = self.offer.layers.iter().zip(&self.states).filter(|(_, state)| matches!(state, State::Whole(_)));
        new.filter_map(|(layer, _)| layer.written.as_ref()).map(|(_, size)| size).sum()
    }

    /// The layers under the names that the store will have them by. One that occurs twice is kept once.
    fn named(self) -> Result<Vec<Unpacked>> {
        let mut layers = Vec::new();
        for (at, (state, path)) in self.states.iter().zip(&self.paths).enumerate() {
            let name = match state {
                State::Known(name) => {
                    layers.push(Unpacked { name: name.clone(), path: path.clone() });
                    continue;
                }
                State::Whole(implied) => {
                    let [dependent, alone] = names_of(self.offer, at);
                    if *implied { dependent } else { alone }
                }
                State::Waits | State::Goes(..) => return Err(Error::said(format!("layer {at} is not whole"))),
            };
            let to = self.staging.path().join(&name);
            if to.is_dir() {
                removal::remove_tree(path)?;
            } else {
                std::fs::rename(path, &to).map_err(|error| Error::io("rename", path.display(), &error))?;
            }
            layers.push(Unpacked { name, path: to });
        }
        Ok(layers)
    }
}

//! A pull as a person sees it: a bar for each layer and one for all where a terminal is, else a line for each step.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::size;
use crate::error::{Error, Result};
use crate::image::pull::{Ask, Puller, Word};
use crate::image::{Reference, Store};
use crate::sys::poll::Poll;

const DIGITS: usize = 12;

/// Pulls an image and shows how it goes on stderr; its id.
pub fn pull(store: &Store, ask: Ask, quiet: bool) -> Result<String> {
    let puller = Puller::start(store, &ask)?;
    let reference = &ask.reference;
    let mut poll = Poll::new()?;
    poll.add(&puller, 0)?;
    let mut view = View::new(reference, quiet);
    loop {
        poll.wait(None)?;
        for word in puller.words() {
            match word {
                Word::Layers(layers) => view.begin(&layers),
                Word::Came(at, bytes) => view.came(at, bytes),
                Word::Unpacked(at) => view.unpacked(at),
                Word::Pulled { id, bytes, downloaded } => {
                    view.end(&format!("{} of {} downloaded", size(downloaded), size(bytes)));
                    return Ok(id);
                }
                Word::Failed { message } => {
                    view.bars.clear().map_err(|error| Error::io("write", "standard error", &error))?;
                    return Err(Error::said(message).doing(format!("pulling {}", reference.familiar())));
                }
            }
        }
    }
}

struct View {
    name: String,
    /// Lines instead of bars.
    plain: bool,
    quiet: bool,
    bars: MultiProgress,
    /// Of each layer: its name, its bytes and its bar.
    layers: Vec<(String, u64, ProgressBar)>,
    total: ProgressBar,
}

impl View {
    fn new(reference: &Reference, quiet: bool) -> View {
        let plain = !std::io::stderr().is_terminal();
        View { name: reference.familiar(), plain, quiet, bars: MultiProgress::new(), layers: Vec::new(), total: ProgressBar::hidden() }
    }

    fn line(&self, text: &str) {
        if self.plain && !self.quiet {
            eprintln!("{}: {text}", self.name);
        }
    }

    fn begin(&mut self, layers: &[(String, u64, bool)]) {
        let missing = layers.iter().filter(|(_, _, known)| !known);
        let (count, bytes) = missing.fold((0, 0), |(count, sum), (_, bytes, _)| (count + 1, sum + bytes));
        self.line(&format!("{} layers, {count} to download ({})", layers.len(), size(bytes)));
        let shown = !self.plain && !self.quiet;
        for (digest, bytes, known) in layers {
            let name: String = digest.trim_start_matches("sha256:").chars().take(DIGITS).collect();
            let bar = if shown && !known { self.bars.add(bar(&name, *bytes)) } else { ProgressBar::hidden() };
            self.layers.push((name, *bytes, bar));
        }
        if shown && count > 0 {
            self.total = self.bars.add(bar(&self.name, bytes));
        }
    }

    fn came(&mut self, at: usize, bytes: u64) {
        if let Some((_, _, bar)) = self.layers.get(at) {
            self.total.inc(bytes.saturating_sub(bar.position()));
            bar.set_position(bytes);
        }
    }

    fn unpacked(&mut self, at: usize) {
        if let Some((name, bytes, bar)) = self.layers.get(at) {
            bar.finish();
            self.line(&format!("layer {name} is there ({})", size(*bytes)));
        }
    }

    fn end(&self, text: &str) {
        // The lines of a terminal are rubbed out: what stays is the result.
        let _ = self.bars.clear();
        self.line(text);
    }
}

fn bar(name: &str, bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:24!} [{wide_bar}] {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12}");
    let bar = ProgressBar::new(bytes).with_prefix(name.to_owned());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar
}

//! `minipod image history`: the steps by which an image was made.

use std::io::Write;

use clap::Args;

use super::{age_of, line, resolved, short_id, size};
use crate::cli::table::{Columns, harmless};
use crate::error::{Error, Result};
use crate::image::{Image, Store};

/// As docker: more is cut off.
const WIDTH: usize = 45;

/// Show the steps by which an image was made, newest first
///
/// The words are those of who made the image; a size is that of the step's layer. Only the image as a whole has an id.
#[derive(Debug, Args)]
pub struct History {
    /// All of each command, and the whole id
    #[arg(long)]
    no_trunc: bool,
    /// Only the header-less ids
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    /// Another form
    #[arg(short, long, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
    /// A name (nginx, alpine/git:v2) or an id, also its first digits
    #[arg(value_name = "IMAGE")]
    image: String,
}

pub fn run(history: &History, store: &Store, now: jiff::Timestamp, out: &mut dyn Write) -> Result<()> {
    let images = resolved(store, std::slice::from_ref(&history.image))?;
    let image = &images[0];
    let steps = store.history(image).map_err(|error| error.doing(format!("image {}", image.reference.familiar())))?;
    if history.output.is_some() {
        let steps = serde_json::to_value(&steps).map_err(|error| Error::said(error.to_string()))?;
        return line(out, &format!("{steps:#}"));
    }
    let id = |image: &Image| if history.no_trunc { image.id.clone() } else { short_id(&image.id).to_owned() };
    let ids = std::iter::once(id(image)).chain(std::iter::repeat("<missing>".to_owned()));
    if history.quiet {
        return steps.iter().zip(ids).try_for_each(|(_, id)| line(out, &id));
    }
    let mut text = "IMAGE\tCREATED\tCREATED BY\tSIZE\tCOMMENT\n".to_owned();
    for (step, id) in steps.iter().zip(ids) {
        let command = shortened(&step.created_by, history.no_trunc);
        text += &[id, age_of(step.created.as_deref(), now), command, size(step.size), shortened(&step.comment, true)].join("\t");
        text.push('\n');
    }
    Columns::of_get().align(&text).lines().try_for_each(|row| line(out, row.trim_end()))
}

/// A stranger's words as one cell of a table.
fn shortened(text: &str, whole: bool) -> String {
    let text = harmless(&text.split_whitespace().collect::<Vec<_>>().join(" ")).chars().filter(|c| !c.is_control()).collect::<String>();
    if whole || text.chars().count() <= WIDTH {
        return text;
    }
    text.chars().take(WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_short_line_that_does_not_move_the_cursor() {
        assert_eq!(shortened("RUN a &&\n\tb\u{7}\u{1b}[2J", false), "RUN a && b^[[2J");
        let long = "x".repeat(60);
        assert_eq!(shortened(&long, false), format!("{}…", "x".repeat(44)));
        assert_eq!(shortened(&long, true), long);
    }
}

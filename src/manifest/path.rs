//! The path of a field, as the API server writes it: `spec.containers[0].resources.limits[cpu]`.
//!
//! Validation walks a pod with an [`At`], which borrows its parent and so costs nothing until a fault is found; then it
//! becomes a list of [`Step`]s, which prints the path and finds the place in the manifest.

use std::fmt::{self, Write};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `.name`
    Field(String),
    /// `[3]`
    Index(usize),
    /// `[cpu]`: a key of a map whose keys are the user's.
    Key(String),
    /// Finds the place but is not printed: the API server names the map (`metadata.labels`), a person wants the entry.
    Within(String),
}

impl Step {
    /// Whether both lead to the same value, however they are printed.
    pub fn same_place(&self, other: &Step) -> bool {
        match (self, other) {
            (Step::Index(a), Step::Index(b)) => a == b,
            (Step::Field(a) | Step::Key(a) | Step::Within(a), Step::Field(b) | Step::Key(b) | Step::Within(b)) => a == b,
            _ => false,
        }
    }
}

/// Where a walk is.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Here<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Here<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
    Within(&'a str),
}

impl<'a> At<'a> {
    pub const ROOT: At<'static> = At { parent: None, step: Here::Root };

    pub fn field<'b>(&'b self, name: &'b str) -> At<'b> {
        At { parent: Some(self), step: Here::Field(name) }
    }

    pub fn index<'b>(&'b self, index: usize) -> At<'b> {
        At { parent: Some(self), step: Here::Index(index) }
    }

    pub fn key<'b>(&'b self, key: &'b str) -> At<'b> {
        At { parent: Some(self), step: Here::Key(key) }
    }

    /// See [`Step::Within`].
    pub fn within<'b>(&'b self, key: &'b str) -> At<'b> {
        At { parent: Some(self), step: Here::Within(key) }
    }

    pub fn steps(&self) -> Vec<Step> {
        let mut steps = self.parent.map(At::steps).unwrap_or_default();
        match self.step {
            Here::Root => {}
            Here::Field(name) => steps.push(Step::Field(name.to_owned())),
            Here::Index(index) => steps.push(Step::Index(index)),
            Here::Key(key) => steps.push(Step::Key(key.to_owned())),
            Here::Within(key) => steps.push(Step::Within(key.to_owned())),
        }
        steps
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(&self.steps()))
    }
}

/// `spec.containers[0].name`
pub fn print(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Field(name) if text.is_empty() => text.push_str(name),
            Step::Field(name) => {
                text.push('.');
                text.push_str(name);
            }
            // Writing into a String cannot fail.
            Step::Index(index) => write!(text, "[{index}]").unwrap(),
            Step::Key(key) => write!(text, "[{key}]").unwrap(),
            Step::Within(_) => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_the_api_server_writes_it() {
        let spec = At::ROOT.field("spec");
        let (containers, limits) = (spec.field("containers"), "limits");
        let first = containers.index(0);
        let resources = first.field("resources");
        let limits = resources.field(limits);
        assert_eq!(limits.key("cpu").to_string(), "spec.containers[0].resources.limits[cpu]");
        assert_eq!(limits.within("cpu").to_string(), "spec.containers[0].resources.limits");
    }
}

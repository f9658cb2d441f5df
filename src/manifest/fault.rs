//! What is wrong with a manifest: all of it at once, each with its place.
//!
//! One fault has three faces. The API server's line, for tools that compare (`spec.containers[0].image: Required value`);
//! one line with the place, for editors and logs (`pod.yaml:9:5: spec.containers[0].comand: unknown field; did you mean
//! "command"?`); and a drawing of the line itself, for people.

use std::fmt::{self, Write};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::path::{self, At, Step};
use super::tree::{Mark, Place};

/// The TYPE words of the API server's field errors (apimachinery `util/validation/field/errors.go`), and five of our own
/// for what it says in other shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Required,
    Invalid,
    Duplicate,
    Unsupported,
    NotFound,
    Forbidden,
    TooLong,
    TooMany,
    /// A field that Kubernetes does not have there.
    UnknownField,
    /// A key that stands twice in one mapping.
    DuplicateField,
    /// A string where a number belongs, and the like.
    WrongType,
    /// No YAML, or no object of a kind that can be read.
    Syntax,
    /// Kubernetes knows it, minipod does not do it.
    NotSupported,
}

impl Kind {
    pub fn words(self) -> &'static str {
        match self {
            Kind::Required => "Required value",
            Kind::Invalid => "Invalid value",
            Kind::Duplicate => "Duplicate value",
            Kind::Unsupported => "Unsupported value",
            Kind::NotFound => "Not found",
            Kind::Forbidden => "Forbidden",
            Kind::TooLong => "Too long",
            Kind::TooMany => "Too many",
            Kind::UnknownField => "unknown field",
            Kind::DuplicateField => "duplicate field",
            Kind::WrongType => "wrong type",
            Kind::Syntax => "syntax",
            Kind::NotSupported => "not supported",
        }
    }

    /// Whether the fault stands at its key rather than at the value.
    fn at_key(self) -> bool {
        matches!(self, Kind::UnknownField | Kind::DuplicateField | Kind::NotSupported | Kind::Forbidden)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// 1-based.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
    /// How many characters the drawing underlines.
    pub length: usize,
    /// `spec.containers[0].comand`; empty for the whole text.
    pub path: String,
    pub kind: Kind,
    /// As the API server prints it: strings are quoted.
    pub value: Option<String>,
    pub detail: String,
    /// `did you mean "command"?`
    pub suggestion: Option<String>,
    /// Where it is known which object it is.
    pub subject: Option<Subject>,
}

/// The object that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub kind: String,
    /// As the manifest gives it, or what it is to be generated from.
    pub name: String,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "The {} {:?}", self.kind, self.name)
    }
}

/// Legal, but probably not meant: `spec.nodeSelector: has no effect here: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// 1-based.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
    pub path: String,
    pub said: String,
    /// The table of supported fields says so: the field does nothing on one machine.
    pub no_effect: bool,
    pub subject: Subject,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.said)
    }
}

/// A text that cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntax {
    line: usize,
    column: usize,
    said: String,
}

impl Syntax {
    pub fn new(line: usize, column: usize, said: String) -> Syntax {
        Syntax { line: line.max(1), column: column.max(1), said }
    }
}

impl From<Syntax> for Fault {
    fn from(Syntax { line, column, said }: Syntax) -> Fault {
        Fault { line, column, length: 1, path: String::new(), kind: Kind::Syntax, value: None, detail: said, suggestion: None, subject: None }
    }
}

impl Fault {
    /// The API server's line: PATH: TYPE: VALUE: DETAIL.
    pub fn api_line(&self) -> String {
        match self.kind {
            Kind::UnknownField | Kind::DuplicateField => return format!("{} {:?}", self.kind.words(), self.path),
            Kind::Syntax => return self.detail.clone(),
            Kind::NotSupported if self.path.is_empty() => return self.detail.clone(),
            Kind::NotSupported => return format!("{}: {}", self.path, self.detail),
            _ => {}
        }
        let mut line = format!("{}: {}", self.path, self.kind.words());
        for part in self.value.iter().chain(Some(&self.detail).filter(|detail| !detail.is_empty())) {
            line.push_str(": ");
            line.push_str(part);
        }
        line
    }

    /// PATH: DETAIL in one line, with the suggestion.
    fn told(&self) -> String {
        let mut line = match self.kind {
            Kind::UnknownField | Kind::DuplicateField => format!("{}: {}", self.path, self.kind.words()),
            _ => self.api_line(),
        };
        if let Some(suggestion) = &self.suggestion {
            line.push_str("; ");
            line.push_str(suggestion);
        }
        line
    }

    /// `file:line:col: path: detail`
    pub fn line_in(&self, file: &str) -> String {
        format!("{file}:{}:{}: {}", self.line, self.column, self.told())
    }
}

/// Every fault of a text, in the order of its lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    pub file: String,
    pub source: String,
    pub faults: Vec<Fault>,
}

impl Faults {
    pub(super) fn new(file: &str, source: &str, mut faults: Vec<Fault>) -> Faults {
        // A misspelt field comes before what is missing because of it.
        faults.sort_by_key(|fault| (fault.line, fault.column, fault.kind != Kind::UnknownField));
        Faults { file: file.to_owned(), source: source.to_owned(), faults }
    }

    /// One line per fault, with its place.
    pub fn lines(&self) -> Vec<String> {
        self.faults.iter().map(|fault| fault.line_in(&self.file)).collect()
    }

    /// Every fault drawn in its line, for people; with colours where the terminal wants them.
    pub fn drawn(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        // The reader of the YAML does not count a byte order mark, nor does the drawing.
        let source = self.source.trim_start_matches('\u{feff}');
        let mut text = String::new();
        for fault in &self.faults {
            let (shown, first, span) = window(source, fault);
            let (title, label) = fault.title_and_label();
            let annotation = AnnotationKind::Primary.span(span).label(label);
            let snippet = Snippet::source(shown).line_start(first).path(self.file.as_str()).annotation(annotation);
            let mut group = Level::ERROR.primary_title(title).element(snippet);
            if let Some(suggestion) = &fault.suggestion {
                group = group.element(Level::HELP.message(suggestion.as_str()));
            }
            // Writing into a String cannot fail.
            writeln!(text, "{}\n", renderer.render(&[group])).unwrap();
        }
        text
    }
}

impl Fault {
    fn title_and_label(&self) -> (String, String) {
        match self.kind {
            Kind::UnknownField => (self.api_line(), "not a field of this object".to_owned()),
            Kind::DuplicateField => (self.api_line(), "stands here a second time".to_owned()),
            Kind::Syntax => (self.detail.clone(), "here".to_owned()),
            kind => (self.api_line(), kind.words().to_lowercase()),
        }
    }
}

/// The line of a fault with one before and after it, the number of the first, and the byte range of the fault in it.
/// Only these lines go to the renderer: it would walk a whole long manifest for every fault.
fn window<'a>(source: &'a str, fault: &Fault) -> (&'a str, usize, std::ops::Range<usize>) {
    let first = fault.line.saturating_sub(1).max(1);
    let (mut begin, mut end, mut here) = (source.len(), source.len(), 0..source.len());
    let mut offset = 0;
    for (index, line) in source.split_inclusive('\n').enumerate().take(fault.line + 1) {
        let number = index + 1;
        if number == first {
            begin = offset;
        }
        if number == fault.line {
            here = offset..offset + line.trim_end_matches(['\n', '\r']).len();
        }
        offset += line.len();
        end = offset;
    }
    if here.end > end || here.start < begin {
        return ("", fault.line, 0..0);
    }
    let line = &source[here.clone()];
    let byte = |column: usize| line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    let (from, to) = (byte(fault.column - 1), byte(fault.column - 1 + fault.length.max(1)));
    (&source[begin..end], first, here.start + from - begin..here.start + to - begin)
}

impl fmt::Display for Faults {
    /// As kubectl tells it: one object with one fault in a line, several faults as a list.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest: Vec<&Fault> = self.faults.iter().collect();
        let mut begun = false;
        while let Some(subject) = rest.first().map(|fault| fault.subject.clone()) {
            let (these, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|fault| fault.subject == subject);
            rest = others;
            if begun {
                f.write_char('\n')?;
            }
            begun = true;
            match (&subject, these.as_slice()) {
                (Some(subject), [fault]) => write!(f, "{subject} is invalid: {}", fault.api_line())?,
                (Some(subject), _) => {
                    write!(f, "{subject} is invalid:")?;
                    these.iter().try_for_each(|fault| write!(f, "\n* {}", fault.api_line()))?;
                }
                (None, _) => {
                    let lines: Vec<_> = these.iter().map(|fault| fault.line_in(&self.file)).collect();
                    f.write_str(&lines.join("\n"))?;
                }
            }
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// More faults than this in one object are not told; a hostile text could have a million, each with its search.
const MOST: usize = 500;

/// Collects the faults of one object and finds the place of each.
pub struct Findings<'t> {
    tree: &'t Place,
    subject: Subject,
    faults: Vec<(Vec<Step>, Fault)>,
    pub warnings: Vec<Warning>,
}

impl<'t> Findings<'t> {
    pub fn new(tree: &'t Place, subject: Subject) -> Findings<'t> {
        Findings { tree, subject, faults: Vec::new(), warnings: Vec::new() }
    }

    /// Whether all that will be told has been found; the last one only stands for what follows.
    pub fn is_full(&self) -> bool {
        self.faults.len() > MOST
    }

    /// How many faults there are so far; a rule that depends on the part before being right compares two counts.
    pub fn count(&self) -> usize {
        self.faults.len()
    }

    pub fn add(&mut self, steps: Vec<Step>, kind: Kind, value: Option<String>, detail: impl Into<String>) -> &mut Fault {
        let mark = if self.is_full() { Mark::default() } else { self.tree.find(&steps, kind.at_key()) };
        self.add_at(mark, steps, kind, value, detail)
    }

    /// As [`add`](Self::add), where the place is known better than by the path: a key that stands twice.
    pub fn add_at(&mut self, mark: Mark, steps: Vec<Step>, kind: Kind, value: Option<String>, detail: impl Into<String>) -> &mut Fault {
        let Mark { line, column, length } = mark;
        let (path, subject) = (path::print(&steps), Some(self.subject.clone()));
        let fault = Fault { line: line.max(1), column: column.max(1), length, path, kind, value, detail: detail.into(), suggestion: None, subject };
        if self.is_full() {
            self.faults.pop();
        }
        self.faults.push((steps, fault));
        // It was pushed just now.
        &mut self.faults.last_mut().unwrap().1
    }

    pub fn required(&mut self, at: &At, detail: impl Into<String>) {
        self.add(at.steps(), Kind::Required, None, detail);
    }

    /// `value` is a JSON-like value: strings are quoted, numbers are not.
    pub fn invalid(&mut self, at: &At, value: impl fmt::Debug, detail: impl Into<String>) {
        self.add(at.steps(), Kind::Invalid, Some(format!("{value:?}")), detail);
    }

    pub fn duplicate(&mut self, at: &At, value: impl fmt::Debug) {
        self.add(at.steps(), Kind::Duplicate, Some(format!("{value:?}")), "");
    }

    pub fn not_found(&mut self, at: &At, value: &str) {
        self.add(at.steps(), Kind::NotFound, Some(format!("{value:?}")), "");
    }

    pub fn forbidden(&mut self, at: &At, detail: impl Into<String>) {
        self.add(at.steps(), Kind::Forbidden, None, detail);
    }

    pub fn too_long(&mut self, at: &At, most: usize) {
        self.add(at.steps(), Kind::TooLong, None, format!("may not be more than {most} bytes"));
    }

    /// A word outside a fixed set; the nearest member is suggested.
    pub fn unsupported(&mut self, at: &At, value: &str, known: &[&str]) {
        let quoted: Vec<_> = known.iter().map(|word| format!("{word:?}")).collect();
        let detail = format!("supported values: {}", quoted.join(", "));
        let near = super::suggest::nearest(value, known.iter().copied()).map(|word| format!("did you mean {word:?}?"));
        self.add(at.steps(), Kind::Unsupported, Some(format!("{value:?}")), detail).suggestion = near;
    }

    pub fn warn(&mut self, at: &At, said: impl fmt::Display) {
        self.warn_at(&at.steps(), said.to_string(), false);
    }

    /// A field that does nothing on one machine.
    pub fn no_effect(&mut self, steps: &[Step], why: &str) {
        self.warn_at(steps, format!("has no effect here: {why}"), true);
    }

    fn warn_at(&mut self, steps: &[Step], said: String, no_effect: bool) {
        // Each one searches the tree; a hostile text could ask for a million of them.
        if self.warnings.len() < MOST {
            let Mark { line, column, .. } = self.tree.find(steps, true);
            let (path, subject) = (path::print(steps), self.subject.clone());
            self.warnings.push(Warning { line: line.max(1), column: column.max(1), path, said, no_effect, subject });
        }
    }

    /// The faults without those that only follow from another one: nothing is judged at or below a value of the wrong type.
    pub fn finish(mut self) -> Vec<Fault> {
        let furthest = self.faults.iter().map(|(_, fault)| (fault.line, fault.column)).max();
        if let Some((steps, last)) = self.faults.get_mut(MOST) {
            steps.clear();
            let (line, column) = furthest.unwrap_or((1, 1));
            let said = format!("more than {MOST} faults; the others are not told");
            *last = Fault { subject: last.subject.take(), ..Fault::from(Syntax::new(line, column, said)) };
        }
        let wrong = self.faults.iter().filter(|(_, fault)| fault.kind == Kind::WrongType);
        let roots: Vec<Vec<Step>> = wrong.map(|(steps, _)| steps.clone()).collect();
        let follows = |steps: &[Step]| roots.iter().any(|root| root.len() <= steps.len() && root.iter().zip(steps).all(|(a, b)| a.same_place(b)));
        // What the API server refuses in the same words need not be unsupported here, too.
        let told: Vec<Fault> = self.faults.iter().filter(|(_, fault)| fault.kind == Kind::Forbidden).map(|(_, fault)| fault.clone()).collect();
        self.faults.retain(|(_, fault)| fault.kind != Kind::NotSupported || !told.iter().any(|it| (&it.path, &it.detail) == (&fault.path, &fault.detail)));
        let mut kept: Vec<Fault> = Vec::new();
        for (steps, fault) in self.faults {
            if !kept.contains(&fault) && (fault.kind == Kind::WrongType || !follows(&steps)) {
                kept.push(fault);
            }
        }
        kept
    }
}

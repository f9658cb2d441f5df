//! `minipod validate --fields`: the table of supported fields as text, JSON and Markdown. docs/fields.md is the last of them.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::cli::get::Refusal;
use crate::cli::table::Columns;
use crate::manifest::support::{KINDS, Table, Verdict};

/// The tables of a kind, or of all kinds if none is named.
pub fn of(kind: &str) -> Result<Vec<(&'static str, Table)>, Refusal> {
    let tables: Vec<_> = KINDS.iter().filter(|(name, _)| kind.is_empty() || name.eq_ignore_ascii_case(kind)).copied().collect();
    if tables.is_empty() {
        let known: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
        return Err(Refusal::client(format!("there is no table of the kind {kind:?}; there are {}", known.join(", "))));
    }
    Ok(tables)
}

/// `KIND  FIELD  VERDICT  WHY`
pub fn table(tables: &[(&str, Table)]) -> String {
    let mut text = "KIND\tFIELD\tVERDICT\tWHY\n".to_owned();
    for (kind, table) in tables {
        for field in table.verdicts() {
            // Writing into a String cannot fail.
            writeln!(text, "{kind}\t{}\t{}\t{}", field.path, field.verdict.word(), field.why).unwrap();
        }
    }
    let aligned = Columns::of_get().align(&text);
    // Most fields have no reason, and trailing blanks serve nobody.
    aligned.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

pub fn json(tables: &[(&str, Table)]) -> Value {
    let all = tables.iter().flat_map(|(kind, table)| {
        table.verdicts().map(move |field| json!({ "kind": kind, "field": field.path, "verdict": field.verdict.word(), "why": field.why }))
    });
    Value::Array(all.collect())
}

/// A page of documentation.
pub fn markdown(tables: &[(&str, Table)]) -> String {
    let mut text = HEAD.to_owned();
    for (kind, table) in tables {
        let count = |wanted: fn(&Verdict) -> bool| table.verdicts().filter(|field| wanted(&field.verdict)).count();
        let (done, idle) = (count(|verdict| *verdict == Verdict::Done), count(|verdict| matches!(verdict, Verdict::NoEffect(_))));
        let refused = count(|verdict| matches!(verdict, Verdict::Refused(_)));
        // Writing into a String cannot fail.
        writeln!(text, "\n## {kind}\n\n{done} fields are done, {idle} have no effect, {refused} are refused.\n").unwrap();
        text.push_str("| field | verdict | why |\n| --- | --- | --- |\n");
        for field in table.verdicts() {
            writeln!(text, "| `{}` | {} | {} |", field.path, field.verdict.word(), field.why.replace('|', "\\|")).unwrap();
        }
    }
    text
}

const HEAD: &str = "\
# Supported fields

<!-- Made by `minipod validate --fields -o markdown`; a test compares. -->

What minipod does with each field of the objects that it reads. A field is

- **done**: it does what Kubernetes says;
- **no effect**: it is accepted, means nothing on one machine, and a warning says why;
- **refused**: a manifest that sets it is refused as not supported, before anything starts.

What stands below a field that is not done shares its verdict. `spec.containers[]` stands for init containers too. Which values a field
may have is the API server's matter, whose rules `minipod validate` applies to all of them.
";

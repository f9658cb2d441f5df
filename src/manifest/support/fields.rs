//! The table as people read it: one line a field.

use super::{Fine, Row, Table, Verdict};

/// One field with its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// `spec.containers[].image`; `[*]` at the end is any other key of a map.
    pub path: String,
    pub verdict: Verdict,
    /// Why, and what is accepted all the same; empty where there is nothing to say.
    pub why: String,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Done => "done",
            Verdict::NoEffect(_) => "no effect",
            Verdict::Refused(_) => "refused",
        }
    }
}

impl Table {
    /// Every field of the kind, in the order of the table. What is below a field that is not done shares its verdict and has no
    /// line; a template is one line, for its fields are another kind's.
    pub fn verdicts(&self) -> impl Iterator<Item = Field> {
        self.rows().flat_map(move |row| {
            row.fields.split_whitespace().map(move |name| {
                let path = match (row.under, name) {
                    (under, "*") => format!("{under}[*]"),
                    ("", name) => name.to_owned(),
                    (under, name) => format!("{under}.{name}"),
                };
                let whole = |at| path.strip_prefix(at).is_some_and(|rest| matches!(rest, "metadata" | "spec")) && !self.rows().any(|row| row.under == path);
                let template = self.templates.iter().find(|template| whole(template.at));
                let why = template.map_or_else(|| row.why(), |template| format!("as in a {}", template.kind));
                Field { path, verdict: row.verdict, why }
            })
        })
    }
}

impl Row {
    fn why(&self) -> String {
        let (Verdict::NoEffect(why) | Verdict::Refused(why)) = self.verdict else { return String::new() };
        match (self.verdict, self.fine) {
            // That a value has no effect either goes without saying.
            (Verdict::NoEffect(_), _) | (_, Fine::Never) => why.to_owned(),
            (_, Fine::Values(values)) => format!("{why}; {} is accepted", values.join(" or ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{JOB, POD};
    use super::*;

    #[test]
    fn a_line_has_the_path_the_verdict_and_the_reason() {
        let found = |table: Table, path: &str| table.verdicts().find(|field| field.path == path).map(|field| (field.verdict.word(), field.why));
        let some = |word, why: &str| Some((word, why.to_owned()));
        assert_eq!(found(POD, "spec.containers[].image"), some("done", ""));
        assert_eq!(found(POD, "spec.os.name"), some("refused", "only linux runs here; \"linux\" is accepted"));
        assert_eq!(found(POD, "spec.nodeName"), some("no effect", "there is one node, and every pod runs on it"));
        assert_eq!(found(POD, "metadata.labels[*]"), some("done", ""));
        assert_eq!(found(JOB, "spec.template.spec"), some("done", "as in a Pod"));
    }
}

//! kubectl's JSONPath templates: text with expressions in braces, `{.status.phase}{"\n"}`.
//!
//! | step | takes |
//! | --- | --- |
//! | `.name`, `['name']` | a field; `\.` is a dot within a name |
//! | `[2]`, `[-1]`, `[1:3]` | items, from the end if negative |
//! | `[*]`, `.*` | all items, all fields' values |
//! | `[?(@.x=="y")]` | the items for which it holds: `==` `!=` `<` `<=` `>` `>=`, or `@.x` alone: that it is there |
//!
//! A leading `$` may be there or not. What is not there gives nothing, no error. `{range}` and `..` are not known. The rules are those of
//! `client-go/util/jsonpath`.

use serde_json::Value;

/// A template, read.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Path(Vec<Step>),
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    Filter(Filter),
}

/// `left` alone: it exists.
#[derive(Debug, Clone, PartialEq)]
struct Filter {
    left: Vec<Step>,
    test: Option<(Operator, Operand)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Value(Value),
    Path(Vec<Step>),
}

type Result<T> = std::result::Result<T, String>;

impl JsonPath {
    /// Reads a template as `-o jsonpath=` takes it: what stands outside braces is text.
    pub fn parse(text: &str) -> Result<JsonPath> {
        let mut reader = Reader { rest: text };
        let mut parts = Vec::new();
        while !reader.rest.is_empty() {
            let until = reader.rest.find('{').unwrap_or(reader.rest.len());
            if until > 0 {
                parts.push(Part::Text(reader.take(until).to_owned()));
            }
            if reader.eat("{") {
                parts.push(reader.expression()?);
            }
        }
        Ok(JsonPath { parts })
    }

    /// Reads one path as `wait` takes it: the braces and the leading dot may be missing.
    pub fn parse_relaxed(text: &str) -> Result<JsonPath> {
        let bare = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        let dot = if bare.starts_with(['.', '[', '$']) { "" } else { "." };
        let path = JsonPath::parse(&format!("{{{dot}{bare}}}"))?;
        match path.parts.as_slice() {
            [Part::Path(_)] => Ok(path),
            _ => Err(format!("{text:?} is not one path")),
        }
    }

    /// The values that the paths of the template lead to, in order.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let paths = self.parts.iter().filter_map(|part| if let Part::Path(steps) = part { Some(steps) } else { None });
        paths.flat_map(|steps| follow(value, steps)).collect()
    }

    /// The template filled in, as kubectl prints it: several values of one path have a space between them, and no newline ends it.
    pub fn print(&self, value: &Value) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Path(steps) => follow(value, steps).into_iter().map(text_of).collect::<Vec<_>>().join(" "),
        };
        self.parts.iter().map(part).collect()
    }
}

/// A value as it is printed: a string without quotes, an object or array as JSON.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn follow<'a>(value: &'a Value, steps: &[Step]) -> Vec<&'a Value> {
    steps.iter().fold(vec![value], |values, step| values.into_iter().flat_map(|value| step.of(value)).collect())
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let place = |index: i64| usize::try_from(if index < 0 { index + items.len() as i64 } else { index }).ok();
        match self {
            Step::Field(name) => value.get(name).into_iter().collect(),
            Step::Index(index) => place(*index).and_then(|index| items.get(index)).into_iter().collect(),
            Step::Slice(from, to) => {
                let from = place(from.unwrap_or(0)).unwrap_or(0);
                let to = to.map_or(items.len(), |to| place(to).unwrap_or(0)).min(items.len());
                items.get(from..to).unwrap_or_default().iter().collect()
            }
            Step::All => match value.as_object() {
                Some(fields) => fields.values().collect(),
                None => items.iter().collect(),
            },
            Step::Filter(filter) => items.iter().filter(|item| filter.holds(item)).collect(),
        }
    }
}

impl Filter {
    fn holds(&self, item: &Value) -> bool {
        let left = follow(item, &self.left);
        let Some((operator, right)) = &self.test else { return !left.is_empty() };
        let right = match right {
            Operand::Value(value) => Some(value),
            Operand::Path(steps) => follow(item, steps).into_iter().next(),
        };
        match (left.first(), right) {
            (Some(left), Some(right)) => operator.holds(left, right),
            _ => false,
        }
    }
}

impl Operator {
    fn holds(self, left: &Value, right: &Value) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let order = match (left, right) {
            (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            (left, right) if left == right => Some(Equal),
            _ => None,
        };
        match self {
            Operator::Equal => order == Some(Equal),
            Operator::Unequal => order != Some(Equal),
            Operator::Less => order == Some(Less),
            Operator::LessOrEqual => matches!(order, Some(Less | Equal)),
            Operator::Greater => order == Some(Greater),
            Operator::GreaterOrEqual => matches!(order, Some(Greater | Equal)),
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn eat(&mut self, word: &str) -> bool {
        self.rest.strip_prefix(word).map(|rest| self.rest = rest).is_some()
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        self.skip_spaces();
        match self.eat(word) {
            true => Ok(()),
            false if self.rest.is_empty() => Err(format!("{word:?} is missing at the end")),
            false => Err(format!("{word:?} is missing before {:?}", self.rest)),
        }
    }

    /// What stands between braces: text in quotes, or a path.
    fn expression(&mut self) -> Result<Part> {
        self.skip_spaces();
        let part = match self.rest.chars().next() {
            Some('"' | '\'') => Part::Text(self.quoted()?),
            _ if self.rest.starts_with("range") || self.rest.starts_with("end}") => return Err("{range} is not supported".into()),
            _ => Part::Path(self.path()?),
        };
        self.expect("}")?;
        Ok(part)
    }

    fn path(&mut self) -> Result<Vec<Step>> {
        let mut rooted = self.eat("$") || self.eat("@");
        let mut steps = Vec::new();
        loop {
            if self.rest.starts_with("..") {
                return Err("recursive descent (..) is not supported".into());
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else if self.eat(".") {
                match self.name()? {
                    // `{.}` is the object itself, and `.[0]` the same as `[0]`.
                    name if name.is_empty() => {}
                    name if name == "*" => steps.push(Step::All),
                    name => steps.push(Step::Field(name)),
                }
            } else if rooted || !steps.is_empty() {
                return Ok(steps);
            } else {
                return Err(format!("a path begins with a dot, not with {:?}", self.rest));
            }
            rooted = true;
        }
    }

    /// Up to the next sign that ends a name; a backslash takes its meaning away.
    fn name(&mut self) -> Result<String> {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let end = loop {
            match chars.next() {
                Some((_, '\\')) => name.extend(chars.next().map(|(_, c)| c)),
                Some((at, c)) if ".[]{}()=!<>,\"' \t\n".contains(c) => break at,
                Some((_, c)) => name.push(c),
                None => break self.rest.len(),
            }
        };
        self.take(end);
        Ok(name)
    }

    fn bracket(&mut self) -> Result<Step> {
        self.skip_spaces();
        let step = match self.rest.chars().next() {
            Some('*') => {
                self.take(1);
                Step::All
            }
            Some('"' | '\'') => Step::Field(self.quoted()?),
            Some('?') => {
                self.take(1);
                self.expect("(")?;
                let filter = self.filter()?;
                self.expect(")")?;
                Step::Filter(filter)
            }
            _ => self.index()?,
        };
        self.expect("]")?;
        Ok(step)
    }

    fn index(&mut self) -> Result<Step> {
        let end = self.rest.find(']').ok_or("\"]\" is missing at the end")?;
        let text = self.take(end);
        let number = |text: &str| text.trim().parse::<i64>().map_err(|_| format!("invalid array index {text:?}"));
        let bound = |text: &str| if text.trim().is_empty() { Ok(None) } else { number(text).map(Some) };
        match text.split_once(':') {
            Some((from, to)) => Ok(Step::Slice(bound(from)?, bound(to)?)),
            None => number(text).map(Step::Index),
        }
    }

    fn filter(&mut self) -> Result<Filter> {
        self.skip_spaces();
        let left = self.path()?;
        self.skip_spaces();
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::Unequal),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let Some((_, operator)) = operators.into_iter().find(|(sign, _)| self.eat(sign)) else { return Ok(Filter { left, test: None }) };
        self.skip_spaces();
        let right = match self.rest.chars().next() {
            Some('"' | '\'') => Operand::Value(Value::String(self.quoted()?)),
            Some('@' | '$' | '.') => Operand::Path(self.path()?),
            _ => {
                let end = self.rest.find([')', ' ']).unwrap_or(self.rest.len());
                let word = self.take(end);
                Operand::Value(serde_json::from_str(word).map_err(|_| format!("{word:?} is neither a number, nor true or false, nor text in quotes"))?)
            }
        };
        Ok(Filter { left, test: Some((operator, right)) })
    }

    /// Text in either quotes, with the usual escapes.
    fn quoted(&mut self) -> Result<String> {
        let mut chars = self.rest.char_indices();
        let quote = chars.next().map(|(_, quote)| quote);
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => text.extend(chars.next().map(|(_, c)| match c {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                })),
                c if Some(c) == quote => {
                    self.take(at + c.len_utf8());
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err(format!("the text {} does not end", self.rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Value {
        json!({
            "metadata": { "name": "web", "labels": { "app.kubernetes.io/name": "shop", "tier": "front" } },
            "status": {
                "phase": "Running", "ready": true, "n": 3,
                "conditions": [{ "type": "Ready", "status": "True" }, { "type": "Initialized", "status": "False", "reason": "Late" }],
                "containers": [{ "name": "a", "restarts": 0 }, { "name": "b", "restarts": 4 }, { "name": "c", "restarts": 12 }],
            },
        })
    }

    #[test]
    fn each_form_prints_what_kubectl_prints() {
        for (template, text) in [
            ("{.status.phase}", "Running"),
            ("{$.status.phase}", "Running"),
            ("{ .status.n }", "3"),
            ("{.status.ready}", "true"),
            ("phase: {.status.phase}{\"\\n\"}", "phase: Running\n"),
            ("{.metadata.labels.app\\.kubernetes\\.io/name}", "shop"),
            ("{.metadata.labels['app.kubernetes.io/name']}", "shop"),
            ("{['metadata']['name']}", "web"),
            ("{.status.containers[0].name}", "a"),
            ("{.status.containers[-1].name}", "c"),
            ("{.status.containers[1:].name}", "b c"),
            ("{.status.containers[:-1].name}", "a b"),
            ("{.status.containers[*].name}", "a b c"),
            ("{.metadata.labels.*}", "shop front"),
            ("{.status.conditions[?(@.type==\"Ready\")].status}", "True"),
            ("{.status.conditions[?(@.type != 'Ready')].status}", "False"),
            ("{.status.conditions[?(@.reason)].type}", "Initialized"),
            ("{.status.containers[?(@.restarts>=4)].name}", "b c"),
            ("{.status.containers[?(@.restarts<4)].name}", "a"),
            ("{.status.conditions[0]}", r#"{"status":"True","type":"Ready"}"#),
            ("{.status.nothing.there}", ""),
            ("{.status.containers[9].name}", ""),
            ("{.status.phase} {.metadata.name}", "Running web"),
            (".status.phase", ".status.phase"),
            ("", ""),
        ] {
            let read = JsonPath::parse(template).unwrap_or_else(|error| panic!("{template}: {error}"));
            assert_eq!(read.print(&pod()), text, "{template}");
        }
    }

    #[test]
    fn wait_takes_a_path_without_braces_or_dot() {
        for path in ["{.status.phase}", ".status.phase", "status.phase", "{status.phase}", "$.status.phase"] {
            assert_eq!(JsonPath::parse_relaxed(path).unwrap().find(&pod()), [&json!("Running")], "{path}");
        }
        assert!(JsonPath::parse_relaxed("{.a}{.b}").is_err());
        assert!(JsonPath::parse_relaxed("{\"x\"}").is_err());
    }

    #[test]
    fn nonsense_is_told() {
        for (template, words) in [
            ("{.a", "is missing at the end"),
            ("{.a[0}", "is missing"),
            ("{.a[x]}", "invalid array index"),
            ("{.a[?(@.b==c)]}", "nor text in quotes"),
            ("{.a[?(@.b=='c']}", "is missing"),
            ("{\"abc}", "does not end"),
            ("{a}", "begins with a dot"),
            ("{}", "begins with a dot"),
            ("{..a}", "not supported"),
            ("{range .items[*]}", "not supported"),
        ] {
            let said = JsonPath::parse(template).expect_err(template);
            assert!(said.contains(words), "{template}: {said}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[{}\\[\\].?(@)=<>!'\"\\\\a0:*$ -]{0,24}") {
            if let Ok(read) = JsonPath::parse(&text) {
                read.print(&pod());
            }
        }
    }
}

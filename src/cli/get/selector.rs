//! Label selectors, `-l app=web,tier in (front,back),!legacy`: `apimachinery/pkg/labels/selector.go`.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::Refusal;

/// All of its requirements must hold; without any it takes everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Selector {
    /// Reads `=`, `==`, `!=`, `in (…)`, `notin (…)`, `key` and `!key`, separated by commas.
    pub fn parse(text: &str) -> Result<Selector, Refusal> {
        let mut requirements = Vec::new();
        for part in split(text).filter(|part| !part.trim().is_empty()) {
            let requirement = Requirement::parse(part.trim());
            requirements.push(requirement.ok_or_else(|| Refusal::client(format!("unable to parse requirement: {:?} in selector {text:?}", part.trim())))?);
        }
        Ok(Selector { requirements })
    }

    /// Whether an object with these labels is meant.
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.and_then(|labels| labels.get(&requirement.key));
            match &requirement.test {
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
            }
        })
    }
}

/// The parts between the commas that stand outside parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    text.split(move |c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    })
}

impl Requirement {
    fn parse(text: &str) -> Option<Requirement> {
        if let Some(key) = text.strip_prefix('!') {
            return Requirement::new(key, Test::Absent);
        }
        for (sign, test) in [("!=", Test::NotIn as fn(Vec<String>) -> Test), ("==", Test::In), ("=", Test::In)] {
            if let Some((key, value)) = text.split_once(sign) {
                return is_value(value.trim()).then(|| Requirement::new(key, test(vec![value.trim().to_owned()])))?;
            }
        }
        let Some((head, values)) = text.split_once('(') else { return Requirement::new(text, Test::Exists) };
        let (key, operator) = head.trim().rsplit_once(char::is_whitespace)?;
        let mut values: Vec<String> = values.trim_end().strip_suffix(')')?.split(',').map(|value| value.trim().to_owned()).collect();
        values.sort();
        values.dedup();
        match operator {
            _ if !values.iter().all(|value| is_value(value)) => None,
            "in" => Requirement::new(key, Test::In(values)),
            "notin" => Requirement::new(key, Test::NotIn(values)),
            _ => None,
        }
    }

    fn new(key: &str, test: Test) -> Option<Requirement> {
        let key = key.trim();
        let fits = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        fits.then(|| Requirement { key: key.to_owned(), test })
    }
}

fn is_value(value: &str) -> bool {
    value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// As upstream's `FormatLabelSelector`: sorted by key, `<none>` if it is empty.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.requirements.is_empty() {
            return f.write_str("<none>");
        }
        for (index, Requirement { key, test }) in self.requirements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match test {
                Test::In(values) if values.len() == 1 => write!(f, "{comma}{key}={}", values[0])?,
                Test::In(values) => write!(f, "{comma}{key} in ({})", values.join(","))?,
                Test::NotIn(values) => write!(f, "{comma}{key} notin ({})", values.join(","))?,
                Test::Exists => write!(f, "{comma}{key}")?,
                Test::Absent => write!(f, "{comma}!{key}")?,
            }
        }
        Ok(())
    }
}

/// A selector as it stands in objects.
impl From<&LabelSelector> for Selector {
    fn from(selector: &LabelSelector) -> Selector {
        let labels = selector.match_labels.iter().flatten().map(|(key, value)| Requirement { key: key.clone(), test: Test::In(vec![value.clone()]) });
        let expressions = selector.match_expressions.iter().flatten().map(|expression| {
            let mut values = expression.values.clone().unwrap_or_default();
            values.sort();
            let test = match expression.operator.as_str() {
                "In" => Test::In(values),
                "NotIn" => Test::NotIn(values),
                "DoesNotExist" => Test::Absent,
                _ => Test::Exists,
            };
            Requirement { key: expression.key.clone(), test }
        });
        let mut requirements: Vec<Requirement> = labels.chain(expressions).collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Selector { requirements }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operator_selects_as_upstream_does() {
        let labels =
            BTreeMap::from([("app".to_owned(), "web".to_owned()), ("example.com/tier".to_owned(), "front".to_owned()), ("empty".to_owned(), String::new())]);
        let table = [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web ", true),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("missing!=x", true),
            ("missing=", false),
            ("empty=", true),
            ("app in (db, web)", true),
            ("app in (db)", false),
            ("app notin (db,cache)", true),
            ("app notin (web)", false),
            ("missing notin (x)", true),
            ("app", true),
            ("missing", false),
            ("!missing", true),
            ("!app", false),
            ("app=web,example.com/tier in (front,back),!missing", true),
            ("app=web,missing", false),
        ];
        for (text, expected) in table {
            assert_eq!(Selector::parse(text).unwrap().matches(Some(&labels)), expected, "{text:?}");
        }
        assert!(Selector::parse("a!=b,!c").unwrap().matches(None));
    }

    #[test]
    fn what_is_no_selector_is_refused_with_its_part() {
        for text in ["a b", "app in web", "app in (web", "app within (web)", "=x", "a=b=c", "in (x)", "!", "app=we b"] {
            let error = Selector::parse(text).unwrap_err().to_string();
            assert!(error.contains("unable to parse requirement"), "{text:?}: {error}");
        }
    }
}

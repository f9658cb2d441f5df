//! Names: labels and subdomains of DNS, qualified names, values of labels. Rules and words of apimachinery's
//! `util/validation/validation.go`.

use crate::manifest::fault::Findings;
use crate::manifest::path::At;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an \
                     alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end \
                         with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
                         'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                           with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
                           '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

const DATA_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or \
                        'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn longer_than(most: usize) -> String {
    format!("must be no more than {most} characters")
}

fn is_label(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

/// What is wrong with a DNS label; at most 63 characters.
pub fn label(text: &str) -> Vec<String> {
    let long = (text.len() > 63).then(|| longer_than(63));
    let said = match is_label(text) {
        true => None,
        false if text.split('.').all(is_label) => Some("must not contain dots"),
        false => Some(LABEL),
    };
    long.into_iter().chain(said.map(str::to_owned)).collect()
}

/// What is wrong with a DNS subdomain; at most 253 characters.
pub fn subdomain(text: &str) -> Vec<String> {
    let long = (text.len() > 253).then(|| longer_than(253));
    long.into_iter().chain((!text.split('.').all(is_label)).then(|| SUBDOMAIN.to_owned())).collect()
}

/// What is wrong with the value of a label.
pub fn label_value(text: &str) -> Vec<String> {
    let long = (text.len() > 63).then(|| longer_than(63));
    long.into_iter().chain((!text.is_empty() && !is_word(text)).then(|| LABEL_VALUE.to_owned())).collect()
}

/// What is wrong with `[PREFIX/]NAME`, the key of a label or an annotation.
pub fn qualified(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        ["", name] => {
            wrong.push("prefix part must be non-empty".to_owned());
            *name
        }
        [prefix, name] => {
            wrong.extend(subdomain(prefix).into_iter().map(|said| format!("prefix part {said}")));
            *name
        }
        _ => return vec![format!("a qualified name {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")],
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        wrong.push(format!("name part {}", longer_than(63)));
    }
    if !is_word(name) {
        wrong.push(format!("name part {QUALIFIED}"));
    }
    wrong
}

/// What is wrong with a key of a ConfigMap or a Secret, which may become the name of a file.
pub fn data_key(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 253 {
        wrong.push(longer_than(253));
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        wrong.push(DATA_KEY.to_owned());
    }
    match text {
        "." | ".." => wrong.push(format!("must not be '{text}'")),
        text if text.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// What is wrong with the name of an environment variable: relaxed in 1.34 (KEP-4369) from C identifiers to what a process can be given.
pub fn variable(text: &str) -> Vec<String> {
    match text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        true => Vec::new(),
        false => vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()],
    }
}

/// What is wrong with the name of a port (IANA's service names).
pub fn port(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 15 {
        wrong.push(longer_than(15));
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// What is wrong with an address, v4 or v6.
pub fn ip(text: &str) -> Vec<String> {
    match text.parse::<core::net::IpAddr>() {
        Ok(_) => Vec::new(),
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// Tells everything that a rule finds wrong with a text.
pub fn check(text: &str, rule: fn(&str) -> Vec<String>, at: &At, findings: &mut Findings) {
    for said in rule(text) {
        findings.invalid(at, text, said);
    }
}

/// As [`check`], for a text that may be absent or empty.
pub fn check_if_set(text: Option<&String>, rule: fn(&str) -> Vec<String>, at: &At, findings: &mut Findings) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        check(text, rule, at, findings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_by_their_kind() {
        let long = "a".repeat(64);
        for (rule, good, bad) in [
            (label as fn(&str) -> Vec<String>, vec!["a", "a-b", "0", "a--b"], vec!["", "A", "-a", "a-", "a.b", "a_b", "ä", long.as_str()]),
            (subdomain, vec!["a", "a.b-c.d", "1.2"], vec!["", ".", "a.", ".a", "a..b", "A.b", "a_b"]),
            (label_value, vec!["", "a", "A_b.c-d"], vec!["-a", "a-", "a b", "a/b", long.as_str()]),
            (qualified, vec!["a", "A", "example.com/A_b"], vec!["", "/a", "a/", "a/b/c", "A.b/c", "-a", long.as_str()]),
            (port, vec!["http", "a1-b"], vec!["80", "-a", "a-", "a--b", "HTTP", "sixteen-letters-x"]),
            (data_key, vec!["a", "A_b.c-d", ".hidden", "a..b"], vec!["", ".", "..", "..a", "a/b", "a b", "ä", "a\0"]),
            (variable, vec!["A", "a.b-c d"], vec!["A=", "ä", "a\n"]),
            (ip, vec!["127.0.0.1", "::1"], vec!["", "1.2.3", "01.2.3.4", "localhost", "1.2.3.4/8"]),
        ] {
            good.iter().for_each(|text| assert_eq!(rule(text), Vec::<String>::new(), "{text}"));
            bad.iter().for_each(|text| assert!(!rule(text).is_empty(), "{text}"));
        }
    }
}

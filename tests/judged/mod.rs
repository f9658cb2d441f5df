//! What is said of a manifest, in the API server's words.

use minipod::manifest;

pub fn faults(text: &str) -> Vec<String> {
    manifest::examine(text, "f").1.faults.iter().map(|fault| fault.api_line()).collect()
}

/// Each fault begins so, and there are no others.
#[track_caller]
pub fn expect(text: &str, expected: &[&str]) {
    let found = faults(text);
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)),
        "{text}\n{found:#?}\n{expected:#?}"
    );
}

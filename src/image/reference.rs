//! How an image is called.
//!
//! ```text
//! nginx                            docker.io/library/nginx:latest
//! alpine/git                       docker.io/alpine/git:latest
//! localhost:5000/x@sha256:...      localhost:5000/x@sha256:...
//! \______ domain/ \path  \digest
//! ```
//!
//! What is left out is filled in as Docker and the kubelet do (`ParseNormalizedNamed` in distribution/reference): the first
//! component is a domain only if it holds a dot, a colon or a capital letter, or is `localhost`. The messages are theirs too, since a
//! pod's status shows them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
/// Of domain and path together (`NameTotalLengthMax`).
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A normalised image name: always a domain and a path, and a tag or a digest or both. [`fmt::Display`] gives all of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Reads a reference as a person or a pod wrote it. The error has the reason InvalidImageName and the kubelet's message.
    pub fn parse(text: &str) -> Result<Reference> {
        Reference::normalise(text).map_err(|why| {
            let message = format!("Failed to apply default image tag {text:?}: couldn't parse image name {text:?}: {why}");
            Error::said(message).reason("InvalidImageName")
        })
    }

    fn normalise(text: &str) -> std::result::Result<Reference, String> {
        if text.len() == 64 && text.bytes().all(is_lower_hex) {
            return Err(format!("invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"));
        }
        let (domain, rest) = split_domain(text);
        let path = rest.split(':').next().unwrap_or_default();
        if path.chars().any(char::is_uppercase) {
            return Err(format!("invalid reference format: repository name ({}) must be lowercase", path.escape_debug()));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (rest.as_str(), None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if !is_domain(domain) || !path.split('/').all(is_path_component) || tag.is_some_and(|tag| !is_tag(tag)) || digest.is_some_and(|d| !looks_like_digest(d))
        {
            return Err("invalid reference format".to_owned());
        }
        if let Some(digest) = digest {
            check_digest(digest)?;
        }
        if domain.len() + 1 + path.len() > MAX_NAME {
            return Err(format!("repository name must not be more than {MAX_NAME} characters"));
        }
        let tag = tag.or(if digest.is_none() { Some("latest") } else { None });
        Ok(Reference { domain: domain.to_owned(), path: path.to_owned(), tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) })
    }

    /// The registry, by default `docker.io`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in its registry, such as `library/nginx`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Present unless only a digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// `sha256:` and 64 hexadecimal digits; it wins over the tag.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Registry and repository, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The short form of [`Reference::name`] that people write: `nginx`, `alpine/git`.
    pub fn familiar_name(&self) -> String {
        let short = match self.path.strip_prefix(OFFICIAL) {
            Some(rest) if !rest.contains('/') => rest,
            _ => &self.path,
        };
        // docker.io/localhost/x must not become localhost/x, which is another image.
        if split_domain(short) == (self.domain.as_str(), self.path.clone()) { short.to_owned() } else { self.name() }
    }

    /// The short form that people write, with tag and digest: `nginx:latest`.
    pub fn familiar(&self) -> String {
        self.familiar_name() + &self.suffix()
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.domain, self.path, self.suffix())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference> {
        Reference::parse(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;

    fn try_from(text: String) -> Result<Reference> {
        Reference::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

/// The domain and what follows it (`splitDockerDomain`).
fn split_domain(text: &str) -> (&str, String) {
    let (domain, rest) = match text.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase) => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    };
    let domain = if domain == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !rest.contains('/') { (domain, format!("{OFFICIAL}{rest}")) } else { (domain, rest.to_owned()) }
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// A DNS name, an IPv4 address or a bracketed IPv6 address, with a port or without.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return false;
            }
            ("localhost", if rest.is_empty() { None } else { Some(rest.strip_prefix(':').unwrap_or("")) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let labels = host
        .split('.')
        .all(|label| label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    labels && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Lower-case letters and digits, parted by one dot, one or two underscores, or any number of dashes.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().last()) else { return false };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    text.split(|c: char| c.is_ascii() && alphanumeric(c as u8)).all(|separator| match separator {
        "" | "." | "_" | "__" => true,
        dashes => dashes.bytes().all(|b| b == b'-'),
    })
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_TAG && text.bytes().next().is_some_and(word) && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// The grammar of a digest, before its algorithm is looked at.
fn looks_like_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        let part = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
        algorithm.split(['-', '_', '+', '.']).all(part) && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// The messages of opencontainers/go-digest.
fn check_digest(text: &str) -> std::result::Result<(), String> {
    let (algorithm, hex) = text.split_once(':').unwrap_or((text, ""));
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err("unsupported digest algorithm".to_owned()),
    };
    match hex {
        hex if hex.len() != length => Err("invalid checksum digest length".to_owned()),
        hex if !hex.bytes().all(is_lower_hex) => Err("invalid checksum digest format".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

    #[test]
    fn names_are_filled_in_as_docker_does() {
        for (written, full, familiar) in [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("nginx:1.27-alpine", "docker.io/library/nginx:1.27-alpine", "nginx:1.27-alpine"),
            ("alpine/git", "docker.io/alpine/git:latest", "alpine/git:latest"),
            ("library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
            ("localhost:5000/x/y:z", "localhost:5000/x/y:z", "localhost:5000/x/y:z"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
            ("Host/x", "Host/x:latest", "Host/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("a__b/c.d/e---f:A_.-", "docker.io/a__b/c.d/e---f:A_.-", "a__b/c.d/e---f:A_.-"),
            ("10.0.0.1/x", "10.0.0.1/x:latest", "10.0.0.1/x:latest"),
        ] {
            let reference = Reference::parse(written).unwrap_or_else(|error| panic!("{written}: {error}"));
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar), "{written}");
        }
        let both = Reference::parse(&format!("nginx:1.2@{DIGEST}")).unwrap();
        assert_eq!((both.tag(), both.digest()), (Some("1.2"), Some(DIGEST)));
        assert_eq!(both.to_string(), format!("docker.io/library/nginx:1.2@{DIGEST}"));
        assert_eq!(Reference::parse(&format!("nginx@{DIGEST}")).unwrap().tag(), None);
    }

    #[test]
    fn a_bad_name_is_refused_in_the_kubelets_words() {
        for (written, why) in [
            ("Bad//Name:1", "invalid reference format: repository name (/Name) must be lowercase"),
            ("UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
            ("a//b", "invalid reference format"),
            ("", "invalid reference format"),
            ("-x", "invalid reference format"),
            ("x_", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("x:", "invalid reference format"),
            ("x:.y", "invalid reference format"),
            ("x y", "invalid reference format"),
            ("x@", "invalid reference format"),
            ("x@sha256:abc", "invalid reference format"),
            ("localhost:port/x", "invalid reference format"),
            ("../x", "invalid reference format"),
            ("x@sha256:00000000000000000000000000000000", "invalid checksum digest length"),
            ("x@md5:00000000000000000000000000000000", "unsupported digest algorithm"),
            (
                &DIGEST[7..],
                "invalid repository name (6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b), cannot specify 64-byte hexadecimal strings",
            ),
            (&format!("x:{}", "y".repeat(129)), "invalid reference format"),
            ("a/".repeat(127).trim_end_matches('/'), "repository name must not be more than 255 characters"),
        ] {
            let error = Reference::parse(written).unwrap_err();
            let message = format!("Failed to apply default image tag {written:?}: couldn't parse image name {written:?}: {why}");
            assert_eq!((error.to_string(), error.reason), (message, Some("InvalidImageName")));
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_as_the_same(text in r"([a-zA-Z0-9.:-]{1,8}/)?[a-z0-9]([._-]?[a-z0-9]){0,6}(/[a-z0-9]{1,3}){0,2}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,8})?") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
                prop_assert_eq!(&Reference::parse(&reference.familiar()).unwrap(), &reference);
            }
        }

        #[test]
        fn no_text_panics_and_what_is_taken_has_no_dangerous_path(text in "\\PC{0,40}") {
            if let Ok(reference) = Reference::parse(&text) {
                let name = reference.name();
                prop_assert!(name.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.starts_with([':', '@'])));
            }
        }
    }
}

//! Where a GET goes: scheme, host, port and target, written as the kubelet writes them (`formatURL` in `pkg/probe/http/request.go`).

use std::fmt;

use url::Url;

use super::dial::host_port;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) https: bool,
    /// An address (IPv6 without brackets) or a name.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query, escaped.
    pub(super) target: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.https { "https" } else { "http" }, host_port(&self.host, self.port), self.target)
    }
}

impl Place {
    /// The place that a manifest names; an error if no URL can have that host.
    pub(super) fn new(https: bool, host: &str, port: u16, path: &str) -> Result<Place, String> {
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let place = Place { https, host: host.to_owned(), port, target: target(path) };
        match host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:%".contains(&byte)) && !host.is_empty() {
            true => Ok(place),
            false => Err(format!("parse {:?}: invalid character in host name", place.to_string())),
        }
    }

    /// Where `Location` leads from here (RFC 3986, 5).
    pub(super) fn redirected(&self, location: &str) -> Result<Place, String> {
        let broken = |error: url::ParseError| format!("failed to parse Location header {location:?}: {error}");
        let url = Url::parse(&self.to_string()).and_then(|base| base.join(location)).map_err(broken)?;
        let https = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(format!("unsupported protocol scheme {other:?}")),
        };
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Place { https, host, port: url.port_or_known_default().unwrap_or(80), target: format!("{}{query}", url.path()) })
    }

    /// A redirect to another host ends the probe, for what is behind it is not the pod's (`RedirectChecker`); ports do not matter.
    pub(super) fn same_host(&self, other: &Place) -> bool {
        self.host.eq_ignore_ascii_case(&other.host)
    }
}

/// A path of a manifest as a request's target. Escapes that are there stay; what a request line cannot hold is escaped; a path with a
/// broken escape or a control character is taken literally, a question mark included, as Go does.
fn target(path: &str) -> String {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let literal = path.bytes().any(|byte| byte.is_ascii_control()) || broken_escape(path.split(['?', '#']).next().unwrap_or_default());
    if literal {
        return escaped(&path, |byte| b"/$&+,:;=@!'()*[]".contains(&byte));
    }
    let (path, _fragment) = path.split_once('#').unwrap_or((&path, ""));
    match path.split_once('?') {
        Some((path, query)) => format!("{}?{}", escaped(path, in_path), escaped(query, |byte| in_path(byte) || byte == b'?')),
        None => escaped(path, in_path),
    }
}

fn in_path(byte: u8) -> bool {
    b"/%$&+,:;=@!'()*[]".contains(&byte)
}

fn broken_escape(path: &str) -> bool {
    let bytes = path.as_bytes();
    (0..bytes.len()).any(|at| bytes[at] == b'%' && !(1..=2).all(|next| bytes.get(at + next).is_some_and(u8::is_ascii_hexdigit)))
}

fn escaped(text: &str, kept: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || kept(byte) {
            true => out.push(byte.into()),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        Place::new(false, "10.0.0.1", 80, path).unwrap()
    }

    #[test]
    fn a_place_is_written_with_its_port_and_a_path_is_escaped_once() {
        for (path, written) in [
            ("/", "/"),
            ("", "/"),
            ("healthz", "/healthz"),
            ("/a/../b", "/a/../b"),
            ("/ok?x=1&y=a b", "/ok?x=1&y=a%20b"),
            ("/a%20b c", "/a%20b%20c"),
            ("/100%?x", "/100%25%3Fx"),
            ("/a#part", "/a"),
            ("/a\r\nX: y", "/a%0D%0AX:%20y"),
            ("/ü", "/%C3%BC"),
        ] {
            assert_eq!(place(path).to_string(), format!("http://10.0.0.1:80{written}"), "{path}");
        }
        assert_eq!(Place::new(true, "::1", 443, "/").unwrap().to_string(), "https://[::1]:443/");
        assert_eq!(Place::new(true, "[::1]", 443, "/").unwrap().host, "::1");
    }

    #[test]
    fn a_host_that_no_url_can_have_is_an_error() {
        for host in ["", "a b", "a/b", "user@a", "a\r\nb"] {
            assert!(Place::new(false, host, 80, "/").unwrap_err().contains("invalid character in host name"), "{host:?}");
        }
    }

    #[test]
    fn a_redirect_is_resolved_against_the_place_it_came_from() {
        let from = place("/a/b?c=d");
        for (location, to) in [
            ("/x", "http://10.0.0.1:80/x"),
            ("x?y", "http://10.0.0.1:80/a/x?y"),
            ("../x", "http://10.0.0.1:80/x"),
            ("https://[::1]/", "https://[::1]:443/"),
            ("//other:8080/x", "http://other:8080/x"),
        ] {
            assert_eq!(from.redirected(location).unwrap().to_string(), to, "{location}");
        }
        assert_eq!(from.redirected("ftp://10.0.0.1/").unwrap_err(), r#"unsupported protocol scheme "ftp""#);
        assert!(from.redirected("http://[::1").is_err());
        assert!(from.same_host(&from.redirected("http://10.0.0.1:81/").unwrap()));
        assert!(!from.same_host(&from.redirected("http://10.0.0.2/").unwrap()));
    }
}

//! What can be read off a command without running it: the paths that it names, and what it waits for.

use std::fmt;

use k8s_openapi::api::core::v1::Container;

/// What a command waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// Somebody who listens, or only a name that resolves.
    Host {
        host: String,
        port: Option<u16>,
    },
    File(String),
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Host { host, port: Some(port) } => write!(f, "{host}:{port}"),
            Wait::Host { host, port: None } => write!(f, "the name {host}"),
            Wait::File(path) => write!(f, "the file {path}"),
        }
    }
}

/// The words of command and args; of a script too, as a shell would split it, roughly. Plain variables are filled in.
fn words(container: &Container) -> Vec<String> {
    let all = container.command.iter().chain(&container.args).flatten();
    let split = |c: char| c.is_whitespace() || ";|&()<>\"'`".contains(c);
    let split = all.flat_map(move |word| word.split(split).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>());
    split.map(|word| fill_in(word, container)).collect()
}

/// `$NAME`, `${NAME}` and `$(NAME)` by the values that the manifest gives.
fn fill_in(mut word: String, container: &Container) -> String {
    for variable in container.env.iter().flatten() {
        let Some(value) = &variable.value else { continue };
        if word.contains('$') {
            word = word.replace(&format!("${{{}}}", variable.name), value).replace(&format!("${}", variable.name), value);
        }
    }
    word
}

/// Absolute paths that a command names, beside its program.
pub fn paths(container: &Container) -> Vec<String> {
    let named = words(container).into_iter().skip(usize::from(container.command.is_some()));
    let value = named.map(|word| word.rsplit('=').next().unwrap_or_default().trim_end_matches([',', ':', '/']).to_owned());
    value.filter(|word| word.starts_with('/') && word.len() > 1).collect()
}

/// What a command waits for, if it is written in one of the usual ways.
pub fn waits_for(container: &Container) -> Option<Wait> {
    let words = words(container);
    let found = words.iter().enumerate().find_map(|(at, word)| {
        let name = word.rsplit('/').next().unwrap_or_default();
        let rest = &words[at + 1..];
        match name {
            "nc" | "ncat" | "netcat" => net_cat(rest),
            "wget" | "curl" => rest.iter().find_map(|word| url(word)),
            "nslookup" | "host" | "dig" | "ping" => plain(rest, &["-c", "-w", "-W"]).next().map(|host| (host.to_owned(), None)),
            "getent" => plain(rest, &[]).nth(1).map(|host| (host.to_owned(), None)),
            "pg_isready" => client(rest, "-p", 5432),
            "mysqladmin" | "mariadb-admin" => client(rest, "-P", 3306),
            "redis-cli" => client(rest, "-p", 6379),
            _ if word.starts_with("/dev/tcp/") => word["/dev/tcp/".len()..].split_once('/').map(|(host, port)| (host.to_owned(), port.parse().ok())),
            _ if name.starts_with("wait-for") || name == "dockerize" => rest.iter().find_map(|word| url(word).or_else(|| host_and_port(word))),
            _ => None,
        }
    });
    if let Some((host, port)) = found.filter(|(host, _)| !host.contains('$')) {
        return Some(Wait::Host { host, port });
    }
    let tests = words.windows(3).find(|three| matches!(three[0].as_str(), "[" | "[[" | "test") && matches!(three[1].as_str(), "-e" | "-f" | "-s" | "-d"));
    tests.map(|three| three[2].clone()).or_else(|| negated_test(&words)).filter(|path| path.starts_with('/')).map(Wait::File)
}

/// `[ ! -f FILE ]`
fn negated_test(words: &[String]) -> Option<String> {
    let found = words.windows(4).find(|four| matches!(four[0].as_str(), "[" | "[[" | "test") && four[1] == "!" && four[2].starts_with('-'));
    found.map(|four| four[3].clone())
}

type Target = (String, Option<u16>);

/// Words that are neither flags nor the values of these flags.
fn plain<'a>(words: &'a [String], with_value: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let mut is_value = false;
    words.iter().map(String::as_str).filter(move |word| {
        let skip = is_value || word.starts_with('-');
        is_value = !is_value && with_value.contains(word);
        !skip
    })
}

fn net_cat(rest: &[String]) -> Option<Target> {
    let mut plain = plain(rest, &["-w", "-i", "-s", "-p", "-e"]);
    let (host, port) = (plain.next()?, plain.next()?);
    let listens = rest.iter().take_while(|word| *word != host).any(|word| word.starts_with('-') && !word.starts_with("--") && word.contains('l'));
    let port = port.parse().ok().filter(|_| !listens)?;
    Some((host.to_owned(), Some(port)))
}

/// A client with `-h HOST`, else it asks this machine.
fn client(rest: &[String], port_flag: &str, usual: u16) -> Option<Target> {
    let value = |short: &str, long: &str| {
        let after = rest.windows(2).find(|two| two[0] == short || two[0] == long).map(|two| two[1].clone());
        let joined = || rest.iter().find_map(|word| word.strip_prefix(short).filter(|value| !value.is_empty()).map(str::to_owned));
        let long = || rest.iter().find_map(|word| Some(word.strip_prefix(long)?.strip_prefix('=')?.to_owned()));
        after.or_else(long).or_else(joined)
    };
    let host = value("-h", "--host")?;
    Some((host, value(port_flag, "--port").and_then(|port| port.parse().ok()).or(Some(usual))))
}

/// Host and port of `http://HOST[:PORT]/...` and the like.
fn url(word: &str) -> Option<Target> {
    let (scheme, rest) = word.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?.rsplit('@').next()?;
    let usual = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    host_and_port(authority).or_else(|| (!authority.is_empty()).then(|| (authority.to_owned(), usual)))
}

fn host_and_port(word: &str) -> Option<Target> {
    let (host, port) = word.rsplit_once(':')?;
    Some((host.trim_matches(['[', ']']).to_owned(), Some(port.parse().ok()?))).filter(|(host, _)| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(script: &str) -> Container {
        serde_json::from_value(serde_json::json!({
            "name": "c", "command": ["sh", "-c", script], "env": [{"name": "DB", "value": "db"}, {"name": "LATER", "valueFrom": {}}]
        }))
        .unwrap()
    }

    #[test]
    fn what_a_command_waits_for_is_read_from_the_usual_forms_and_from_no_others() {
        let table = [
            ("until nc -z db 5432; do sleep 1; done", "db:5432"),
            ("until nc -w 2 -z $DB 5432; do sleep 1; done", "db:5432"),
            ("while ! nc -zv ${DB} 80 >/dev/null 2>&1; do sleep 2; done", "db:80"),
            ("until wget -qO- http://api:8080/health; do sleep 1; done", "api:8080"),
            ("until curl -sf https://api/health; do :; done", "api:443"),
            ("until nslookup myservice.default.svc.cluster.local; do echo waiting; sleep 2; done", "the name myservice.default.svc.cluster.local"),
            ("until getent hosts web; do sleep 1; done", "the name web"),
            ("until pg_isready -h pg -U postgres; do sleep 1; done", "pg:5432"),
            ("until pg_isready --host=pg -p 6000; do sleep 1; done", "pg:6000"),
            ("until redis-cli -h cache ping; do sleep 1; done", "cache:6379"),
            ("until (echo > /dev/tcp/db/3306); do sleep 1; done", "db:3306"),
            ("./wait-for-it.sh db:5432 -- echo up", "db:5432"),
            ("until [ -f /shared/ready ]; do sleep 1; done", "the file /shared/ready"),
            ("while [ ! -e /shared/ready ]; do sleep 1; done", "the file /shared/ready"),
            ("until test -s /shared/ready; do sleep 1; done", "the file /shared/ready"),
            ("nc -l -p 80", ""),
            ("nc -lk 0.0.0.0 80", ""),
            ("until nc -z $LATER 80; do sleep 1; done", ""),
            ("sleep 100", ""),
            ("", ""),
        ];
        for (script, wanted) in table {
            assert_eq!(waits_for(&of(script)).map(|wait| wait.to_string()).unwrap_or_default(), wanted, "{script}");
        }
    }

    #[test]
    fn the_paths_that_a_command_names_are_found() {
        assert_eq!(paths(&of("tail -F /logs/app.log >>/out; x --dir=/data/")), ["/logs/app.log", "/out", "/data"]);
    }
}

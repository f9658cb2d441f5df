//! Which names are pods' and Services', and what they mean. Pure, but for the [`Services`] that it asks.
//!
//! | name | answer |
//! |---|---|
//! | `NAME`, in the asking pod's namespace | the addresses of the Service's pods; or the pod's address |
//! | `NAME.NS`, `NAME.NS.svc`, `NAME.NS.svc.cluster.local` | the same |
//! | `_PORT._PROTOCOL.NAME.NS.svc.cluster.local`, and shorter as above | port and name of each pod of the Service (SRV) |
//! | `HOSTNAME.SUBDOMAIN.NS.svc.cluster.local`, and shorter as above | the addresses of the pods with these |
//! | `cluster.local` and what lies between it and a pod's name | no record, but a name |
//! | anything else in `cluster.local` | no such name |
//! | the reverse name of a pod's address | `NAME.NS.svc.cluster.local` |
//! | any other reverse name in the pods' range | no such name |
//! | a Service that stands for another name (ExternalName) | that name, and what it has: from here, or from the host's nameservers |
//! | a Service without a pod that is ready | no record, but a name |
//! | everything else, and a short name that is no pod's | ask the host's nameservers |

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::files::CLUSTER_DOMAIN;
use super::super::{PodName, Range};
use super::message::{self, Code, Fault, Record};

/// Where the Services are known.
pub trait Services: std::fmt::Debug {
    /// What a Service leads to now; None if there is none of this name.
    fn find(&self, namespace: &str, name: &str) -> Option<Endpoints>;
}

/// There are none.
impl Services for () {
    fn find(&self, _: &str, _: &str) -> Option<Endpoints> {
        None
    }
}

/// What a Service leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// The addresses and names of its pods.
    pub pods: Vec<(Ipv4Addr, String)>,
    /// Those of its ports that have a name and a number.
    pub ports: Vec<Port>,
    /// The name that it stands for, which may lie anywhere; it then has neither.
    pub external_name: Option<String>,
}

/// A named port, as the pods have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: String,
    pub number: u16,
}

impl Port {
    /// None: it has no name, or its number is each pod's own.
    pub fn of(port: &ServicePort) -> Option<Port> {
        let name = port.name.clone().filter(|name| !name.is_empty())?;
        let number = match &port.target_port {
            Some(IntOrString::Int(number)) => u16::try_from(*number).ok()?,
            Some(IntOrString::String(_)) => return None,
            None => u16::try_from(port.port).ok()?,
        };
        Some(Port { name, protocol: port.protocol.as_deref().unwrap_or("TCP").to_lowercase(), number })
    }
}

/// The pods that have names now, as one of them sees them.
#[derive(Debug, Clone, Copy)]
pub struct Zone<'a> {
    /// The namespace of the pod that asks.
    pub namespace: &'a str,
    pub range: &'a Range,
    pub pods: &'a [(Ipv4Addr, PodName)],
    pub services: &'a dyn Services,
}

/// What to do with a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Ignore,
    Answer(Vec<u8>),
    Forward,
    /// The host's nameservers know what the name stands for.
    Follow(Alias),
}

/// A name that stands for one outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The names up to the one outside, which is the last.
    chain: Vec<Record>,
    target: String,
    kind: u16,
}

impl Alias {
    /// What the host's nameservers must be asked; they get an id of their own.
    pub fn question(&self) -> Vec<u8> {
        message::query(0, &self.target, self.kind)
    }

    /// The answer to the pod, with what they answered; without an answer the name alone.
    pub fn answer(&self, query: &[u8], theirs: &[u8], limit: usize) -> Vec<u8> {
        let Ok(question) = message::question(query) else { return message::failure(query, Code::FormatError) };
        let found = message::addresses(theirs).into_iter().filter(|record| asked_for(record, self.kind));
        let records: Vec<Record> = self.chain.iter().cloned().chain(found).collect();
        message::answer(query, &question, Code::NoError, &records, limit)
    }
}

/// How many names may stand for one another until nobody believes that they end.
const LONGEST_CHAIN: usize = 4;

/// What a name is.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Records(Vec<Record>),
    /// The name exists without a record of its own: names lie below it.
    Between,
    Nothing,
    Elsewhere,
}

/// Answers a query for a pod's name, in at most `limit` bytes, or says that it is none.
pub fn decide(query: &[u8], zone: &Zone<'_>, limit: usize) -> Verdict {
    let question = match message::question(query) {
        Ok(question) => question,
        Err(Fault::Ignore) => return Verdict::Ignore,
        Err(Fault::Code(code)) => return Verdict::Answer(message::failure(query, code)),
    };
    if ![message::IN, message::ANY].contains(&question.class) {
        return Verdict::Answer(message::failure(query, Code::Refused));
    }
    let (code, records) = match zone.follow(&question.name, question.kind) {
        (Found::Elsewhere, chain) if !chain.is_empty() => {
            let Some(Record::Alias(target)) = chain.last().cloned() else { return Verdict::Forward };
            return Verdict::Follow(Alias { chain, target, kind: question.kind });
        }
        // What the last of them has, if it has anything, comes after them.
        (found, mut chain) if !chain.is_empty() => {
            if let Found::Records(records) = found {
                chain.extend(records.into_iter().filter(|record| asked_for(record, question.kind)));
            }
            (Code::NoError, chain)
        }
        (found, _) => match plain(found, question.kind) {
            Some(answer) => answer,
            None => return Verdict::Forward,
        },
    };
    Verdict::Answer(message::answer(query, &question, code, &records, limit))
}

/// None: others know.
fn plain(found: Found, kind: u16) -> Option<(Code, Vec<Record>)> {
    Some(match found {
        Found::Elsewhere => return None,
        Found::Nothing => (Code::NoSuchName, vec![]),
        Found::Between => (Code::NoError, vec![]),
        // A name that has no record of the type asked for, as AAAA, is answered with none: NXDOMAIN would deny the name.
        Found::Records(records) => (Code::NoError, records.into_iter().filter(|record| asked_for(record, kind)).collect()),
    })
}

fn asked_for(record: &Record, kind: u16) -> bool {
    kind == record.kind() || kind == message::ANY
}

impl Zone<'_> {
    /// What a name is, or the one that it stands for; and the names on the way there. Whoever asks for the alias itself gets no more.
    fn follow(&self, name: &str, kind: u16) -> (Found, Vec<Record>) {
        let mut chain = Vec::new();
        let mut found = self.find(name);
        while let Found::Records(records) = &found
            && let [Record::Alias(target)] = records.as_slice()
        {
            let target = target.clone();
            chain.push(Record::Alias(target.clone()));
            found = if [message::CNAME, message::ANY].contains(&kind) || chain.len() >= LONGEST_CHAIN { Found::Between } else { self.find(&target) };
        }
        (found, chain)
    }

    fn find(&self, name: &str) -> Found {
        if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
            return self.find_reverse(reversed);
        }
        if name == CLUSTER_DOMAIN {
            return Found::Between;
        }
        if let Some(inner) = name.strip_suffix(CLUSTER_DOMAIN).and_then(|inner| inner.strip_suffix('.')) {
            return self.find_in_cluster(inner);
        }
        let records = match name.strip_suffix(".svc") {
            Some(inner) => self.in_namespace_last(inner),
            None => self.called(name, self.namespace).or_else(|| self.in_namespace_last(name)),
        };
        records.map_or(Found::Elsewhere, Found::Records)
    }

    /// `inner` is what stands before the cluster's domain.
    fn find_in_cluster(&self, inner: &str) -> Found {
        let Some(inner) = inner.strip_suffix("svc") else { return Found::Nothing };
        let inner = match inner.strip_suffix('.') {
            Some(inner) => inner,
            None if inner.is_empty() => return Found::Between,
            None => return Found::Nothing,
        };
        match self.in_namespace_last(inner) {
            Some(records) => Found::Records(records),
            None if self.something_below(inner) => Found::Between,
            None => Found::Nothing,
        }
    }

    /// The records of `NAME.NAMESPACE`; None if there is no such name.
    fn in_namespace_last(&self, name: &str) -> Option<Vec<Record>> {
        let (name, namespace) = name.rsplit_once('.')?;
        self.called(name, namespace)
    }

    /// A Service comes before a pod of its name, as only the Service has one in a cluster.
    fn called(&self, name: &str, namespace: &str) -> Option<Vec<Record>> {
        let of_service = self.service(name, namespace).map(|service| match service.external_name {
            Some(target) => vec![Record::Alias(target.trim_end_matches('.').to_ascii_lowercase())],
            None => service.pods.iter().map(|(ip, _)| Record::Address(*ip)).collect(),
        });
        of_service.or_else(|| self.port(name, namespace)).or_else(|| Some(self.pods_called(name, namespace)).filter(|records| !records.is_empty()))
    }

    /// A Service's name and a namespace's are labels of DNS.
    fn service(&self, name: &str, namespace: &str) -> Option<Endpoints> {
        let is_label = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if is_label(name) && is_label(namespace) { self.services.find(namespace, name) } else { None }
    }

    /// `_PORT._PROTOCOL.SERVICE` (RFC 2782).
    fn port(&self, name: &str, namespace: &str) -> Option<Vec<Record>> {
        let (port, rest) = name.strip_prefix('_')?.split_once("._")?;
        let (protocol, service) = rest.split_once('.')?;
        let service = self.service(service, namespace)?;
        let port = service.ports.iter().find(|known| known.name == port && known.protocol == protocol)?;
        let record = |pod: &String| Record::Service { port: port.number, target: format!("{pod}.{namespace}.svc.{CLUSTER_DOMAIN}") };
        Some(service.pods.iter().map(|(_, pod)| record(pod)).collect())
    }

    fn pods_called(&self, name: &str, namespace: &str) -> Vec<Record> {
        let called = |pod: &PodName| pod.namespace == namespace && (pod.name == name || pod.host_and_subdomain().is_some_and(|own| own == name));
        self.pods.iter().filter(|(_, pod)| called(pod)).map(|(ip, _)| Record::Address(*ip)).collect()
    }

    /// Whether `NAMESPACE`, `SUBDOMAIN.NAMESPACE` or a part of a dotted pod name has a pod's name below it.
    fn something_below(&self, inner: &str) -> bool {
        let ending = format!(".{inner}");
        let below = |name: &str, namespace: &str| format!("{name}.{namespace}").ends_with(&ending);
        self.pods.iter().any(|(_, pod)| below(&pod.name, &pod.namespace) || pod.host_and_subdomain().is_some_and(|own| below(&own, &pod.namespace)))
    }

    /// `reversed` is an address with its bytes in reverse order, or a part of one.
    fn find_reverse(&self, reversed: &str) -> Found {
        let mut bytes: Vec<&str> = reversed.split('.').collect();
        bytes.reverse();
        let Some(ip) = bytes.join(".").parse::<Ipv4Addr>().ok().filter(|ip| self.range.contains(*ip)) else { return Found::Elsewhere };
        match self.pods.iter().find(|(own, _)| *own == ip) {
            Some((_, pod)) => Found::Records(vec![Record::Name(format!("{}.{}.svc.{CLUSTER_DOMAIN}", pod.name, pod.namespace))]),
            None => Found::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::message::{A, AAAA, ANY, CNAME, PTR, SRV, query};
    use super::*;

    fn pods() -> Vec<(Ipv4Addr, PodName)> {
        let pod = |last: u8, namespace: &str, name: &str, subdomain: Option<&str>| {
            let pod = PodName {
                namespace: namespace.into(),
                name: name.into(),
                uid: name.into(),
                hostname: name.replace('.', "-"),
                subdomain: subdomain.map(str::to_owned),
            };
            (Ipv4Addr::new(10, 77, 0, last), pod)
        };
        vec![pod(2, "default", "web", None), pod(3, "shop", "web", None), pod(4, "shop", "db-0", Some("db")), pod(5, "shop", "a.b", None)]
    }

    /// Service `front` of shop leads to two pods, `db` to none.
    #[derive(Debug)]
    struct Known;

    impl Services for Known {
        fn find(&self, namespace: &str, name: &str) -> Option<Endpoints> {
            let pods = [3, 5].map(|last| (Ipv4Addr::new(10, 77, 0, last), format!("p{last}"))).to_vec();
            let ports = vec![Port { name: "http".into(), protocol: "tcp".into(), number: 8080 }];
            let external = |name: &str| Some(Endpoints { external_name: Some(name.to_owned()), ..Default::default() });
            match (namespace, name) {
                ("shop", "front") => Some(Endpoints { pods, ports, external_name: None }),
                ("shop", "outside") => external("Example.org."),
                ("shop", "inside") => external("front.shop.svc.cluster.local"),
                ("shop", "lost") => external("none.shop.svc.cluster.local"),
                ("shop", "round") => external("round.shop.svc.cluster.local"),
                ("shop", "db") => Some(Endpoints::default()),
                _ => None,
            }
        }
    }

    fn find(name: &str) -> Found {
        Zone { namespace: "shop", range: &Range::DEFAULT, pods: &pods(), services: &Known }.find(name)
    }

    fn address(last: u8) -> Found {
        Found::Records(vec![Record::Address(Ipv4Addr::new(10, 77, 0, last))])
    }

    #[test]
    fn a_pod_has_its_short_and_its_long_names() {
        for name in ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local"] {
            assert_eq!(find(name), address(3), "{name}");
        }
        for name in ["web.default", "web.default.svc", "web.default.svc.cluster.local"] {
            assert_eq!(find(name), address(2), "{name}");
        }
        for name in ["db-0.db", "db-0.db.shop", "db-0.db.shop.svc", "db-0.db.shop.svc.cluster.local", "db-0.shop.svc.cluster.local"] {
            assert_eq!(find(name), address(4), "{name}");
        }
        for name in ["a.b", "a.b.shop", "a.b.shop.svc.cluster.local"] {
            assert_eq!(find(name), address(5), "{name}");
        }
    }

    #[test]
    fn a_service_is_a_name_of_its_pods() {
        let both = || Found::Records([3, 5].map(|last| Record::Address(Ipv4Addr::new(10, 77, 0, last))).to_vec());
        for name in ["front", "front.shop", "front.shop.svc", "front.shop.svc.cluster.local"] {
            assert_eq!(find(name), both(), "{name}");
        }
        for name in ["db", "db.shop.svc.cluster.local"] {
            assert_eq!(find(name), Found::Records(vec![]), "no pod of it is ready: {name}");
        }
        assert_eq!((find("front.default.svc.cluster.local"), find("front.default")), (Found::Nothing, Found::Elsewhere));
        let target = |last: u8| Record::Service { port: 8080, target: format!("p{last}.shop.svc.cluster.local") };
        for name in ["_http._tcp.front", "_http._tcp.front.shop.svc.cluster.local"] {
            assert_eq!(find(name), Found::Records(vec![target(3), target(5)]), "{name}");
        }
        assert_eq!(find("_http._udp.front.shop.svc.cluster.local"), Found::Nothing);
        assert_eq!(answered(&query(1, "_http._tcp.front", SRV)), (0, 2));
        assert_eq!(answered(&query(1, "front", SRV)), (0, 0));
    }

    #[test]
    fn a_service_may_stand_for_another_name() {
        assert_eq!((answered(&query(1, "inside", A)), answered(&query(1, "inside", AAAA))), ((0, 3), (0, 1)));
        assert_eq!((answered(&query(1, "lost", A)), answered(&query(1, "round", A))), ((0, 1), (0, LONGEST_CHAIN as u8)));
        assert_eq!((answered(&query(1, "outside", CNAME)), answered(&query(1, "outside", ANY))), ((0, 1), (0, 1)));
        let asked = query(1, "outside.shop.svc.cluster.local", A);
        let Verdict::Follow(alias) = verdict(&asked) else { panic!() };
        assert_eq!(alias.question(), query(0, "example.org", A));
        let theirs =
            message::answer(&alias.question(), &message::question(&alias.question()).unwrap(), Code::NoError, &[Record::Address([192, 0, 2, 1].into())], 512);
        let answer = alias.answer(&asked, &theirs, message::UDP_LIMIT);
        assert_eq!((answer[3] & 0xF, answer[7], message::addresses(&answer)), (0, 2, vec![Record::Address([192, 0, 2, 1].into())]));
        assert_eq!(alias.answer(&asked, &[], message::UDP_LIMIT)[7], 1, "nobody answered");
    }

    #[test]
    fn in_the_cluster_s_domain_there_is_nothing_but_pods() {
        for name in ["no.shop.svc.cluster.local", "web.none.svc.cluster.local", "none.svc.cluster.local", "web.shop.pod.cluster.local", "xsvc.cluster.local"] {
            assert_eq!(find(name), Found::Nothing, "{name}");
        }
        for name in ["cluster.local", "svc.cluster.local", "shop.svc.cluster.local", "b.shop.svc.cluster.local"] {
            assert_eq!(find(name), Found::Between, "{name}");
        }
    }

    #[test]
    fn what_is_no_pod_s_name_is_asked_for_elsewhere() {
        for name in ["", "no", "example.org", "web.none", "no.shop.svc", "xcluster.local", "local", "web.shop.svc.cluster.local.lan", "svc"] {
            assert_eq!(find(name), Found::Elsewhere, "{name}");
        }
    }

    #[test]
    fn an_address_of_the_range_has_the_pod_s_name_or_none() {
        assert_eq!(find("4.0.77.10.in-addr.arpa"), Found::Records(vec![Record::Name("db-0.shop.svc.cluster.local".into())]));
        assert_eq!(find("9.0.77.10.in-addr.arpa"), Found::Nothing);
        for name in ["1.2.0.192.in-addr.arpa", "77.10.in-addr.arpa", "x.0.77.10.in-addr.arpa", "1.4.0.77.10.in-addr.arpa"] {
            assert_eq!(find(name), Found::Elsewhere, "{name}");
        }
    }

    fn verdict(query: &[u8]) -> Verdict {
        decide(query, &Zone { namespace: "shop", range: &Range::DEFAULT, pods: &pods(), services: &Known }, message::UDP_LIMIT)
    }

    /// The code and the number of records of the answer.
    fn answered(query: &[u8]) -> (u8, u8) {
        match verdict(query) {
            Verdict::Answer(answer) => (answer[3] & 0x0F, answer[7]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_without_a_record_of_the_type_is_not_denied() {
        for (kind, records) in [(A, 1), (AAAA, 0), (ANY, 1), (PTR, 0)] {
            assert_eq!(answered(&query(1, "web", kind)), (0, records), "{kind}");
        }
        assert_eq!(answered(&query(1, "4.0.77.10.in-addr.arpa", PTR)), (0, 1));
        assert_eq!(answered(&query(1, "4.0.77.10.in-addr.arpa", A)), (0, 0));
        assert_eq!(answered(&query(1, "no.shop.svc.cluster.local", AAAA)), (3, 0));
        assert_eq!(verdict(&query(1, "example.org", A)), Verdict::Forward);
    }

    #[test]
    fn another_class_is_refused_and_an_answer_ignored() {
        let mut chaos = query(1, "version.bind", 16);
        *chaos.last_mut().unwrap() = 3;
        assert_eq!(answered(&chaos), (5, 0));
        let mut reply = query(1, "web", A);
        reply[2] |= 0x80;
        assert_eq!(verdict(&reply), Verdict::Ignore);
    }

    proptest! {
        #[test]
        fn any_bytes_get_a_verdict(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = verdict(&bytes);
        }

        #[test]
        fn any_name_is_found_somewhere_or_not(name in "([a-z.]|web|shop|svc|cluster|local|in-addr|arpa|77|10|\\.){0,12}") {
            let _ = find(&name);
        }
    }
}

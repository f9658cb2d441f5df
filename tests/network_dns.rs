//! DNS for pods over real sockets: a pod in its namespace, its server on the host, nameservers on the host's loopback.

mod network_host;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use minipod::error::Error;
use minipod::network::dns::{Endpoints, Server, Services};
use minipod::network::{Attachment, Names, Network, PodName};
use minipod::sys::net;
use network_host::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A pod with its server.
struct Asker {
    netns: OwnedFd,
    attachment: Attachment,
    server: Server,
    names: Names,
    socket: UdpSocket,
}

fn attach(network: &Network, pod: &PodName) -> (OwnedFd, Attachment) {
    let netns = netns();
    let (attachment, _) = network.attach(pod, netns.as_fd(), &alive).unwrap();
    (netns, attachment)
}

fn asker(network: &Network, pod: &PodName, upstream: Vec<SocketAddr>) -> Asker {
    asker_of(network, pod, upstream, Box::new(()))
}

fn asker_of(network: &Network, pod: &PodName, upstream: Vec<SocketAddr>, services: Box<dyn Services>) -> Asker {
    let (netns, attachment) = attach(network, pod);
    let server = Server::bind(&attachment, upstream, services).unwrap();
    let socket = net::inside(netns.as_fd(), || UdpSocket::bind((attachment.ip, 0)).map_err(|e| Error::io("bind", "", &e))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    Asker { netns, attachment, server, names: network.names(), socket }
}

impl Asker {
    fn send(&self, query: &[u8]) {
        self.socket.send_to(query, (self.attachment.gateway, 53)).unwrap();
    }

    /// Waits until the server has something to do, and lets it.
    fn turn(&mut self, now: u64) {
        let mut waited = [PollFd::new(self.server.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut waited, PollTimeout::from(10_000u16)).unwrap(), 1, "the server has nothing to do");
        self.server.serve(now, &mut self.names).unwrap();
    }

    /// Lets the server work until something can be read from `stream`.
    fn work_until_readable(&mut self, stream: impl AsFd, now: u64) {
        loop {
            let mut waited = [PollFd::new(self.server.as_fd(), PollFlags::POLLIN), PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
            assert_ne!(poll(&mut waited, PollTimeout::from(10_000u16)).unwrap(), 0, "nobody has anything to do");
            if waited[1].any() == Some(true) {
                return;
            }
            self.server.serve(now, &mut self.names).unwrap();
        }
    }

    /// Lets time pass.
    fn wait(&mut self, now: u64) {
        self.server.serve(now, &mut self.names).unwrap();
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let length = self.socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    fn receive_nothing(&self) {
        self.socket.set_nonblocking(true).unwrap();
        assert!(self.socket.recv(&mut [0; 512]).is_err());
        self.socket.set_nonblocking(false).unwrap();
    }

    /// Asks for the addresses of a pod's name.
    fn resolve(&mut self, name: &str) -> (u8, Vec<Ipv4Addr>) {
        self.send(&query(7, name, A));
        self.turn(0);
        addresses(&self.receive())
    }

    fn connect(&self) -> TcpStream {
        let to = (self.attachment.gateway, 53);
        let stream = net::inside(self.netns.as_fd(), || TcpStream::connect(to).map_err(|e| Error::io("connect", "", &e))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }
}

const A: u16 = 1;

fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

/// The code and the addresses of an answer whose records are all addresses.
fn addresses(answer: &[u8]) -> (u8, Vec<Ipv4Addr>) {
    let count = usize::from(answer[7]);
    let records = &answer[answer.len() - 16 * count..];
    (answer[3] & 0x0F, records.chunks(16).map(|record| Ipv4Addr::new(record[12], record[13], record[14], record[15])).collect())
}

/// What a nameserver answers to a query: this code, no record.
fn reply(query: &[u8], code: u8) -> Vec<u8> {
    let mut bytes = query.to_vec();
    (bytes[2], bytes[3]) = (0x81, 0x80 | code);
    bytes
}

struct Nameserver(UdpSocket);

impl Nameserver {
    fn new() -> Nameserver {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Nameserver(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn hear(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 2048];
        let (length, from) = self.0.recv_from(&mut buffer).unwrap();
        (buffer[..length].to_vec(), from)
    }

    fn hears_nothing(&self) {
        self.0.set_nonblocking(true).unwrap();
        assert!(self.0.recv_from(&mut [0; 512]).is_err());
        self.0.set_nonblocking(false).unwrap();
    }
}

fn pod_in(namespace: &str, name: &str) -> PodName {
    PodName { namespace: namespace.into(), ..pod(name) }
}

#[test]
fn pods_find_one_another_by_name_as_long_as_they_exist() {
    on_a_host(|host| {
        let network = host.network("10.77.0.0/16");
        let (mut web, mut shop) = (asker(&network, &pod("web"), vec![]), asker(&network, &pod_in("shop", "web"), vec![]));
        let db = PodName { hostname: "db-0".into(), subdomain: Some("db".into()), ..pod("database") };
        let (_ns, attached) = attach(&network, &db);
        for name in ["database", "DATABASE.default", "database.default.svc.cluster.local", "db-0.db.default.svc.cluster.local"] {
            assert_eq!(web.resolve(name), (0, vec![attached.ip]), "{name}");
        }
        assert_eq!(web.resolve("web"), (0, vec![web.attachment.ip]), "each its own namespace");
        assert_eq!(shop.resolve("web"), (0, vec![shop.attachment.ip]));
        assert_eq!(shop.resolve("web.default"), (0, vec![web.attachment.ip]));
        assert_eq!(network.detach(&attached), []);
        assert_eq!(web.resolve("database.default.svc.cluster.local"), (3, vec![]));
    });
}

#[test]
fn a_foreign_name_goes_to_the_nameserver_under_another_id_and_comes_back_under_the_pod_s() {
    on_a_host(|host| {
        let nameserver = Nameserver::new();
        let mut asker = asker(&host.network("10.77.0.0/16"), &pod("a"), vec![nameserver.address()]);
        let mut ids = Vec::new();
        for _ in 0..8 {
            let asked = query(7, "example.org", A);
            asker.send(&asked);
            asker.turn(0);
            assert_eq!(asker.server.deadline(), Some(1500));
            let (heard, from) = nameserver.hear();
            assert_eq!(heard[2..], asked[2..]);
            ids.push((heard[0], heard[1], from.port()));
            nameserver.0.send_to(&reply(&heard, 0), from).unwrap();
            asker.turn(1);
            assert_eq!(asker.receive(), reply(&asked, 0));
            assert_eq!(asker.server.deadline(), None);
        }
        ids.sort();
        ids.dedup();
        assert!(ids.len() > 1, "ids and ports are drawn by lot: {ids:?}");
    });
}

/// One Service, which stands for a name outside.
#[derive(Debug)]
struct Outside;

impl Services for Outside {
    fn find(&self, _: &str, name: &str) -> Option<Endpoints> {
        (name == "ext").then(|| Endpoints { external_name: Some("example.org".into()), ..Default::default() })
    }
}

#[test]
fn a_service_that_stands_for_a_foreign_name_has_its_addresses() {
    on_a_host(|host| {
        let nameserver = Nameserver::new();
        let mut asker = asker_of(&host.network("10.77.0.0/16"), &pod("a"), vec![nameserver.address()], Box::new(Outside));
        let asked = query(7, "ext.default.svc.cluster.local", A);
        asker.send(&asked);
        asker.turn(0);
        let (heard, from) = nameserver.hear();
        assert_eq!(heard[2..], query(0, "example.org", A)[2..]);
        let mut known = reply(&heard, 0);
        known[7] = 1;
        known.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        nameserver.0.send_to(&known, from).unwrap();
        asker.turn(1);
        let answer = asker.receive();
        assert_eq!((&answer[..2], answer[3] & 0xF, answer[7]), (&asked[..2], 0, 2));
        assert!(answer.ends_with(&[192, 0, 2, 1]) && answer[12..].starts_with(&asked[12..]));
        // Nobody knows it: the name alone.
        asker.send(&asked);
        asker.turn(2);
        asker.wait(5000);
        assert_eq!(asker.receive()[7], 1);
    });
}

#[test]
fn a_forged_answer_is_not_passed_on() {
    on_a_host(|host| {
        let (nameserver, forger) = (Nameserver::new(), Nameserver::new());
        let mut asker = asker(&host.network("10.77.0.0/16"), &pod("a"), vec![nameserver.address()]);
        let asked = query(7, "example.org", A);
        asker.send(&asked);
        asker.turn(0);
        let (heard, from) = nameserver.hear();
        // The right bytes from elsewhere may be refused by the kernel at once.
        let _ = forger.0.send_to(&reply(&heard, 0), from);
        for forged in [reply(&query(u16::from_be_bytes([heard[0], heard[1]]).wrapping_add(1), "example.org", A), 0), {
            let mut other = reply(&query(0, "example.com", A), 0);
            other[..2].copy_from_slice(&heard[..2]);
            other
        }] {
            nameserver.0.send_to(&forged, from).unwrap();
            asker.turn(1);
        }
        asker.receive_nothing();
        nameserver.0.send_to(&reply(&heard, 3), from).unwrap();
        asker.turn(2);
        assert_eq!(asker.receive(), reply(&asked, 3));
    });
}

#[test]
fn a_silent_absent_or_unwilling_nameserver_gives_way_to_the_next() {
    on_a_host(|host| {
        let (silent, unwilling, good) = (Nameserver::new(), Nameserver::new(), Nameserver::new());
        let absent = Nameserver::new().address();
        let upstream = vec![silent.address(), absent, unwilling.address(), good.address()];
        let mut asker = asker(&host.network("10.77.0.0/16"), &pod("a"), upstream);
        let asked = query(7, "example.org", A);
        asker.send(&asked);
        asker.turn(1000);
        silent.hear();
        asker.wait(2499);
        assert_eq!(asker.server.deadline(), Some(2500));
        asker.wait(2500);
        asker.turn(2501);
        let (heard, from) = unwilling.hear();
        unwilling.0.send_to(&reply(&heard, 2), from).unwrap();
        asker.turn(2502);
        let (heard, from) = good.hear();
        good.0.send_to(&reply(&heard, 0), from).unwrap();
        asker.turn(2503);
        assert_eq!(asker.receive(), reply(&asked, 0));
        asker.receive_nothing();
    });
}

#[test]
fn without_a_nameserver_that_answers_the_pod_is_told() {
    on_a_host(|host| {
        let network = host.network("10.77.0.0/16");
        let mut alone = asker(&network, &pod("alone"), vec![]);
        assert_eq!(alone.resolve("example.org"), (2, vec![]));
        let silent = Nameserver::new();
        let mut waiting = asker(&network, &pod("waiting"), vec![silent.address()]);
        waiting.send(&query(7, "example.org", A));
        waiting.turn(0);
        waiting.wait(1499);
        waiting.receive_nothing();
        waiting.wait(1500);
        assert_eq!((addresses(&waiting.receive()).0, waiting.server.deadline()), (2, None));
    });
}

#[test]
fn a_flood_is_bounded_and_a_repeated_question_asked_once() {
    on_a_host(|host| {
        let nameserver = Nameserver::new();
        let mut asker = asker(&host.network("10.77.0.0/16"), &pod("a"), vec![nameserver.address()]);
        for _ in 0..3 {
            asker.send(&query(7, "example.org", A));
            asker.turn(0);
        }
        nameserver.hear();
        nameserver.hears_nothing();
        for id in 0..200 {
            asker.send(&query(id, "flood.example", A));
            asker.turn(0);
        }
        (0..63).for_each(|_| drop(nameserver.hear()));
        nameserver.hears_nothing();
        assert_eq!(asker.resolve("a"), (0, vec![asker.attachment.ip]), "pods' names are still answered");
    });
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    message
}

#[test]
fn over_tcp_a_pod_s_name_is_answered_and_a_foreign_one_passed_on() {
    on_a_host(|host| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let absent = Nameserver::new().address();
        let mut asker = asker(&host.network("10.77.0.0/16"), &pod("a"), vec![absent, listener.local_addr().unwrap()]);
        let mut stream = asker.connect();
        asker.turn(0);
        let (own, foreign) = (framed(&query(7, "a", A)), framed(&query(8, "example.org", A)));
        // In pieces, and the next question before the first answer.
        stream.write_all(&own[..5]).unwrap();
        asker.turn(0);
        stream.write_all(&[&own[5..], &foreign[..]].concat()).unwrap();
        asker.work_until_readable(&stream, 1);
        assert_eq!(addresses(&read_framed(&mut stream)), (0, vec![asker.attachment.ip]));
        asker.work_until_readable(&listener, 2);
        let (mut server, _) = listener.accept().unwrap();
        asker.work_until_readable(&server, 3);
        let heard = read_framed(&mut server);
        assert_eq!(heard, query(8, "example.org", A));
        let mut large = reply(&heard, 0);
        large.resize(60_000, 1);
        let writer = std::thread::spawn(move || server.write_all(&framed(&large)).map(|()| server));
        asker.work_until_readable(&stream, 4);
        let reader = std::thread::spawn(move || (read_framed(&mut stream).len(), stream));
        while !reader.is_finished() {
            asker.wait(4);
        }
        assert_eq!(reader.join().unwrap().0, 60_000);
        drop(writer.join().unwrap().unwrap());
        asker.turn(5);
        assert_eq!(asker.server.deadline(), None, "closed with the pod's end");
    });
}

#[test]
fn connections_over_tcp_are_bounded_and_end_when_idle_or_hung_up() {
    on_a_host(|host| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut asker = asker(&host.network("10.77.0.0/16"), &pod("a"), vec![listener.local_addr().unwrap()]);
        let mut streams: Vec<TcpStream> = (0..16).map(|_| asker.connect()).collect();
        asker.turn(0);
        let mut one_more = asker.connect();
        asker.turn(0);
        assert_eq!(one_more.read(&mut [0]).unwrap(), 0);
        streams[0].write_all(&framed(&query(8, "example.org", A))).unwrap();
        asker.work_until_readable(&listener, 100);
        let (mut server, _) = listener.accept().unwrap();
        asker.work_until_readable(&server, 100);
        read_framed(&mut server);
        assert_eq!(asker.server.deadline(), Some(5000));
        asker.wait(5000);
        assert_eq!(streams[1].read(&mut [0]).unwrap(), 0, "idle");
        assert_eq!(asker.server.deadline(), Some(5100), "a question is under way");
        rustix::net::sockopt::set_socket_linger(&streams[0], Some(Duration::ZERO)).unwrap();
        drop(streams.remove(0));
        asker.turn(5001);
        assert_eq!(asker.server.deadline(), None, "hung up");
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_resolver_on_every_address_of_the_host_is_told_as_the_reason() {
    on_a_host(|host| {
        let _resolver = UdpSocket::bind("0.0.0.0:53").unwrap();
        let (_ns, attachment) = attach(&host.network("10.77.0.0/16"), &pod("a"));
        let error = Server::bind(&attachment, vec![], Box::new(())).err().unwrap();
        assert!(error.is(libc::EADDRINUSE), "{error}");
        assert!(error.to_string().contains("no DNS server for pod default/a, for a resolver of this machine listens on every address"), "{error}");
    });
}

#[test]
fn a_pod_does_not_reach_the_server_of_another() {
    on_a_host(|host| {
        let network = host.network("10.77.0.0/16");
        let (asker, (other, attachment)) = (asker(&network, &pod("a"), vec![]), attach(&network, &pod("b")));
        let socket = net::inside(other.as_fd(), || UdpSocket::bind((attachment.ip, 0)).map_err(|e| Error::io("bind", "", &e))).unwrap();
        socket.connect((asker.attachment.gateway, 53)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send(&query(7, "a", A)).unwrap();
        assert_eq!(socket.recv(&mut [0; 512]).unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
    });
}

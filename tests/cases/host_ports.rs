//! hostPort: ports of the machine that lead to a pod.

use serde_json::json;

use crate::Case;
use crate::case;
use crate::ending::kill_supervisor;
use crate::pod::{Pod, serve};
use crate::world::World;

/// A pod whose app answers with the pod's name on port 80, and has these ports.
fn web(name: &str, ports: serde_json::Value) -> Pod {
    let script = format!("mkdir /www; echo {name} >/www/index.html; httpd -p 80 -h /www; {}", serve("0", 0));
    let probe = json!({ "tcpSocket": { "port": 80 }, "periodSeconds": 1 });
    Pod::new(name, "Always").app("a", &script).with("a", "ports", ports).with("a", "readinessProbe", probe).spec("terminationGracePeriodSeconds", json!(1))
}

/// Asks the server at IP:PORT. Not by wget: the resolver of a static busybox crashes on some machines.
fn question(address: &str) -> String {
    let (ip, port) = address.split_once(':').expect("IP:PORT");
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 {ip} {port}")
}

/// What it answered; None: nobody is there.
fn answer(out: &str) -> Option<String> {
    out.contains("200 OK").then(|| out.lines().last().unwrap_or_default().trim().to_owned())
}

/// Asks from the world, the host of its pods.
fn ask(world: &World, address: &str) -> Option<String> {
    answer(&world.tool("sh", &["-c", &question(address)]).out)
}

fn ask_from(world: &World, pod: &str, address: &str) -> Option<String> {
    answer(&world.exec(pod, "a", &["sh", "-c", &question(address)]).out)
}

pub const CASES: &[Case] = &[
    case("SHR-10", |world| {
        let ports = json!([{ "containerPort": 80, "hostPort": 18080 }, { "containerPort": 80, "hostPort": 18081, "hostIP": "127.0.0.1" }]);
        world.apply(&web("p", ports));
        world.apply(&web("q", json!([])));
        world.wait_ready("p");
        world.wait_ready("q");
        let p = Some("p".to_owned());
        for address in ["127.0.0.1:18080", "10.77.0.1:18080", "127.0.0.1:18081"] {
            assert_eq!(ask(world, address), p, "{address} from the host");
        }
        assert_eq!(ask(world, "10.77.0.1:18081"), None, "hostIP restricts it");
        for pod in ["p", "q"] {
            assert_eq!(ask_from(world, pod, "10.77.0.1:18080"), p, "from pod {pod}");
            assert_eq!(ask_from(world, pod, "10.77.0.1:18081"), None, "from pod {pod}");
        }
        world.delete("p");
        assert_eq!(ask(world, "127.0.0.1:18080"), None);
    }),
    case("PRT-01", |world| {
        world.apply(&web("p", json!([{ "containerPort": 80, "hostPort": 18080 }])));
        world.wait_ready("p");
        // The same number for another protocol, or on another port, does not meet it; 127.0.0.1 is one of all addresses.
        world.apply(&web("udp", json!([{ "containerPort": 80, "hostPort": 18080, "protocol": "UDP" }])));
        world.wait_ready("udp");
        world.apply(&web("late", json!([{ "containerPort": 80, "hostPort": 18080, "hostIP": "127.0.0.1" }])));
        let pod = world.wait_phase("late", "Failed");
        assert_eq!(pod["status"]["reason"], "NodePorts");
        let message = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        assert_eq!(pod["status"]["message"], format!("{message}: pod default/p has hostPort 127.0.0.1:18080/TCP"));
        assert_eq!(world.row("late").status, "NodePorts");
        // A hostNetwork pod has its containerPorts of the machine.
        let near = Pod::new("near", "Always").app("a", &serve("0", 0)).spec("hostNetwork", json!(true));
        world.apply(&near.with("a", "ports", json!([{ "containerPort": 18080 }])));
        assert_eq!(world.wait_phase("near", "Failed")["status"]["reason"], "NodePorts");
        assert_eq!(ask(world, "127.0.0.1:18080").as_deref(), Some("p"));
    }),
    case("PRT-02", |world| {
        // Nobody closes the ports of a killed supervisor; the next pod that wants them does.
        world.apply(&web("p", json!([{ "containerPort": 80, "hostPort": 18080 }])));
        world.wait_ready("p");
        kill_supervisor(world);
        world.apply(&web("q", json!([{ "containerPort": 80, "hostPort": 18080 }])));
        world.wait_ready("q");
        assert_eq!(ask(world, "127.0.0.1:18080").as_deref(), Some("q"));
    }),
    case("PRT-03", |world| {
        // A program of the machine has the port: the pod waits until it is free, and says why.
        let mut holder = world.command("busybox");
        let mut holder = holder.args(["nc", "-l", "-p", "18080"]).spawn().expect("busybox is there");
        let listening = || world.tool("busybox", &["netstat", "-ltn"]).out.contains(":18080 ");
        assert!(crate::process::poll(crate::process::seconds(20), || listening().then_some(())).is_some());
        world.apply(&web("p", json!([{ "containerPort": 80, "hostPort": 18080 }])));
        let told = || world.minipod(&["get", "events"]).out.contains("taking hostPort 18080/TCP (another program of this machine has it)");
        let told = crate::process::poll(crate::process::seconds(20), || told().then_some(()));
        holder.kill().expect("ours");
        holder.wait().expect("ours");
        assert!(told.is_some());
        world.wait_ready("p");
        assert_eq!(ask(world, "127.0.0.1:18080").as_deref(), Some("p"));
    }),
];

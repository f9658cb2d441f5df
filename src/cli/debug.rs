//! `minipod debug`: one more container in a pod that runs, to look into it.
//!
//! ```text
//! flags ──▶ a container ──▶ the manifest's own rules ──▶ supervisor: judged, added, started ──▶ attached, or done
//! ```
//!
//! What a manifest may not say, a flag may not either: the container passes the same tables and rules (`manifest::read`). The
//! answer comes when the program runs, with the streams of its first byte.

use anyhow::Result;
use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::get::Refusal;
use super::{attach::Session, need_root, pods};
use crate::error::Error;
use crate::manifest;
use crate::pod::control::{self, Reply, Request};
use crate::pod::dir::PodDir;
use crate::pod::places::Places;
use crate::pod::status::is_finished;
use crate::sys::{process, tty};

/// Add a container to a pod that runs, to look into it (an ephemeral container)
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  minipod debug web -it --image busybox:1.36                a shell in the pod's network, with the tools of that image
  minipod debug web -it --image busybox:1.36 --target app   the same, and it sees the processes of app;
                                                            the files of app are in /proc/1/root then
  minipod debug web --image busybox:1.36 --attach -- wget -qO- localhost:8080
                                                            one command; what it says is shown
  minipod debug web --image busybox:1.36 -c dump --profile netadmin -- tcpdump -i eth0 -w /tmp/dump

The container starts at once, also while an init container fails or a start is held up. It runs once and counts
for nothing: not for READY, not for the phase. It ends with the pod and cannot be taken away before; its name
stays taken. `minipod describe` lists it, and `logs`, `exec` and `attach` know it by -c NAME.

A terminal is left with ctrl-p ctrl-q; `minipod attach POD -c NAME -it` comes back.
For a process in a container that has the tools itself, `minipod exec` is simpler.")]
pub struct DebugArgs {
    /// The pod, as NAME or pod/NAME
    #[arg(value_name = "POD")]
    pod: String,
    /// The image with the tools; `minipod image ls` lists those that are there
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// The container whose processes are to be seen; it must run
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// The name of the new container; by default debugger-xxxxx
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Which rights it gets
    #[arg(long, value_name = "PROFILE", default_value = "general")]
    profile: Profile,
    /// A variable of its environment; can be given more than once
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Pass our standard input on to it, and show what it says
    #[arg(short = 'i', long)]
    stdin: bool,
    /// It gets a terminal, which is ours
    #[arg(short = 't', long, requires = "stdin")]
    tty: bool,
    /// Show what it says until it ends; -i does so as well
    #[arg(long)]
    attach: bool,
    /// Say nothing of our own
    #[arg(short, long)]
    quiet: bool,
    /// What follows -- are the arguments of the image's own command
    #[arg(long)]
    arguments_only: bool,
    /// When the image is looked for
    #[arg(long, value_name = "POLICY", default_value = "IfNotPresent")]
    image_pull_policy: String,
    /// The namespace of the pod
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
    #[arg(long, hide = true, num_args = 0..=1)]
    copy_to: Option<Option<String>>,
    #[arg(long, hide = true)]
    set_image: Vec<String>,
    #[arg(long, hide = true)]
    same_node: bool,
    #[arg(long, hide = true)]
    share_processes: bool,
    /// The command; without one the image's own
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What of the container's rights differs from those of any container (`pkg/cmd/debug/profiles.go` of kubectl).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// May trace processes: adds SYS_PTRACE
    General,
    /// As any container
    Baseline,
    /// No root, no capability, no way to more rights
    Restricted,
    /// May change the pod's network: adds NET_ADMIN and NET_RAW
    Netadmin,
    /// Privileged
    Sysadmin,
}

impl Profile {
    fn security_context(self) -> Value {
        match self {
            Profile::General => json!({"capabilities": {"add": ["SYS_PTRACE"]}}),
            Profile::Baseline => json!({}),
            Profile::Restricted => json!({
                "runAsNonRoot": true,
                "capabilities": {"drop": ["ALL"]},
                "allowPrivilegeEscalation": false,
                "seccompProfile": {"type": "RuntimeDefault"},
            }),
            Profile::Netadmin => json!({"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}),
            Profile::Sysadmin => json!({"privileged": true}),
        }
    }
}

pub fn debug(args: &DebugArgs, places: &Places) -> Result<u8> {
    args.refuse_what_is_not_here()?;
    need_root()?;
    let name = pods::name_of(&args.pod)?;
    let pod = pods::find(places, &args.namespace, name)?;
    if is_finished(&pod) {
        let phase = pod.status.and_then(|status| status.phase).unwrap_or_default();
        return Err(Refusal::client(format!("nothing can be added to a completed pod; current phase is {phase}")).into());
    }
    let container = match &args.container {
        Some(name) => name.clone(),
        None => format!("debugger-{}", suffix()?),
    };
    if args.container.is_none() && !args.quiet {
        eprintln!("Defaulting debug container name to {container}.");
    }
    let attach = args.attach || args.stdin;
    let request = Request::Debug { container: args.container(&container)?, attach };
    let gone = || Refusal::client(format!("the pod {name} has no supervisor any more, or ended before the container was started"));
    let (reply, descriptors, connection) = control::ask(&PodDir::new(places, &args.namespace, name), &request)?.ok_or_else(gone)?;
    match reply {
        Reply::Done {} => Ok(0),
        reply => args.hold(Session::of(reply, descriptors, connection)?),
    }
}

impl DebugArgs {
    /// Shows what the container says, until it ends or is left.
    fn hold(&self, session: Session) -> Result<u8> {
        let on_terminal = session.is_on_terminal();
        if !self.quiet && self.tty && !tty::is_terminal(std::io::stdin()) {
            eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
        }
        if !self.quiet && on_terminal {
            eprintln!("If you don't see a command prompt, try pressing enter.");
        }
        session.carry(on_terminal)
    }

    fn refuse_what_is_not_here(&self) -> Result<(), Refusal> {
        let copies = "debugging a copy of the pod is not supported: start the changed manifest with `minipod run`";
        let why = if self.pod.starts_with("node/") || self.pod.starts_with("no/") {
            "debugging a node is not supported: this machine is the node, and you are on it".to_owned()
        } else if self.copy_to.is_some() {
            format!("--copy-to: {copies}")
        } else if !self.set_image.is_empty() {
            format!("--set-image: {copies}")
        } else if self.same_node {
            format!("--same-node: {copies}")
        } else if self.share_processes {
            format!("--share-processes: {copies}; to see the processes of a container, name it with --target")
        } else if self.image.is_none() {
            "you must specify --image: the image with the tools that you want in the pod".to_owned()
        } else {
            return Ok(());
        };
        Err(Refusal::client(why))
    }

    /// The ephemeral container as JSON, if a manifest could say as much of a container.
    fn container(&self, name: &str) -> Result<Value> {
        let mut env = Vec::new();
        for pair in &self.env {
            let (name, value) = pair.split_once('=').ok_or_else(|| Refusal::client(format!("--env {pair}: not NAME=VALUE")))?;
            env.push(json!({"name": name, "value": value}));
        }
        let mut container = json!({
            "name": name,
            "image": self.image,
            "imagePullPolicy": self.image_pull_policy,
            "env": env,
            "securityContext": self.profile.security_context(),
            "stdin": self.stdin,
            // Without a terminal our input has an end, and the program should find it.
            "stdinOnce": self.stdin && !self.tty,
            "tty": self.tty,
        });
        if !self.command.is_empty() {
            container[if self.arguments_only { "args" } else { "command" }] = json!(self.command);
        }
        let pod = judged(&container)?;
        let judged = pod.spec.as_ref().and_then(|spec| spec.containers.first()).ok_or_else(|| Error::said("the container was lost on the way"))?;
        container["terminationMessagePath"] = json!(judged.termination_message_path);
        container["terminationMessagePolicy"] = json!(judged.termination_message_policy);
        if let Some(target) = &self.target {
            container["targetContainerName"] = json!(target);
        }
        Ok(container)
    }
}

/// The container in a pod of its own, as the manifest's rules see it.
fn judged(container: &Value) -> Result<Pod> {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "debug"}, "spec": {"containers": [container]}});
    let loaded = manifest::read(&pod.to_string(), "debug").map_err(|faults| {
        let told = |fault: &manifest::Fault| format!("{}: {}", fault.path.trim_start_matches("spec.containers[0]."), fault.detail);
        Refusal::client(format!("such a container cannot be added: {}", faults.faults.iter().map(told).collect::<Vec<_>>().join("; ")))
    })?;
    let pod = loaded.pods().next().cloned();
    pod.ok_or_else(|| Error::said("the container was lost on the way").into())
}

/// Five letters that are no word by chance (`k8s.io/apimachinery/pkg/util/rand`).
fn suffix() -> Result<String, Error> {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    Ok(process::random_bytes::<5>()?.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        args: DebugArgs,
    }

    fn args(words: &str) -> DebugArgs {
        Words::parse_from(format!("debug p {words}").split_whitespace()).args
    }

    #[test]
    fn the_words_become_an_ephemeral_container() {
        let container = args("-it --image busybox:1.36 --target app --env A=b=c -- sh -c true").container("dbg").unwrap();
        assert_eq!(container["securityContext"]["capabilities"]["add"], json!(["SYS_PTRACE"]));
        assert_eq!(container["env"], json!([{"name": "A", "value": "b=c"}]));
        assert_eq!(container["command"], json!(["sh", "-c", "true"]));
        assert_eq!((&container["targetContainerName"], &container["tty"], &container["stdinOnce"]), (&json!("app"), &json!(true), &json!(false)));
        assert_eq!(container["terminationMessagePolicy"], "File");
        let piped = args("-i --image busybox:1.36 --arguments-only --profile baseline -- x").container("dbg").unwrap();
        assert_eq!((&piped["args"], &piped["command"], &piped["stdinOnce"]), (&json!(["x"]), &Value::Null, &json!(true)));
        assert_eq!(piped["securityContext"], json!({}));
    }

    #[test]
    fn what_no_manifest_may_say_is_refused_in_one_line() {
        for (words, name, said) in [
            ("--image busybox:1.36", "Not_a_name", "name: "),
            ("--image busybox:1.36 --env 1=2=3 --env =x", "dbg", "env[1].name: "),
            ("--image busybox:1.36 --env novalue", "dbg", "--env novalue: not NAME=VALUE"),
            ("--image busybox:1.36 --image-pull-policy Sometimes", "dbg", "imagePullPolicy: "),
        ] {
            let error = args(words).container(name).unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains('\n'), "{words}: {error}");
        }
    }

    #[test]
    fn copies_and_nodes_are_refused_in_one_line() {
        for (words, said) in [
            ("--copy-to q --image x", "--copy-to: "),
            ("--set-image a=b", "--set-image: "),
            ("--same-node --image x", "--same-node: "),
            ("--share-processes --image x", "--share-processes: "),
            ("", "you must specify --image"),
        ] {
            let error = args(words).refuse_what_is_not_here().unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains('\n'), "{words}: {error}");
        }
    }
}

//! The command line: words to calls, results to text, exit codes. One file per verb.
//!
//! | code | when |
//! | --- | --- |
//! | 0 | done; for `run`: the app ended with 0, the job is complete |
//! | 1 | the thing asked for could not be done (kubectl's code for all of that); for `run`: the job failed, or was stopped |
//! | 2 | the words make no sense |
//! | 3 | `wait`: what is waited for can no longer come true |
//! | n | `run`, `exec`: the code of the app (128 + signal if it was killed), or of the command |
//! | 120 | `run`: an init container failed |
//! | 124 | `run`: activeDeadlineSeconds was over, of the pod or of the job |
//! | 125 | `run`: minipod itself could not run the pod: manifest, image, machine |
//! | 126, 127 | `exec`: the command cannot be executed, is not there |

pub mod attach;
pub mod cp;
pub mod debug;
pub mod delete;
pub mod describe;
pub mod duration;
pub mod events;
pub mod exec;
pub mod explain;
pub mod get;
pub mod image;
pub mod jsonpath;
mod login;
pub mod logs;
mod pods;
pub mod port_forward;
pub mod resize;
pub mod run;
mod streams;
pub mod system;
pub mod table;
pub mod top;
pub mod validate;
pub mod wait;
pub mod why;
mod workload;

use std::io::Write;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::error::Error;
use crate::image::registries::Settings;
use crate::manifest::Faults;
use crate::pod::places::Places;
use crate::sys::{process, user};

/// Run Kubernetes Pods and Jobs on this machine, without a cluster or a daemon
#[derive(Debug, Parser)]
#[command(
    name = "minipod",
    version,
    max_term_width = 110,
    after_help = "\
Examples:
  sudo minipod run pod.yaml            run a pod, show what happens, remove it at the end
  sudo minipod run -d pod.yaml         the same in the background
  sudo minipod get pods                what runs, and how it is
  minipod validate pod.yaml            what is wrong with a manifest, all of it at once; needs no root
  sudo minipod explain pod.yaml        every step of the start, with its system calls; nothing is started"
)]
struct Cli {
    /// Keep everything below this directory instead of /var/lib/minipod, /run/minipod and /var/log/minipod
    #[arg(long, global = true, value_name = "DIR", env = "MINIPOD_ROOT")]
    root: Option<PathBuf>,
    /// The name below which cgroups are made
    #[arg(long, global = true, value_name = "NAME", env = "MINIPOD_CGROUP", default_value = "minipod", hide_env_values = true)]
    cgroup: String,
    /// The addresses that pods get
    #[arg(long, global = true, value_name = "CIDR", env = "MINIPOD_POD_RANGE", default_value = "10.77.0.0/16", hide_env_values = true)]
    pod_range: String,
    /// Ask here for images of docker.io first: [SCHEME://]HOST[:PORT][/PREFIX]; plain http only on this machine. May be given again
    #[arg(long, global = true, value_name = "URL", env = "MINIPOD_REGISTRY_MIRROR", value_delimiter = ',', hide_env_values = true)]
    registry_mirror: Vec<String>,
    /// Believe registries whose certificates these authorities signed (PEM), beside the system's
    #[arg(long, global = true, value_name = "FILE", env = "MINIPOD_CA_FILE", hide_env_values = true)]
    ca_file: Option<PathBuf>,
    /// Settings of registries, instead of /etc/minipod/registries.yaml
    #[arg(long, global = true, value_name = "FILE", env = "MINIPOD_REGISTRIES", hide_env_values = true)]
    registries: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::RunArgs),
    Apply(run::ApplyArgs),
    Get(get::GetArgs),
    Describe(describe::DescribeArgs),
    Logs(logs::LogsArgs),
    Exec(exec::ExecArgs),
    Attach(attach::AttachArgs),
    Debug(debug::DebugArgs),
    Cp(cp::CpArgs),
    PortForward(port_forward::PortForwardArgs),
    Resize(resize::ResizeArgs),
    Top(top::TopArgs),
    Wait(wait::WaitArgs),
    Delete(delete::DeleteArgs),
    Validate(validate::ValidateArgs),
    Explain(explain::ExplainArgs),
    Image(image::ImageArgs),
    System(system::SystemArgs),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
}

/// Reads the words, does what they say, and gives the exit code.
pub fn main() -> u8 {
    let cli = Cli::parse();
    let mut places = Places::new(cli.root.as_deref(), cli.cgroup, cli.pod_range);
    places.registries = Settings { mirrors: cli.registry_mirror, ca_file: cli.ca_file, file: cli.registries };
    let default_code = if matches!(cli.verb, Verb::Run(_)) { run::OWN_FAILURE } else { 1 };
    let joins_containers = matches!(cli.verb, Verb::Run(_) | Verb::Apply(_) | Verb::Exec(_) | Verb::Cp(_));
    if joins_containers
        && user::is_root()
        && let Err(error) = process::start_from_read_only_view()
    {
        tell(&error.doing("protecting minipod's own program from containers").into());
        return default_code;
    }
    let done = match cli.verb {
        Verb::Run(args) => run::run(&args, &places),
        Verb::Apply(args) => run::apply(&args, &places),
        Verb::Get(args) => pods::get(&args, &places),
        Verb::Describe(args) => pods::describe(&args, &places),
        Verb::Logs(args) => pods::logs(&args, &places),
        Verb::Exec(args) => exec::exec(&args, &places),
        Verb::Attach(args) => attach::attach(&args, &places),
        Verb::Debug(args) => debug::debug(&args, &places),
        Verb::Cp(args) => cp::cp(&args, &places),
        Verb::PortForward(args) => port_forward::port_forward(&args, &places),
        Verb::Resize(args) => resize::resize(&args, &places),
        Verb::Top(args) => top::top(&args, &places),
        Verb::Wait(args) => wait::wait(&args, &places),
        Verb::Delete(args) => delete::delete(&args, &places),
        Verb::Validate(args) => validate::validate(&args),
        Verb::Explain(args) => explain::explain(&args, &places),
        Verb::Image(args) => pods::image(&args, &places),
        Verb::System(args) => system::system(&args, &places),
        Verb::Login(args) => login::login(&args, &places.registries),
        Verb::Logout(args) => login::logout(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            tell(&error);
            default_code
        }
    }
}

/// Prints an error once, and its hint. A closed pipe (`logs | head`) is the reader's wish, not an error.
fn tell(error: &anyhow::Error) {
    if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        return;
    }
    let mut err = anstream::stderr();
    let told = if let Some(faults) = error.downcast_ref::<Faults>() {
        tell_faults(faults);
        Ok(())
    } else if let Some(refusal) = error.downcast_ref::<get::Refusal>() {
        writeln!(err, "{refusal}")
    } else if let Some(own) = error.downcast_ref::<Error>() {
        writeln!(err, "error: {own}").and_then(|()| own.hint().map_or(Ok(()), |hint| writeln!(err, "hint: {hint}")))
    } else {
        writeln!(err, "error: {error:#}")
    };
    // stderr itself is gone: nobody is there to be told.
    drop(told);
}

/// Prints the faults of a manifest: as kubectl tells them, then each in its line.
fn tell_faults(faults: &Faults) {
    let mut err = anstream::stderr();
    let told = writeln!(err, "{faults}").and_then(|()| write!(err, "{}", faults.drawn(std::io::IsTerminal::is_terminal(&std::io::stderr()))));
    // As in `tell`.
    drop(told);
}

/// Everything that touches pods needs root; said at once, not as the first EACCES.
fn need_root() -> Result<(), Error> {
    if user::is_root() { Ok(()) } else { Err(Error::said("minipod needs root: its pods are namespaces, mounts and cgroups of this machine; run it with sudo")) }
}

//! `minipod login` and `logout`: who we are to a registry, kept in the file that podman and skopeo read too.

use std::io::{IsTerminal, Read, Write};

use anyhow::{Result, bail};
use clap::Args;

use super::need_root;
use crate::image::login::{self, Login};
use crate::image::pull;
use crate::image::registries::Settings;
use crate::sys::tty;

/// Of a password on standard input.
const MAX_PASSWORD: u64 = 64 << 10;

/// Log in to a registry, for pulls by this user
///
/// The registry is asked whether it takes the login before it is kept, in containers' auth.json ($REGISTRY_AUTH_FILE, else
/// $XDG_RUNTIME_DIR/containers/auth.json, else /run/containers/0/auth.json), readable by its owner alone.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  minipod login -u me registry.example\n  minipod login -u me --password-stdin < token")]
pub struct LoginArgs {
    /// The registry, by default docker.io
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,
    /// The user
    #[arg(short, long, value_name = "USER")]
    username: String,
    /// Read the password from standard input, without its last line break
    #[arg(long)]
    password_stdin: bool,
}

/// Forget a login
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// The registry, by default docker.io
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,
}

pub fn login(args: &LoginArgs, settings: &Settings) -> Result<u8> {
    need_root()?;
    let login = Login { user: args.username.clone(), password: password(args)? };
    if login.user.contains(':') || login.user.is_empty() {
        bail!("{:?} cannot be a user: it is empty, or has a colon", login.user);
    }
    pull::check_login(&args.registry, &login, settings)?;
    let path = login::keep(&args.registry, &login)?;
    println!("logged in to {} as {} ({})", args.registry, login.user, path.display());
    Ok(0)
}

pub fn logout(args: &LogoutArgs) -> Result<u8> {
    need_root()?;
    if !login::forget(&args.registry)? {
        bail!("there is no login for {}", args.registry);
    }
    println!("logged out of {}", args.registry);
    Ok(0)
}

fn password(args: &LoginArgs) -> Result<String> {
    let input = std::io::stdin();
    if !args.password_stdin && !input.is_terminal() {
        bail!("standard input is no terminal to ask for a password; give --password-stdin");
    }
    let mut text = String::new();
    if args.password_stdin {
        input.lock().take(MAX_PASSWORD).read_to_string(&mut text)?;
    } else {
        eprint!("password of {} at {}: ", args.username, args.registry);
        std::io::stderr().flush()?;
        text = tty::read_unseen(&input)?;
        eprintln!();
    }
    Ok(text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text)).to_owned())
}

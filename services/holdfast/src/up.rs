//! The whole of Holdfast in one process: queue, intake and dispatch, joined by real gRPC on loopback.
//!
//! Nothing here knows the services but by their configuration, their sockets and their contract, so what works here
//! works in a deployment.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use holdfast_access::Grant;
use holdfast_runtime::Context;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use uuid::Uuid;

use crate::{
    Failure,
    remote::{self, Remote},
    terminal::say,
    words,
};

mod first_chat;
mod lent;
mod services;

use first_chat::{FirstChat, Services};
use lent::Lent;
use services::{Addresses, Running, Settings, Sockets};

/// The policy of the helpline `demo` when no folder is named.
const DEMO: &str = include_str!("../demo.toml");

/// All three serve by then.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// How often they are asked whether they serve.
const ASK_EVERY: Duration = Duration::from_millis(25);

/// How the services run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep the line in this Redis or Valkey, such as redis://127.0.0.1:6379; otherwise in memory.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Intake listens on this port of 127.0.0.1, queue and dispatch on the two after it; 0 takes free ones.
    #[arg(long, value_name = "PORT", default_value_t = 50051)]
    port_base: u16,
    /// Where intake listens, instead.
    #[arg(long, value_name = "ADDR")]
    intake_listen: Option<SocketAddr>,
    /// Where queue listens, instead.
    #[arg(long, value_name = "ADDR")]
    queue_listen: Option<SocketAddr>,
    /// Where dispatch listens, instead.
    #[arg(long, value_name = "ADDR")]
    dispatch_listen: Option<SocketAddr>,
    /// A folder with a policy file for each helpline, instead of the throwaway one of the helpline demo.
    #[arg(long, value_name = "DIR")]
    policy_dir: Option<PathBuf>,
    /// The helpline of the first chat.
    #[arg(long, default_value = "demo")]
    helpline: String,
    /// A folder with settings in queue.toml, intake.toml and dispatch.toml, any of them.
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// Speak plaintext, for tools that know no TLS, and with a Redis elsewhere that has none.
    #[arg(long)]
    insecure_no_tls: bool,
    /// End as soon as the first chat has gone all the way.
    #[arg(long)]
    exit_after_first_chat: bool,
}

impl Args {
    fn address(&self, given: Option<SocketAddr>, offset: u16) -> Result<SocketAddr, Failure> {
        if let Some(address) = given {
            return Ok(address);
        }
        let port = match self.port_base {
            0 => Some(0),
            base => base.checked_add(offset),
        };
        let port = port.ok_or(Failure::PortBase(self.port_base))?;
        Ok((Ipv4Addr::LOCALHOST, port).into())
    }
}

/// Serves until Ctrl-C or SIGTERM, or until the first chat is over.
///
/// # Errors
/// When a port is taken, a setting or policy is refused, the store cannot be reached, a service ends, or the first
/// chat does not arrive.
pub async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let sockets = Sockets::open(&args).await?;
    let policies = Policies::of(&args).map_err(Failure::Policy)?;
    let addresses = sockets.addresses;
    let lent = Lent::make(&policies.folder, addresses, !args.insecure_no_tls)?;
    let settings = Settings::load(&args, &policies.folder, addresses, &lent)?;
    say(&banner(settings.store().as_deref(), lent.encrypts()))?;
    let mut running = Running::start(sockets, settings, context);
    let ended = tokio::select! {
        ended = serve(&args, addresses, policies, &lent, context) => ended,
        failure = running.failed() => Err(failure),
        () = context.stop.draining() => Ok(()),
    };
    let stopped = running.stop().await;
    ended.and(stopped)?;
    Ok(say("stopped")?)
}

async fn serve(
    args: &Args,
    addresses: Addresses,
    policies: Policies,
    lent: &Lent,
    context: &Context,
) -> Result<(), Failure> {
    let services = Services {
        intake: lent.remote("intake", addresses.intake, "up", Grant::RequestChats),
        queue: lent.remote("queue", addresses.queue, "up", Grant::Auditor),
        dispatch: lent.remote("dispatch", addresses.dispatch, first_chat::RESPONDER, Grant::Responder),
    };
    ready(&services.queue, "").await?;
    ready(&services.intake, remote::ACCEPTING).await?;
    ready(&services.dispatch, "").await?;
    drop(policies); // they are read by now, and a killed process must leave nothing behind
    match first_chat::route(&services, &args.helpline).await? {
        FirstChat::Routed(journey) => say(&journey.table())?,
        FirstChat::LineInUse(others) if args.exit_after_first_chat => {
            return Err(Failure::LineInUse(others));
        }
        FirstChat::LineInUse(others) => {
            say(&format!("No first chat, so as not to get in anybody's way: {others}."))?;
        }
    }
    if args.exit_after_first_chat {
        return Ok(());
    }
    say(&what_next(args, addresses, lent))?;
    context.stop.draining().await;
    Ok(())
}

async fn ready(remote: &Remote, name: &str) -> Result<(), Failure> {
    let mut health = HealthClient::new(remote.channel()?);
    let asking = HealthCheckRequest { service: name.to_owned() };
    let serving = async {
        loop {
            let asked = health.check(asking.clone()).await;
            if asked.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving) {
                return;
            }
            sleep(ASK_EVERY).await;
        }
    };
    let ready = timeout(READY_WITHIN, serving).await;
    ready.map_err(|_| Failure::NotReady { service: remote.service, within: words::span(READY_WITHIN) })
}

/// The folder with the policies, for as long as it is needed.
struct Policies {
    folder: PathBuf,
    _throwaway: Option<TempDir>,
}

impl Policies {
    fn of(args: &Args) -> Result<Self, io::Error> {
        if let Some(folder) = &args.policy_dir {
            return Ok(Self { folder: folder.clone(), _throwaway: None });
        }
        let throwaway = tempfile::Builder::new().prefix("holdfast-up-").tempdir()?;
        std::fs::write(throwaway.path().join("demo.toml"), DEMO)?;
        Ok(Self { folder: throwaway.path().to_owned(), _throwaway: Some(throwaway) })
    }
}

fn banner(store: Option<&str>, encrypts: bool) -> String {
    let store = match store {
        None => "EPHEMERAL: the line lives in the memory of this process. A restart loses every chat.".to_owned(),
        Some(address) => {
            format!("The line lives in {address}, whose settings decide what a crash can lose.")
        }
    };
    let way = if encrypts {
        "TLS everywhere, and every call says who makes it, by an authority and an issuer made up for this run: commands of\n\
         this user on this machine find them by themselves, and may be anybody."
    } else {
        "PLAINTEXT, as you asked: whoever is on the way can read and change everything. Every call says who makes it, by an\n\
         issuer made up for this run: commands of this user on this machine find it by themselves, and may be anybody."
    };
    format!(
        "holdfast: queue, intake and dispatch in one process, joined by gRPC.\n\
         {store}\n\
         {way}\n"
    )
}

fn what_next(args: &Args, addresses: Addresses, lent: &Lent) -> String {
    let Addresses { intake, queue, dispatch } = addresses;
    let (me, helpline) = (myself(), &args.helpline);
    let of = if helpline == "demo" { String::new() } else { format!(" --helpline {helpline}") };
    let at = |flag: &str, address: SocketAddr, usual: u16| {
        let is_usual = lent.encrypts() && address == SocketAddr::from((Ipv4Addr::LOCALHOST, usual));
        if is_usual { String::new() } else { format!(" --{flag} {}", lent.url(address)) }
    };
    let believe = lent.ca().map_or_else(|| "-plaintext".to_owned(), |ca| format!("-cacert {ca}"));
    let request =
        format!(r#"{{"helpline":"{helpline}","request_id":"{}","urgency":"URGENCY_HIGH"}}"#, Uuid::new_v4());
    format!(
        "\nServing:\n\
         \x20 intake    {intake}   the visitors' door\n\
         \x20 queue     {queue}   the keeper of the line, internal\n\
         \x20 dispatch  {dispatch}   the responders' door\n\
         \nNext, each in a terminal of its own:\n\
         \x20 {me} board{}{of}\n\
         \x20 {me} responder ana{}{of}\n\
         \x20 {me} visitor{}{of}\n\
         \x20 grpcurl {believe} {intake} list\n\
         \x20 grpcurl {believe} -H \"authorization: Bearer $({me} token chats:request{})\" -d '{request}' {intake} \\\n\
         \x20   holdfast.v1.IntakeService/RequestChat\n\
         \nCtrl-C ends.",
        at("queue", queue, 50052),
        at("dispatch", dispatch, 50053),
        at("intake", intake, 50051),
        at("at", intake, 50051),
    )
}

/// This command, as it was typed.
fn myself() -> String {
    std::env::args().next().unwrap_or_else(|| "holdfast".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Args {
        Line::parse_from(format!("up {line}").split_whitespace()).args
    }

    #[test]
    fn the_ports_follow_each_other() {
        let args = args("--port-base 6000 --queue-listen 0.0.0.0:7");
        let at = |given, offset| args.address(given, offset).unwrap().to_string();
        assert_eq!(at(args.intake_listen, 0), "127.0.0.1:6000");
        assert_eq!(at(args.queue_listen, 1), "0.0.0.0:7");
        assert_eq!(at(args.dispatch_listen, 2), "127.0.0.1:6002");
    }

    #[test]
    fn port_base_0_takes_free_ports() {
        assert_eq!(args("--port-base 0").address(None, 2).unwrap().port(), 0);
    }

    #[test]
    fn there_are_no_ports_above_the_last() {
        assert!(args("--port-base 65535").address(None, 1).is_err());
    }

    #[test]
    fn what_to_type_next_names_addresses_only_where_they_are_unusual() {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let addresses = Addresses { intake: address(50051), queue: address(7), dispatch: address(50053) };
        let policies = tempfile::tempdir().unwrap();
        let lent = |port, encrypts| {
            let at = Addresses { intake: address(port), queue: address(port + 1), dispatch: address(port + 2) };
            Lent::make(policies.path(), at, encrypts).unwrap()
        };
        let (tls, no_tls) = (lent(3, true), lent(6, false));

        let encrypted = what_next(&args(""), addresses, &tls);
        let plain = what_next(&args("--insecure-no-tls"), addresses, &no_tls);

        assert!(encrypted.contains(" visitor\n"), "{encrypted}");
        assert!(encrypted.contains(" board --queue https://127.0.0.1:7\n"), "{encrypted}");
        assert!(
            encrypted.contains(&format!("grpcurl -cacert {} 127.0.0.1:50051 list", tls.ca().unwrap())),
            "{encrypted}"
        );
        assert!(encrypted.contains("token chats:request)"), "{encrypted}");
        assert!(plain.contains("token chats:request --at http://127.0.0.1:50051)"), "{plain}");
        assert!(plain.contains(" visitor --intake http://127.0.0.1:50051\n"), "{plain}");
        assert!(plain.contains("grpcurl -plaintext 127.0.0.1:50051 list"), "{plain}");
    }
}

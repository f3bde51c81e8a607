//! The command people type: reads the command line and hands over to the part that it names.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use holdfast::{audit, block, board, demo, doctor, key, policy, responder, up, visitor};
use holdfast_runtime::config::{LogFormat, TelemetryConfig};

/// The door of a crisis line: run it, come to it, watch over it.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What is logged to standard error, such as `info` or `warn,holdfast_queue=debug`.
    #[arg(long, global = true, value_name = "FILTER", default_value = "error")]
    log: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all services in this process, and route a first chat to show that it works.
    Up(up::Args),
    /// Ask for a chat and wait in the line.
    Visitor(visitor::Args),
    /// Take chats.
    Responder(responder::Args),
    /// See who waits and who is there, as it happens.
    Board(board::Args),
    /// Keep somebody who misuses a line from it for a time: two supervisors must agree.
    Block(block::Args),
    /// Read, show, change and compare what a helpline decides.
    Policy(policy::Args),
    /// Verify and export the audit of a helpline: who decided what.
    Audit(audit::Args),
    /// Make a key for a program: an integrator, a service, an operator's tool.
    Key(key::KeyArgs),
    /// Print a token that a `holdfast up` on this machine believes.
    Token(key::TokenArgs),
    /// Check a running deployment.
    Doctor(doctor::Args),
    /// Play a busy evening on processes of its own, and report what became of everybody.
    Demo(demo::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    holdfast_runtime::run("holdfast", telemetry(cli.log), 0, |context| async move {
        match cli.command {
            Command::Up(args) => up::run(args, &context).await,
            Command::Visitor(args) => visitor::run(args, &context.stop).await,
            Command::Responder(args) => responder::run(args, &context.stop).await,
            Command::Board(args) => board::run(args, &context.stop).await,
            Command::Block(args) => block::run(args, &context.stop).await,
            Command::Policy(args) => policy::run(args, &context.stop).await,
            Command::Audit(args) => audit::run(args, &context.stop).await,
            Command::Key(args) => key::key(&args),
            Command::Token(args) => key::token(&args),
            Command::Doctor(args) => doctor::run(args).await,
            Command::Demo(args) => demo::run(args, &context.stop).await.map_err(Into::into),
        }
    })
}

fn telemetry(log_filter: String) -> TelemetryConfig {
    TelemetryConfig {
        log_format: LogFormat::Text,
        log_filter,
        otlp_endpoint: None,
        trace_sample_ratio: 0.0,
        service_instance: String::new(),
    }
}

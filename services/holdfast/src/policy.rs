//! A helpline's policy: read it as a careful colleague would, see it, see what a change changes, put it in force, go
//! back; and see on a recorded day what it would do.
//!
//! Reading and comparing need no deployment: the rules come with the command. Whatever is put in force goes through
//! the keeper of the line, with the revision that it was compared with, so that no one's change is lost to another's.

mod change;
mod compare;
mod fault;
mod file;
mod keeper;
mod lint;
mod show;

use holdfast_runtime::Stop;
use tokio::task::spawn_blocking;

use crate::{Failure, remote::Calling};

pub use fault::PolicyFault;

/// What is done with a policy.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say what is wrong with policy files, or may be: file, line, field, problem.
    Lint(lint::Args),
    /// Print the policy in force, or an earlier one.
    Show(show::ShowArgs),
    /// Say what differs from the policy in force, field by field.
    Diff(show::DiffArgs),
    /// Put a policy in force: lint it, show the difference, replace exactly what it was compared with.
    Apply(change::ApplyArgs),
    /// Put an earlier revision in force again, as a new one.
    Rollback(change::RollbackArgs),
    /// Play a recorded day under this policy and under others, and compare who waited how long.
    #[command(long_about = compare::ABOUT)]
    Compare(compare::Args),
}

/// Where the keeper of the line is.
#[derive(Debug, clap::Args)]
struct At {
    /// Where queue is.
    #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:50052")]
    queue: String,
    #[command(flatten)]
    calling: Calling,
}

/// Does it.
///
/// # Errors
/// When a file cannot be read or has errors, when queue cannot be reached or refuses, or when a day cannot be played.
pub async fn run(args: Args, stop: &Stop) -> Result<(), Failure> {
    let working = async {
        match args.command {
            Command::Lint(args) => lint::run(&args),
            Command::Show(args) => show::show(&args).await,
            Command::Diff(args) => show::diff(&args).await,
            Command::Apply(args) => change::apply(&args).await,
            Command::Rollback(args) => change::rollback(&args).await,
            Command::Compare(args) => {
                let played = spawn_blocking(move || compare::run(&args)).await;
                played.map_err(|_| PolicyFault::Broken("it did not play to the end".to_owned()))?
            }
        }
    };
    tokio::select! {
        done = working => done,
        () = stop.draining() => Err(PolicyFault::Stopped.into()),
    }
}

//! Blocks: for a time, somebody who misuses a line gets no place in it. One supervisor proposes it over a chat, another
//! one confirms it, and either ends it.
//!
//! Nobody is known here by who they are: a block is told by its own name and by the chat that it was proposed over.

mod desk;
mod list;

use std::time::Duration;

use holdfast_proto::v1::Durability;
use holdfast_runtime::Stop;

use crate::{
    Failure,
    remote::Calling,
    terminal::say,
    words::{self, ReasonWord},
};
use desk::Desk;

/// What is done about blocks.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Propose a block of whoever a chat is of. Nothing changes for them until another supervisor confirms it.
    Propose(ProposeArgs),
    /// Put a block in force that another supervisor proposed.
    Confirm(NamedArgs),
    /// End a block or a proposal at once; one supervisor is enough.
    Lift(NamedArgs),
    /// Print the blocks and proposals of a helpline.
    List(list::Args),
}

/// Where the supervisors' door is.
#[derive(Debug, clap::Args)]
struct At {
    /// Where dispatch is.
    #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:50053")]
    dispatch: String,
    /// Which helpline.
    #[arg(long, default_value = "demo")]
    helpline: String,
    #[command(flatten)]
    calling: Calling,
}

/// Who does it, and why.
#[derive(Debug, clap::Args)]
struct How {
    /// Why, for the record.
    #[arg(long, value_enum)]
    reason: ReasonWord,
    /// Who you are, for the record: 1 to 64 letters, digits, '-', '_' and '.'; as your token names you.
    #[arg(long, value_name = "ID", env = "USER", default_value = "")]
    by: String,
    #[command(flatten)]
    at: At,
}

/// What is proposed.
#[derive(Debug, clap::Args)]
struct ProposeArgs {
    /// Over which chat: its whole name.
    #[arg(value_name = "CHAT")]
    chat_id: String,
    /// How long it is in force once it is confirmed, such as '45 min', '12 h' or '7 d'; at most 30 days.
    #[arg(long = "for", value_name = "TIME", value_parser = words::time)]
    lasts: Duration,
    #[command(flatten)]
    how: How,
}

/// Which block.
#[derive(Debug, clap::Args)]
struct NamedArgs {
    /// Which block, as `propose` and `list` name it.
    #[arg(value_name = "BLOCK")]
    block_id: String,
    #[command(flatten)]
    how: How,
}

/// Does it.
///
/// # Errors
/// When dispatch cannot be reached or refuses.
pub async fn run(args: Args, stop: &Stop) -> Result<(), Failure> {
    let working = async {
        match args.command {
            Command::Propose(args) => propose(&args).await,
            Command::Confirm(args) => confirm(&args).await,
            Command::Lift(args) => lift(&args).await,
            Command::List(args) => list::run(&args).await,
        }
    };
    tokio::select! {
        done = working => done,
        () = stop.draining() => Err(Failure::Stopped("dispatch")),
    }
}

async fn propose(args: &ProposeArgs) -> Result<(), Failure> {
    let proposed = Desk::of(&args.how)?.propose(&args.how, &args.chat_id, args.lasts).await?;
    let lasts = words::span(args.lasts);
    let done =
        format!("block {} is proposed for {lasts}: another supervisor has a day to confirm it", proposed.block_id);
    tell(&args.how, &done, proposed.durability.as_ref())
}

async fn confirm(args: &NamedArgs) -> Result<(), Failure> {
    let confirmed = Desk::of(&args.how)?.confirm(&args.how, &args.block_id).await?;
    tell(&args.how, &format!("block {} is in force", args.block_id), confirmed.as_ref())
}

async fn lift(args: &NamedArgs) -> Result<(), Failure> {
    let lifted = Desk::of(&args.how)?.lift(&args.how, &args.block_id).await?;
    tell(&args.how, &format!("block {} is over", args.block_id), lifted.as_ref())
}

/// What was done, and what that is worth.
fn tell(how: &How, done: &str, durability: Option<&Durability>) -> Result<(), Failure> {
    say(&format!("{}: {done}", how.at.helpline))?;
    Ok(say(&format!("stored: {}", words::durability(durability)))?)
}

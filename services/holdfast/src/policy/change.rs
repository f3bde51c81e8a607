//! Puts a policy in force: a file, or an earlier revision as a new one.

use std::path::PathBuf;

use holdfast_domain::Policy;

use super::{
    At, PolicyFault, file,
    keeper::{self, Change, Keeper, Kept},
    show,
};
use crate::{Failure, terminal::say};

/// What is put in force.
#[derive(Debug, clap::Args)]
pub(super) struct ApplyArgs {
    /// The policy.
    file: PathBuf,
    /// Only if this revision is in force; 0 for a helpline without a policy. Else the one that the difference is shown
    /// from.
    #[arg(long, value_name = "N")]
    expected: Option<u64>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    at: At,
}

/// Where it goes back to.
#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// Of which helpline.
    helpline: String,
    /// The revision that is put in force again; the last 20 are kept.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    to: u64,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    at: At,
}

/// In which way.
#[derive(Debug, clap::Args)]
struct How {
    /// Show the difference, have it checked, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Who you are, for the record: 1 to 64 letters, digits, '-', '_' and '.'; as your token or key names you.
    #[arg(long, value_name = "ID", env = "USER", default_value = "")]
    by: String,
}

/// Puts a file in force.
pub(super) async fn apply(args: &ApplyArgs) -> Result<(), Failure> {
    let wanted = file::publishable(&args.file)?;
    let mut keeper = Keeper::new(&args.at, &args.how.by)?;
    let helpline = wanted.policy.helpline.as_str();
    let now = keeper.in_force(helpline).await?;
    let revision = now.as_ref().map_or(0, |kept| kept.revision);
    if let Some(expected) = args.expected.filter(|expected| *expected != revision) {
        return Err(keeper::conflict(helpline, expected, &revision.to_string()).into());
    }
    replace(&mut keeper, now.as_ref(), &wanted.policy, &wanted.text, &args.how).await
}

/// Puts an earlier revision in force.
pub(super) async fn rollback(args: &RollbackArgs) -> Result<(), Failure> {
    let mut keeper = Keeper::new(&args.at, &args.how.by)?;
    let now = show::in_force(&mut keeper, &args.helpline).await?;
    let back = keeper.revision(&args.helpline, args.to).await?;
    replace(&mut keeper, Some(&now), &back.policy()?, &back.toml, &args.how).await
}

/// Replaces what is in force now, and nothing else.
async fn replace(
    keeper: &mut Keeper,
    now: Option<&Kept>,
    wanted: &Policy,
    toml: &str,
    how: &How,
) -> Result<(), Failure> {
    let helpline = wanted.helpline.as_str();
    let expected = now.map_or(0, |kept| kept.revision);
    if let Some(kept) = now
        && !changes(kept, wanted)?
    {
        return Ok(say(&format!("{helpline}: nothing to change, revision {expected} says the same"))?);
    }
    let change = Change { helpline, toml, expected, by: &how.by, dry_run: how.dry_run };
    let revision = keeper.put(&change).await?;
    let done = match (how.dry_run, expected) {
        (true, 0) => format!("{helpline}: it would be the first policy; nothing was changed"),
        (true, _) => format!("{helpline}: it would replace revision {revision}; nothing was changed"),
        (false, _) => format!("{helpline}: revision {revision} is in force"),
    };
    Ok(say(&done)?)
}

/// Shows what changes, if anything does.
fn changes(now: &Kept, wanted: &Policy) -> Result<bool, Failure> {
    let changes = match now.policy() {
        Ok(policy) => Policy::diff(&policy, wanted),
        // What cannot be read here can still be replaced.
        Err(foreign @ PolicyFault::Foreign { .. }) => {
            say(&format!("no difference can be shown: {foreign}"))?;
            return Ok(true);
        }
        Err(fault) => return Err(fault.into()),
    };
    if !changes.is_empty() {
        say(&format!("{}, from revision {}:", wanted.helpline, now.revision))?;
        show::tell(&changes)?;
    }
    Ok(!changes.is_empty())
}

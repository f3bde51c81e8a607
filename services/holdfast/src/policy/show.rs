//! What is in force, and what would differ.

use std::path::{Path, PathBuf};

use holdfast_domain::Policy;

use super::{
    At, PolicyFault, file,
    keeper::{Keeper, Kept},
};
use crate::{Failure, terminal::say};

/// What is shown.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// Of which helpline.
    helpline: String,
    /// This revision instead of the one in force; the last 20 are kept.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    revision: Option<u64>,
    #[command(flatten)]
    at: At,
}

/// What is compared.
#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    /// A policy file; with --revision, a helpline.
    #[arg(value_name = "FILE|HELPLINE")]
    what: String,
    /// Compare this earlier revision of the helpline instead of a file.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    revision: Option<u64>,
    #[command(flatten)]
    at: At,
}

/// Prints a policy as a file.
pub(super) async fn show(args: &ShowArgs) -> Result<(), Failure> {
    let mut keeper = Keeper::new(&args.at, "")?;
    let kept = match args.revision {
        Some(revision) => keeper.revision(&args.helpline, revision).await?,
        None => in_force(&mut keeper, &args.helpline).await?,
    };
    Ok(say(kept.toml.trim_end())?)
}

/// Prints what a file, or an earlier revision, would change.
pub(super) async fn diff(args: &DiffArgs) -> Result<(), Failure> {
    let mut keeper = Keeper::new(&args.at, "")?;
    let (name, other) = match args.revision {
        Some(revision) => {
            let kept = keeper.revision(&args.what, revision).await?;
            (format!("revision {revision}"), kept.policy()?)
        }
        None => (args.what.clone(), unpublished(&PathBuf::from(&args.what))?),
    };
    let now = in_force(&mut keeper, &other.helpline).await?;
    let changes = Policy::diff(&now.policy()?, &other);
    if changes.is_empty() {
        return Ok(say(&format!("{name} says what revision {} says", now.revision))?);
    }
    say(&format!("from revision {}, in force, to {name}:", now.revision))?;
    tell(&changes)
}

/// A draft may be compared before it is fit; what cannot be read is told with its line.
fn unpublished(path: &Path) -> Result<Policy, Failure> {
    match Policy::from_toml(&file::text(path)?) {
        Ok(policy) => Ok(policy),
        Err(_) => Ok(file::publishable(path)?.policy),
    }
}

/// One line for each field.
pub(super) fn tell(changes: &[holdfast_domain::policy::Change]) -> Result<(), Failure> {
    for change in changes {
        say(&format!("  {change}"))?;
    }
    Ok(())
}

/// The policy in force, when there must be one.
pub(super) async fn in_force(keeper: &mut Keeper, helpline: &str) -> Result<Kept, Failure> {
    let kept = keeper.in_force(helpline).await?;
    kept.ok_or_else(|| PolicyFault::NoPolicy(helpline.to_owned()).into())
}

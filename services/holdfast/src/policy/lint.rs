//! Reads policy files as a careful colleague would. What is told and what it means is `holdfast_domain::policy::lint`.

use std::path::{Path, PathBuf};

use super::{PolicyFault, file};
use crate::{Failure, terminal::say};

/// What is read.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Policy files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Fails when there are errors; warnings are told and are no failure.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let errors: Result<Vec<usize>, Failure> = args.files.iter().map(|path| look(path)).collect();
    let errors = errors?;
    let (files, of) = (errors.iter().filter(|errors| **errors > 0).count(), errors.len());
    match errors.iter().sum() {
        0 => Ok(()),
        errors => Err(PolicyFault::Unfit { errors, files, of }.into()),
    }
}

/// How many errors there are.
fn look(path: &Path) -> Result<usize, Failure> {
    let findings = holdfast_domain::policy::lint(&file::text(path)?);
    file::tell(path, &findings)?;
    if findings.is_empty() {
        say(&format!("{}: nothing to remark", path.display()))?;
    }
    Ok(file::errors(&findings))
}

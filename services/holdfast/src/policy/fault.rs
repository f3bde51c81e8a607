//! Why a policy was not looked at, compared or put in force.

use std::{io, path::PathBuf};

use holdfast_domain::policy::PolicyError;

/// Why a `policy` command failed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFault {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not text.
    #[error("{} is not UTF-8 text", file.display())]
    NotText {
        /// Which.
        file: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", file.display())]
    Unwritable {
        /// Which.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The lint found errors; they have been told.
    #[error("{} in {files} of {}", counted(*.errors, "error"), counted(*.of, "file"))]
    Unfit {
        /// So many.
        errors: usize,
        /// In so many files.
        files: usize,
        /// Of so many.
        of: usize,
    },
    /// The keeper of the line did not take it; why has been told.
    #[error("{helpline}: not put in force: {reason}")]
    NotTaken {
        /// Whose policy.
        helpline: String,
        /// What the keeper said.
        reason: String,
    },
    /// Somebody else was faster.
    #[error("{helpline}: revision {in_force} is in force, not {expected}: look at the difference again")]
    Conflict {
        /// Whose policy.
        helpline: String,
        /// The revision that was to be replaced.
        expected: u64,
        /// The one that is there.
        in_force: String,
    },
    /// Nothing to compare with or go back from.
    #[error("{0} has no policy yet")]
    NoPolicy(String),
    /// The keeper of the line speaks of things that this command does not know.
    #[error("revision {revision} cannot be read by this version of the command: {problem}")]
    Foreign {
        /// Which revision.
        revision: u64,
        /// What is not known.
        problem: PolicyError,
    },
    /// A recorded day has a mistake.
    #[error("{}:{line}: {problem}", file.display())]
    Day {
        /// In which file.
        file: PathBuf,
        /// In which line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A day speaks of what the policy does not have.
    #[error("the day does not fit the policy: {0}")]
    Unplayable(PolicyError),
    /// More come than can be played.
    #[error("more than {most} visitors in a day")]
    Crowd {
        /// So many can be played.
        most: usize,
    },
    /// Somebody stopped the command.
    #[error("stopped before it was done")]
    Stopped,
    /// The line broke its own rules.
    #[error("the line broke a rule while the day was played: {0}")]
    Broken(String),
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("{count} {what}") } else { format!("{count} {what}s") }
}

//! Policy files as they come from disk.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use holdfast_domain::{
    Policy,
    policy::{Finding, Severity, lint::MAX_POLICY_BYTES},
};

use super::PolicyFault;
use crate::{Failure, terminal::say};

/// A policy that may be published, and its file.
pub(super) struct Fit {
    pub(super) policy: Policy,
    pub(super) text: String,
}

/// The text of a file; one byte more than a policy may have is enough to see that it is too long.
pub(super) fn text(file: &Path) -> Result<String, PolicyFault> {
    let unreadable = |source| PolicyFault::Unreadable { file: file.to_owned(), source };
    let mut text = String::new();
    let most = u64::try_from(MAX_POLICY_BYTES).unwrap_or(u64::MAX) + 1;
    fs::File::open(file).map_err(unreadable)?.take(most).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// Reads a file that may be published, or says what stands in the way, line by line.
pub(super) fn publishable(file: &Path) -> Result<Fit, Failure> {
    let text = text(file)?;
    match Policy::publishable(&text) {
        Ok(policy) => Ok(Fit { policy, text }),
        Err(findings) => {
            show(file, &findings)?;
            Err(PolicyFault::Unfit { errors: errors(&findings), files: 1, of: 1 }.into())
        }
    }
}

/// One line each, with the place as editors know it.
pub(super) fn show(file: &Path, findings: &[Finding]) -> Result<(), Failure> {
    for Finding { line, severity, field, problem } in findings {
        say(&format!("{}:{line}: {severity}: {field}: {problem}", PathBuf::from(file).display()))?;
    }
    Ok(())
}

pub(super) fn errors(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.severity == Severity::Error).count()
}

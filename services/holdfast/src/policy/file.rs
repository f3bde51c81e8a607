//! Policy files as they come from disk.

use std::{fs, io::Read, path::Path};

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

/// The text of a file; of one that is longer than a policy may be, enough to see that.
pub(super) fn text(file: &Path) -> Result<String, PolicyFault> {
    let unreadable = |source| PolicyFault::Unreadable { file: file.to_owned(), source };
    let mut bytes = Vec::new();
    let enough = MAX_POLICY_BYTES as u64 + 1;
    fs::File::open(file).map_err(unreadable)?.take(enough).read_to_end(&mut bytes).map_err(unreadable)?;
    let too_long = bytes.len() > MAX_POLICY_BYTES;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // The cut may go through a character.
        Err(cut) if too_long => Ok(String::from_utf8_lossy(cut.as_bytes()).into_owned()),
        Err(_) => Err(PolicyFault::NotText { file: file.to_owned() }),
    }
}

/// Reads a file that may be published, or tells what stands in the way.
pub(super) fn publishable(file: &Path) -> Result<Fit, Failure> {
    let text = text(file)?;
    match Policy::publishable(&text) {
        Ok(policy) => Ok(Fit { policy, text }),
        Err(findings) => {
            tell(file, &findings)?;
            Err(PolicyFault::Unfit { errors: errors(&findings), files: 1, of: 1 }.into())
        }
    }
}

/// One line each, with the place as editors know it.
pub(super) fn tell(file: &Path, findings: &[Finding]) -> Result<(), Failure> {
    for Finding { line, severity, field, problem } in findings {
        say(&format!("{}:{line}: {severity}: {field}: {problem}", file.display()))?;
    }
    Ok(())
}

pub(super) fn errors(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.severity == Severity::Error).count()
}

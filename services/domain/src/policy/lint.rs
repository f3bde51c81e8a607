//! Reads a policy the way a careful colleague would, before it is published: no dead end, nothing that is never
//! reached, nothing that takes longer than what was promised.
//!
//! [`Policy::check`] asks whether a policy can work at all; the lint asks where each person ends up. Nobody online, too
//! few on shift, hours closed, every partner refusing, the classifier down, no route that matches, a ladder at its
//! end: each of these must lead to a human, a partner or the resources, in time.

mod ends;
mod order;
mod place;
mod reach;

use super::Policy;
use place::Places;
use std::fmt;

/// Longest policy file, in bytes.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy is not published.
    Error,
    /// It may be meant; somebody should look.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Something that is wrong with a policy file, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The line of the file, from 1. What is missing is reported where it should stand.
    pub line: usize,
    /// How bad it is.
    pub severity: Severity,
    /// The field, by its path: `routes[1].steps[2]`.
    pub field: String,
    /// What is wrong with it, and why that matters.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}: {}", self.line, self.severity, self.field, self.problem)
    }
}

/// Everything that is wrong with a policy file, in the order of its lines. What cannot be read hides the rest.
#[must_use]
pub fn lint(text: &str) -> Vec<Finding> {
    match read(text) {
        Ok((_, findings)) | Err(findings) => findings,
    }
}

impl Policy {
    /// Reads a policy that is about to be published, or says why it must not be. Warnings do not stand in the way;
    /// when there is an error as well, they are told along with it.
    pub fn publishable(text: &str) -> Result<Self, Vec<Finding>> {
        let (policy, findings) = read(text)?;
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            return Err(findings);
        }
        Ok(policy)
    }
}

/// The policy and what there is to say about it; only the latter if it cannot be read.
fn read(text: &str) -> Result<(Policy, Vec<Finding>), Vec<Finding>> {
    if text.len() > MAX_POLICY_BYTES {
        let problem = format!("longer than {MAX_POLICY_BYTES} bytes");
        return Err(vec![Finding { line: 1, severity: Severity::Error, field: "policy".into(), problem }]);
    }
    let places = Places::of(text)?;
    let policy: Policy = toml::from_str(text).map_err(|e| vec![places.unreadable(&e)])?;
    let mut found = Found::default();
    for mistake in policy.mistakes() {
        found.error(mistake.field, mistake.problem);
    }
    ends::look(&policy, &mut found);
    reach::look(&policy, &mut found);
    order::look(&policy, &mut found);
    let mut findings: Vec<Finding> = found.0.into_iter().map(|problem| places.finding(problem)).collect();
    findings.sort_by_key(|finding| (finding.line, finding.severity));
    Ok((policy, findings))
}

/// What a rule has to say.
struct Problem {
    severity: Severity,
    field: String,
    text: String,
}

/// Collects what the rules have to say.
#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn error(&mut self, field: impl Into<String>, text: impl Into<String>) {
        self.0.push(Problem { severity: Severity::Error, field: field.into(), text: text.into() });
    }

    fn warning(&mut self, field: impl Into<String>, text: impl Into<String>) {
        self.0.push(Problem { severity: Severity::Warning, field: field.into(), text: text.into() });
    }
}

//! The keeper of the line, as far as policies go.

use holdfast_access::Grant;
use holdfast_domain::Policy;
use holdfast_proto::v1::{GetPolicyRequest, PutPolicyRequest, queue_service_client::QueueServiceClient};
use tokio::time::sleep;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{At, PolicyFault};
use crate::{
    Failure,
    credential::{NOBODY, Whom},
    remote::{self, Door, Remote},
    terminal::say,
};

/// The reason of a refusal by the lint; what it found comes with it.
const POLICY_REFUSED: &str = "POLICY_REFUSED";

/// The queue service.
pub(super) struct Keeper {
    remote: Remote,
    queue: QueueServiceClient<Door>,
}

/// A policy as it is kept.
pub(super) struct Kept {
    pub(super) revision: u64,
    pub(super) toml: String,
}

impl Kept {
    pub(super) fn policy(&self) -> Result<Policy, PolicyFault> {
        let foreign = |problem| PolicyFault::Foreign { revision: self.revision, problem };
        Policy::from_toml(&self.toml).map_err(foreign)
    }
}

/// A change of policy.
pub(super) struct Change<'a> {
    pub(super) helpline: &'a str,
    pub(super) toml: &'a str,
    /// The revision that it was compared with.
    pub(super) expected: u64,
    pub(super) by: &'a str,
    pub(super) dry_run: bool,
}

impl Keeper {
    /// For whom it is that asks.
    pub(super) fn new(at: &At, by: &str) -> Result<Self, Failure> {
        let by = if by.is_empty() { NOBODY } else { by };
        let remote = at.calling.to("queue", &at.queue, Whom::new(by, Grant::Operator));
        Ok(Self { queue: QueueServiceClient::new(remote.channel()?), remote })
    }

    /// The policy in force; none for a helpline that has none yet.
    pub(super) async fn in_force(&mut self, helpline: &str) -> Result<Option<Kept>, Failure> {
        match self.get(helpline, 0).await {
            Ok(kept) => Ok(Some(kept)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.remote.failure(&status)),
        }
    }

    pub(super) async fn revision(&mut self, helpline: &str, revision: u64) -> Result<Kept, Failure> {
        self.get(helpline, revision).await.map_err(|status| self.remote.failure(&status))
    }

    async fn get(&mut self, helpline: &str, revision: u64) -> Result<Kept, Status> {
        let mut tries = remote::first_tries();
        loop {
            let request = GetPolicyRequest { helpline: helpline.to_owned(), revision };
            let status = match self.queue.get_policy(request).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    return Ok(Kept { revision: answer.revision, toml: answer.toml });
                }
                Err(status) => status,
            };
            match remote::wait_after(&status, &mut tries) {
                Some(wait) => sleep(wait).await,
                None => return Err(status),
            }
        }
    }

    /// The revision that is in force now, or would be replaced. Asked once: an answer that was lost may have been a
    /// yes, and asking again would then be refused for a reason that is none.
    pub(super) async fn put(&mut self, change: &Change<'_>) -> Result<u64, Failure> {
        let request = PutPolicyRequest {
            helpline: change.helpline.to_owned(),
            toml: change.toml.to_owned(),
            expected_revision: change.expected,
            supervisor_id: change.by.to_owned(),
            dry_run: change.dry_run,
        };
        match self.queue.put_policy(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                tell("warning", &answer.warnings)?;
                Ok(answer.revision)
            }
            Err(status) => Err(self.refused(change, &status)?),
        }
    }

    fn refused(&self, change: &Change<'_>, status: &Status) -> Result<Failure, Failure> {
        let details = status.get_error_details();
        let info = details.error_info();
        if status.code() == Code::Aborted {
            let in_force = info.and_then(|info| info.metadata.get("revision").cloned());
            return Ok(conflict(change.helpline, change.expected, in_force.as_deref().unwrap_or("another")).into());
        }
        if info.is_none_or(|info| info.reason != POLICY_REFUSED) {
            return Ok(self.remote.failure(status));
        }
        let violations = details.bad_request().map_or(&[][..], |bad| &bad.field_violations);
        let problems: Vec<String> = violations.iter().map(|violation| violation.description.clone()).collect();
        tell("error", &problems)?;
        let (helpline, reason) = (change.helpline.to_owned(), status.message().to_owned());
        Ok(PolicyFault::NotTaken { helpline, reason }.into())
    }
}

/// Somebody else was faster.
pub(super) fn conflict(helpline: &str, expected: u64, in_force: &str) -> PolicyFault {
    PolicyFault::Conflict { helpline: helpline.to_owned(), expected, in_force: in_force.to_owned() }
}

fn tell(severity: &str, remarks: &[String]) -> Result<(), Failure> {
    for remark in remarks {
        say(&format!("{severity}: {remark}"))?;
    }
    Ok(())
}

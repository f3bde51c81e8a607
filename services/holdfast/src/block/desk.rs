//! The supervisors' door, as far as blocks go.

use std::time::Duration;

use holdfast_access::Grant;
use holdfast_proto::v1::{
    ConfirmBlockRequest, Durability, LiftBlockRequest, ProposeBlockRequest, ProposeBlockResponse,
    SupervisionReason, SupervisionServiceListBlocksRequest, SupervisionServiceListBlocksResponse, Supervisor,
    supervision_service_client::SupervisionServiceClient,
};
use tokio::time::sleep;
use tonic::Status;
use tonic_types::StatusExt;

use super::{At, How};
use crate::{
    Failure,
    credential::{NOBODY, Whom},
    remote::{self, Door, Remote},
    terminal::say,
};

/// The reason of a refusal because there is a block already; which one comes with it.
const ALREADY_BLOCKED: &str = "ALREADY_BLOCKED";

/// The dispatch service. What changes something is asked once: an answer that was lost may have been a yes, and asking
/// again would then be refused for a reason that is none.
pub(super) struct Desk {
    remote: Remote,
    supervision: SupervisionServiceClient<Door>,
}

impl Desk {
    /// For whoever only looks.
    pub(super) fn new(at: &At) -> Result<Self, Failure> {
        Self::by(at, NOBODY)
    }

    /// For the supervisor who acts.
    pub(super) fn of(how: &How) -> Result<Self, Failure> {
        // A token is somebody's; that nobody is named is refused where the message is read.
        Self::by(&how.at, if how.by.is_empty() { NOBODY } else { &how.by })
    }

    fn by(at: &At, subject: &str) -> Result<Self, Failure> {
        let remote = at.calling.to("dispatch", &at.dispatch, Whom::new(subject, Grant::Supervisor));
        Ok(Self { supervision: SupervisionServiceClient::new(remote.channel()?), remote })
    }

    pub(super) async fn propose(
        &mut self,
        how: &How,
        chat_id: &str,
        lasts: Duration,
    ) -> Result<ProposeBlockResponse, Failure> {
        let request = ProposeBlockRequest {
            supervisor: supervisor(how),
            chat_id: chat_id.to_owned(),
            r#for: lasts.try_into().ok(),
        };
        match self.supervision.propose_block(request).await {
            Ok(answer) if answer.get_ref().block_id.is_empty() => Err(self.remote.incomplete("a block")),
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => {
                if let Some(block_id) = blocked_by(&status) {
                    say(&format!("{}: it is block {block_id}", how.at.helpline))?;
                }
                Err(self.remote.failure(&status))
            }
        }
    }

    pub(super) async fn confirm(&mut self, how: &How, block_id: &str) -> Result<Option<Durability>, Failure> {
        let request = ConfirmBlockRequest { supervisor: supervisor(how), block_id: block_id.to_owned() };
        let answer = self.supervision.confirm_block(request).await;
        answer.map(|answer| answer.into_inner().durability).map_err(|status| self.remote.failure(&status))
    }

    pub(super) async fn lift(&mut self, how: &How, block_id: &str) -> Result<Option<Durability>, Failure> {
        let request = LiftBlockRequest { supervisor: supervisor(how), block_id: block_id.to_owned() };
        let answer = self.supervision.lift_block(request).await;
        answer.map(|answer| answer.into_inner().durability).map_err(|status| self.remote.failure(&status))
    }

    /// At most `limit` blocks after this one.
    pub(super) async fn page(
        &mut self,
        helpline: &str,
        after: &str,
        limit: u32,
    ) -> Result<SupervisionServiceListBlocksResponse, Failure> {
        let mut tries = remote::first_tries();
        loop {
            let (helpline, after_block_id) = (helpline.to_owned(), after.to_owned());
            let request = SupervisionServiceListBlocksRequest { helpline, after_block_id, limit };
            let status = match self.supervision.list_blocks(request).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            match remote::wait_after(&status, &mut tries) {
                Some(wait) => sleep(wait).await,
                None => return Err(self.remote.failure(&status)),
            }
        }
    }
}

fn supervisor(how: &How) -> Option<Supervisor> {
    Some(Supervisor {
        helpline: how.at.helpline.clone(),
        supervisor_id: how.by.clone(),
        reason: SupervisionReason::from(how.reason).into(),
    })
}

/// Which block there is of the same visitor.
fn blocked_by(status: &Status) -> Option<String> {
    let info = status.get_details_error_info().filter(|info| info.reason == ALREADY_BLOCKED)?;
    info.metadata.get("block_id").cloned()
}

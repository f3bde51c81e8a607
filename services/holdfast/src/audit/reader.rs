//! The entries of a deployment, page by page.

use holdfast_access::Grant;
use holdfast_proto::v1::{ReadAuditRequest, queue_service_client::QueueServiceClient};
use holdfast_queue::audit::{Entry, Hash};
use tokio::time::sleep;

use super::At;
use crate::{
    Failure,
    credential::{NOBODY, Whom},
    remote::{self, Door, Remote},
};

/// Entries of a page.
const PAGE: u32 = 1000;

/// Reads an audit to its end.
pub(super) struct Reader {
    remote: Remote,
    queue: QueueServiceClient<Door>,
    helpline: String,
    after: u64,
    /// The last entry, as the store has it.
    pub(super) last: (u64, Hash),
}

impl Reader {
    pub(super) fn new(at: &At, helpline: &str, after: u64) -> Result<Self, Failure> {
        let remote = at.calling.to("queue", &at.queue, Whom::new(NOBODY, Grant::Auditor));
        let queue = QueueServiceClient::new(remote.channel()?);
        Ok(Self { remote, queue, helpline: helpline.to_owned(), after, last: (0, Hash::default()) })
    }

    /// The next page; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Entry>>, Failure> {
        let mut tries = remote::first_tries();
        loop {
            let request = ReadAuditRequest { helpline: self.helpline.clone(), after: self.after, limit: PAGE };
            let status = match self.queue.read_audit(request).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    let hash = answer.last_hash.try_into().map_err(|_| self.remote.incomplete("the last hash"))?;
                    self.last = (answer.last_number, Hash(hash));
                    let entries: Vec<_> =
                        answer.entries.into_iter().map(|e| Entry { text: e.text, seal: e.seal }).collect();
                    // One that is no entry is for whoever verifies; it is not read over and over.
                    let last = entries.last().and_then(Entry::number);
                    self.after =
                        last.filter(|last| *last > self.after).unwrap_or(self.after + entries.len() as u64);
                    return Ok(Some(entries).filter(|entries| !entries.is_empty()));
                }
                Err(status) => status,
            };
            match remote::wait_after(&status, &mut tries) {
                Some(wait) => sleep(wait).await,
                None => return Err(self.remote.failure(&status)),
            }
        }
    }
}

//! How many new chats are let in. Only requests that make a chat count: not a repeat, which makes none, nor a chat that
//! comes back from a ticket or a responder, which was counted when it came, nor one from a partner, which `takes_at_most`
//! limits. The service clock decides, so a clock that leaps neither fills nor empties anything.

use super::Line;
use crate::command::Refusal;
use crate::policy::Admission;
use crate::priority::Urgency;

/// When each bucket of the policy's admission is full again, on the service clock, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Buckets {
    /// The quota.
    pub quota_us: u64,
    /// What IMMINENT chats have to themselves.
    pub imminent_us: u64,
}

impl Line {
    fn admission(&self) -> Option<Admission> {
        self.state.policy.as_ref().and_then(|p| p.admission)
    }

    /// As how urgent a new chat is let in, if it is: an IMMINENT one past its headroom as HIGH.
    pub(super) fn within_headroom(&self, urgency: Urgency) -> Urgency {
        let rate = self.admission().filter(|_| urgency == Urgency::Imminent).map(|a| a.imminent);
        match rate.map(|rate| rate.take(self.state.buckets.imminent_us, self.now)) {
            Some(Err(_)) => Urgency::High,
            Some(Ok(_)) | None => urgency,
        }
    }

    /// The buckets without one for a new chat.
    pub(super) fn within_quota(&self, urgency: Urgency) -> Result<Buckets, Refusal> {
        let buckets = self.state.buckets;
        let Some(admission) = self.admission() else { return Ok(buckets) };
        let taken = if urgency == Urgency::Imminent {
            let imminent = admission.imminent.take(buckets.imminent_us, self.now);
            imminent.map(|imminent_us| Buckets { imminent_us, ..buckets })
        } else {
            admission.quota.take(buckets.quota_us, self.now).map(|quota_us| Buckets { quota_us, ..buckets })
        };
        taken.map_err(|wait_ms| Refusal::QuotaExceeded { wait_ms })
    }

    /// A new policy's buckets lack no more than they hold.
    pub(super) fn settle_buckets(&mut self) {
        let Some(admission) = self.admission() else { return };
        let Buckets { quota_us, imminent_us } = self.state.buckets;
        self.state.buckets = Buckets {
            quota_us: admission.quota.settled(quota_us, self.now),
            imminent_us: admission.imminent.settled(imminent_us, self.now),
        };
    }
}

//! For how long a credential holds: what a stream that was opened with it looks at.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// A stream goes on for so long after its token has expired, so that a fresh one can be fetched in between.
pub const GRACE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
struct Term {
    /// `None` for as long as nobody takes it back.
    until: Option<Instant>,
    revoked: bool,
}

/// How long a credential holds. Clones are the same: renewed once, all of them are.
#[derive(Debug, Clone)]
pub struct Lease(Arc<watch::Sender<Term>>);

impl Lease {
    /// Until then.
    #[must_use]
    pub fn until(until: Instant) -> Self {
        Self(Arc::new(watch::Sender::new(Term { until: Some(until), revoked: false })))
    }

    /// Until it is taken back.
    #[must_use]
    pub fn open_ended() -> Self {
        Self(Arc::new(watch::Sender::new(Term { until: None, revoked: false })))
    }

    /// Holds at least until then. One that was taken back stays so.
    pub fn renew(&self, until: Instant) {
        self.0.send_if_modified(|term| {
            let longer = term.until.is_some_and(|before| before < until);
            if longer {
                term.until = Some(until);
            }
            longer
        });
    }

    /// When it ends, as things are; `None` when no such time is set.
    #[must_use]
    pub fn ends(&self) -> Option<Instant> {
        self.0.borrow().until
    }

    /// Takes it back, at once.
    pub fn revoke(&self) {
        self.0.send_modify(|term| term.revoked = true);
    }

    /// Whether somebody has taken it back.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.0.borrow().revoked
    }

    /// Ends so long after the credential has expired without having been renewed, or once it is taken back.
    pub fn over(&self, grace: Duration) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut term = self.0.subscribe();
        // Kept, so that there is always somebody to hear from.
        let kept = self.clone();
        async move {
            let _kept = kept;
            loop {
                let now = *term.borrow_and_update();
                if now.revoked {
                    return;
                }
                let expired = async {
                    match now.until {
                        Some(until) => sleep_until(until + grace).await,
                        None => pending().await,
                    }
                };
                tokio::select! {
                    () = expired => return,
                    Ok(()) = term.changed() => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_after_its_grace() {
        let began = Instant::now();
        Lease::until(began + Duration::from_secs(60)).over(GRACE).await;
        assert_eq!(began.elapsed(), Duration::from_secs(90));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_renewed_ends_later_and_never_sooner() {
        let began = Instant::now();
        let lease = Lease::until(began + Duration::from_secs(60));
        let over = tokio::spawn(lease.over(Duration::ZERO));
        lease.renew(began + Duration::from_secs(100));
        lease.renew(began + Duration::from_secs(10));
        over.await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_taken_back_ends_at_once_and_stays_so() {
        let lease = Lease::open_ended();
        let over = tokio::spawn(lease.over(GRACE));
        lease.revoke();
        lease.renew(Instant::now() + Duration::from_secs(100));
        over.await.unwrap();
        lease.over(GRACE).await;
        assert!(lease.is_revoked());
    }
}

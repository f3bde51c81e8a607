//! Helplines that have no room for another new chat, as the line said last. Of whoever asks there meanwhile most are told
//! the same here, so that a crowd at one helpline takes the line's time from no other.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    LinkError,
    error::{LINE_FULL, QUOTA_EXCEEDED},
};

/// When there may be room again the line is asked this far apart at least, until it says that there is none.
const APART: Duration = Duration::from_millis(5);
/// Beside that it is asked this far apart, whatever it said: so one of a crowd of people is hardly ever refused unasked, for
/// they may repeat a request that was let in, and the policy may have changed.
const BESIDE: Duration = Duration::from_millis(50);
/// So many of these may come at once.
const BESIDE_AT_ONCE: u32 = 5;
/// Nobody was refused for so long after there was to be room: there is enough of it.
const REMEMBERED: Duration = Duration::from_secs(1);

/// What the line said. Holds as many helplines as it knows, at most: it says nothing of the kind about others.
#[derive(Debug, Default)]
pub(crate) struct Room {
    lacking: Mutex<HashMap<String, Lack>>,
}

#[derive(Debug)]
struct Lack {
    refusal: LinkError,
    /// When there may be room.
    again: Instant,
    /// When all that may be asked beside that may be asked at once.
    beside: Instant,
}

impl Lack {
    /// What the line said, with what is left by now of the time that it said.
    fn said_at(&self, now: Instant) -> LinkError {
        let retry_after = match self.refusal.reason.as_str() {
            QUOTA_EXCEEDED => Some(self.again - now),
            _ => self.refusal.retry_after,
        };
        LinkError { retry_after, ..self.refusal.clone() }
    }
}

impl Room {
    /// What the line would say to one more chat of this helpline. `None` when it is to be asked, which uses up one of the
    /// times that it may be.
    pub(crate) fn refusal(&self, helpline: &str) -> Option<LinkError> {
        let mut lacking = self.lacking();
        let lack = lacking.get_mut(helpline)?;
        let now = Instant::now();
        if now > lack.again + REMEMBERED {
            lacking.remove(helpline);
            return None;
        }
        if now >= lack.again {
            lack.again = now + APART;
            return None;
        }
        let later = lack.beside.max(now) + BESIDE;
        if later > now + BESIDE * BESIDE_AT_ONCE {
            return Some(lack.said_at(now));
        }
        lack.beside = later;
        None
    }

    /// What the line said when it was asked: `None` when it let somebody in.
    pub(crate) fn learn(&self, helpline: &str, refusal: Option<&LinkError>) {
        let now = Instant::now();
        let Some(refusal) = refusal else {
            if let Some(lack) = self.lacking().get_mut(helpline) {
                lack.again = lack.again.min(now);
            }
            return;
        };
        let again = match refusal.reason.as_str() {
            QUOTA_EXCEEDED => now + refusal.retry_after.unwrap_or_default(),
            LINE_FULL => now + APART,
            _ => return,
        };
        let mut lacking = self.lacking();
        let beside = lacking.get(helpline).map_or(now, |lack| lack.beside);
        lacking.insert(helpline.to_owned(), Lack { refusal: refusal.clone(), again, beside });
    }

    fn lacking(&self) -> MutexGuard<'_, HashMap<String, Lack>> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;
    use tonic::Code;

    const DEMO: &str = "demo";

    fn refused(reason: &str, retry_after: Duration) -> Option<LinkError> {
        let refusal = LinkError::new(Code::ResourceExhausted, reason, "no room");
        Some(LinkError { retry_after: Some(retry_after), ..refusal })
    }

    fn quota(wait: Duration) -> Option<LinkError> {
        refused(QUOTA_EXCEEDED, wait)
    }

    /// How many of so many who ask at once are asked for.
    fn asked(room: &Room, crowd: usize) -> usize {
        (0..crowd).filter(|_| room.refusal(DEMO).is_none()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_before_there_is_room_is_told_what_the_line_said() {
        let (room, wait) = (Room::default(), Duration::from_millis(400));
        assert_eq!(asked(&room, 100), 100, "nobody knows of a lack");
        room.learn(DEMO, quota(wait).as_ref());
        assert_eq!(asked(&room, 100), 5, "a few are asked for beside that");
        assert_eq!(room.refusal(DEMO), quota(wait));
        assert_eq!(room.refusal("another"), None);
        advance(Duration::from_millis(100)).await;
        assert_eq!(asked(&room, 100), 2);
        assert_eq!(room.refusal(DEMO), quota(Duration::from_millis(300)), "what is left of it");
        advance(Duration::from_millis(300)).await;
        assert_eq!(asked(&room, 100), 1 + 5, "one when there may be room");
        advance(APART).await;
        assert_eq!(asked(&room, 100), 1, "and another, since nobody said that there is none");
        room.learn(DEMO, quota(wait).as_ref());
        advance(APART).await;
        assert_eq!(asked(&room, 100), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_crowd_of_people_nobody_is_refused_unasked() {
        let room = Room::default();
        room.learn(DEMO, quota(Duration::from_secs(3600)).as_ref());
        for _ in 0..100 {
            assert_eq!(room.refusal(DEMO), None);
            room.learn(DEMO, quota(Duration::from_secs(3600)).as_ref());
            advance(BESIDE).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_somebody_was_let_in_there_may_be_more_room() {
        let room = Room::default();
        room.learn(DEMO, quota(Duration::from_secs(3600)).as_ref());
        assert_eq!(asked(&room, 100), 5);
        room.learn(DEMO, None);
        assert_eq!(asked(&room, 100), 1);
        advance(APART + REMEMBERED * 2).await;
        assert_eq!(asked(&room, 100), 100, "nobody was refused for long");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_line_is_asked_again_soon_and_other_refusals_say_nothing_of_room() {
        let room = Room::default();
        room.learn(DEMO, refused("BLOCKED", Duration::from_secs(9)).as_ref());
        assert_eq!(asked(&room, 100), 100);
        room.learn(DEMO, refused(LINE_FULL, Duration::from_secs(9)).as_ref());
        assert_eq!(asked(&room, 100), 5);
        advance(APART).await;
        assert_eq!(asked(&room, 100), 1);
    }
}

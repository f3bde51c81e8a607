//! A disk is lost, and what is left is a copy that somebody took a while ago.

use holdfast_domain::policy::Numbers;
use holdfast_proto::v1::{Assignment, ChatState, Urgency};
use holdfast_tests::events::Events;
use holdfast_tests::people::{Responder, Visitor};
use holdfast_tests::processes::{Deployment, Setup, numbers};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Everybody is back within this.
const BOUND: Duration = Duration::from_secs(15);
/// How much older the copy is than the line was: replicas notice from ten seconds on.
const AGE: Duration = Duration::from_millis(11_500);
/// Chats of the copy that have ended since.
const GHOSTS: u64 = 3;

/// Who is where at the moment of the loss.
struct Evening {
    house: Deployment,
    copy: Vec<u8>,
    waiting: Vec<Visitor>,
    talking: Vec<(Visitor, Responder, Assignment)>,
}

impl Evening {
    /// The copy has three who talk and five who wait. Since then one was helped to the end, and her volunteer took the
    /// first who waited; two who waited have left; one came in danger and was taken at once; two more came who wait.
    async fn begin() -> Self {
        let numbers =
            Numbers { recovery_hold_ms: 4_000, away_after_ms: 60_000, presence_lease_ms: 15_000, ..numbers() };
        let house = Deployment::start(Setup { numbers, ..Setup::default() }).await;
        let gate = house.visitor().await;
        let name = |kind: &str, n: usize| format!("{kind}-{n}-{}", std::process::id());
        let mut talking = Vec::new();
        for n in 0..3 {
            let mut volunteer = house.responder(&format!("early-{n}")).await;
            let mut visitor = gate.beside(&name("talks", n));
            visitor.asks().await;
            let chat = volunteer.takes().await;
            visitor.until(ChatState::Active).await;
            talking.push((visitor, volunteer, chat));
        }
        let mut waiting = Vec::new();
        for n in 0..5 {
            let mut visitor = gate.beside(&name("waits", n));
            visitor.asks().await;
            waiting.push(visitor);
        }
        let mut evening = Self { house, copy: Vec::new(), waiting, talking };
        evening.copy = evening.house.redis().copy().await;
        let copied = Instant::now();

        let (mut helped, mut volunteer, chat) = evening.talking.remove(0);
        volunteer.closes(&chat).await;
        helped.until(ChatState::Ended).await;
        let next = volunteer.takes().await;
        let mut first = evening.waiting.remove(0);
        first.until(ChatState::Active).await;
        evening.talking.push((first, volunteer, next));
        for _ in 0..2 {
            let mut leaver = evening.waiting.pop().expect("somebody who waits");
            leaver.leaves().await;
            leaver.until(ChatState::Ended).await;
        }
        let mut late = evening.house.stranger("late").await;
        let mut in_danger = gate.beside(&name("danger", 0)).urgent(Urgency::Imminent);
        in_danger.asks().await;
        late.sign_in().await;
        let chat = late.takes().await;
        in_danger.until(ChatState::Active).await;
        evening.talking.push((in_danger, late, chat));
        for n in 5..7 {
            let mut visitor = gate.beside(&name("waits", n));
            visitor.asks().await;
            evening.waiting.push(visitor);
        }
        for (visitor, _, chat) in &evening.talking {
            assert_eq!(visitor.chat_id(), chat.chat_id);
        }
        sleep((copied + AGE).saturating_duration_since(Instant::now())).await; // a copy has an age
        evening
    }

    /// Waits until everybody who lives is where they were, and nobody else is in line.
    async fn is_whole_again(&self, since: Instant) -> Duration {
        let in_order: Vec<&str> = self.waiting.iter().map(Visitor::chat_id).collect();
        let talking = self.talking.len() as u64;
        loop {
            // A store that starts again does not answer for a moment.
            let floor = self.house.try_floor().await.unwrap_or_default();
            let ledger = floor.ledger.unwrap_or_default();
            let found: Vec<&str> = floor.waiting.iter().map(|chat| chat.chat_id.as_str()).collect();
            if found == in_order && ledger.active == talking {
                assert_eq!(ledger.difference, 0);
                assert_eq!(ledger.waiting, found.len() as u64 + GHOSTS, "{ledger:?}");
                return since.elapsed();
            }
            assert!(since.elapsed() < BOUND, "{found:?} of {in_order:?} are back: {ledger:?}");
            sleep(Duration::from_millis(100)).await; // polls what is measured
        }
    }

    /// From the moment the line began another life nobody but its owner was given an active chat.
    async fn nobody_else_was_offered(&self) {
        let mut events = Events::after(&self.house.queues[0], "").await;
        events.until("revived").await;
        let owners: BTreeMap<&str, &str> = self
            .talking
            .iter()
            .map(|(visitor, volunteer, _)| (visitor.chat_id(), volunteer.sign_in.responder_id.as_str()))
            .collect();
        let mut reclaimed = BTreeMap::new();
        while reclaimed.len() < owners.len() {
            let event = events.next(1).await.remove(0);
            let theirs = owners.contains_key(event.chat_id.as_str());
            assert!(!theirs || event.kind != "offered", "an active chat was offered: {event:?}");
            if event.kind == "reclaimed" {
                reclaimed.insert(event.chat_id, event.responder_id);
            }
        }
        for (chat, owner) in owners {
            assert_eq!(reclaimed[chat], owner);
        }
    }

    /// The next volunteer gets whoever is first in line and lives; conversations end under the fence that they had.
    async fn ends_well(mut self) {
        let mut new = self.house.responder("new").await;
        let chat = new.takes().await;
        assert_eq!(chat.chat_id, self.waiting[0].chat_id());
        self.waiting[0].until(ChatState::Active).await;
        for (visitor, volunteer, chat) in &mut self.talking {
            volunteer.closes(chat).await;
            visitor.until(ChatState::Ended).await;
        }
        self.house.nobody_is_lost(11).await;
    }
}

#[tokio::test]
async fn a_restored_copy_is_noticed_and_everybody_who_lives_is_where_they_were() {
    let mut evening = Evening::begin().await;
    let copy = std::mem::take(&mut evening.copy);

    let since = Instant::now();
    evening.house.redis().start_again_from(&copy).await;
    let took = evening.is_whole_again(since).await;
    println!("after a copy was restored everybody was back in {took:?}");

    evening.nobody_else_was_offered().await;
    evening.ends_well().await;
}

#[tokio::test]
async fn where_no_queue_lived_to_notice_the_operator_says_so() {
    let mut evening = Evening::begin().await;
    let copy = std::mem::take(&mut evening.copy);
    for queue in &mut evening.house.queues {
        queue.kill().await;
    }

    evening.house.redis().start_again_from(&copy).await;
    let said = evening.house.queues[0].run_once("--restored").await;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && text.contains("begins another life"), "{said:?}");
    let since = Instant::now();
    for queue in &mut evening.house.queues {
        queue.start_again().await;
    }
    evening.is_whole_again(since).await;

    evening.nobody_else_was_offered().await;
    evening.ends_well().await;
}

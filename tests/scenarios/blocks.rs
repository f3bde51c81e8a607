//! Two supervisors keep somebody from the line for a time, and nobody learns who it is.

use crate::content::{copied, holds};
use crate::failure::resources;
use holdfast_access::{Grant, api_keys::NewKey};
use holdfast_domain::policy::Numbers;
use holdfast_proto::v1::supervision_service_client::SupervisionServiceClient;
use holdfast_proto::v1::{
    Block, ChatOutcome, ChatState, ConfirmBlockRequest, EndChatRequest, LiftBlockRequest, ProposeBlockRequest,
    SupervisionReason, SupervisionServiceListBlocksRequest, SupervisionServiceListBlocksResponse, Supervisor,
    Urgency,
};
use holdfast_tests::collector::Collector;
use holdfast_tests::events::Events;
use holdfast_tests::people::Visitor;
use holdfast_tests::processes::{Deployment, HELPLINE, PATIENCE, Setup, connect, numbers};
use sha2::{Digest, Sha256};
use std::fs;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const PLANTED: &str = "planted-subject-5d1e";
const HOUR: Duration = Duration::from_secs(3600);

/// A deployment whose visitors come by a website and by an app, which are known by their keys.
struct House {
    all: Deployment,
    website: String,
    app: String,
}

impl House {
    async fn start(setup: Setup) -> Self {
        let mut all = Deployment::start(setup).await;
        let [website, app] = ["website", "app"].map(|name| (name, NewKey::generate().expect("a key")));
        let entry = |(name, key): &(&str, NewKey)| key.entry(name, &[Grant::RequestChats], &[HELPLINE.to_owned()]);
        let keys = all.dir().join("integrators.toml");
        fs::write(&keys, entry(&website) + &entry(&app)).expect("a file of keys");
        let intake = &mut all.intakes[0];
        intake.set("SECURITY__INSECURE_NO_AUTHENTICATION", "false");
        intake.set("SECURITY__API_KEYS_FILE", keys.to_str().expect("a path"));
        intake.kill().await;
        intake.start_again().await;
        all.ready().await;
        Self { all, website: website.1.key, app: app.1.key }
    }

    /// Somebody whom the website calls so, or does not name.
    async fn visitor(&self, subject: &str) -> Visitor {
        self.visitor_by(&self.website, subject).await
    }

    async fn visitor_by(&self, key: &str, subject: &str) -> Visitor {
        let mut visitor = self.all.visitor().await;
        visitor.headers.push(("authorization", format!("Bearer {key}")));
        visitor.ask.subject = subject.to_owned();
        visitor
    }

    async fn supervisor(&self, name: &'static str) -> Watcher {
        // Each at a door of their own.
        let door = &self.all.dispatches[usize::from(name == "lea")];
        Watcher { name, client: SupervisionServiceClient::new(connect(&door.url()).await) }
    }

    /// Sue and Lea agree.
    async fn blocks(&self, chat: &str, time: Duration) -> String {
        let block = self.supervisor("sue").await.proposes(chat, time).await.expect("a proposal");
        self.supervisor("lea").await.confirms(&block).await.expect("a block");
        block
    }
}

/// A supervisor.
struct Watcher {
    name: &'static str,
    client: SupervisionServiceClient<Channel>,
}

impl Watcher {
    fn by(&self) -> Option<Supervisor> {
        let (helpline, supervisor_id) = (HELPLINE.to_owned(), self.name.to_owned());
        Some(Supervisor { helpline, supervisor_id, reason: SupervisionReason::Misuse.into() })
    }

    async fn proposes(&mut self, chat: &str, time: Duration) -> Result<String, Status> {
        let (supervisor, chat_id, r#for) = (self.by(), chat.to_owned(), time.try_into().ok());
        let proposed = self.client.propose_block(ProposeBlockRequest { supervisor, chat_id, r#for }).await?;
        Ok(proposed.into_inner().block_id)
    }

    async fn confirms(&mut self, block: &str) -> Result<(), Status> {
        let (supervisor, block_id) = (self.by(), block.to_owned());
        self.client.confirm_block(ConfirmBlockRequest { supervisor, block_id }).await.map(drop)
    }

    async fn lifts(&mut self, block: &str) -> Result<(), Status> {
        let (supervisor, block_id) = (self.by(), block.to_owned());
        self.client.lift_block(LiftBlockRequest { supervisor, block_id }).await.map(drop)
    }

    async fn lists(&mut self) -> SupervisionServiceListBlocksResponse {
        let helpline = HELPLINE.to_owned();
        let request = SupervisionServiceListBlocksRequest { helpline, after_block_id: String::new(), limit: 0 };
        self.client.list_blocks(request).await.expect("a page").into_inner()
    }

    async fn ends(&mut self, chat: &str) {
        let (supervisor, chat_id) = (self.by(), chat.to_owned());
        let outcome = ChatOutcome::Blocked.into();
        self.client.end_chat(EndChatRequest { supervisor, chat_id, outcome }).await.expect("an end");
    }
}

fn reason(refused: &Status) -> (Code, String) {
    (refused.code(), refused.get_details_error_info().expect("a reason").reason.clone())
}

/// Refused with where else to turn, and not a word of why or by whom.
fn is_kept_out(refused: &Status) {
    assert_eq!(reason(refused), (Code::FailedPrecondition, "BLOCKED".to_owned()));
    assert!(resources(refused).contains(&"Anyone".to_owned()), "{refused:?}");
    let said = format!("{refused:?}").to_lowercase();
    for untold in ["sue", "lea", "misuse"] {
        let telling = said.split(|c: char| !c.is_alphanumeric()).any(|word| word == untold);
        assert!(!telling, "{untold}: {refused:?}");
    }
}

#[tokio::test]
async fn two_supervisors_keep_one_visitor_out_who_gets_the_resources_and_nobody_else_is_touched() {
    let house = House::start(Setup::default()).await;
    let (mut sue, mut lea) = (house.supervisor("sue").await, house.supervisor("lea").await);
    let mut first = house.visitor("v-17").await;
    first.asks().await;
    let block = sue.proposes(first.chat_id(), HOUR).await.expect("a proposal");
    let mut second = house.visitor("v-17").await;
    second.asks().await;

    let alone = sue.confirms(&block).await.expect_err("one person alone");
    assert_eq!(reason(&alone), (Code::FailedPrecondition, "SAME_PERSON".to_owned()));
    let twice = lea.proposes(second.chat_id(), HOUR).await.expect_err("the same visitor");
    assert_eq!(reason(&twice), (Code::AlreadyExists, "ALREADY_BLOCKED".to_owned()));
    assert_eq!(twice.get_details_error_info().expect("details").metadata["block_id"], block);
    lea.confirms(&block).await.expect("a block");

    let mut third = house.visitor("v-17").await;
    for urgency in [Urgency::Low, Urgency::Imminent] {
        third.ask.urgency = urgency.into();
        is_kept_out(&third.try_ask().await.expect_err("kept out"));
        is_kept_out(&third.try_ask().await.expect_err("the same request again"));
    }
    house.all.nobody_is_lost(2).await;
    assert!(first.try_ask().await.expect("the chat of before").replayed);
    for (key, subject) in [(&house.website, "v-18"), (&house.website, ""), (&house.app, "v-17")] {
        house.visitor_by(key, subject).await.asks().await;
    }
    house.all.nobody_is_lost(5).await;
    let counted =
        |metrics: &str| metrics.lines().any(|l| l.contains("holdfast_requests") && l.contains("\"blocked\""));
    let metrics = house.all.intakes[0].measures("who was kept out", counted).await;
    assert!(!metrics.contains("v-17"));

    let listed = lea.lists().await;
    assert_eq!((listed.in_force, listed.proposed, listed.blocks.len()), (1, 0, 1));
    let Block { chat_id, of_subject, proposed_by, confirmed_by, remaining, .. } = listed.blocks[0].clone();
    assert_eq!((chat_id.as_str(), of_subject), (first.chat_id(), true));
    assert_eq!((proposed_by.as_str(), confirmed_by.as_str()), ("sue", "lea"));
    assert!((3_500..=3_600).contains(&remaining.expect("a time").seconds));

    sue.ends(second.chat_id()).await;
    let ended = second.until(ChatState::Ended).await.chat.expect("a chat");
    assert_eq!(ended.outcome(), ChatOutcome::Blocked);
    sue.lifts(&block).await.expect("one is enough");
    third.asks().await;
    assert_eq!(lea.lists().await.blocks, []);
    let gone = lea.confirms(&block).await.expect_err("it is over");
    assert_eq!(reason(&gone), (Code::NotFound, "UNKNOWN_BLOCK".to_owned()));

    let mut events = Events::after(&house.all.queues[0], "").await;
    for (kind, by) in [("block_proposed", "sue"), ("block_confirmed", "lea"), ("block_lifted", "sue")] {
        let event = events.until(kind).await;
        assert_eq!((event.supervisor_id.as_str(), event.reason.as_str()), (by, "misuse"), "{kind}");
        assert_eq!((event.chat_id.as_str(), event.block_id.as_str()), (first.chat_id(), block.as_str()));
    }
}

#[tokio::test]
async fn a_block_ends_by_itself() {
    let house = House::start(Setup::default()).await;
    let mut visitor = house.visitor("v-17").await;
    visitor.asks().await;
    house.blocks(visitor.chat_id(), Duration::from_secs(2)).await;
    let began = Instant::now();
    let mut again = house.visitor("v-17").await;
    is_kept_out(&again.try_ask().await.expect_err("kept out"));
    Events::after(&house.all.queues[0], "").await.until("block_expired").await;
    assert!(began.elapsed() < PATIENCE);
    again.asks().await;
}

#[tokio::test]
async fn a_blocked_token_brings_no_chat_back_and_still_gets_the_resources() {
    let hurried = Numbers { away_after_ms: 400, abandon_after_ms: 400, ..numbers() };
    let house = House::start(Setup { numbers: hurried, ..Setup::default() }).await;
    let mut visitor = house.visitor("").await;
    visitor.asks().await;
    visitor.goes_silent();
    Events::after(&house.all.queues[0], "").await.until("ended").await;
    let block = house.blocks(visitor.chat_id(), HOUR).await;

    is_kept_out(&visitor.try_resume().await.expect_err("kept out"));
    house.visitor("").await.asks().await;
    house.supervisor("lea").await.lifts(&block).await.expect("one is enough");
    assert_eq!(visitor.resumes().await.state(), ChatState::Waiting);
}

/// In every form in which bytes may stand somewhere.
fn forms_of(subject: &str) -> Vec<Vec<u8>> {
    let hash = Sha256::digest(subject);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let listed = format!("{:?}", subject.as_bytes());
    let listed = listed.trim_matches(['[', ']']).as_bytes().to_vec();
    // The first half of a hash is found as well as the whole of it.
    vec![subject.as_bytes().to_vec(), listed, hash[..16].to_vec(), hex.as_bytes()[..32].to_vec()]
}

#[tokio::test]
async fn what_an_integrator_calls_a_visitor_is_nowhere() {
    let collector = Collector::start().await;
    let collected = Some(collector.url().to_owned());
    let house = House::start(Setup { collector: collected, log_filter: "debug", ..Setup::default() }).await;
    let mut visitor = house.visitor(PLANTED).await;
    visitor.asks().await;
    house.blocks(visitor.chat_id(), HOUR).await;
    let mut again = house.visitor(PLANTED).await;
    is_kept_out(&again.try_ask().await.expect_err("kept out"));
    again.headers.clear();
    again.try_ask().await.expect_err("nobody who is known");
    again.ask.subject = PLANTED.repeat(10);
    again.headers.push(("authorization", format!("Bearer {}", house.website)));
    assert_eq!(again.try_ask().await.expect_err("too long").code(), Code::InvalidArgument);
    let mut events = Events::after(&house.all.queues[0], "").await;
    let told = [events.until("block_proposed").await, events.until("block_confirmed").await];

    let mut everything = copied_of(house, &mut visitor).await;
    everything.extend(format!("{told:?}").into_bytes());
    everything.extend(sent(&collector).await.into_bytes());
    assert!(holds(&everything, b"block_proposed") && holds(&everything, b"RequestChat"), "nothing was looked at");
    for form in forms_of(PLANTED) {
        assert!(!holds(&everything, &form), "{:?} can be read", String::from_utf8_lossy(&form));
    }
}

/// The store, the logs and the metrics; then what is left of traces is sent.
async fn copied_of(house: House, visitor: &mut Visitor) -> Vec<u8> {
    let mut all = house.all;
    let mut copy = copied(&mut all).await;
    assert!(holds(&copy, visitor.chat_id().as_bytes()), "the store was not looked at");
    for process in all.queues.iter_mut().chain(&mut all.intakes).chain(&mut all.dispatches) {
        copy.extend(process.get("/metrics").await.body.into_bytes());
        process.signal("TERM");
        process.ended(Duration::from_secs(8)).await;
        copy.extend(process.log().into_bytes());
    }
    copy
}

async fn sent(collector: &Collector) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let sent = collector.everything();
        if sent.contains("RequestChat") || Instant::now() > until {
            return sent;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

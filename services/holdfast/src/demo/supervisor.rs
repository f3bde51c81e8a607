//! The evening's supervisor: looks at the board, lowers an urgency, gives a chat to somebody past their capacity, ends one
//! as abuse; takes over the chat to which somebody calls them and gives its responder a rest. And whoever puts another
//! policy in force.

use std::{sync::Arc, time::Duration};

use holdfast_proto::v1::{
    AssignChatRequest, ChatOutcome, ChatState, EndChatRequest, ExtendRestRequest, GetFloorResponse,
    GetPolicyRequest, PutPolicyRequest, SetUrgencyRequest, SupervisionReason, Supervisor, TakeOverRequest,
    Urgency, WaitingChat, WatchFloorRequest, queue_service_client::QueueServiceClient,
    supervision_service_client::SupervisionServiceClient, watch_floor_response::Message,
};
use tokio::{
    sync::mpsc,
    time::{sleep_until, timeout},
};
use tonic::{Code, Response, Status};

use super::{DemoError, World, call_failed, journal::Act, rules::House};
use crate::remote::Door;

/// Who it is.
pub(super) const ME: &str = "supervisor";
/// A call takes so long at most.
const CALL: Duration = Duration::from_secs(5);
/// Chats of the board that are looked at.
const BOARD: u32 = 200;
/// What is done is tried with so many chats: each may move on the moment before.
const TRIES: usize = 20;
/// The rest of whoever lost a chat to the supervisor.
const REST: Duration = Duration::from_millis(1200);

type Client = SupervisionServiceClient<Door>;

fn supervisor(reason: SupervisionReason) -> Option<Supervisor> {
    Some(Supervisor {
        helpline: House::Evening.name().to_owned(),
        supervisor_id: ME.to_owned(),
        reason: reason.into(),
    })
}

/// An act as it is noted down.
fn act(what: String, kind: &'static str, reason: &'static str, chat: &str, responder: &str) -> Act {
    Act {
        supervisor: ME.to_owned(),
        what,
        kind,
        chat_id: chat.to_owned(),
        responder: responder.to_owned(),
        reason,
        done: true,
    }
}

/// What became of an act: done and noted, perhaps done and noted so, or refused.
async fn carried_out<T>(
    world: &World,
    act: Act,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Option<T> {
    match timeout(CALL, call).await {
        Ok(Ok(response)) => {
            world.journal.notes().acts.push(act);
            Some(response.into_inner())
        }
        Ok(Err(status)) if matches!(status.code(), Code::FailedPrecondition | Code::NotFound) => {
            world.journal.refused(&format!("supervisor, {}: {}", act.kind, status.message()));
            None
        }
        Ok(Err(status)) => {
            world.journal.refused(&format!("supervisor, {}: {:?}", act.kind, status.code()));
            world.journal.notes().acts.push(Act { done: false, ..act });
            None
        }
        Err(_) => {
            world.journal.notes().acts.push(Act { done: false, ..act });
            None
        }
    }
}

/// Waits for calls, and takes over the first chat that can be.
pub(super) async fn come_when_called(
    world: Arc<World>,
    mut client: Client,
    mut calls: mpsc::UnboundedReceiver<(String, String)>,
) {
    while let Some((chat_id, responder)) = calls.recv().await {
        let session = *world.supervisor.borrow();
        let request = TakeOverRequest {
            supervisor: supervisor(SupervisionReason::Safety),
            chat_id: chat_id.clone(),
            session,
            reply_handoff: Vec::new(),
        };
        let what = format!("took over a chat from {responder}, who had called");
        let taken = act(what, "offered", "safety", &chat_id, ME);
        if carried_out(&world, taken, client.take_over(request)).await.is_none() {
            continue;
        }
        let request = ExtendRestRequest {
            supervisor: supervisor(SupervisionReason::Workload),
            responder_id: responder.clone(),
            r#for: REST.try_into().ok(),
        };
        let what = format!("gave {responder} a rest of {:.1} s", REST.as_secs_f64());
        let rest = act(what, "cooling_down", "workload", "", &responder);
        carried_out(&world, rest, client.extend_rest(request)).await;
        return;
    }
}

/// Looks at the board at the planned moment, and acts.
pub(super) async fn act_on_the_board(world: Arc<World>, mut client: Client) {
    sleep_until(world.after(world.evening.supervisor.acts_at_ms)).await;
    let Some(floor) = board(&mut client).await else {
        world.journal.complain("the supervisor has no board".to_owned());
        return;
    };
    lower(&world, &mut client, &floor).await;
    assign(&world, &mut client, &floor).await;
    block(&world, &mut client, &floor).await;
}

async fn board(client: &mut Client) -> Option<GetFloorResponse> {
    let request = WatchFloorRequest { helpline: House::Evening.name().to_owned(), limit: BOARD };
    let looking = async {
        let mut boards = client.watch_floor(request).await?.into_inner();
        while let Some(board) = boards.message().await? {
            if let Some(Message::Floor(floor)) = board.message {
                return Ok::<_, Status>(Some(floor));
            }
        }
        Ok(None)
    };
    timeout(CALL, looking).await.ok()?.ok()?
}

/// Those who wait, nobody asked yet, the last in line first: they are likely to be there still.
fn waiting(floor: &GetFloorResponse, urgency: Urgency) -> impl Iterator<Item = &WaitingChat> {
    let fits = move |chat: &&WaitingChat| chat.state() == ChatState::Waiting && chat.urgency() == urgency;
    floor.waiting.iter().rev().filter(fits).take(TRIES)
}

async fn lower(world: &World, client: &mut Client, floor: &GetFloorResponse) {
    for (from, to) in [(Urgency::High, Urgency::Moderate), (Urgency::Moderate, Urgency::Low)] {
        for chat in waiting(floor, from) {
            let request = SetUrgencyRequest {
                supervisor: supervisor(SupervisionReason::Quality),
                chat_id: chat.chat_id.clone(),
                urgency: to.into(),
            };
            let what = format!("lowered the urgency of a chat from {from:?} to {to:?}");
            let lowered = act(what, "triaged", "quality", &chat.chat_id, "");
            if carried_out(world, lowered, client.set_urgency(request)).await.is_some() {
                return;
            }
        }
    }
}

async fn assign(world: &World, client: &mut Client, floor: &GetFloorResponse) {
    let full = floor.responders.iter().filter(|r| r.load >= r.capacity && r.responder_id != ME);
    for (chat, responder) in waiting(floor, Urgency::Moderate).zip(full.cycle()) {
        let responder = responder.responder_id.clone();
        let request = AssignChatRequest {
            supervisor: supervisor(SupervisionReason::Staffing),
            chat_id: chat.chat_id.clone(),
            responder_id: responder.clone(),
            break_glass: true,
        };
        let what = format!("had a chat offered to {responder}, whose hands were full");
        let assigned = act(what, "offered", "staffing", &chat.chat_id, &responder);
        if carried_out(world, assigned, client.assign_chat(request)).await.is_some() {
            return;
        }
    }
}

async fn block(world: &World, client: &mut Client, floor: &GetFloorResponse) {
    for chat in waiting(floor, Urgency::Low) {
        let request = EndChatRequest {
            supervisor: supervisor(SupervisionReason::Misuse),
            chat_id: chat.chat_id.clone(),
            outcome: ChatOutcome::Blocked.into(),
        };
        let blocked = act("ended a chat as abuse".to_owned(), "ended", "misuse", &chat.chat_id, "");
        if carried_out(world, blocked, client.end_chat(request)).await.is_some() {
            return;
        }
    }
}

/// Puts another policy in force at the planned moment, while people wait.
pub(super) async fn change_policy(
    world: Arc<World>,
    mut queue: QueueServiceClient<Door>,
    toml: String,
) -> Result<(), DemoError> {
    sleep_until(world.after(world.evening.change.at_ms)).await;
    let helpline = House::Evening.name().to_owned();
    let asked = GetPolicyRequest { helpline: helpline.clone(), revision: 0 };
    let in_force = queue.get_policy(asked).await.map_err(call_failed("the policy in force"))?.into_inner();
    let put = PutPolicyRequest {
        helpline,
        toml,
        expected_revision: in_force.revision,
        supervisor_id: ME.to_owned(),
        dry_run: false,
    };
    let answer = queue.put_policy(put).await.map_err(call_failed("another policy"))?.into_inner();
    let what = format!("put revision {} of the policy in force", answer.revision);
    world.journal.notes().acts.push(act(what, "policy_set", "", "", ""));
    Ok(())
}

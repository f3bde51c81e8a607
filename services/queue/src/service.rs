//! QueueService: each call is parsed, answered by the desk or the store, and put in words.

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use holdfast_access::Caller;
use holdfast_domain::{
    Chat, ChatState, HelplineId, Moment, Responder,
    explain::{Around, explain},
};
use holdfast_proto::v1::{self, queue_service_server::QueueService};
use holdfast_runtime::Stop;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use crate::{
    attach::{self, Attaching},
    audit::Entry,
    config::{AttachConfig, EventsConfig},
    content::Opened,
    convert,
    desk::{Desk, command_span},
    doors,
    error::{Failure, Invalid},
    events::{self, Following},
    kpis::Folds,
    outbox::{OutboxStream, outbox},
    policies,
    turns::Turns,
};

/// Chats and responders of a floor when no limit is stated, and the highest limit.
const FLOOR: (u32, u32) = (50, 1000);
/// Blocks of a page when no limit is stated, and the highest limit.
const BLOCKS: (u32, u32) = (50, 500);
/// Entries of an audit when no limit is stated, and the highest limit.
const AUDIT: (u32, u32) = (500, 1000);
/// Events that wait for a reader before the store is asked for more.
const READ_AHEAD: usize = 64;

/// The service.
pub(crate) struct Service {
    desk: Arc<Desk>,
    attach: AttachConfig,
    events: EventsConfig,
    stop: Stop,
    replica: String,
    turns: Turns,
    attach_places: Arc<Semaphore>,
    events_places: Arc<Semaphore>,
    folds: Folds,
}

impl Service {
    pub(crate) fn new(
        desk: Arc<Desk>,
        attach: AttachConfig,
        events: EventsConfig,
        stop: Stop,
        replica: String,
    ) -> Self {
        let turns = Turns::new(&attach, desk.policies().known());
        let attach_places = Arc::new(Semaphore::new(attach.max_streams));
        let events_places = Arc::new(Semaphore::new(events.max_streams));
        Self { desk, attach, events, stop, replica, turns, attach_places, events_places, folds: Folds::default() }
    }

    /// The helpline of a call, when it is served, and one of the caller's.
    async fn helpline(&self, caller: &Caller, text: &str) -> Result<HelplineId, Failure> {
        let helpline = convert::helpline("helpline", text)?;
        caller.at(helpline.as_str())?;
        self.desk.policies().get(&helpline).await?;
        Ok(helpline)
    }

    fn place(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Failure> {
        if self.stop.is_draining() {
            return Err(Failure::Draining);
        }
        Arc::clone(places).try_acquire_owned().map_err(|_| Failure::TooManyStreams)
    }

    async fn following(&self, caller: &Caller, request: v1::WatchEventsRequest) -> Result<Following, Failure> {
        Ok(Following {
            after: events::cursor("from_cursor", &request.from_cursor)?,
            helpline: self.helpline(caller, &request.helpline).await?,
            _place: self.place(&self.events_places)?,
            desk: Arc::clone(&self.desk),
            stop: self.stop.clone(),
            page: self.events.page,
        })
    }

    async fn chat(&self, caller: &Caller, request: v1::GetChatRequest) -> Result<v1::GetChatResponse, Failure> {
        let (id, token) = convert::chat_key("key", request.key)?;
        let helpline = self.helpline(caller, &request.helpline).await?;
        // Before the chat: a ticket that names an older life than its chat's is good, one that names a newer is not.
        let floor = self.desk.store().floor(&helpline, 0).await?;
        let chat = self.desk.store().chat(&helpline, &id).await?;
        let own = |chat: &Chat| chat.token == token && chat.state != ChatState::Held;
        let chat = chat.filter(own).ok_or(Failure::UnknownChat)?;
        let place = self.desk.store().place(&helpline, &id).await?;
        let reply_handoff = self.reply_handoff(&helpline, &chat).await;
        let ticket = if chat.version == request.ticket_version {
            Vec::new()
        } else {
            let policy = self.desk.policies().at(&helpline, floor.policy_revision).await?;
            let (generation, now_ms) = (floor.generation.clone(), floor.clock.now_ms);
            let moment = Moment { generation, term: floor.term, now_ms, revision: policy.revision };
            self.desk.ticket(&helpline, &policy, &chat, &moment)
        };
        Ok(convert::chat_view(chat, reply_handoff, place, &floor, ticket))
    }

    /// What the responder left for the visitor. It is theirs while the chat is ACTIVE.
    async fn reply_handoff(&self, helpline: &HelplineId, chat: &Chat) -> Opened {
        let Some(owner) = chat.owner.as_ref().filter(|_| chat.state == ChatState::Active) else {
            return Opened::default();
        };
        self.desk.content().open_reply(helpline, &chat.id, owner, &chat.reply_handoff).await
    }

    async fn place_of(
        &self,
        caller: &Caller,
        request: v1::GetPlaceRequest,
    ) -> Result<v1::GetPlaceResponse, Failure> {
        let id = convert::chat_id("chat_id", &request.chat_id)?;
        let helpline = self.helpline(caller, &request.helpline).await?;
        let chat = self.desk.store().chat(&helpline, &id).await?;
        let chat = chat.filter(|chat| chat.state != ChatState::Held).ok_or(Failure::UnknownChat)?;
        let place = self.desk.store().place(&helpline, &id).await?;
        let floor = self.desk.store().floor(&helpline, 0).await?;
        Ok(convert::place_view(&chat, place, &floor))
    }

    async fn responder(
        &self,
        caller: &Caller,
        request: v1::GetResponderRequest,
    ) -> Result<v1::GetResponderResponse, Failure> {
        let id = convert::responder_id("responder_id", &request.responder_id)?;
        let helpline = self.helpline(caller, &request.helpline).await?;
        let view = self.desk.store().responder(&helpline, &id).await?;
        Ok(convert::responder_view(&view.ok_or(Failure::UnknownResponder)?))
    }

    async fn floor(&self, caller: &Caller, request: v1::GetFloorRequest) -> Result<v1::GetFloorResponse, Failure> {
        let limit = limit_of(request.limit, FLOOR)?;
        let helpline = self.helpline(caller, &request.helpline).await?;
        let floor = self.desk.store().floor(&helpline, limit).await?;
        let policy = self.desk.policies().at(&helpline, floor.policy_revision).await?;
        Ok(convert::floor(&floor, &policy, self.desk.wall_ms(), &self.desk.standing().borrow()))
    }

    async fn policy(
        &self,
        caller: &Caller,
        request: v1::GetPolicyRequest,
    ) -> Result<v1::GetPolicyResponse, Failure> {
        let helpline = convert::helpline("helpline", &request.helpline)?;
        caller.at(helpline.as_str())?;
        let mut policy = self.desk.policies().reload(&helpline).await?;
        if request.revision != 0 && request.revision != policy.revision {
            let earlier = self.desk.store().earlier_policy(&helpline, request.revision).await?;
            policy = Arc::new(earlier.ok_or(Failure::UnknownRevision)?);
        }
        let toml = policy.to_toml().map_err(|_| Failure::Mismatched)?;
        Ok(v1::GetPolicyResponse { toml, revision: policy.revision })
    }

    async fn explain(
        &self,
        caller: &Caller,
        request: v1::ExplainRoutingRequest,
    ) -> Result<v1::ExplainRoutingResponse, Failure> {
        let id = convert::chat_id("chat_id", &request.chat_id)?;
        let helpline = self.helpline(caller, &request.helpline).await?;
        let store = self.desk.store();
        let chat = store.chat(&helpline, &id).await?;
        let chat = chat.filter(|chat| chat.state != ChatState::Held).ok_or(Failure::UnknownChat)?;
        let place = store.place(&helpline, &id).await?;
        let mut floor = store.floor(&helpline, convert::MAX_CANDIDATES).await?;
        self.add_holders(&helpline, &chat, &mut floor.responders).await?;
        let policy = self.desk.policies().at(&helpline, floor.policy_revision).await?;
        let around = Around {
            policy: &policy,
            reroutes: &floor.reroutes,
            responders: &floor.responders,
            on_shift: floor.on_shift,
            free: floor.responders.iter().filter(|responder| responder.idle.is_some()).count(),
            now_ms: floor.clock.now_ms,
        };
        let explained = explain(&chat, place, &around);
        Ok(v1::ExplainRoutingResponse { explanation: Some(convert::explanation(explained, &floor)) })
    }

    /// On a large floor, those who have the chat may not be among the first.
    async fn add_holders(
        &self,
        helpline: &HelplineId,
        chat: &Chat,
        listed: &mut Vec<Responder>,
    ) -> Result<(), Failure> {
        let owner = chat.owner.iter().map(|owner| &owner.responder);
        for id in chat.offers.iter().map(|offer| &offer.responder).chain(owner) {
            if listed.iter().any(|responder| responder.id == *id) {
                continue;
            }
            let view = self.desk.store().responder(helpline, id).await?;
            listed
                .extend(view.map(|view| view.responder).filter(|r| r.status != holdfast_domain::Status::Offline));
        }
        Ok(())
    }

    async fn blocks(
        &self,
        caller: &Caller,
        request: v1::ListBlocksRequest,
    ) -> Result<v1::ListBlocksResponse, Failure> {
        let limit = limit_of(request.limit, BLOCKS)?;
        let after = Some(&request.after_block_id).filter(|id| !id.is_empty());
        let after = after.map(|id| convert::block_id("after_block_id", id)).transpose()?;
        let helpline = self.helpline(caller, &request.helpline).await?;
        Ok(convert::blocks(&self.desk.store().blocks(&helpline, after.as_ref(), limit).await?))
    }

    async fn kpis(&self, caller: &Caller, request: v1::GetKpisRequest) -> Result<v1::GetKpisResponse, Failure> {
        let window_ms = convert::window_ms(request.window)?;
        let helpline = self.helpline(caller, &request.helpline).await?;
        let (kpis, floor) = self.folds.report(&self.desk, &helpline, window_ms).await?;
        Ok(v1::GetKpisResponse { kpis: Some(convert::kpis(kpis, &floor)) })
    }

    async fn audit(
        &self,
        caller: &Caller,
        request: v1::ReadAuditRequest,
    ) -> Result<v1::ReadAuditResponse, Failure> {
        let limit = limit_of(request.limit, AUDIT)?;
        if request.after >= convert::EXACT {
            return Err(Invalid::new("after", "must be the number of an entry, or 0").into());
        }
        let helpline = self.helpline(caller, &request.helpline).await?;
        let audits = self.desk.store().audits();
        // Before the entries: whoever gets none after the last one has them all.
        let head = audits.head(&helpline).await?;
        let entries = audits.entries(&helpline, request.after, limit).await?;
        let shown = |entry: Entry| v1::AuditEntry { text: entry.text, seal: entry.seal };
        Ok(v1::ReadAuditResponse {
            entries: entries.into_iter().map(shown).collect(),
            last_number: head.number,
            last_hash: head.hash.0.to_vec(),
        })
    }

    async fn put(&self, caller: &Caller, request: v1::PutPolicyRequest) -> Result<v1::PutPolicyResponse, Failure> {
        caller.at(convert::helpline("helpline", &request.helpline)?.as_str())?;
        if !request.supervisor_id.is_empty() {
            caller.is("supervisor_id", &request.supervisor_id)?;
        }
        let (put, warnings) = convert::put_policy(&request)?;
        let revision = policies::put(&self.desk, &put).await?;
        Ok(v1::PutPolicyResponse { revision, warnings })
    }
}

fn limit_of(asked: u32, (usual, most): (u32, u32)) -> Result<usize, Invalid> {
    let limit = if asked == 0 { usual } else { asked };
    if limit > most {
        return Err(Invalid::new("limit", format!("at most {most}")));
    }
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

fn answer<T>(result: Result<T, Failure>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|failure| failure.status())
}

/// Who calls, and what they ask.
fn parts<T>(request: Request<T>) -> Result<(Caller, T), Status> {
    let caller = Caller::of(request.extensions()).map_err(|refused| refused.status())?;
    Ok((caller, request.into_inner()))
}

#[tonic::async_trait]
impl QueueService for Service {
    type AttachStream = OutboxStream;
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<v1::WatchEventsResponse, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (caller, requests) = parts(request)?;
        let place = self.place(&self.attach_places).map_err(|failure| failure.status())?;
        let attaching = Attaching {
            desk: Arc::clone(&self.desk),
            caller,
            config: self.attach.clone(),
            turns: self.turns.clone(),
            stop: self.stop.clone(),
            replica: self.replica.clone(),
            _place: place,
        };
        let (outbox, stream) = outbox();
        tokio::spawn(attach::serve(attaching, requests, outbox));
        Ok(Response::new(stream))
    }

    async fn execute(
        &self,
        request: Request<v1::ExecuteRequest>,
    ) -> Result<Response<v1::ExecuteResponse>, Status> {
        let header = request.metadata().get("traceparent").and_then(|value| value.to_str().ok());
        let trace = convert::traceparent(header.unwrap_or_default()).to_owned();
        let (caller, request) = parts(request)?;
        doors::check(&caller, request.command.as_ref()).map_err(|refused| Failure::from(refused).status())?;
        let asked = convert::asked(request.command, &trace).map_err(|failure| failure.status())?;
        let span = command_span(self.desk.policies(), &asked);
        let outcome = async {
            let _turn = self.turns.take(&asked.helpline, asked.requested()).await?;
            self.desk.carry_out(&asked, None).await
        };
        let outcome = outcome.instrument(span).await;
        answer(outcome.map(|outcome| v1::ExecuteResponse { outcome: Some(outcome) }))
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let (caller, request) = parts(request)?;
        let following = self.following(&caller, request).await.map_err(|failure| failure.status())?;
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        tokio::spawn(events::follow(following, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_chat(
        &self,
        request: Request<v1::GetChatRequest>,
    ) -> Result<Response<v1::GetChatResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.chat(&caller, request).await)
    }

    async fn get_place(
        &self,
        request: Request<v1::GetPlaceRequest>,
    ) -> Result<Response<v1::GetPlaceResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.place_of(&caller, request).await)
    }

    async fn get_responder(
        &self,
        request: Request<v1::GetResponderRequest>,
    ) -> Result<Response<v1::GetResponderResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.responder(&caller, request).await)
    }

    async fn get_floor(
        &self,
        request: Request<v1::GetFloorRequest>,
    ) -> Result<Response<v1::GetFloorResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.floor(&caller, request).await)
    }

    async fn get_policy(
        &self,
        request: Request<v1::GetPolicyRequest>,
    ) -> Result<Response<v1::GetPolicyResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.policy(&caller, request).await)
    }

    async fn put_policy(
        &self,
        request: Request<v1::PutPolicyRequest>,
    ) -> Result<Response<v1::PutPolicyResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.put(&caller, request).await)
    }

    async fn explain_routing(
        &self,
        request: Request<v1::ExplainRoutingRequest>,
    ) -> Result<Response<v1::ExplainRoutingResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.explain(&caller, request).await)
    }

    async fn list_blocks(
        &self,
        request: Request<v1::ListBlocksRequest>,
    ) -> Result<Response<v1::ListBlocksResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.blocks(&caller, request).await)
    }

    async fn get_kpis(
        &self,
        request: Request<v1::GetKpisRequest>,
    ) -> Result<Response<v1::GetKpisResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.kpis(&caller, request).await)
    }

    async fn read_audit(
        &self,
        request: Request<v1::ReadAuditRequest>,
    ) -> Result<Response<v1::ReadAuditResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.audit(&caller, request).await)
    }
}

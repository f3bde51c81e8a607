//! The supervisors' calls: acts go to the line as commands, questions to the queue, and boards show the floor live.

use std::{pin::pin, sync::Arc, time::Duration};

use holdfast_access::{Caller, Grant, Refused};
use holdfast_link::LinkError;
use holdfast_proto::v1::{
    AcceptedView, AssignChatRequest, AssignChatResponse, Assignment, ConfirmBlockRequest, ConfirmBlockResponse,
    Drain, Durability, EndBreakRequest, EndBreakResponse, EndChatRequest, EndChatResponse, ExtendRestRequest,
    ExtendRestResponse, ForceOfflineRequest, ForceOfflineResponse, GetFloorResponse, GetResponderRequest,
    LiftBlockRequest, LiftBlockResponse, ListBlocksResponse, Outcome, ProposeBlockRequest, ProposeBlockResponse,
    PullChatRequest, PullChatResponse, RerouteRequest, RerouteResponse, SetUrgencyRequest, SetUrgencyResponse,
    SupervisionServiceExplainRoutingRequest, SupervisionServiceExplainRoutingResponse,
    SupervisionServiceGetKpisRequest, SupervisionServiceGetKpisResponse, SupervisionServiceListBlocksRequest,
    SupervisionServiceListBlocksResponse, TakeOverRequest, TakeOverResponse, WatchFloorRequest,
    WatchFloorResponse, command, outcome, supervise_command::Act, supervision_service_server::SupervisionService,
    watch_floor_response::Message,
};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter, UpDownCounter},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tonic::{Request, Response, Status};

use crate::{
    config::SupervisionConfig,
    convert::{self, Asked, Who, acts},
    error::{Failure, Invalid},
    floor::{Floors, PAUSE, Watching},
    service::{Messages, streamed},
    sessions::{self, Means, random_part},
};

/// Floors that wait for somebody who reads slowly: the newest wins, so one is enough.
const WAITING_FLOORS: usize = 1;

/// The word to go elsewhere may wait this long.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(1);

/// Which offer a chat was taken over by is asked for so long, once it is taken over.
const OFFER_WITHIN: Duration = Duration::from_secs(1);

/// The service.
#[derive(Debug, Clone)]
pub struct Supervision {
    means: Means,
    floors: Arc<Floors>,
    /// Boards that may be watched at once.
    places: Arc<Semaphore>,
    /// Whoever takes nothing for so long is let go.
    reader_patience: Duration,
    acts: Counter<u64>,
    open: UpDownCounter<i64>,
}

impl Supervision {
    /// Acts through the same means as sessions do, and shows `floors`.
    #[must_use]
    pub fn new(config: &SupervisionConfig, means: Means, floors: Arc<Floors>, meter: &Meter) -> Self {
        let acts = meter.u64_counter("holdfast.supervision_acts");
        let open = meter.i64_up_down_counter("holdfast.boards");
        Self {
            means,
            floors,
            places: Arc::new(Semaphore::new(config.max_streams)),
            reader_patience: Duration::from_millis(config.reader_patience_ms),
            acts: acts.with_description("Acts of supervisors, by what became of them").build(),
            open: open.with_description("Boards that are watched").build(),
        }
    }

    async fn perform(&self, caller: &Caller, asked: &Asked) -> Result<Outcome, Failure> {
        let performed = match is_callers_own(caller, asked) {
            Ok(()) => sessions::perform(&self.means.link, asked, self.means.patience).await,
            Err(refused) => Err(refused.into()),
        };
        let outcome = performed.as_ref().err().map_or_else(|| "OK".to_owned(), Failure::reason);
        self.acts.add(1, &[KeyValue::new("act", asked.word), KeyValue::new("outcome", outcome.to_lowercase())]);
        performed
    }

    /// Carries out an act that needs no other answer than that it was done.
    async fn done(&self, caller: &Caller, asked: Result<Asked, Invalid>) -> Result<Option<Durability>, Failure> {
        let outcome = self.perform(caller, &asked?).await?;
        match outcome.outcome {
            Some(outcome::Outcome::Done(_)) => Ok(outcome.durability),
            Some(outcome::Outcome::Chat(_) | outcome::Outcome::Responder(_) | outcome::Outcome::Accepted(_))
            | None => Err(sessions::something_else()),
        }
    }

    async fn take(&self, caller: &Caller, request: TakeOverRequest) -> Result<TakeOverResponse, Failure> {
        let (who, session, asked) = acts::take_over(request)?;
        let outcome = self.perform(caller, &asked).await?;
        let Some(outcome::Outcome::Accepted(view)) = &outcome.outcome else {
            return Err(sessions::something_else());
        };
        // The assignment stands, whether or not its offer can be named now; then their stream tells it by itself.
        let offer = self.offer_of(&who, view).await;
        let assignment: Assignment = convert::assigned(view.clone(), offer.unwrap_or_default());
        let durability = outcome.durability;
        if let Some(offer_number) = offer {
            let accepts = Some((assignment.chat_id.clone(), offer_number));
            self.means.sessions.acted(&who, session, &Arc::new(Asked { accepts, ..asked }), &Arc::new(outcome));
        }
        Ok(TakeOverResponse { assignment: Some(assignment), durability })
    }

    /// By which offer a chat became theirs.
    async fn offer_of(&self, who: &Who, view: &AcceptedView) -> Option<u32> {
        let request = GetResponderRequest {
            helpline: who.helpline.as_str().to_owned(),
            responder_id: who.responder.as_str().to_owned(),
        };
        let seen = self.means.link.responder(request, OFFER_WITHIN).await.ok()?;
        let held = seen.assignments.iter().find(|held| held.chat_id == view.chat_id && held.fence == view.fence);
        held.map(|held| held.offer_number)
    }

    async fn explained(
        &self,
        caller: &Caller,
        request: SupervisionServiceExplainRoutingRequest,
    ) -> Result<SupervisionServiceExplainRoutingResponse, Failure> {
        let request = acts::explain(request)?;
        caller.at(&request.helpline)?;
        let answer = self.means.link.explain_routing(request, self.means.patience).await.map_err(asked)?;
        Ok(SupervisionServiceExplainRoutingResponse { explanation: answer.explanation })
    }

    async fn figures(
        &self,
        caller: &Caller,
        request: SupervisionServiceGetKpisRequest,
    ) -> Result<SupervisionServiceGetKpisResponse, Failure> {
        let request = acts::kpis(request)?;
        caller.at(&request.helpline)?;
        let answer = self.means.link.kpis(request, self.means.patience).await.map_err(asked)?;
        Ok(SupervisionServiceGetKpisResponse { kpis: answer.kpis })
    }

    async fn propose(
        &self,
        caller: &Caller,
        request: ProposeBlockRequest,
    ) -> Result<ProposeBlockResponse, Failure> {
        let (block_id, asked) = acts::propose_block(request)?;
        let durability = self.done(caller, Ok(asked)).await?;
        Ok(ProposeBlockResponse { block_id, durability })
    }

    async fn blocks(
        &self,
        caller: &Caller,
        request: SupervisionServiceListBlocksRequest,
    ) -> Result<SupervisionServiceListBlocksResponse, Failure> {
        let request = acts::list_blocks(request)?;
        caller.at(&request.helpline)?;
        let answer = self.means.link.blocks(request, self.means.patience).await.map_err(asked)?;
        let ListBlocksResponse { blocks, in_force, proposed } = answer;
        Ok(SupervisionServiceListBlocksResponse { blocks, in_force, proposed })
    }

    /// A board, and a place for it.
    fn board(&self, caller: Caller, request: &WatchFloorRequest) -> Result<Board, Failure> {
        let (helpline, limit) = acts::board(request)?;
        caller.at(helpline.as_str())?;
        if self.means.stop.is_draining() {
            return Err(Failure::Draining);
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Failure::TooManyBoards)?;
        self.open.add(1, &[]);
        Ok(Board {
            means: self.means.clone(),
            caller,
            watching: self.floors.watch(&helpline, limit),
            patience: self.reader_patience,
            open: self.open.clone(),
            _place: place,
        })
    }
}

/// An act is of the caller's own helpline, in their own name.
fn is_callers_own(caller: &Caller, asked: &Asked) -> Result<(), Refused> {
    caller.at(&asked.command.helpline)?;
    let Some(command::Command::Supervise(supervise)) = &asked.command.command else {
        return Err(Refused::not_for_this());
    };
    caller.is("supervisor.supervisor_id", &supervise.supervisor_id)?;
    // What goes past every limit takes more than moving people about.
    let breaks_glass = matches!(&supervise.act, Some(Act::Assign(assign)) if assign.break_glass);
    if breaks_glass && !caller.has(Grant::Supervisor) {
        return Err(Refused::not_allowed("break_glass", "is for supervisors"));
    }
    Ok(())
}

fn asked(error: LinkError) -> Failure {
    Failure::Asked(Box::new(error))
}

/// A board that somebody watches.
struct Board {
    means: Means,
    caller: Caller,
    watching: Watching,
    patience: Duration,
    open: UpDownCounter<i64>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Board {
    fn drop(&mut self) {
        self.open.add(-1, &[]);
    }
}

type Reader = mpsc::Sender<Result<WatchFloorResponse, Status>>;

impl Board {
    /// Shows the floor until nobody looks, this replica goes, or whoever looks may no longer.
    async fn show(mut self, out: Reader) -> Result<(), Failure> {
        let mut draining = pin!(self.means.stop.draining());
        let mut expired = sessions::over(self.caller.lease(), Duration::ZERO);
        loop {
            let shown = tokio::select! {
                () = &mut draining => {
                    self.say_drain(&out).await;
                    return Ok(());
                }
                () = &mut expired => {
                    self.say_drain(&out).await;
                    return Err(Refused::TokenExpired.into());
                }
                () = out.closed() => return Ok(()),
                shown = self.next(&out) => shown,
            };
            shown?;
        }
    }

    /// Waits for room before it takes a floor, so that it is the newest that is sent.
    async fn next(&mut self, out: &Reader) -> Result<(), Failure> {
        match timeout(self.patience, out.reserve()).await {
            Ok(Ok(room)) => room.send(Ok(shown(self.watching.next().await?))),
            Ok(Err(_gone)) => return Ok(()),
            Err(_elapsed) => return Err(Failure::SlowReader),
        }
        sleep(PAUSE).await;
        Ok(())
    }

    async fn say_drain(&self, out: &Reader) {
        let reconnect_after = random_part(self.means.reconnect_within).try_into().ok();
        let message = WatchFloorResponse { message: Some(Message::Drain(Drain { reconnect_after })) };
        // Whoever does not read it finds out by the end of the stream.
        let _ = timeout(LAST_WORD_WITHIN, out.send(Ok(message))).await;
    }
}

fn shown(floor: GetFloorResponse) -> WatchFloorResponse {
    WatchFloorResponse { message: Some(Message::Floor(floor)) }
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
impl SupervisionService for Supervision {
    type WatchFloorStream = Messages<WatchFloorResponse>;

    async fn watch_floor(
        &self,
        request: Request<WatchFloorRequest>,
    ) -> Result<Response<Self::WatchFloorStream>, Status> {
        let (caller, request) = parts(request)?;
        let board = self.board(caller, &request);
        answer(board.map(|board| streamed(WAITING_FLOORS, |out| board.show(out))))
    }

    async fn assign_chat(
        &self,
        request: Request<AssignChatRequest>,
    ) -> Result<Response<AssignChatResponse>, Status> {
        let (caller, request) = parts(request)?;
        let done = self.done(&caller, acts::assign(request)).await;
        answer(done.map(|durability| AssignChatResponse { durability }))
    }

    async fn pull_chat(&self, request: Request<PullChatRequest>) -> Result<Response<PullChatResponse>, Status> {
        let (caller, request) = parts(request)?;
        let done = self.done(&caller, acts::pull(request)).await;
        answer(done.map(|durability| PullChatResponse { durability }))
    }

    async fn take_over(&self, request: Request<TakeOverRequest>) -> Result<Response<TakeOverResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.take(&caller, request).await)
    }

    async fn set_urgency(
        &self,
        request: Request<SetUrgencyRequest>,
    ) -> Result<Response<SetUrgencyResponse>, Status> {
        let (caller, request) = parts(request)?;
        let done = self.done(&caller, acts::set_urgency(request)).await;
        answer(done.map(|durability| SetUrgencyResponse { durability }))
    }

    async fn end_chat(&self, request: Request<EndChatRequest>) -> Result<Response<EndChatResponse>, Status> {
        let (caller, request) = parts(request)?;
        let done = self.done(&caller, acts::end(request)).await;
        answer(done.map(|durability| EndChatResponse { durability }))
    }

    async fn end_break(&self, request: Request<EndBreakRequest>) -> Result<Response<EndBreakResponse>, Status> {
        let (caller, request) = parts(request)?;
        let done = self.done(&caller, acts::end_break(request)).await;
        answer(done.map(|durability| EndBreakResponse { durability }))
    }

    async fn extend_rest(
        &self,
        request: Request<ExtendRestRequest>,
    ) -> Result<Response<ExtendRestResponse>, Status> {
        let (caller, request) = parts(request)?;
        let done = self.done(&caller, acts::rest(request)).await;
        answer(done.map(|durability| ExtendRestResponse { durability }))
    }

    async fn force_offline(
        &self,
        request: Request<ForceOfflineRequest>,
    ) -> Result<Response<ForceOfflineResponse>, Status> {
        let (caller, request) = parts(request)?;
        let done = self.done(&caller, acts::force_offline(request)).await;
        answer(done.map(|durability| ForceOfflineResponse { durability }))
    }

    async fn reroute(&self, request: Request<RerouteRequest>) -> Result<Response<RerouteResponse>, Status> {
        let (caller, request) = parts(request)?;
        let done = self.done(&caller, acts::reroute(request)).await;
        answer(done.map(|durability| RerouteResponse { durability }))
    }

    async fn propose_block(
        &self,
        request: Request<ProposeBlockRequest>,
    ) -> Result<Response<ProposeBlockResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.propose(&caller, request).await)
    }

    async fn confirm_block(
        &self,
        request: Request<ConfirmBlockRequest>,
    ) -> Result<Response<ConfirmBlockResponse>, Status> {
        let (caller, request) = parts(request)?;
        let done = self.done(&caller, acts::confirm_block(request)).await;
        answer(done.map(|durability| ConfirmBlockResponse { durability }))
    }

    async fn lift_block(&self, request: Request<LiftBlockRequest>) -> Result<Response<LiftBlockResponse>, Status> {
        let (caller, request) = parts(request)?;
        let done = self.done(&caller, acts::lift_block(request)).await;
        answer(done.map(|durability| LiftBlockResponse { durability }))
    }

    async fn list_blocks(
        &self,
        request: Request<SupervisionServiceListBlocksRequest>,
    ) -> Result<Response<SupervisionServiceListBlocksResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.blocks(&caller, request).await)
    }

    async fn explain_routing(
        &self,
        request: Request<SupervisionServiceExplainRoutingRequest>,
    ) -> Result<Response<SupervisionServiceExplainRoutingResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.explained(&caller, request).await)
    }

    async fn get_kpis(
        &self,
        request: Request<SupervisionServiceGetKpisRequest>,
    ) -> Result<Response<SupervisionServiceGetKpisResponse>, Status> {
        let (caller, request) = parts(request)?;
        answer(self.figures(&caller, request).await)
    }
}

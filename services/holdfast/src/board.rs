//! The floor on a terminal: who waits, who is there, the ledger, and what just happened.
//!
//! Events are the hint, the floor is the truth: each event asks for the floor again, at most five times a second, and
//! once a second it is asked for anyway. How the line has served is asked for less often: it moves slowly.

use std::{collections::VecDeque, time::Duration};

use holdfast_access::Grant;
use holdfast_proto::v1::{
    Event, GetFloorRequest, GetFloorResponse, GetKpisRequest, Kpis, WatchEventsRequest,
    queue_service_client::QueueServiceClient,
};
use holdfast_runtime::Stop;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    Failure,
    credential::Whom,
    remote::{self, Calling, Door, Remote},
    terminal,
};

mod figures;
mod frame;

/// The floor is asked for at most so often.
const REFRESH: Duration = Duration::from_millis(200);

/// And at least so often.
const POLL: Duration = Duration::from_secs(1);

/// How often it is asked how the line has served.
const FIGURES: Duration = Duration::from_secs(5);

/// Chats, and responders, that are shown.
const ROWS: u32 = 15;

/// Events that are shown.
const EVENTS: usize = 10;

/// Events on their way to the screen.
const UNDER_WAY: usize = 256;

/// `--once` waits for past events until none came for so long, and never longer than `POLL`.
const QUIET: Duration = Duration::from_millis(150);

/// What the board shows.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where queue is.
    #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:50052")]
    queue: String,
    /// Which helpline.
    #[arg(long, default_value = "demo")]
    helpline: String,
    /// Print one frame and end; also when standard output is not a terminal.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    calling: Calling,
}

/// Shows the floor until Ctrl-C, or once.
///
/// # Errors
/// When queue cannot be reached in the beginning, or refuses.
pub async fn run(args: Args, stop: &Stop) -> Result<(), Failure> {
    let mut board = Board::new(&args)?;
    let (send, mut events) = mpsc::channel(UNDER_WAY);
    let watching = watch(board.queue.clone(), args.helpline.clone(), send);
    let showing = async {
        let floor = board.first_floor().await?;
        board.look_at_figures().await;
        if args.once || !terminal::is_screen() {
            board.gather(&mut events).await;
            return Ok(terminal::say(&frame::frame(&floor, &board.kpis, &board.seen, &args.helpline))?);
        }
        board.live(floor, &mut events).await
    };
    tokio::select! {
        shown = showing => shown,
        () = watching => Ok(()),
        () = stop.draining() => Ok(()),
    }
}

struct Board {
    remote: Remote,
    queue: QueueServiceClient<Door>,
    helpline: String,
    seen: VecDeque<Event>,
    kpis: Result<Kpis, String>,
    looked: Instant,
}

impl Board {
    fn new(args: &Args) -> Result<Self, Failure> {
        let remote = args.calling.to("queue", &args.queue, Whom::new("board", Grant::Auditor));
        Ok(Self {
            queue: QueueServiceClient::new(remote.channel()?),
            remote,
            helpline: args.helpline.clone(),
            seen: VecDeque::with_capacity(EVENTS),
            kpis: Err("not asked for yet".to_owned()),
            looked: Instant::now(),
        })
    }

    async fn floor(&mut self) -> Result<GetFloorResponse, Status> {
        let request = GetFloorRequest { helpline: self.helpline.clone(), limit: ROWS };
        Ok(self.queue.get_floor(request).await?.into_inner())
    }

    async fn first_floor(&mut self) -> Result<GetFloorResponse, Failure> {
        let mut tries = remote::first_tries();
        loop {
            let status = match self.floor().await {
                Ok(floor) => return Ok(floor),
                Err(status) => status,
            };
            let Some(wait) = remote::wait_after(&status, &mut tries) else {
                return Err(self.remote.failure(&status));
            };
            sleep(wait).await;
        }
    }

    /// How the line has served in the last hour.
    async fn look_at_figures(&mut self) {
        self.looked = Instant::now();
        let request = GetKpisRequest { helpline: self.helpline.clone(), window: None };
        self.kpis = match self.queue.get_kpis(request).await {
            Ok(answer) => Ok(answer.into_inner().kpis.unwrap_or_default()),
            Err(status) => Err(self.remote.failure(&status).to_string()),
        };
    }

    async fn gather(&mut self, events: &mut mpsc::Receiver<Event>) {
        let until = Instant::now() + POLL;
        while Instant::now() < until {
            let Ok(Some(event)) = timeout(QUIET, events.recv()).await else {
                return;
            };
            self.note(event);
        }
    }

    async fn live(
        &mut self,
        mut floor: GetFloorResponse,
        events: &mut mpsc::Receiver<Event>,
    ) -> Result<(), Failure> {
        let mut trouble = None;
        loop {
            let shown = Instant::now();
            let mut text = frame::frame(&floor, &self.kpis, &self.seen, &self.helpline);
            if let Some(trouble) = &trouble {
                text = format!("{text}\n{trouble}; showing what was last known\n");
            }
            terminal::redraw(&text)?;
            self.wait(shown, events).await;
            match self.floor().await {
                Ok(now) => (floor, trouble) = (now, None),
                Err(status) => trouble = Some(self.remote.failure(&status)),
            }
            if self.looked.elapsed() >= FIGURES {
                self.look_at_figures().await;
            }
        }
    }

    /// Until an event or the poll, but not before the next frame may be drawn.
    async fn wait(&mut self, shown: Instant, events: &mut mpsc::Receiver<Event>) {
        if let Ok(Some(event)) = timeout_at(shown + POLL, events.recv()).await {
            self.note(event);
        }
        sleep_until(shown + REFRESH).await;
        while let Ok(event) = events.try_recv() {
            self.note(event);
        }
    }

    fn note(&mut self, event: Event) {
        if self.seen.len() == EVENTS {
            self.seen.pop_front();
        }
        self.seen.push_back(event);
    }
}

/// Passes events on for ever, from where it was after every break.
async fn watch(mut queue: QueueServiceClient<Door>, helpline: String, events: mpsc::Sender<Event>) {
    let mut tries = remote::later_tries();
    let mut from_cursor = String::new();
    loop {
        let request = WatchEventsRequest { helpline: helpline.clone(), from_cursor: from_cursor.clone() };
        let broken = match queue.watch_events(request).await {
            Ok(stream) => {
                tries.reset();
                pass_on(stream.into_inner(), &mut from_cursor, &events).await
            }
            Err(status) => status,
        };
        if broken.code() == Code::OutOfRange {
            from_cursor = first_cursor(&broken);
        }
        // The poll goes on without events.
        let wait = tries.next_delay().unwrap_or(POLL).max(REFRESH);
        sleep(wait).await;
    }
}

async fn pass_on(
    mut stream: tonic::Streaming<holdfast_proto::v1::WatchEventsResponse>,
    from_cursor: &mut String,
    events: &mpsc::Sender<Event>,
) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(said)) => {
                let Some(event) = said.event else { continue };
                from_cursor.clone_from(&event.cursor);
                if events.send(event).await.is_err() {
                    return Status::cancelled("nobody looks any more");
                }
            }
            Ok(None) => return Status::unavailable("the stream ended"),
            Err(status) => return status,
        }
    }
}

fn first_cursor(status: &Status) -> String {
    let info = status.get_details_error_info();
    let first = info.and_then(|info| info.metadata.get("first_cursor").cloned());
    first.unwrap_or_default()
}

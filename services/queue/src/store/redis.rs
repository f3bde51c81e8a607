//! The line in Redis ≥ 7.0 or Valkey: one Lua script per command, atomic, the change and its notice together.
//!
//! Arguments are listed here in the order in which each script names them. Scripts are content-addressed (EVALSHA,
//! loaded again on NOSCRIPT), so replicas of two versions of Holdfast can run side by side.

mod audit;
pub mod census;
mod certificates;
mod cluster;
mod commit;
mod connection;
mod decode;
mod dial;
mod guard;
mod primary;
mod probe;
mod scripts;
mod sentinel;
mod subscription;

use super::audit::Audits;
use super::{
    Acknowledged, Below, BlocksPage, Cursor, Durability, Floor, NOTICE_BUFFER, Notice, Persistence, Placed,
    ResponderView, Standing, Store, StoreError, keys,
};
pub use certificates::{certificates, check_tls, follow_certificates};
use commit::Call;
use connection::Connection;
use decode::Fields;
use futures::future::BoxFuture;
use holdfast_domain::line::Timer;
use holdfast_domain::{
    Act, Applied, BlockId, Chat, ChatId, ChatState, Command, Fence, HelplineId, OfferId, Policy, Request,
    ResponderId, Restore, Snapshot, Status, SubjectDigest, TokenHash,
};
use holdfast_runtime::tls::Current;
use redis::{Cmd, RedisError, TlsCertificates, Value};
use scripts::Scripts;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How to reach the store, and what is expected of it.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `redis://`, `rediss://` or `redis+unix://` addresses: one, or some nodes of a cluster. With Sentinels the first
    /// says how nodes are spoken to (TLS, user) and not where they are.
    pub urls: Vec<String>,
    /// They are nodes of a Redis Cluster.
    pub cluster: bool,
    /// The password, if one is needed.
    pub password: Option<String>,
    /// Addresses of Sentinels, which say where the primary is; empty for none.
    pub sentinels: Vec<String>,
    /// What they call it.
    pub primary_name: String,
    /// Their own password, if one is needed.
    pub sentinel_password: Option<String>,
    /// With `rediss://`: whom to believe and what to show; `None` believes those whom the system believes.
    pub tls: Option<Current<TlsCertificates>>,
    /// After so long a command's outcome is unknown.
    pub response_timeout: Duration,
    /// After so long an attempt to connect has failed.
    pub connect_timeout: Duration,
    /// So many replicas must have a change before somebody is given a word; 0 to 2.
    pub replicas_required: u32,
    /// How long they may take.
    pub wait_timeout: Duration,
    /// New chats are only taken where changes are kept at least so.
    pub floor_persistence: Persistence,
    /// New chats are only taken where so many replicas have a change in time.
    pub floor_replicas: u32,
    /// How changes are kept, as the operator says, where the store lets nobody look.
    pub declared_persistence: Option<Persistence>,
}

impl RedisSettings {
    /// For a store at these addresses of which nothing is expected but that it is there.
    #[must_use]
    pub fn at(urls: Vec<String>) -> Self {
        Self {
            urls,
            cluster: false,
            password: None,
            sentinels: Vec::new(),
            primary_name: String::new(),
            sentinel_password: None,
            tls: None,
            response_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            replicas_required: 0,
            wait_timeout: Duration::from_millis(300),
            floor_persistence: Persistence::Ephemeral,
            floor_replicas: 0,
            declared_persistence: None,
        }
    }
}

/// Until when what was lost is being brought back.
type Recovering = Arc<Mutex<Option<Instant>>>;

/// Lines in Redis.
pub struct RedisStore {
    connection: Connection,
    scripts: Scripts,
    notices: broadcast::Sender<Notice>,
    standing: watch::Receiver<Standing>,
    recovering: Recovering,
    changed: Arc<Notify>,
    replicas_required: u32,
    time: TimeSource,
    _background: DropGuard,
}

/// What a node answered.
struct Answer {
    value: Value,
    /// How many replicas had it by then.
    replicas: u32,
    /// The connection's number, by which the node's level is known.
    number: u64,
}

/// Why a node did not answer a call.
enum CallError {
    /// Another node of the cluster serves the key: nothing was carried out here.
    Moved,
    /// Anything else.
    Store(StoreError),
}

impl CallError {
    fn of(error: RedisError, meaning: impl FnOnce(RedisError) -> StoreError) -> Self {
        match error.code() {
            Some("MOVED") => Self::Moved,
            Some("ASK" | "TRYAGAIN" | "CROSSSLOT" | "CLUSTERDOWN") => {
                let code = error.code().unwrap_or_default().to_owned();
                Self::Store(StoreError::Refusing(code))
            }
            _ => Self::Store(meaning(error)),
        }
    }
}

impl From<StoreError> for CallError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Moved => Self::Refusing("another node serves it".to_owned()),
            CallError::Store(error) => error,
        }
    }
}

/// Where scripts get the time from.
enum TimeSource {
    Store,
    Given { wall_ms: std::sync::atomic::AtomicU64, lives: std::sync::Mutex<String> },
}

impl RedisStore {
    /// Connects, loads nothing yet, and begins to listen for notices and to probe what acknowledgements are worth.
    pub async fn connect(settings: &RedisSettings) -> Result<Self, StoreError> {
        Self::open(settings, TimeSource::Store).await
    }

    /// The same with the time given by [`Self::set_time`]: for tests, which play the same history on two stores.
    #[doc(hidden)]
    pub async fn connect_with_given_time(settings: &RedisSettings) -> Result<Self, StoreError> {
        Self::open(settings, TimeSource::Given { wall_ms: 0.into(), lives: std::sync::Mutex::default() }).await
    }

    /// Sets the store's time in milliseconds since 1970, where it is given.
    #[doc(hidden)]
    pub fn set_time(&self, wall_ms: u64) {
        if let TimeSource::Given { wall_ms: time, .. } = &self.time {
            time.store(wall_ms, Ordering::Relaxed);
        }
    }

    /// Names the next life of a line, where time is given.
    #[doc(hidden)]
    pub fn set_life(&self, name: &str) {
        if let TimeSource::Given { lives, .. } = &self.time {
            name.clone_into(&mut lives.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// What a life of a line is called if the command begins one. Never the same twice: a store may be lost again.
    fn life(&self) -> String {
        match &self.time {
            TimeSource::Store => uuid::Uuid::new_v4().simple().to_string(),
            TimeSource::Given { lives, .. } => lives.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    async fn open(settings: &RedisSettings, time: TimeSource) -> Result<Self, StoreError> {
        let (stop, changed) = (CancellationToken::new(), Arc::new(Notify::new()));
        let background = stop.clone().drop_guard();
        let connection = Connection::open(settings, Arc::clone(&changed), &stop).await?;
        let notices = broadcast::channel(NOTICE_BUFFER).0;
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        tokio::spawn(subscription::keep(connection.source(settings)?, notices.clone(), stop.clone(), ready));
        tokio::time::timeout(settings.connect_timeout * 2, is_ready)
            .await
            .map_err(|_| StoreError::Unreachable("no subscription in time".to_owned()))?
            .map_err(|_| StoreError::Unreachable("no subscription".to_owned()))?;
        let recovering = Recovering::default();
        let standing = watch::Sender::new(Standing::default());
        let stands = standing.subscribe();
        let look = looks(connection.clone(), Arc::clone(&recovering));
        tokio::spawn(probe::keep_telling(standing, look, Arc::clone(&changed), stop));
        Ok(Self {
            connection,
            scripts: Scripts::new(),
            notices,
            standing: stands,
            recovering,
            changed,
            replicas_required: settings.replicas_required,
            time,
            _background: background,
        })
    }

    /// A command's script and all its arguments, the time first: for tests, which run it with others.
    ///
    /// # Errors
    /// When the command cannot be written as arguments.
    #[doc(hidden)]
    pub fn script_of(&self, command: &Command) -> Result<(String, Vec<Vec<u8>>), StoreError> {
        let mut arguments = vec![self.time_argument().into_bytes()];
        arguments.extend(self.arguments(command)?);
        Ok((self.scripts.of(command).code().to_owned(), arguments))
    }

    fn time_argument(&self) -> String {
        match &self.time {
            TimeSource::Store => String::new(),
            TimeSource::Given { wall_ms, .. } => wall_ms.load(Ordering::Relaxed).to_string(),
        }
    }

    async fn run(&self, helpline: &HelplineId, command: &Command) -> Result<Acknowledged, StoreError> {
        if matches!(command, Command::SetPolicy { .. } | Command::Revive { .. }) {
            // Before, not after: a helpline that is in force and not listed would not be ticked after a restart.
            let listed = redis::cmd("SADD").arg(keys::HELPLINES).arg(helpline.as_str()).to_owned();
            self.call(keys::HELPLINES, Call { cmd: listed, script: None }, command).await?;
        }
        let (key, script) = (keys::line(helpline), Arc::clone(self.scripts.of(command)));
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script.hash()).arg(1).arg(&key).arg(self.time_argument()).arg(self.arguments(command)?);
        let (answer, persistence) = self.call(&key, Call { cmd, script: Some(script) }, command).await?;
        let durability = Durability { persistence, replicas_acked: answer.replicas };
        let parts: Vec<Value> = redis::from_redis_value(answer.value).map_err(decode::garbled)?;
        Ok(Acknowledged { applied: decode::applied(command, parts)?, durability })
    }

    async fn call(&self, key: &str, call: Call, command: &Command) -> Result<(Answer, Persistence), StoreError> {
        let waits = self.replicas_required > 0 && guard::waits(command);
        self.connection.call(key, call, waits).await
    }

    /// The arguments of the command's script after the time, in the script's own order.
    fn arguments(&self, command: &Command) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut args = Arguments::default();
        match command {
            Command::Request(r) => args
                .request(r)
                .flag(r.resources_seen)
                .flag(r.overflow_now)
                .subject(r.subject)
                .text(&r.came_by.map(TokenHash::to_hex).unwrap_or_default())
                .number(u64::from(r.solved_bits)),
            Command::Triage { chat, token, urgency, reason } => {
                args.text(chat.as_str()).text(&token.to_hex()).number(urgency.rank() as u64).text(reason.word())
            }
            Command::Beat { chat, token } | Command::Resume { chat, token } | Command::Erase { chat, token } => {
                args.text(chat.as_str()).text(&token.to_hex())
            }
            Command::Restore(restore) => args.restore(restore),
            Command::Reassert(r) => {
                args.restore(&r.restore)
                    .session(&r.responder, r.session)
                    .number(u64::from(r.offer))
                    .fence(r.fence);
                args.bytes(&r.reply_handoff)
            }
            Command::Leave { chat, token, fallback } => {
                args.text(chat.as_str()).text(&token.to_hex()).flag(*fallback)
            }
            Command::SignIn { responder, capabilities, scarce, opt_out, shift_ms, capacity, ready, revision } => {
                args.text(responder.as_str())
                    .text(&capabilities.to_hex())
                    .number(u64::from(*scarce))
                    .text(&opt_out.to_text())
                    .number(*shift_ms)
                    .number(u64::from(*capacity))
                    .flag(*ready)
                    .number(*revision)
            }
            Command::Heartbeat { responder, session }
            | Command::Unlink { responder, session }
            | Command::SignOut { responder, session } => args.session(responder, *session),
            Command::SetStatus { responder, session, status } => {
                args.session(responder, *session).text(status.word())
            }
            Command::Accept { responder, session, offer, reply_handoff } => {
                args.session(responder, *session).offer(offer).bytes(reply_handoff)
            }
            Command::Decline { responder, session, offer, reason } => {
                args.session(responder, *session).offer(offer).text(reason.word())
            }
            Command::Engage { responder, session, chat, fence }
            | Command::CallSupervisor { responder, session, chat, fence }
            | Command::Close { responder, session, chat, fence }
            | Command::Transfer { responder, session, chat, fence } => {
                args.session(responder, *session).text(chat.as_str()).fence(*fence)
            }
            Command::FinishWrapUp { responder, session, chat } => {
                args.session(responder, *session).text(chat.as_str())
            }
            Command::ExtendCoolDown { responder, session, for_ms } => {
                args.session(responder, *session).number(*for_ms)
            }
            Command::Supervise { by, reason, act } => args.text(by.as_str()).text(reason.word()).act(act),
            Command::Hold(hold) => args
                .request(&hold.request)
                .text(hold.from.as_str())
                .number(u64::from(hold.number))
                .number(hold.age_ms),
            Command::Admit { chat, from, number } | Command::Release { chat, from, number } => {
                args.text(chat.as_str()).text(from.as_str()).number(u64::from(*number))
            }
            Command::SettleProposal { chat, to, number, taken } => {
                args.text(chat.as_str()).text(to.as_str()).number(u64::from(*number)).flag(*taken)
            }
            Command::ReportPage { wave, delivered } => args.number(*wave).flag(*delivered),
            Command::Tick { by, limit } => {
                args.text(by.as_str()).number(u64::from((*limit).min(holdfast_domain::limits::MAX_TICK)))
            }
            Command::SetPolicy { policy, expected, by } => args
                .number(*expected)
                .text(&keys::decisive(policy))
                .text(&document(policy)?)
                .text(&self.life())
                .text(by.as_ref().map_or("", ResponderId::as_str)),
            Command::Revive { policy, clock_ms } => args
                .number(policy.revision.max(1))
                .text(&keys::decisive(policy))
                .text(&document(policy)?)
                .text(&self.life())
                .number(*clock_ms),
            Command::Renew { life_was, life, clock_ms, term } => {
                args.text(life_was).text(life).number(*clock_ms).number(*term)
            }
        };
        Ok(args.0)
    }

    async fn query<T: redis::FromRedisValue>(&self, cmd: &Cmd) -> Result<T, StoreError> {
        cmd.query_async(&mut self.connection.clone()).await.map_err(store_error)
    }

    async fn fields(&self, key: String) -> Result<Fields, StoreError> {
        let fields: BTreeMap<String, Vec<u8>> = self.query(redis::cmd("HGETALL").arg(key)).await?;
        Ok(Fields(fields))
    }

    async fn read_chat(&self, helpline: &HelplineId, id: &ChatId) -> Result<Option<Chat>, StoreError> {
        let fields = self.fields(format!("{}chat:{id}", keys::base(helpline))).await?;
        if fields.is_empty() { Ok(None) } else { decode::chat(id, &fields).map(Some) }
    }

    async fn read_responder(
        &self,
        helpline: &HelplineId,
        id: &ResponderId,
    ) -> Result<Option<ResponderView>, StoreError> {
        let base = keys::base(helpline);
        let fields = self.fields(format!("{base}responder:{id}")).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        let responder = decode::responder(id, &fields)?;
        let now_ms = self.fields(keys::line(helpline)).await?.number("now")?;
        let mut held = Vec::with_capacity(responder.holdings.len());
        for holding in &responder.holdings {
            let Some(chat) = self.read_chat(helpline, &holding.chat).await? else {
                continue;
            };
            let due = match super::memory::due_timer(&chat, holding.kind, &responder) {
                Some(timer) => self.due(&base, &timer).await?,
                None => None,
            };
            held.push((chat, due));
        }
        Ok(Some(ResponderView { responder, held, now_ms }))
    }

    async fn due(&self, base: &str, timer: &Timer) -> Result<Option<u64>, StoreError> {
        let mut cmd = redis::cmd("ZSCORE");
        let at: Option<f64> = self.query(cmd.arg(format!("{base}timers")).arg(timer.name())).await?;
        Ok(at.map(decode::whole))
    }

    async fn read_place(&self, helpline: &HelplineId, id: &ChatId) -> Result<u64, StoreError> {
        let Some(chat) = self.read_chat(helpline, id).await? else {
            return Ok(0);
        };
        let mut cmd = redis::cmd("ZRANK");
        let rank: Option<u64> =
            self.query(cmd.arg(format!("{}waiting", keys::base(helpline))).arg(chat.member())).await?;
        Ok(rank.map_or(0, |r| r + 1))
    }

    async fn read_floor(&self, helpline: &HelplineId, limit: usize) -> Result<Floor, StoreError> {
        let base = keys::base(helpline);
        let line = self.fields(keys::line(helpline)).await?;
        let in_line: u64 = self.query(redis::cmd("ZCARD").arg(format!("{base}waiting"))).await?;
        let members: Vec<String> = self
            .query(
                redis::cmd("ZRANGEBYSCORE")
                    .arg(format!("{base}waiting"))
                    .arg("-inf")
                    .arg("+inf")
                    .arg("LIMIT")
                    .arg(0)
                    .arg(limit),
            )
            .await?;
        let mut here: Vec<String> = self.query(redis::cmd("SMEMBERS").arg(format!("{base}here"))).await?;
        here.sort_unstable();
        let (failing, failing_in_all) = self.read_failing(&base, limit).await?;
        let chats = members.iter().filter_map(|m| ChatId::parse(m.split_once(':')?.1).ok()).collect();
        let responders = here.iter().take(limit).filter_map(|id| ResponderId::parse(id).ok()).collect();
        Ok(Floor {
            ledger: decode::ledger(&line)?,
            in_line,
            waiting: self.records(&format!("{base}chat:"), chats, decode::chat).await?,
            responders: self.records(&format!("{base}responder:"), responders, decode::responder).await?,
            failing,
            failing_in_all,
            clock: decode::clock(&line)?,
            pace_ms: decode::pace(&line)?.known_ms(),
            waits: decode::waits(&line)?,
            on_shift: here.len() as u64,
            surge: decode::surge(&line)?,
            reroutes: decode::reroutes(&line)?,
            policy_revision: line.number("revision")?,
            generation: line.text("generation")?.to_owned(),
            term: line.number("term")?,
        })
    }

    /// The first of the chats whose delivery fails, and how many they are. A version that does not know of them ends chats
    /// and leaves the mark, until the chat is forgotten.
    async fn read_failing(&self, base: &str, limit: usize) -> Result<(Vec<Chat>, u64), StoreError> {
        let key = format!("{base}failing");
        let marked: u64 = self.query(redis::cmd("ZCARD").arg(&key)).await?;
        if marked == 0 {
            return Ok((Vec::new(), 0));
        }
        let mut first = redis::cmd("ZRANGE");
        first.arg(&key).arg(0).arg(i64::try_from(limit).unwrap_or(i64::MAX) - 1);
        let ids: Vec<String> = self.query(&first).await?;
        let ids: Vec<ChatId> = ids.iter().filter_map(|id| ChatId::parse(id).ok()).collect();
        let listed = ids.len() as u64;
        let mut chats = self.records(&format!("{base}chat:"), ids, decode::chat).await?;
        chats.retain(|chat| chat.state != ChatState::Ended);
        let over = listed.saturating_sub(chats.len() as u64);
        Ok((chats, marked.saturating_sub(over)))
    }

    /// Records of one kind in one round trip; those that are gone meanwhile are left out.
    async fn records<I: std::fmt::Display, T>(
        &self,
        prefix: &str,
        ids: Vec<I>,
        read: impl Fn(&I, &Fields) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for id in &ids {
            pipeline.cmd("HGETALL").arg(format!("{prefix}{id}"));
        }
        let found: Vec<BTreeMap<String, Vec<u8>>> =
            pipeline.query_async(&mut self.connection.clone()).await.map_err(store_error)?;
        let present = ids.iter().zip(found).filter(|(_, fields)| !fields.is_empty());
        present.map(|(id, fields)| read(id, &Fields(fields))).collect()
    }

    /// A page of the blocks, by name.
    async fn read_blocks(
        &self,
        helpline: &HelplineId,
        after: Option<&BlockId>,
        limit: usize,
    ) -> Result<BlocksPage, StoreError> {
        let base = keys::base(helpline);
        let mut page = redis::cmd("ZRANGE");
        page.arg(format!("{base}blocks")).arg(after.map_or_else(|| "-".to_owned(), |id| format!("({id}")));
        page.arg("+").arg("BYLEX").arg("LIMIT").arg(0).arg(limit);
        let ids: Vec<String> = self.query(&page).await?;
        let ids = ids.iter().filter_map(|id| BlockId::parse(id).ok()).collect();
        let in_all: usize = self.query(redis::cmd("ZCARD").arg(format!("{base}blocks"))).await?;
        let proposed: usize = self.query(redis::cmd("ZCARD").arg(format!("{base}proposed"))).await?;
        Ok(BlocksPage {
            blocks: self.records(&format!("{base}block:"), ids, decode::block).await?,
            proposed,
            in_force: in_all.saturating_sub(proposed),
            now_ms: self.fields(keys::line(helpline)).await?.number("now")?,
        })
    }

    async fn read_earlier_policy(
        &self,
        helpline: &HelplineId,
        revision: u64,
    ) -> Result<Option<Policy>, StoreError> {
        let key = format!("{}policies", keys::base(helpline));
        let document: Option<String> = self.query(redis::cmd("HGET").arg(key).arg(revision)).await?;
        document.map(|document| read_document(&document, revision)).transpose()
    }

    async fn read_helplines(&self) -> Result<Vec<HelplineId>, StoreError> {
        let mut found: Vec<String> = self.query(redis::cmd("SMEMBERS").arg(keys::HELPLINES)).await?;
        found.sort_unstable();
        found.iter().map(|name| HelplineId::parse(name).map_err(decode::garbled)).collect()
    }

    async fn read_policy(&self, helpline: &HelplineId) -> Result<Option<Policy>, StoreError> {
        let document: Option<String> =
            self.query(redis::cmd("GET").arg(format!("{}policy", keys::base(helpline)))).await?;
        let Some(document) = document else {
            return Ok(None);
        };
        let revision: u64 = self.query(redis::cmd("HGET").arg(keys::line(helpline)).arg("revision")).await?;
        read_document(&document, revision).map(Some)
    }

    async fn read_events(
        &self,
        helpline: &HelplineId,
        after: &Cursor,
        limit: usize,
    ) -> Result<Vec<Placed>, StoreError> {
        let key = format!("{}events", keys::base(helpline));
        let line = self.fields(keys::line(helpline)).await?;
        let (generation, reached) = (line.text("generation")?.to_owned(), line.number("events")?);
        let mut first = redis::cmd("XRANGE");
        let first: Vec<(String, Vec<String>)> =
            self.query(first.arg(&key).arg("-").arg("+").arg("COUNT").arg(1)).await?;
        let whole = *after == Cursor::default();
        // Where none is kept any more, the next one is the first.
        let none = (line.number("term")?, reached + 1);
        let (term, sequence) = first.first().map_or(Ok(none), |(id, _)| decode::stream_id(id))?;
        let held = after.generation == generation
            && after.sequence <= reached
            && after.sequence.saturating_add(1) >= sequence;
        if !whole && !held {
            let sequence = sequence.saturating_sub(1);
            return Err(StoreError::CursorTooOld { first: Cursor { generation, term, sequence } });
        }
        let start = if whole { "-".to_owned() } else { format!("({}-{}", after.term, after.sequence) };
        let mut range = redis::cmd("XRANGE");
        let found: Vec<(String, Vec<String>)> =
            self.query(range.arg(&key).arg(start).arg("+").arg("COUNT").arg(limit)).await?;
        found
            .into_iter()
            .map(|(_, fields)| fields.into_iter().nth(1).unwrap_or_default())
            .filter(|event| !decode::is_newer(event))
            .map(|event| decode::placed(&generation, &event))
            .collect()
    }

    /// Reads every key of the helpline. Single nodes only: a cluster has no one place to scan.
    async fn read_snapshot(&self, helpline: &HelplineId) -> Result<Snapshot, StoreError> {
        let base = keys::base(helpline);
        let pattern = base.replace('{', "\\{").replace('}', "\\}") + "*";
        let mut keys_found: Vec<String> = Vec::new();
        let mut cursor = 0u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            let (next, keys): (u64, Vec<String>) =
                self.query(scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1000)).await?;
            keys_found.extend(keys);
            if next == 0 {
                break;
            }
            cursor = next;
        }
        keys_found.sort_unstable();
        keys_found.dedup();
        let mut snapshot = decode::line(&self.fields(keys::line(helpline)).await?)?;
        snapshot.policy = self.read_policy(helpline).await?;
        snapshot.on_shift = self.query(redis::cmd("SCARD").arg(format!("{base}here"))).await?;
        for key in &keys_found {
            self.read_record(&mut snapshot, helpline, key, key.strip_prefix(&base).unwrap_or_default()).await?;
        }
        self.compare_index(&format!("{base}lanes"), heads(&snapshot.lanes)).await?;
        self.compare_index(&format!("{base}waiting"), all(&snapshot.lanes)).await?;
        self.compare_index(&format!("{base}classes"), heads(&snapshot.classes)).await?;
        self.compare_index(&format!("{base}idle"), all(&snapshot.classes)).await?;
        self.compare_here(&base, &snapshot).await?;
        self.compare_blocks(&base, &snapshot).await?;
        Ok(snapshot)
    }

    async fn read_record(
        &self,
        snapshot: &mut Snapshot,
        helpline: &HelplineId,
        key: &str,
        name: &str,
    ) -> Result<(), StoreError> {
        let (kind, id) = name.split_once(':').unwrap_or((name, ""));
        match kind {
            "chat" => {
                let id = ChatId::parse(id).map_err(decode::garbled)?;
                if let Some(chat) = self.read_chat(helpline, &id).await? {
                    snapshot.chats.insert(id, chat);
                }
            }
            "responder" => {
                let id = ResponderId::parse(id).map_err(decode::garbled)?;
                let responder = decode::responder(&id, &self.fields(key.to_owned()).await?)?;
                snapshot.responders.insert(id, responder);
            }
            "request" => {
                let chat: String = self.query(redis::cmd("GET").arg(key)).await?;
                let digest = holdfast_domain::ids::DigestHex::parse(id).map_err(decode::garbled)?;
                snapshot.requests.insert(digest, ChatId::parse(&chat).map_err(decode::garbled)?);
            }
            "timers" => {
                for (name, at) in self.scored(key).await? {
                    let timer = Timer::from_name(&name)
                        .ok_or_else(|| StoreError::Garbled("a timer without meaning".to_owned()))?;
                    snapshot.timers.set(&timer, u64::try_from(at).unwrap_or(0));
                }
            }
            "policies" => {
                let kept: BTreeMap<u64, String> = self.query(redis::cmd("HGETALL").arg(key)).await?;
                for (revision, document) in kept {
                    snapshot.policies.insert(revision, read_document(&document, revision)?);
                }
            }
            "failing" => {
                for (id, since) in self.scored(key).await? {
                    let id = ChatId::parse(&id).map_err(decode::garbled)?;
                    snapshot.failing.insert((u64::try_from(since).unwrap_or(0), id));
                }
            }
            "block" => {
                let id = BlockId::parse(id).map_err(decode::garbled)?;
                snapshot.blocks.put(decode::block(&id, &self.fields(key.to_owned()).await?)?);
            }
            "lane" => {
                for (member, score) in self.scored(key).await? {
                    snapshot.lanes.insert(id, score, &member);
                }
            }
            "class" => {
                for (member, score) in self.scored(key).await? {
                    snapshot.classes.insert(id, score, &member);
                }
            }
            // Indexes over the records: compared when all is read.
            "lanes" | "classes" | "waiting" | "idle" | "here" | "line" | "policy" | "events" | "blocks"
            | "proposed" | "blocked" => {}
            // Beside the line, and not of it.
            "audit" => {}
            _ => return Err(StoreError::Garbled("a key without meaning".to_owned())),
        }
        Ok(())
    }

    async fn scored(&self, key: &str) -> Result<Vec<(String, i64)>, StoreError> {
        let found: Vec<(String, f64)> =
            self.query(redis::cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES")).await?;
        Ok(found.into_iter().map(|(member, score)| (member, decode::whole_signed(score))).collect())
    }

    async fn compare_index(&self, key: &str, expected: Vec<(String, i64)>) -> Result<(), StoreError> {
        let found = self.scored(key).await?;
        if found == expected {
            return Ok(());
        }
        Err(StoreError::Garbled(format!("{key} holds {found:?}, what it indexes is {expected:?}")))
    }

    async fn compare_blocks(&self, base: &str, snapshot: &Snapshot) -> Result<(), StoreError> {
        let named = |ids: Vec<&BlockId>| ids.into_iter().map(|id| (id.to_string(), 0)).collect();
        let all = named(snapshot.blocks.iter().map(|block| &block.id).collect());
        self.compare_index(&format!("{base}blocks"), all).await?;
        self.compare_index(&format!("{base}proposed"), named(snapshot.blocks.proposed().collect())).await?;
        let found: BTreeMap<String, String> =
            self.query(redis::cmd("HGETALL").arg(format!("{base}blocked"))).await?;
        let expected = snapshot.blocks.by_whom().map(|(whom, id)| (whom.to_owned(), id.to_string()));
        if found == expected.collect() {
            return Ok(());
        }
        Err(StoreError::Garbled("who is said to be blocked is not who is".to_owned()))
    }

    async fn compare_here(&self, base: &str, snapshot: &Snapshot) -> Result<(), StoreError> {
        let mut here: Vec<String> = self.query(redis::cmd("SMEMBERS").arg(format!("{base}here"))).await?;
        here.sort_unstable();
        let online = snapshot.responders.values().filter(|r| r.status != Status::Offline);
        let online: Vec<String> = online.map(|r| r.id.to_string()).collect();
        if here == online {
            return Ok(());
        }
        Err(StoreError::Garbled(format!("{here:?} are said to be here, {online:?} are")))
    }
}

/// A policy as it is kept: its revision stands beside it.
fn document(policy: &Policy) -> Result<String, StoreError> {
    let document = Policy { revision: 0, ..policy.clone() };
    document.to_toml().map_err(|e| StoreError::Garbled(e.to_string()))
}

fn read_document(document: &str, revision: u64) -> Result<Policy, StoreError> {
    let policy = Policy::from_toml(document).map_err(|e| StoreError::Garbled(e.to_string()))?;
    Ok(Policy { revision, ..policy })
}

fn heads(index: &holdfast_domain::line::Index) -> Vec<(String, i64)> {
    index.heads().map(|(score, group)| (group.to_owned(), score)).collect()
}

fn all(index: &holdfast_domain::line::Index) -> Vec<(String, i64)> {
    index.all().map(|(score, member)| (member.to_owned(), score)).collect()
}

/// Whether fields are a record of this kind.
#[cfg(feature = "test-util")]
pub(crate) fn reads_record(kind: &str, fields: BTreeMap<String, Vec<u8>>) -> bool {
    let fields = Fields(fields);
    match kind {
        "chat" => ChatId::parse("c").is_ok_and(|id| decode::chat(&id, &fields).is_ok()),
        "block" => BlockId::parse("b").is_ok_and(|id| decode::block(&id, &fields).is_ok()),
        "responder" => ResponderId::parse("r").is_ok_and(|id| decode::responder(&id, &fields).is_ok()),
        _ => decode::line(&fields).is_ok(),
    }
}

/// Whether a payload is a notice.
#[cfg(feature = "test-util")]
pub(crate) fn reads_notice(payload: &str) -> bool {
    decode::notice(payload).is_some()
}

/// Script arguments in order.
#[derive(Default)]
struct Arguments(Vec<Vec<u8>>);

impl Arguments {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.push(bytes.to_vec());
        self
    }
    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }
    fn number(&mut self, number: u64) -> &mut Self {
        self.text(&number.to_string())
    }
    fn flag(&mut self, flag: bool) -> &mut Self {
        self.text(if flag { "1" } else { "0" })
    }
    fn request(&mut self, r: &Request) -> &mut Self {
        self.text(r.chat.as_str())
            .text(r.request_key.as_str())
            .text(r.body.as_str())
            .text(&r.token.to_hex())
            .number(r.urgency.rank() as u64)
            .text(&decode::steps_text(&r.steps))
            .text(&r.topics.to_text())
            .text(&decode::names_text(&r.excluded))
            .number(r.revision)
            .flag(r.attested)
            .bytes(&r.handoff)
            .text(&r.trace)
    }
    fn restore(&mut self, restore: &Restore) -> &mut Self {
        let s = &restore.sealed;
        let came_from = s.came_from.as_ref().map(|(from, number)| format!("{from}@{number}"));
        self.request(&restore.request)
            .text(&s.generation)
            .number(s.term)
            .number(s.issued_ms)
            .number(s.expires_ms)
            .number(s.arrival_ms)
            .number(s.sequence)
            .number(s.version)
            .number(s.step as u64)
            .flag(s.returned)
            .flag(s.active)
            .number(u64::from(s.offers_made))
            .number(u64::from(s.assignments_made))
            .number(u64::from(s.proposals))
            .text(&came_from.unwrap_or_default())
            .subject(restore.request.subject)
    }
    fn subject(&mut self, subject: Option<SubjectDigest>) -> &mut Self {
        self.text(&subject.map(SubjectDigest::to_hex).unwrap_or_default())
    }
    fn act(&mut self, act: &Act) -> &mut Self {
        match act {
            Act::SetUrgency { chat, urgency } => self.text(chat.as_str()).number(urgency.rank() as u64),
            Act::Assign { chat, responder, break_glass } => {
                self.text(chat.as_str()).text(responder.as_str()).flag(*break_glass)
            }
            Act::Pull { chat } => self.text(chat.as_str()),
            Act::TakeOver { chat, session, reply_handoff } => {
                self.text(chat.as_str()).number(*session).bytes(reply_handoff)
            }
            Act::End { chat, outcome } => self.text(chat.as_str()).text(outcome.word()),
            Act::EndBreak { responder } | Act::ForceOffline { responder } => self.text(responder.as_str()),
            Act::Rest { responder, for_ms } => self.text(responder.as_str()).number(*for_ms),
            Act::Reroute { from, to, for_ms, revision } => {
                self.text(&from.signature()).text(&to.signature()).number(*for_ms).number(*revision)
            }
            Act::ProposeBlock { block, chat, for_ms, open_ms } => {
                self.text(block.as_str()).text(chat.as_str()).number(*for_ms).number(*open_ms)
            }
            Act::ConfirmBlock { block } | Act::LiftBlock { block } => self.text(block.as_str()),
        }
    }
    fn session(&mut self, responder: &ResponderId, session: u64) -> &mut Self {
        self.text(responder.as_str()).number(session)
    }
    fn offer(&mut self, offer: &OfferId) -> &mut Self {
        self.text(offer.chat.as_str()).number(u64::from(offer.number))
    }
    fn fence(&mut self, fence: Fence) -> &mut Self {
        self.number(fence.epoch).number(u64::from(fence.minted_by))
    }
}

/// How the store stands, recovery included.
fn looks(connection: Connection, recovering: Recovering) -> impl Fn() -> Standing {
    move || {
        let standing = connection.standing();
        let until = *recovering.lock().unwrap_or_else(PoisonError::into_inner);
        let recovering = until.is_some_and(|until| Instant::now() < until).then_some(Below::Recovering);
        Standing { below: standing.below.or(recovering), ..standing }
    }
}

/// What an error of the client means. Its text is the server's or the system's, never an argument of ours.
fn store_error(error: RedisError) -> StoreError {
    const REFUSALS: [&str; 8] =
        ["READONLY", "OOM", "MISCONF", "NOREPLICAS", "NOPERM", "NOAUTH", "BUSY", "MASTERDOWN"];
    let code = error.code().unwrap_or_default();
    if REFUSALS.contains(&code) {
        StoreError::Refusing(code.to_owned())
    } else if error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_cluster_error()
    {
        StoreError::Unreachable(error.to_string())
    } else if code == "LOADING" {
        StoreError::Unreachable("it is loading its data".to_owned())
    } else {
        StoreError::Garbled(error.to_string())
    }
}

impl Store for RedisStore {
    fn execute<'a>(
        &'a self,
        helpline: &'a HelplineId,
        command: &'a Command,
    ) -> BoxFuture<'a, Result<Applied, StoreError>> {
        Box::pin(async move { Ok(self.run(helpline, command).await?.applied) })
    }

    fn acknowledge<'a>(
        &'a self,
        helpline: &'a HelplineId,
        command: &'a Command,
    ) -> BoxFuture<'a, Result<Acknowledged, StoreError>> {
        Box::pin(self.run(helpline, command))
    }

    fn chat<'a>(
        &'a self,
        helpline: &'a HelplineId,
        chat: &'a ChatId,
    ) -> BoxFuture<'a, Result<Option<Chat>, StoreError>> {
        Box::pin(self.read_chat(helpline, chat))
    }

    fn place<'a>(&'a self, helpline: &'a HelplineId, chat: &'a ChatId) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.read_place(helpline, chat))
    }

    fn responder<'a>(
        &'a self,
        helpline: &'a HelplineId,
        responder: &'a ResponderId,
    ) -> BoxFuture<'a, Result<Option<ResponderView>, StoreError>> {
        Box::pin(self.read_responder(helpline, responder))
    }

    fn floor<'a>(&'a self, helpline: &'a HelplineId, limit: usize) -> BoxFuture<'a, Result<Floor, StoreError>> {
        Box::pin(self.read_floor(helpline, limit))
    }

    fn blocks<'a>(
        &'a self,
        helpline: &'a HelplineId,
        after: Option<&'a BlockId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<BlocksPage, StoreError>> {
        Box::pin(self.read_blocks(helpline, after, limit))
    }

    fn policy<'a>(&'a self, helpline: &'a HelplineId) -> BoxFuture<'a, Result<Option<Policy>, StoreError>> {
        Box::pin(self.read_policy(helpline))
    }

    fn helplines(&self) -> BoxFuture<'_, Result<Vec<HelplineId>, StoreError>> {
        Box::pin(self.read_helplines())
    }

    fn earlier_policy<'a>(
        &'a self,
        helpline: &'a HelplineId,
        revision: u64,
    ) -> BoxFuture<'a, Result<Option<Policy>, StoreError>> {
        Box::pin(self.read_earlier_policy(helpline, revision))
    }

    fn events<'a>(
        &'a self,
        helpline: &'a HelplineId,
        after: &'a Cursor,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Placed>, StoreError>> {
        Box::pin(self.read_events(helpline, after, limit))
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    fn durability(&self) -> Durability {
        Durability { persistence: self.connection.standing().persistence, replicas_acked: 0 }
    }

    fn begin_recovery(&self, hold: Duration) {
        *self.recovering.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + hold);
        self.changed.notify_one();
    }

    fn audits(&self) -> &dyn Audits {
        self
    }

    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    fn snapshot<'a>(&'a self, helpline: &'a HelplineId) -> BoxFuture<'a, Result<Snapshot, StoreError>> {
        Box::pin(self.read_snapshot(helpline))
    }
}

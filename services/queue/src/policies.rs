//! The helplines' policies: read from a folder at start, put in force, and kept at hand by revision.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use holdfast_domain::{
    Command, EventKind, HelplineId, Policy, Refusal, Reply, ResponderId,
    line::EPOCHS_PER_TERM,
    policy::{PolicyError, Tag},
};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    config::{Overwrite, PolicyConfig, StoreConfig, StoreKind},
    desk::Desk,
    error::Failure,
    store::{Notice, Store, StoreError},
};

/// The example helpline that an embedded store serves when no folder is named.
pub const DEMO: &str = include_str!("../demo.toml");

/// How often a policy is put in force again when others change it at the same moment.
const ATTEMPTS: usize = 5;
/// Fields that a log line names of a policy that differs.
const FIELDS_NAMED: usize = 5;
/// A line that lives is heard of more often than this.
const LONGEST_SILENCE: Duration = Duration::from_secs(2);
/// A line whose clock stands so far behind what was heard of it is an older copy. Less than that a failover may lose, and
/// tickets fill such gaps without another life; an answer that was long on its way is younger.
const OLDER_COPY_MS: u64 = 10_000;

/// Why the policies cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFault {
    /// The folder or a file cannot be read.
    #[error("policy.dir: cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder holds no policy.
    #[error("policy.dir: {} holds no *.toml file", .0.display())]
    Empty(PathBuf),
    /// A file is not a policy.
    #[error("policy {}: {problem}", file.display())]
    Bad {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        problem: PolicyError,
    },
    /// Two files are for the same helpline.
    #[error("policy {}: another file is for the helpline {helpline} too", file.display())]
    Twice {
        /// The second one.
        file: PathBuf,
        /// Of which helpline.
        helpline: HelplineId,
    },
    /// What the store keeps was made with other tags.
    #[error(
        "policy {helpline}: tags: the tags in force must stay as they are, in order; new ones go to the end \
         (tags[{at}] differs)"
    )]
    TagsMoved {
        /// Of which helpline.
        helpline: HelplineId,
        /// The first tag that differs.
        at: usize,
    },
    /// Others change it again and again.
    #[error("policy {0}: others keep changing it")]
    Contested(HelplineId),
    /// The store did not do it.
    #[error("policy {helpline}: {source}")]
    Store {
        /// Of which helpline.
        helpline: HelplineId,
        /// What it said.
        source: StoreError,
    },
}

/// Reads the policies that this replica serves: those of the folder, or the example for an embedded store.
pub(crate) fn read(
    config: &PolicyConfig,
    store: &StoreConfig,
) -> Result<BTreeMap<HelplineId, Policy>, PolicyFault> {
    if !config.dir.as_os_str().is_empty() {
        return read_folder(&config.dir);
    }
    let mut found = BTreeMap::new();
    if store.kind == StoreKind::Memory {
        add(&mut found, Path::new("demo.toml"), DEMO)?;
    }
    Ok(found)
}

fn read_folder(folder: &Path) -> Result<BTreeMap<HelplineId, Policy>, PolicyFault> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| PolicyFault::Unreadable { path, source }
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        if path.extension().is_some_and(|e| e == "toml") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let mut found = BTreeMap::new();
    for file in &files {
        let text = fs::read_to_string(file).map_err(unreadable(file))?;
        add(&mut found, file, &text)?;
    }
    if found.is_empty() {
        return Err(PolicyFault::Empty(folder.to_owned()));
    }
    Ok(found)
}

fn add(found: &mut BTreeMap<HelplineId, Policy>, file: &Path, text: &str) -> Result<(), PolicyFault> {
    let bad = |problem| PolicyFault::Bad { file: file.to_owned(), problem };
    let policy = Policy::from_toml(text).map_err(bad)?;
    let helpline = HelplineId::parse(&policy.helpline)
        .map_err(|error| bad(PolicyError { field: "helpline".to_owned(), problem: error.to_string() }))?;
    if found.insert(helpline.clone(), policy).is_some() {
        return Err(PolicyFault::Twice { file: file.to_owned(), helpline });
    }
    Ok(())
}

/// Puts a policy in force where the store has none, or another one that may be overwritten.
pub(crate) async fn install(
    store: &dyn Store,
    helpline: &HelplineId,
    wanted: &Policy,
    overwrite: Overwrite,
) -> Result<(), PolicyFault> {
    let failed = |source| PolicyFault::Store { helpline: helpline.clone(), source };
    for _ in 0..ATTEMPTS {
        let stored = store.policy(helpline).await.map_err(failed)?;
        let expected = stored.as_ref().map_or(0, |p| p.revision);
        if let Some(stored) = &stored {
            if same(stored, wanted) {
                return Ok(());
            }
            if overwrite == Overwrite::IfAbsent {
                tell_difference(helpline, stored, wanted);
                return Ok(());
            }
            if let Some(at) = first_moved(&stored.tags, &wanted.tags) {
                return Err(PolicyFault::TagsMoved { helpline: helpline.clone(), at });
            }
        }
        let command = Command::SetPolicy { policy: Box::new(wanted.clone()), expected, by: None };
        match store.execute(helpline, &command).await.map_err(failed)?.reply {
            Ok(Reply::Policy { revision }) => {
                info!(%helpline, revision, "the policy is in force");
                return Ok(());
            }
            Err(Refusal::PolicyChanged { .. }) => {}
            Ok(_) | Err(_) => {
                let said = "the store did not set the policy".to_owned();
                return Err(failed(StoreError::Garbled(said)));
            }
        }
    }
    Err(PolicyFault::Contested(helpline.clone()))
}

/// Whether two policies say the same, whatever their revisions.
fn same(a: &Policy, b: &Policy) -> bool {
    let b = Policy { revision: a.revision, ..b.clone() };
    *a == b
}

fn tell_difference(helpline: &HelplineId, stored: &Policy, file: &Policy) {
    let fields: Vec<String> = Policy::diff(stored, file).into_iter().map(|change| change.field).collect();
    let named: Vec<&str> = fields.iter().take(FIELDS_NAMED).map(String::as_str).collect();
    warn!(
        %helpline,
        revision = stored.revision,
        fields = fields.len(),
        first = named.join(", "),
        "the policy in force differs from the file and stays, because policy.overwrite is \"if_absent\""
    );
}

/// Stored masks are made of the tags in force, so those stay; only new ones may follow. The first that would not stay.
fn first_moved(old: &[Tag], new: &[Tag]) -> Option<usize> {
    let kept = |(old, new): (&Tag, &Tag)| old.name == new.name && old.levels == new.levels;
    let shared = old.iter().zip(new).take_while(|pair| kept(*pair)).count();
    (shared < old.len()).then_some(shared)
}

/// A policy that somebody puts in force.
#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) helpline: HelplineId,
    pub(crate) policy: Policy,
    /// The revision that it replaces; 0 when there is none yet.
    pub(crate) expected: u64,
    /// Who puts it; only a trial may leave it out.
    pub(crate) by: Option<ResponderId>,
    /// A trial: nothing changes.
    pub(crate) dry_run: bool,
}

/// Puts a policy in force, or says why it would be refused. Answers with the revision; in a trial, with the one that it
/// would replace.
pub(crate) async fn put(desk: &Desk, put: &Put) -> Result<u64, Failure> {
    let helpline = &put.helpline;
    let stored = desk.store().policy(helpline).await?;
    let revision = stored.as_ref().map_or(0, |stored| stored.revision);
    if revision != put.expected {
        return Err(Refusal::PolicyChanged { revision }.into());
    }
    let moved = stored.as_ref().and_then(|stored| first_moved(&stored.tags, &put.policy.tags));
    if let Some(at) = moved {
        return Err(Failure::TagsMoved(at));
    }
    if put.dry_run {
        return Ok(revision);
    }
    let command =
        Command::SetPolicy { policy: Box::new(put.policy.clone()), expected: put.expected, by: put.by.clone() };
    let revision = match desk.execute(helpline, &command).await?.reply {
        Ok(Reply::Policy { revision }) => revision,
        Ok(_) => return Err(Failure::Mismatched),
        Err(refusal) => return Err(refusal.into()),
    };
    info!(%helpline, revision, by = put.by.as_ref().map(ResponderId::as_str), "the policy is in force");
    // It is in force, whether or not it can be read back now; whoever needs it next will read it.
    let _ = desk.policies().reload(helpline).await;
    Ok(revision)
}

/// The policies in force, as they were when last seen.
pub(crate) struct Policies {
    store: Arc<dyn Store>,
    seen: RwLock<BTreeMap<HelplineId, Seen>>,
    /// The service clocks, as they were last heard to be, and when.
    clocks: Mutex<BTreeMap<HelplineId, (u64, Instant)>>,
    /// Which life each line was in when it was last heard of, and the highest term.
    lives: Mutex<BTreeMap<HelplineId, (String, u64)>>,
    /// The helplines that have, or had, a policy.
    known: watch::Sender<BTreeSet<HelplineId>>,
}

struct Seen {
    policy: Arc<Policy>,
    /// The store had it when it was last asked.
    in_force: bool,
}

impl Policies {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let (seen, clocks, lives) = (RwLock::default(), Mutex::default(), Mutex::default());
        Self { store, seen, clocks, lives, known: watch::Sender::default() }
    }

    /// There is such a helpline; its policy is read from the store when it is needed, and is this one if it is lost.
    pub(crate) fn learn(&self, helpline: &HelplineId, policy: &Policy) {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let unread = || Seen { policy: Arc::new(policy.clone()), in_force: false };
        seen.entry(helpline.clone()).or_insert_with(unread);
        self.known.send_if_modified(|known| known.insert(helpline.clone()));
    }

    /// The policy as last seen; read from the store the first time.
    pub(crate) async fn get(&self, helpline: &HelplineId) -> Result<Arc<Policy>, Failure> {
        match self.at_hand(helpline) {
            Some(policy) => Ok(policy),
            None => self.reload(helpline).await,
        }
    }

    /// The policy, read again if another revision is said to be in force than the one at hand.
    pub(crate) async fn at(&self, helpline: &HelplineId, revision: u64) -> Result<Arc<Policy>, Failure> {
        match self.at_hand(helpline).filter(|policy| policy.revision == revision) {
            Some(policy) => Ok(policy),
            None => self.reload(helpline).await,
        }
    }

    fn at_hand(&self, helpline: &HelplineId) -> Option<Arc<Policy>> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.get(helpline).filter(|seen| seen.in_force).map(|seen| Arc::clone(&seen.policy))
    }

    /// The policy as the store has it now.
    pub(crate) async fn reload(&self, helpline: &HelplineId) -> Result<Arc<Policy>, Failure> {
        let mut stored = self.store.policy(helpline).await?.map(Arc::new);
        if stored.is_none()
            && let Some(last) = self.last(helpline)
        {
            self.revive(helpline, &last).await?;
            stored = self.store.policy(helpline).await?.map(Arc::new);
        }
        self.keep(helpline, stored.clone());
        let policy = stored.ok_or(Failure::UnknownHelpline)?;
        self.known.send_if_modified(|known| known.insert(helpline.clone()));
        Ok(policy)
    }

    /// The store has lost a line: it begins another life under the last policy that was seen here. Whichever replica comes
    /// first does it; to the others the line says that there is a policy.
    async fn revive(&self, helpline: &HelplineId, last: &Policy) -> Result<(), StoreError> {
        let command = Command::Revive { policy: Box::new(last.clone()), clock_ms: self.clock_ms(helpline) };
        let applied = self.store.execute(helpline, &command).await?;
        if let Ok(Reply::Policy { revision }) = applied.reply {
            warn!(%helpline, revision, "the store had lost the line: it goes on under the last policy, and waits for tickets");
        }
        Ok(())
    }

    /// The store holds an older copy of the line, a backup that somebody restored: the line begins another life, and
    /// nobody is offered what the copy believes to be waiting. Whichever replica comes first does it.
    pub(crate) async fn renew(&self, helpline: &HelplineId) -> Result<(), StoreError> {
        let floor = self.store.floor(helpline, 0).await?;
        if !self.is_older(helpline, floor.clock.now_ms) {
            return Ok(());
        }
        let term =
            self.lives.lock().unwrap_or_else(PoisonError::into_inner).get(helpline).map_or(0, |life| life.1);
        let command = Command::Renew {
            life_was: floor.generation,
            life: uuid::Uuid::new_v4().simple().to_string(),
            clock_ms: self.clock_ms(helpline),
            term,
        };
        let applied = self.store.execute(helpline, &command).await?;
        if let Ok(Reply::Policy { revision }) = applied.reply {
            warn!(%helpline, revision, "the store holds an older copy of the line: nobody in it is offered before they are heard");
        }
        Ok(())
    }

    fn is_older(&self, helpline: &HelplineId, now_ms: u64) -> bool {
        let clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.get(helpline).is_some_and(|(heard, _)| now_ms + OLDER_COPY_MS < *heard)
    }

    /// Which life of a line something was said in. In another one than before, whoever was in the line comes back first.
    fn saw_life(&self, helpline: &HelplineId, generation: &str, term: u64) {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, highest) = lives.entry(helpline.clone()).or_insert_with(|| (generation.to_owned(), term));
        *highest = term.max(*highest);
        if known == generation {
            return;
        }
        generation.clone_into(known);
        drop(lives);
        let hold = self.last(helpline).map_or(0, |policy| policy.numbers.recovery_hold_ms);
        warn!(%helpline, hold_ms = hold, "the line began another life: new chats are taken when those who were in it are back");
        self.store.begin_recovery(Duration::from_millis(hold));
    }

    /// What an answer says of the service clock, and of the line's life. True when it comes from an older copy of the line.
    pub(crate) fn saw(&self, helpline: &HelplineId, reply: &Reply) -> bool {
        if let Reply::Chat { generation, term, .. } = reply {
            self.saw_life(helpline, generation, *term);
        } else if let Reply::Accepted { generation, fence, .. } = reply {
            self.saw_life(helpline, generation, fence.epoch / EPOCHS_PER_TERM);
        }
        let (Reply::Chat { now_ms, .. }
        | Reply::Responder { now_ms, .. }
        | Reply::Accepted { now_ms, .. }
        | Reply::Ticked { now_ms, .. }
        | Reply::Done { now_ms }) = reply
        else {
            return false;
        };
        if self.is_older(helpline, *now_ms) {
            return true;
        }
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = clocks.entry(helpline.clone()).or_insert((0, Instant::now()));
        if *now_ms > clock.0 {
            *clock = (*now_ms, Instant::now());
        }
        false
    }

    /// Where the service clock stands at the latest that it can have been when the line was lost; 0 when nothing was heard
    /// of it. A line that lives is heard of every second.
    fn clock_ms(&self, helpline: &HelplineId) -> u64 {
        let clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.get(helpline).map_or(0, |(now_ms, heard)| {
            let since = heard.elapsed().min(LONGEST_SILENCE);
            now_ms + u64::try_from(since.as_millis()).unwrap_or_default()
        })
    }

    fn keep(&self, helpline: &HelplineId, stored: Option<Arc<Policy>>) {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(policy) = stored {
            seen.insert(helpline.clone(), Seen { policy, in_force: true });
        } else if let Some(lost) = seen.get_mut(helpline) {
            lost.in_force = false;
        }
    }

    /// The revision that was last seen in force; 0 for none.
    pub(crate) fn revision(&self, helpline: &HelplineId) -> u64 {
        self.at_hand(helpline).map_or(0, |policy| policy.revision)
    }

    /// The policy that was last in force, even if the store has lost it.
    pub(crate) fn last(&self, helpline: &HelplineId) -> Option<Arc<Policy>> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.get(helpline).map(|seen| Arc::clone(&seen.policy))
    }

    /// The helplines that have, or had, a policy; more may come.
    pub(crate) fn known(&self) -> watch::Receiver<BTreeSet<HelplineId>> {
        self.known.subscribe()
    }
}

/// Keeps the policies at hand as they are in force, whichever replica puts them, and learns of new helplines.
pub(crate) async fn follow(desk: Arc<Desk>, done: CancellationToken) {
    let mut notices = desk.store().notices();
    look_at_all(&desk).await;
    loop {
        let notice = tokio::select! {
            () = done.cancelled() => return,
            notice = notices.recv() => notice,
        };
        match notice {
            Ok(notice) if !notice.events.is_empty() => look_at(&desk, &notice).await,
            // Some were lost: any policy may be another one now.
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => look_at_all(&desk).await,
            Err(broadcast::error::RecvError::Closed) => return done.cancelled().await,
        }
    }
}

async fn look_at(desk: &Desk, notice: &Notice) {
    let helpline = &notice.helpline;
    for placed in notice.events.iter() {
        desk.tickets().hear(helpline, &placed.event);
        desk.policies().saw_life(helpline, &placed.cursor.generation, placed.event.term);
    }
    let replaced = |kind| matches!(kind, EventKind::PolicySet | EventKind::Revived);
    let changed = notice.events.iter().any(|placed| replaced(placed.event.kind));
    let policies = desk.policies();
    let looked = if changed { policies.reload(helpline).await } else { policies.get(helpline).await };
    if let Err(failure) = looked {
        debug!(%helpline, reason = failure.reason().word(), "the policy was not read");
    }
}

/// Learns of the helplines that the store has, those that no file names included.
pub(crate) async fn look_at_all(desk: &Desk) {
    let mut known = desk.policies().known().borrow().clone();
    // A store that does not answer now is asked again at the next occasion; those known are looked at all the same.
    known.extend(desk.store().helplines().await.unwrap_or_default());
    for helpline in &known {
        // What is not read now is read when the line says that another revision is in force.
        let _ = desk.policies().reload(helpline).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{content::Content, metrics::Metrics, store::memory::MemoryStore};
    use std::time::Duration;

    fn store() -> Arc<dyn Store> {
        Arc::new(MemoryStore::new(Box::new(holdfast_runtime::clock::wall_ms), 1, "g".to_owned()))
    }

    fn desk(store: &Arc<dyn Store>) -> Arc<Desk> {
        let metrics = Metrics::new(&opentelemetry::global::meter("test"));
        let tickets = crate::tickets::Tickets::made_up();
        Arc::new(Desk::new(Arc::clone(store), Content::as_it_came(), metrics, tickets))
    }

    fn demo() -> (HelplineId, Policy) {
        (HelplineId::parse("demo").unwrap(), Policy::from_toml(DEMO).unwrap())
    }

    async fn put_demo(desk: &Desk, expected: u64) {
        let (helpline, policy) = demo();
        put(desk, &Put { helpline, policy, expected, by: None, dry_run: false }).await.unwrap();
    }

    async fn until(holds: impl Fn() -> bool) {
        let waiting = async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
    }

    #[tokio::test]
    async fn every_replica_learns_of_a_policy_from_the_notice_of_it() {
        let (store, done) = (store(), CancellationToken::new());
        let (here, there) = (desk(&store), desk(&store));
        let following = tokio::spawn(follow(Arc::clone(&there), done.clone()));
        tokio::task::yield_now().await;
        let helpline = demo().0;

        for revision in [1, 2] {
            put_demo(&here, revision - 1).await;
            until(|| there.policies().revision(&helpline) == revision).await;
        }

        assert!(there.policies().known().borrow().contains(&helpline));
        done.cancel();
        following.await.unwrap();
    }

    #[tokio::test]
    async fn a_replica_that_starts_learns_of_helplines_that_no_file_names() {
        let (store, done) = (store(), CancellationToken::new());
        put_demo(&desk(&store), 0).await;
        let started = desk(&store);

        let following = tokio::spawn(follow(Arc::clone(&started), done.clone()));

        until(|| started.policies().known().borrow().contains(&demo().0)).await;
        done.cancel();
        following.await.unwrap();
    }

    #[tokio::test]
    async fn a_file_overwrites_what_is_in_force_only_where_that_is_set() {
        let store = store();
        put_demo(&desk(&store), 0).await;
        let (helpline, policy) = demo();
        let file = Policy { name: "Another".to_owned(), ..policy };
        let name = async || store.policy(&helpline).await.unwrap().unwrap().name;

        install(&*store, &helpline, &file, Overwrite::IfAbsent).await.unwrap();
        assert_eq!(name().await, "Example helpline");
        install(&*store, &helpline, &file, Overwrite::Always).await.unwrap();
        assert_eq!(name().await, "Another");
    }

    #[tokio::test]
    async fn a_store_that_lost_everything_gets_the_policy_that_was_last_in_force() {
        let (helpline, policy) = demo();
        let desk = desk(&store());
        let last = Policy { name: "Put by somebody".to_owned(), ..policy };
        desk.policies().learn(&helpline, &last);

        crate::metrics::look(&desk, &helpline).await.unwrap();

        assert_eq!(desk.policies().get(&helpline).await.unwrap().name, "Put by somebody");
    }
}

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    envelope::OVERHEAD,
    keys::{KeyFault, Kid},
    *,
};
use holdfast_domain::Fence;

const SAID: &[u8] = b"I cannot go on";
/// A Friday in November 2026, UTC.
const TODAY_MS: u64 = 1_795_780_800_000;

fn helpline(name: &str) -> HelplineId {
    HelplineId::parse(name).unwrap()
}

fn chat(id: &str) -> ChatId {
    ChatId::parse(id).unwrap()
}

/// Two helplines and two chats.
struct Names {
    north: HelplineId,
    south: HelplineId,
    one: ChatId,
    two: ChatId,
}

impl Names {
    fn new() -> Self {
        Self { north: helpline("north"), south: helpline("south"), one: chat("c1"), two: chat("c2") }
    }

    fn usual(&self) -> Of<'_> {
        Of { helpline: &self.north, chat: &self.one, field: Field::Handoff }
    }
}

/// A folder with keys, read as on this day.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[&str]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|file| folder.put(file));
        folder
    }

    fn put(&self, file: &str) {
        fs::write(self.0.path().join(file), format!("thirty-two and more letters of {file}\n")).unwrap();
    }

    fn destroy(&self, file: &str) {
        fs::remove_file(self.0.path().join(file)).unwrap();
    }

    fn keys(&self) -> Arc<FolderKeys> {
        Arc::new(FolderKeys::read_at(self.0.path(), || TODAY_MS).unwrap())
    }

    fn refused(&self) -> String {
        FolderKeys::read(self.0.path()).err().unwrap().to_string()
    }
}

fn content(keys: &Arc<FolderKeys>) -> Content {
    Content::new(How::Sealed(Arc::clone(keys) as _), Arc::new(|_| ()))
}

fn made_up() -> Content {
    Content::new(How::Sealed(Arc::new(Ring::made_up().unwrap())), Arc::new(|_| ()))
}

fn whole(bytes: &[u8]) -> Opened {
    Opened { bytes: bytes.to_vec(), lost: false }
}

/// Which key wrapped an envelope's own.
fn kid(envelope: &[u8]) -> Kid {
    Kid(envelope[1..9].try_into().unwrap())
}

#[tokio::test]
async fn what_is_sealed_shows_nothing_and_opens_byte_by_byte_the_same() {
    let (content, names) = (made_up(), Names::new());
    for said in [SAID.to_vec(), vec![0], (0..=255).collect(), vec![7; 8 * 1024]] {
        let sealed = content.seal(names.usual(), said.clone()).await;
        assert_eq!(sealed.len(), said.len() + OVERHEAD);
        assert!(said.len() < 8 || !sealed.windows(8).any(|part| said.starts_with(part)));
        assert_eq!(content.open(names.usual(), &sealed).await, whole(&said));
    }
}

#[tokio::test]
async fn the_same_words_are_never_sealed_alike() {
    let (content, names) = (made_up(), Names::new());
    let one = content.seal(names.usual(), SAID.to_vec()).await;
    let other = content.seal(names.usual(), SAID.to_vec()).await;
    // Version, key id and length are common, and nothing after them.
    assert_eq!(one[..10], other[..10]);
    assert!(!one[10..].windows(8).any(|part| other.windows(8).any(|other| other == part)));
}

#[tokio::test]
async fn nothing_stays_nothing() {
    let (content, names) = (made_up(), Names::new());
    assert!(content.seal(names.usual(), Vec::new()).await.is_empty());
    assert_eq!(content.open(names.usual(), &[]).await, Opened::default());
    assert!(content.rewrap(names.usual(), &names.south, &[]).await.is_empty());
}

#[tokio::test]
async fn an_envelope_opens_at_its_own_helpline_chat_and_field_only() {
    let (content, names) = (made_up(), Names::new());
    let sealed = content.seal(names.usual(), SAID.to_vec()).await;
    for elsewhere in [
        Of { helpline: &names.south, ..names.usual() },
        Of { chat: &names.two, ..names.usual() },
        Of { field: Field::ReplyHandoff(0), ..names.usual() },
    ] {
        assert_eq!(content.open(elsewhere, &sealed).await, Opened::LOST, "{elsewhere:?}");
        assert_eq!(content.rewrap(elsewhere, &names.south, &sealed).await, LOST, "{elsewhere:?}");
    }
    assert_eq!(made_up().open(names.usual(), &sealed).await, Opened::LOST);
}

#[tokio::test]
async fn a_reply_is_of_one_offer_and_cannot_be_put_back_after_another() {
    let (content, names) = (made_up(), Names::new());
    let of = |offer| Of { field: Field::ReplyHandoff(offer), ..names.usual() };
    let sealed = content.seal(of(1), SAID.to_vec()).await;
    assert_eq!(content.open(of(1), &sealed).await, whole(SAID));
    assert_eq!(content.open(of(2), &sealed).await, Opened::LOST);
}

#[tokio::test]
async fn a_reply_of_whoever_took_over_is_theirs_and_both_kinds_open_for_the_owner() {
    let (content, names) = (made_up(), Names::new());
    let id = |name: &str| ResponderId::parse(name).unwrap();
    let sue = id("sue");
    let of = |field| Of { field, ..names.usual() };
    let owner = |name: &str, offer| Owner {
        responder: id(name),
        offer,
        fence: Fence { epoch: 1, minted_by: 1 },
        since_ms: 0,
        engaged_ms: None,
    };
    let open =
        async |owner: Owner, sealed: &[u8]| content.open_reply(&names.north, &names.one, &owner, sealed).await;
    let taken_over = content.seal(of(Field::TakeOverReply(&sue)), SAID.to_vec()).await;
    let accepted = content.seal(of(Field::ReplyHandoff(3)), SAID.to_vec()).await;
    assert_eq!(open(owner("sue", 3), &taken_over).await, whole(SAID));
    assert_eq!(open(owner("sue", 3), &accepted).await, whole(SAID));
    for other in [owner("ana", 3), owner("3", 4)] {
        assert_eq!(open(other, &taken_over).await, Opened::LOST);
    }
    assert_eq!(open(owner("sue", 4), &accepted).await, Opened::LOST, "of another offer");
    assert_eq!(content.open(of(Field::ReplyHandoff(3)), &taken_over).await, Opened::LOST);
}

/// What is said about settings.
fn checked(settings: &[(&str, &str)]) -> Result<(), String> {
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    check(&Config::load(None, &settings).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn a_lasting_store_needs_keys_or_a_word_that_they_are_not_wanted() {
    let redis = [("store.kind", "redis"), ("policy.dir", "policies")];
    let with = |setting| checked(&[redis[0], redis[1], setting]);
    assert!(checked(&redis).unwrap_err().starts_with("content.key_dir"));
    assert_eq!(with(("content.key_dir", "keys")), Ok(()));
    assert_eq!(with(("security.insecure_random_content_key", "true")), Ok(()));
    assert_eq!(with(("security.insecure_unsealed_content", "true")), Ok(()));
    assert_eq!(checked(&[]), Ok(()));
}

#[test]
fn keys_and_the_word_that_nothing_is_sealed_contradict_each_other() {
    let both = [("content.key_dir", "keys"), ("security.insecure_unsealed_content", "true")];
    assert!(checked(&both).unwrap_err().starts_with("security.insecure_unsealed_content"));
}

#[tokio::test]
async fn an_envelope_that_was_cut_or_changed_anywhere_does_not_open() {
    let (content, names) = (made_up(), Names::new());
    let sealed = content.seal(names.usual(), SAID.to_vec()).await;
    for length in 1..sealed.len() {
        assert_eq!(content.open(names.usual(), &sealed[..length]).await, Opened::LOST, "cut at {length}");
    }
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(content.open(names.usual(), &changed).await, Opened::LOST, "bit {bit}");
    }
    let longer = [sealed.as_slice(), &[0]].concat();
    assert_eq!(content.open(names.usual(), &longer).await, Opened::LOST);
}

#[tokio::test]
async fn what_is_no_envelope_is_not_shown_to_anybody() {
    let (content, names) = (made_up(), Names::new());
    for kept in [LOST, b"put there by whoever can write to the store", &[1; 500]] {
        assert_eq!(content.open(names.usual(), kept).await, Opened::LOST);
    }
}

#[tokio::test]
async fn a_chat_that_goes_to_a_partner_is_opened_there_and_no_more_at_home() {
    let folder = Folder::with(&["north.2026-01-01.key", "south.2026-01-01.key", "2026-01-01.key"]);
    let (content, names) = (content(&folder.keys()), Names::new());
    let sealed = content.seal(names.usual(), SAID.to_vec()).await;

    let rewrapped = content.rewrap(names.usual(), &names.south, &sealed).await;

    let there = Of { helpline: &names.south, ..names.usual() };
    assert_eq!(content.open(there, &rewrapped).await, whole(SAID));
    assert_eq!(content.open(names.usual(), &rewrapped).await, Opened::LOST);
    assert_ne!(kid(&rewrapped), kid(&sealed));
    assert_eq!(rewrapped[82..], sealed[82..], "the content itself stays as it is");
}

#[tokio::test]
async fn the_newest_key_seals_from_its_day_on_and_older_ones_open() {
    let folder = Folder::with(&["2026-10-01.key"]);
    let (keys, names) = (folder.keys(), Names::new());
    let content = content(&keys);
    let first = content.seal(names.usual(), SAID.to_vec()).await;

    folder.put("2026-11-27.key");
    folder.put("2026-11-28.key"); // tomorrow's
    assert!(keys.read_anew(Duration::ZERO).await);
    let second = content.seal(names.usual(), SAID.to_vec()).await;
    folder.put("2026-11-27-in-haste.key");
    assert!(keys.read_anew(Duration::ZERO).await);
    let third = content.seal(names.usual(), SAID.to_vec()).await;
    folder.destroy("2026-11-28.key");
    assert!(keys.read_anew(Duration::ZERO).await);
    let fourth = content.seal(names.usual(), SAID.to_vec()).await;

    assert!(kid(&first) != kid(&second) && kid(&second) != kid(&third));
    assert_eq!(kid(&third), kid(&fourth), "tomorrow's did not seal yet");
    for sealed in [first, second, third] {
        assert_eq!(content.open(names.usual(), &sealed).await, whole(SAID));
    }
}

#[tokio::test]
async fn a_helplines_own_key_goes_before_the_installations_and_serves_nobody_else() {
    let folder = Folder::with(&["2026-11-01.key"]);
    let (keys, names) = (folder.keys(), Names::new());
    let content = content(&keys);
    let at_south = Of { helpline: &names.south, ..names.usual() };
    let (north, south) = (content.seal(names.usual(), vec![1]).await, content.seal(at_south, vec![1]).await);
    assert_eq!(kid(&north), kid(&south));

    folder.put("north.2026-10-01.key");
    keys.read_anew(Duration::ZERO).await;

    let own = content.seal(names.usual(), vec![2]).await;
    assert_ne!(kid(&own), kid(&north));
    assert_eq!(kid(&content.seal(at_south, vec![2]).await), kid(&south));
    assert_eq!(content.open(names.usual(), &own).await, whole(&[2]));
    assert_eq!(content.open(names.usual(), &north).await, whole(&[1]), "what the installation's key sealed");
}

#[tokio::test]
async fn what_a_destroyed_key_sealed_opens_nowhere_any_more() {
    let folder = Folder::with(&["2026-10-01.key", "2026-11-01.key", "north.2026-11-01.key"]);
    let (keys, names) = (folder.keys(), Names::new());
    let sealed = content(&keys).seal(names.usual(), SAID.to_vec()).await;

    folder.destroy("north.2026-11-01.key");
    assert!(keys.read_anew(Duration::ZERO).await);

    assert_eq!(content(&keys).open(names.usual(), &sealed).await, Opened::LOST);
    let unknown = envelope::open(&*keys, names.usual(), &sealed).await;
    assert_eq!(unknown, Err(Unreadable::Key(KeyFault::Unknown(kid(&sealed)))));
}

#[tokio::test]
async fn an_envelope_of_an_unknown_key_makes_the_folder_be_read_anew() {
    let folder = Folder::with(&["2026-10-01.key"]);
    let (late, names) = (folder.keys(), Names::new());
    folder.put("2026-11-01.key");
    let sealed = content(&folder.keys()).seal(names.usual(), SAID.to_vec()).await;
    // Nothing is to be read more often than every second, and this one has just been read.
    tokio::time::sleep(Duration::from_millis(1_050)).await;

    assert_eq!(content(&late).open(names.usual(), &sealed).await, whole(SAID));
}

#[tokio::test]
async fn a_folder_that_is_not_whole_leaves_the_keys_at_hand() {
    let folder = Folder::with(&["2026-10-01.key"]);
    let (keys, names) = (folder.keys(), Names::new());
    let sealed = content(&keys).seal(names.usual(), SAID.to_vec()).await;

    fs::write(folder.0.path().join("2026-11-01.key"), "short").unwrap();
    assert!(!keys.read_anew(Duration::ZERO).await);
    folder.destroy("2026-11-01.key");
    folder.destroy("2026-10-01.key");
    assert!(!keys.read_anew(Duration::ZERO).await);

    assert_eq!(content(&keys).open(names.usual(), &sealed).await, whole(SAID));
}

#[test]
fn a_folder_that_holds_something_else_is_refused_by_the_name_of_the_file() {
    for file in [
        "key",
        "2026-11-01",
        "2026-11-01.txt",
        "2026-11-1.key",
        "2026-13-01.key",
        "2026-11-01-.key",
        "2026-11-01x.key",
        "2026-11-01-A.key",
        "North.2026-11-01.key",
        "a.b.2026-11-01.key",
        "2026-11-01.2026-11-01.key.key",
    ] {
        let folder = Folder::with(&["2026-01-01.key", file]);
        assert!(folder.refused().contains(file), "{file}: {}", folder.refused());
    }
    // How a mounted secret is put together.
    let folder = Folder::with(&["2026-01-01.key", "..data"]);
    assert!(FolderKeys::read(folder.0.path()).is_ok());
}

#[test]
fn keys_that_are_too_short_empty_the_same_or_only_a_helplines_own_are_refused() {
    let folder = Folder::with(&["north.2026-01-01.key"]);
    assert!(folder.refused().contains("holds no YYYY-MM-DD.key"));
    let write = |file: &str, text: &str| fs::write(folder.0.path().join(file), text).unwrap();
    write("2026-01-01.key", &"x".repeat(31));
    assert!(folder.refused().contains("2026-01-01.key: holds less than 32"));
    write("2026-01-01.key", "\n");
    assert!(folder.refused().contains("2026-01-01.key"));
    write("2026-01-01.key", &"x".repeat(32));
    write("2026-02-01.key", &format!("{}\n", "x".repeat(32)));
    assert!(folder.refused().contains("2026-02-01.key: holds the same key"));
    assert!(FolderKeys::read(&folder.0.path().join("nowhere")).is_err());
}

#[tokio::test]
async fn before_the_first_day_of_all_the_first_key_seals() {
    let folder = Folder::with(&["2027-01-01.key", "2028-01-01.key"]);
    let names = Names::new();
    let sealed = content(&folder.keys()).seal(names.usual(), SAID.to_vec()).await;

    folder.destroy("2028-01-01.key");

    assert_eq!(content(&folder.keys()).open(names.usual(), &sealed).await, whole(SAID));
}

/// Keys that are never to be had.
struct Away;

impl Keys for Away {
    fn wrap<'a>(
        &'a self,
        _: &'a HelplineId,
        _: &'a [u8],
        _: &'a envelope::Key,
    ) -> futures::future::BoxFuture<'a, Result<keys::Wrapped, KeyFault>> {
        Box::pin(std::future::pending())
    }

    fn unwrap<'a>(
        &'a self,
        _: &'a HelplineId,
        _: &'a [u8],
        _: &'a keys::Wrapped,
    ) -> futures::future::BoxFuture<'a, Result<envelope::Key, KeyFault>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_service_that_is_away_costs_the_content_and_is_counted_and_never_stores_it_as_it_came() {
    static FAILED: AtomicUsize = AtomicUsize::new(0);
    let count: Count = Arc::new(|what| {
        FAILED.fetch_add(usize::from(what.starts_with("not_")), Ordering::Relaxed);
    });
    let (away, names) = (Content::new(How::Sealed(Arc::new(Away)), count), Names::new());
    let sealed = made_up().seal(names.usual(), SAID.to_vec()).await;

    assert_eq!(away.seal(names.usual(), SAID.to_vec()).await, LOST);
    assert_eq!(away.open(names.usual(), &sealed).await, Opened::LOST);
    assert_eq!(away.rewrap(names.usual(), &names.south, &sealed).await, LOST);
    assert_eq!(FAILED.load(Ordering::Relaxed), 3);
}

#[test]
fn what_cannot_be_read_is_told_of_once_and_forgotten_in_time() {
    let (content, names) = (made_up(), Names::new());
    assert!(content.is_news(names.usual()) && !content.is_news(names.usual()));
    for n in 0..=REMEMBERED {
        assert!(content.is_news(Of { chat: &chat(&format!("other-{n}")), ..names.usual() }));
    }
    assert!(content.is_news(names.usual()));
    assert!(content.told.lock().unwrap().len() <= REMEMBERED);
}

#[test]
fn keys_are_not_shown() {
    let key: envelope::Key = secrecy::SecretBox::new(Box::new([77; 32]));
    assert!(!format!("{key:?}").contains("77"));
    assert!(!format!("{:?}", whole(SAID)).contains("73"), "I is byte 73");
}

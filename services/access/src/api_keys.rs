//! Keys for programs: integrators, operators' tools, and the services among themselves. Of a key only a hash is kept.
//!
//! A key is `hf_<id>_<secret>`. The id finds its entry and says nothing; the secret is 256 random bits, so a plain hash of
//! it cannot be searched for. The file is read again when it changes: to replace a key, put the new one beside it under the
//! same name, hand it out, and take the old one away. What is taken away is refused within seconds, and streams that
//! were opened with it end.
//!
//! ```toml
//! [[key]]
//! id = "k7f3q0"
//! name = "website"                     # who holds it; both keys of a replacement have the same
//! sha256 = "…"                         # of the whole key, in hexadecimal: `holdfast key` prints both
//! grants = ["chats:request"]           # or operator, auditor, intake, dispatch
//! helplines = ["north"]                # ["*"] for all: operator, auditor, intake, dispatch
//! ```

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use holdfast_runtime::Stop;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::{
    Grant, Lease, Principal, Refused,
    principal::{self, Helplines, MAX_HELPLINES, MAX_SUBJECT_BYTES},
};

/// How every key begins, so that one that has got out is recognised.
pub const PREFIX: &str = "hf_";
/// Random bytes of a key.
const SECRET_BYTES: usize = 32;
/// A longer text is no key.
pub const MAX_KEY_BYTES: usize = 128;
/// The file is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A longer file is refused.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Keys of one name at once: one in use and one that takes its place.
const KEYS_OF_A_NAME: usize = 2;

/// Why a file of keys is refused. It names the entry, and quotes nothing of a key.
#[derive(Debug, thiserror::Error)]
pub enum KeysFileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {problem}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    name: String,
    sha256: String,
    grants: Vec<String>,
    helplines: Vec<String>,
}

/// A key that is good.
#[derive(Debug, Clone)]
struct Record {
    digest: [u8; 32],
    principal: Arc<Principal>,
    lease: Lease,
}

/// The keys of a file.
pub struct ApiKeys {
    path: PathBuf,
    known: RwLock<HashMap<String, Record>>,
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ApiKeys {
    /// The keys in a file.
    ///
    /// # Errors
    /// When it cannot be read, or an entry is wrong.
    pub fn open(path: &Path) -> Result<Self, KeysFileError> {
        let known = parse(path, &read(path)?)?;
        Ok(Self { path: path.to_owned(), known: RwLock::new(known) })
    }

    /// Whose key this is.
    ///
    /// # Errors
    /// When it is nobody's.
    pub fn verify(&self, key: &str) -> Result<(Arc<Principal>, Lease), Refused> {
        let id = id_of(key).ok_or(Refused::NotAuthenticated)?;
        let digest: [u8; 32] = Sha256::digest(key).into();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let record = known.get(id).filter(|record| bool::from(record.digest.ct_eq(&digest)));
        let record = record.ok_or(Refused::NotAuthenticated)?;
        Ok((Arc::clone(&record.principal), record.lease.clone()))
    }

    /// Reads the file again whenever it has changed, until `stop`. While it is wrong, the keys before stay.
    pub async fn follow(self: Arc<Self>, stop: Stop) {
        let until = stop.stopping();
        tokio::select! {
            () = until => {}
            () = self.keep_fresh() => {}
        }
    }

    async fn keep_fresh(&self) {
        let mut last = None;
        loop {
            sleep(LOOK_EVERY).await;
            let text = read(&self.path).map_err(|error| error.to_string());
            if last.as_ref() == Some(&text) {
                continue;
            }
            let keys = text.clone().and_then(|text| parse(&self.path, &text).map_err(|error| error.to_string()));
            match keys {
                Ok(keys) => self.replace(keys),
                Err(error) => warn!(%error, "the file of keys cannot be used; the keys before stay"),
            }
            last = Some(text);
        }
    }

    fn replace(&self, mut keys: HashMap<String, Record>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (id, before) in known.drain() {
            match keys.get_mut(&id) {
                Some(now) if now.digest == before.digest && now.principal == before.principal => *now = before,
                Some(_) | None => {
                    info!(key = id, "a key is good no longer");
                    before.lease.revoke();
                }
            }
        }
        *known = keys;
    }
}

fn read(path: &Path) -> Result<String, KeysFileError> {
    let unreadable = |source| KeysFileError::Unreadable { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_FILE_BYTES {
        return Err(wrong(path, format!("is longer than {MAX_FILE_BYTES} bytes")));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

fn wrong(path: &Path, problem: impl Into<String>) -> KeysFileError {
    KeysFileError::Wrong { path: path.to_owned(), problem: problem.into() }
}

fn parse(path: &Path, text: &str) -> Result<HashMap<String, Record>, KeysFileError> {
    let file: File = toml::from_str(text).map_err(|error| wrong(path, error.message().replace('\n', ", ")))?;
    let (mut keys, mut names) = (HashMap::new(), HashMap::<String, usize>::new());
    for (at, entry) in file.key.into_iter().enumerate() {
        let within = |problem: String| wrong(path, format!("key {}: {problem}", at + 1));
        let of_name = names.entry(entry.name.clone()).or_default();
        *of_name += 1;
        if *of_name > KEYS_OF_A_NAME {
            return Err(within(format!("is the third of its name; at most {KEYS_OF_A_NAME} are good at once")));
        }
        let id = entry.id.clone();
        if keys.insert(id, record(entry).map_err(within)?).is_some() {
            return Err(within("id: is there twice".to_owned()));
        }
    }
    Ok(keys)
}

fn record(entry: Entry) -> Result<Record, String> {
    if !is_id(&entry.id) {
        return Err("id: must be 1 to 32 lower-case letters and digits".to_owned());
    }
    if !principal::is_subject(&entry.name) {
        return Err(format!("name: must be 1 to {MAX_SUBJECT_BYTES} bytes long, without control characters"));
    }
    let digest = digest_in(&entry.sha256).ok_or("sha256: must be 64 hexadecimal digits")?;
    let mut grants = BTreeSet::new();
    for (at, name) in entry.grants.iter().enumerate() {
        let grant = Grant::named(name).filter(|grant| grant.comes_by_key());
        grants.insert(grant.ok_or_else(|| format!("grants[{at}]: is none that a key may have"))?);
    }
    if grants.is_empty() {
        return Err("grants: says for what the key is good".to_owned());
    }
    let all = entry.helplines.iter().any(|helpline| helpline == "*");
    if entry.helplines.is_empty() || entry.helplines.len() > MAX_HELPLINES || all && entry.helplines.len() > 1 {
        return Err(format!("helplines: must be 1 to {MAX_HELPLINES} names, or \"*\" alone"));
    }
    if all && !grants.iter().all(|grant| grant.may_span_helplines()) {
        return Err("helplines: must be named for these grants".to_owned());
    }
    if !all && grants.iter().any(|grant| !grant.comes_by_token()) {
        return Err("helplines: must be \"*\" for a service".to_owned());
    }
    let helplines = if all { Helplines::All } else { Helplines::These(entry.helplines.into_iter().collect()) };
    let principal = Principal { subject: entry.name, helplines, grants, capabilities: None, expires_at: None };
    Ok(Record { digest, principal: Arc::new(principal), lease: Lease::open_ended() })
}

fn is_id(id: &str) -> bool {
    (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// The id in a text that could be a key.
fn id_of(key: &str) -> Option<&str> {
    let (id, _secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    (key.len() <= MAX_KEY_BYTES && is_id(id)).then_some(id)
}

fn digest_in(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// A new key. It is shown once, to whoever will hold it.
pub struct NewKey {
    /// The key itself.
    pub key: String,
    /// Its id.
    pub id: String,
    /// Its hash, in hexadecimal.
    pub sha256: String,
}

impl NewKey {
    /// Makes one up.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let (mut id, mut secret) = ([0; 6], [0; SECRET_BYTES]);
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        let id = hex(&id);
        let key = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret));
        let sha256 = hex(&Sha256::digest(&key));
        Ok(Self { key, id, sha256 })
    }

    /// Its entry in a file of keys.
    #[must_use]
    pub fn entry(&self, name: &str, grants: &[Grant], helplines: &[String]) -> String {
        let grants: Vec<&str> = grants.iter().map(|grant| grant.name()).collect();
        format!(
            "[[key]]\nid = {:?}\nname = {name:?}\nsha256 = {:?}\ngrants = {grants:?}\nhelplines = {helplines:?}\n",
            self.id, self.sha256
        )
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(entries: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), entries).unwrap();
        file
    }

    fn website(key: &NewKey) -> String {
        key.entry("website", &[Grant::RequestChats], &["north".to_owned()])
    }

    #[test]
    fn a_key_is_good_for_what_its_entry_says() {
        let key = NewKey::generate().unwrap();
        let keys = ApiKeys::open(file(&website(&key)).path()).unwrap();

        let (principal, _) = keys.verify(&key.key).unwrap();

        assert_eq!(principal.subject, "website");
        assert!(principal.helplines.contain("north") && !principal.helplines.contain("south"));
        assert_eq!(principal.grants, BTreeSet::from([Grant::RequestChats]));
    }

    #[test]
    fn whatever_is_not_the_very_key_is_refused() {
        let key = NewKey::generate().unwrap();
        let keys = ApiKeys::open(file(&website(&key)).path()).unwrap();
        let (id, other) = (&key.id, NewKey::generate().unwrap().key);
        let secret = key.key.rsplit_once('_').unwrap().1.to_owned();
        let wrong = [
            String::new(),
            PREFIX.to_owned(),
            other.clone(),
            format!("{PREFIX}{id}_"),
            format!("{PREFIX}{id}_{}", other.rsplit_once('_').unwrap().1),
            format!("{PREFIX}_{secret}"),
            key.key[1..].to_owned(),
            key.key[..key.key.len() - 1].to_owned(),
            format!("{} ", key.key),
            format!("{}{}", key.key, "a".repeat(100)),
            key.key.to_uppercase(),
            key.sha256.clone(),
            format!("{PREFIX}{id}_{}", key.sha256),
        ];
        for text in wrong {
            assert_eq!(keys.verify(&text).unwrap_err(), Refused::NotAuthenticated, "{text}");
        }
    }

    #[test]
    fn an_entry_that_gives_too_much_or_says_too_little_is_named() {
        let digest = "0".repeat(64);
        let entry = |id: &str, sha256: &str, grants: &str, helplines: &str| {
            format!("[[key]]\nid={id:?}\nname=\"n\"\nsha256={sha256:?}\ngrants={grants}\nhelplines={helplines}\n")
        };
        for (text, told) in [
            (entry("A", &digest, r#"["operator"]"#, r#"["*"]"#), "key 1: id"),
            (entry("a", "00", r#"["operator"]"#, r#"["*"]"#), "key 1: sha256"),
            (entry("a", &"é".repeat(32), r#"["operator"]"#, r#"["*"]"#), "key 1: sha256"),
            (entry("a", &digest, r#"["supervisor"]"#, r#"["north"]"#), "key 1: grants[0]"),
            (entry("a", &digest, "[]", r#"["north"]"#), "key 1: grants"),
            (entry("a", &digest, r#"["chats:request"]"#, r#"["*"]"#), "key 1: helplines"),
            (entry("a", &digest, r#"["chats:request"]"#, "[]"), "key 1: helplines"),
            (entry("a", &digest, r#"["intake"]"#, r#"["north"]"#), "key 1: helplines"),
            (entry("a", &digest, r#"["operator"]"#, r#"["*"]"#).repeat(2), "key 2: id"),
            ("[[key]]\nid = 1\n".to_owned(), "expected a string"),
            ("[[key]]\nsecret = \"x\"\n".to_owned(), "unknown field"),
        ] {
            let error = ApiKeys::open(file(&text).path()).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        let third: String = ["a", "b", "c"].map(|id| entry(id, &digest, r#"["operator"]"#, r#"["*"]"#)).concat();
        assert!(ApiKeys::open(file(&third).path()).unwrap_err().to_string().contains("third"));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_replaced_without_anybody_being_refused_and_the_old_one_is_taken_back() {
        let (old, new) = (NewKey::generate().unwrap(), NewKey::generate().unwrap());
        let file = file(&website(&old));
        let keys = Arc::new(ApiKeys::open(file.path()).unwrap());
        let stop = Stop::new();
        let following = tokio::spawn(Arc::clone(&keys).follow(stop.clone()));
        let (_, lease) = keys.verify(&old.key).unwrap();

        std::fs::write(file.path(), website(&old) + &website(&new)).unwrap();
        sleep(2 * LOOK_EVERY).await;
        assert!(keys.verify(&old.key).is_ok() && keys.verify(&new.key).is_ok() && !lease.is_revoked());

        std::fs::write(file.path(), "no keys at all").unwrap();
        sleep(2 * LOOK_EVERY).await;
        assert!(keys.verify(&old.key).is_ok(), "a file that is wrong changes nothing");

        std::fs::write(file.path(), website(&new)).unwrap();
        lease.over(Duration::MAX / 4).await;
        assert!(keys.verify(&old.key).is_err() && keys.verify(&new.key).is_ok());
        stop.stop_now();
        following.await.unwrap();
    }
}

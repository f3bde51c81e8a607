//! What proves something, and what is set: work for a challenge, entries of the audit and their seals, certificates, files
//! of keys, settings. What was bent proves nothing.

use crate::mutate::fuzz;
use holdfast_access::api_keys::{ApiKeys, NewKey};
use holdfast_access::table::Grant;
use holdfast_domain::HelplineId;
use holdfast_intake::challenge::ChallengeKey;
use holdfast_intake::token::TokenKey;
use holdfast_proto::v1::ChallengeSolution;
use holdfast_queue::audit::{Entry, Hash, Key, Seals};
use holdfast_runtime::tls::{not_after, not_after_in};
use std::path::Path;

const NOW_MS: u64 = 1_800_000_000_000;

#[test]
fn work_for_a_challenge_counts_for_that_one_alone() {
    let key = TokenKey::new(b"a key of more than thirty-two bytes").expect("a key");
    let key = ChallengeKey::new(&key).expect("a key");
    let helpline = HelplineId::parse("nightline").expect("a name");
    let solution = |bytes: &[u8]| {
        let (token, nonce) = bytes.split_at(bytes.len().saturating_sub(8));
        ChallengeSolution { token: token.to_vec(), nonce: nonce.to_vec() }
    };
    let token = key.issue(&helpline, 4, NOW_MS).token;
    let mut tries = (0..u64::MAX).map(|nonce| [token.as_slice(), &nonce.to_be_bytes()].concat());
    let is_solved = |bytes: &Vec<u8>| key.solved(&helpline, "r-1", &solution(bytes), NOW_MS) == 4;
    let solved = tries.find(is_solved).expect("a nonce");

    fuzz("challenges", &[solved.clone(), token.clone(), Vec::new()], &[], 20_000, |bytes| {
        let bits = key.solved(&helpline, "r-1", &solution(bytes), NOW_MS);
        // Another nonce may be work as well; another token never is a challenge.
        assert!(bits == 0 || bits == 4 && bytes.starts_with(&token), "{bits} bits");
        bits > 0
    });
}

#[test]
fn an_entry_that_was_bent_is_under_no_seal() {
    let seals = Seals::made_up().expect("a key");
    let text =
        "helpline=nightline number=1 at_ms=1800000000000 act=ended actor=supervisor:sue chat=c reason=abuse";
    let text = format!("{text} previous={}", Hash::default());
    let entry = Entry { text: text.clone(), seal: Vec::new() };
    let seal = seals.seal(entry.hash());
    assert!(seals.key().made(&seal, entry.hash()));

    fuzz("entries", &[text.clone().into_bytes()], &["=", " ", "number=", "previous="], 20_000, |bytes| {
        let bent = Entry { text: String::from_utf8_lossy(bytes).into_owned(), seal: seal.clone() };
        assert_eq!(seals.key().made(&bent.seal, bent.hash()), bent.text == text);
        let is_well_formed = bent.is_well_formed();
        if is_well_formed {
            let words: Vec<String> = bent.words().map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(words.join(" "), bent.text);
        }
        is_well_formed && bent.number().is_some()
    });
    fuzz("seals", &[seal.clone(), Vec::new()], &[], 5_000, |bytes| {
        let is_made = seals.key().made(bytes, entry.hash());
        assert_eq!(is_made, bytes == seal);
        is_made
    });
    fuzz("hashes", &[entry.hash().to_string().into_bytes()], &["A", "=", "-"], 20_000, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let (hash, key) = (Hash::parse(&text), Key::parse(&text));
        assert!(hash.is_none_or(|hash| hash.to_string() == text), "{text:?}");
        assert!(key.is_none_or(|key| key.to_string() == text), "{text:?}");
        hash.is_some()
    });
}

#[test]
fn a_certificate_is_read_to_its_end_or_is_none() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (der, pem) = (made.cert.der().to_vec(), made.cert.pem().into_bytes());
    fuzz("certificates", &[der], &[], 20_000, |bytes| not_after(&bytes.to_vec().into()).is_some());
    fuzz("PEM files", &[pem], &["-----BEGIN CERTIFICATE-----", "-----END"], 10_000, |bytes| {
        not_after_in(bytes).is_some()
    });
}

/// Writes bytes where they are read from.
fn put(file: &Path, bytes: &[u8]) {
    std::fs::write(file, bytes).expect("a file");
}

#[test]
fn a_file_of_keys_lets_in_whoever_stands_in_it_or_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.toml");
    let [known, stranger] = [NewKey::generate(), NewKey::generate()].map(|key| key.expect("a key"));
    let entry = known.entry("website", &[Grant::RequestChats], &["north".to_owned()]);
    let words = ["[[key]]", "id", "sha256", "grants", "helplines", "=", "\"*\"", "chats:request"];
    fuzz("files of keys", &[entry.into_bytes()], &words, 5_000, |bytes| {
        put(&file, bytes);
        let Ok(keys) = ApiKeys::open(&file) else { return false };
        assert!(keys.verify(&stranger.key).is_err(), "whoever does not stand there");
        keys.verify(&known.key).is_ok()
    });
}

#[test]
fn settings_are_understood_or_refused_by_their_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("settings.toml");
    let named = |refused: Option<String>| refused.is_none_or(|why| why.contains("settings.toml"));
    let refused = |service: &str| match service {
        "intake" => holdfast_intake::Config::load(Some(&file), &[]).err().map(|error| error.to_string()),
        "queue" => holdfast_queue::Config::load(Some(&file), &[]).err().map(|error| error.to_string()),
        _ => holdfast_dispatch::Config::load(Some(&file), &[]).err().map(|error| error.to_string()),
    };
    for service in ["intake", "queue", "dispatch"] {
        let defaults = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../services/{service}/config.toml"));
        let defaults = std::fs::read(defaults).expect("the defaults");
        fuzz(service, &[defaults], &["=", "[", "]", "true", "[queue]", "\"\""], 1_000, |bytes| {
            put(&file, bytes);
            let refused = refused(service);
            assert!(named(refused.clone()), "{refused:?}");
            refused.is_none()
        });
    }
}

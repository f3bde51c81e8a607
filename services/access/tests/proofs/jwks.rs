//! An issuer that replaces its keys, is down, or means harm.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use holdfast_access::{
    Refused,
    jwks::{Keys, MAX_SET_BYTES, Source},
    tokens::Tokens,
};
use holdfast_runtime::{Stop, http::HttpClient};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, sleep},
};

use crate::forge::{NOW, Pens, claims, reader, settings, token};

/// What the issuer says to whoever asks.
#[derive(Clone)]
enum Says {
    Keys(Value),
    Raw(Vec<u8>),
    /// Begins, and never ends.
    Dribbles,
    Nothing,
}

struct Issuer {
    url: String,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let issuer = Self { url, says: Arc::new(Mutex::new(says)), asked: Arc::default() };
        let (says, asked) = (Arc::clone(&issuer.says), Arc::clone(&issuer.asked));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                asked.fetch_add(1, Ordering::SeqCst);
                let says = says.lock().unwrap().clone();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap() > 0 {}
                    let answer = match says {
                        Says::Keys(keys) => ok(keys.to_string().as_bytes()),
                        Says::Raw(bytes) => bytes,
                        Says::Dribbles => {
                            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{").await;
                            while stream.write_all(b" ").await.is_ok() {
                                sleep(Duration::from_millis(20)).await;
                            }
                            return;
                        }
                        Says::Nothing => return std::future::pending().await,
                    };
                    // Whoever asked may have had enough.
                    let _ = stream.write_all(&answer).await;
                });
            }
        });
        issuer
    }

    fn now_says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn keys(&self, change: impl FnOnce(&mut holdfast_access::IssuerConfig)) -> Arc<Keys> {
        let http = HttpClient::trusting("".as_ref()).unwrap();
        let rhythm = settings(change).rhythm();
        Arc::new(Keys::new(Source::Url(self.url.parse().unwrap(), http), rhythm))
    }
}

fn ok(body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn reading(keys: &Arc<Keys>) -> Tokens {
    Tokens::new(settings(|_| ()), Arc::clone(keys))
}

#[tokio::test]
async fn a_new_key_is_good_as_soon_as_somebody_comes_with_it_and_an_old_one_once_it_is_gone() {
    let (old, new) = (Pens::new(), Pens::new());
    let mut new_jwk = new.ed_jwk();
    new_jwk["kid"] = json!("new");
    let issuer = Issuer::start(Says::Keys(old.jwks())).await;
    let keys = issuer.keys(|s| s.at_most_every_ms = 10);
    keys.refresh().await.unwrap();
    let stop = Stop::new();
    let following = tokio::spawn(Arc::clone(&keys).follow(stop.clone()));
    let tokens = reading(&keys);
    let (before, after) = (old.good(), token(&json!({"alg": "EdDSA", "kid": "new"}), &claims(), |m| new.eddsa(m)));
    assert!(tokens.verify(&before, NOW).await.is_ok());

    issuer.now_says(Says::Keys(json!({"keys": [new_jwk]})));
    // What is known is asked for at most every 10 ms.
    sleep(Duration::from_millis(20)).await;
    assert!(tokens.verify(&after, NOW).await.is_ok());

    assert_eq!(tokens.verify(&before, NOW).await.unwrap_err(), Refused::NotAuthenticated, "also if remembered");
    stop.stop_now();
    following.await.unwrap();
}

#[tokio::test]
async fn made_up_names_of_keys_make_nobody_ask_again_and_again() {
    let (pens, others) = (Pens::new(), Pens::new());
    let issuer = Issuer::start(Says::Keys(pens.jwks())).await;
    let keys = issuer.keys(|s| s.at_most_every_ms = 3_600_000);
    let stop = Stop::new();
    let following = tokio::spawn(Arc::clone(&keys).follow(stop.clone()));
    keys.there().wait_for(|there| *there).await.unwrap();
    let tokens = reading(&keys);
    let began = Instant::now();
    for n in 0..1000 {
        let forged = token(&json!({"alg": "EdDSA", "kid": format!("k{n}")}), &claims(), |m| others.eddsa(m));
        assert_eq!(tokens.verify(&forged, NOW).await.unwrap_err(), Refused::NotAuthenticated);
        assert!(tokens.verify(&pens.good(), NOW).await.is_ok(), "others come in meanwhile");
    }
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
    assert!(began.elapsed() < Duration::from_secs(60), "nobody waited");
    stop.stop_now();
    following.await.unwrap();
}

#[tokio::test]
async fn while_the_issuer_is_down_or_means_harm_the_last_good_keys_stay() {
    let pens = Pens::new();
    let issuer = Issuer::start(Says::Keys(pens.jwks())).await;
    let keys = issuer.keys(|_| ());
    keys.refresh().await.unwrap();
    let tokens = reading(&keys);
    let huge = vec![b' '; MAX_SET_BYTES + 1];
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.extend_from_slice(&huge);
    let claimed = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{{", u64::MAX).into_bytes();
    let redirect = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec();
    let many = json!({"keys": vec![pens.ed_jwk(); 101]});
    let headers = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(1_000_000)).into_bytes();
    for says in [
        Says::Raw(ok(&huge)),
        Says::Raw(endless),
        Says::Raw(claimed),
        Says::Raw(redirect),
        Says::Raw(headers),
        Says::Raw(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_vec()),
        Says::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        Says::Raw(Vec::new()),
        Says::Raw(ok(b"<html>sign in</html>")),
        Says::Raw(ok(b"{\"keys\":{}}")),
        Says::Keys(json!({"keys": []})),
        Says::Keys(many),
        Says::Keys(json!({"keys": [{"kty": "oct", "kid": "ed", "k": "AAAA"}]})),
        Says::Dribbles,
        Says::Nothing,
    ] {
        issuer.now_says(says);
        assert!(keys.refresh().await.is_err());
        assert!(tokens.verify(&pens.good(), NOW).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_too_old_are_good_for_nothing_until_there_are_newer_ones() {
    let pens = Pens::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pens.jwks().to_string()).unwrap();
    let rhythm = settings(|s| s.keep_for_ms = 60_000).rhythm();
    let keys = Arc::new(Keys::new(Source::File(file.path().to_owned()), rhythm));
    keys.refresh().await.unwrap();
    let tokens = reading(&keys);
    let good = pens.good();
    assert!(tokens.verify(&good, NOW).await.is_ok());

    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(tokens.verify(&good, NOW).await.unwrap_err(), Refused::NotAuthenticated);

    keys.refresh().await.unwrap();
    assert!(tokens.verify(&good, NOW).await.is_ok());
}

#[tokio::test]
async fn a_key_that_is_not_for_signing_or_too_weak_is_not_used() {
    let pens = Pens::new();
    let changed = |mut jwk: Value, name: &str, value: Value| {
        jwk[name] = value;
        jwk
    };
    let short = "A".repeat(128 * 4 / 3);
    for bad in [
        changed(pens.ed_jwk(), "use", json!("enc")),
        changed(pens.ed_jwk(), "key_ops", json!(["sign"])),
        changed(pens.ed_jwk(), "alg", json!("ES256")),
        changed(pens.ed_jwk(), "crv", json!("X25519")),
        changed(pens.ed_jwk(), "x", json!("AAAA")),
        changed(pens.p256_jwk(), "crv", json!("P-384")),
        changed(pens.p256_jwk(), "x", json!("AAAA")),
        changed(pens.rsa_jwk(), "n", json!(short)),
        changed(pens.rsa_jwk(), "alg", json!("PS256")),
        changed(pens.rsa_jwk(), "e", json!("AAAAAAAAAA")),
    ] {
        // It stands beside a good one of another kind, which goes on being good.
        let other = if bad["kty"] == "OKP" { pens.p256_jwk() } else { pens.ed_jwk() };
        let tokens = reader(&json!({"keys": [bad, other, 7, {"kty": "new"}]}), settings(|_| ())).await;
        let signed = [
            token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(), |m| pens.eddsa(m)),
            token(&json!({"alg": "ES256", "kid": "p256"}), &claims(), |m| pens.es256(m)),
            token(&json!({"alg": "RS256", "kid": "rsa"}), &claims(), |m| pens.rs256(m)),
        ];
        let mut good = 0;
        for token in &signed {
            good += usize::from(tokens.verify(token, NOW).await.is_ok());
        }
        assert_eq!(good, 1, "{bad}");
    }
}

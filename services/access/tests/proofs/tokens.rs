use std::collections::{BTreeMap, BTreeSet};

use holdfast_access::{Grant, Refused, issuer::Issuer, tokens::MAX_TOKEN_BYTES};
use ring::signature::KeyPair;
use serde_json::{Value, json};

use crate::forge::{ANA, AUDIENCE, NAME, NOW, Pens, but, claims, hs256, reader, settings, token};

async fn refused(pens: &Pens, token: &str) -> Refused {
    let tokens = reader(&pens.jwks(), settings(|_| ())).await;
    tokens.verify(token, NOW).await.expect_err(token)
}

#[tokio::test]
async fn a_token_is_good_with_each_kind_of_signature() {
    let pens = Pens::new();
    let tokens = reader(&pens.jwks(), settings(|_| ())).await;
    for token in [
        token(&json!({"alg": "RS256", "kid": "rsa", "typ": "JWT"}), &claims(), |m| pens.rs256(m)),
        token(&json!({"alg": "ES256", "kid": "p256", "typ": "at+jwt"}), &claims(), |m| pens.es256(m)),
        token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(), |m| pens.eddsa(m)),
        token(&json!({"alg": "EdDSA"}), &claims(), |m| pens.eddsa(m)),
    ] {
        // The second time it is remembered.
        for _ in 0..2 {
            let (principal, lease) = tokens.verify(&token, NOW).await.expect(&token);
            assert_eq!((principal.subject.as_str(), principal.expires_at), ("ana", Some(NOW + 600)));
            assert_eq!(principal.grants, BTreeSet::from([Grant::Responder]));
            assert!(principal.helplines.contain("north") && !principal.helplines.contain("south"));
            assert!(!lease.is_revoked());
        }
    }
}

#[tokio::test]
async fn a_token_of_our_own_issuer_is_good() {
    let issuer = Issuer::generate(NAME, AUDIENCE).unwrap();
    let again = Issuer::with_key(NAME, AUDIENCE, issuer.key()).unwrap();
    let tokens = reader(&serde_json::from_str(&issuer.jwks()).unwrap(), settings(|_| ())).await;
    assert!(tokens.verify(&again.token(&ANA, NOW).unwrap(), NOW).await.is_ok());
}

#[tokio::test]
async fn a_token_that_nobody_signed_is_refused() {
    let (pens, others) = (Pens::new(), Pens::new());
    let (public_rsa, public_ed) = (pens.rsa.public().as_ref().to_vec(), pens.ed.public_key().as_ref().to_vec());
    let jwks = pens.jwks().to_string();
    let head = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid});
    let good = pens.good();
    let (message, signature) = good.rsplit_once('.').unwrap();
    for forged in [
        // Nothing, or as good as nothing.
        token(&json!({"alg": "none"}), &claims(), |_| Vec::new()),
        token(&head("none", "ed"), &claims(), |_| Vec::new()),
        token(&head("None", "ed"), &claims(), |m| pens.eddsa(m)),
        token(&head("EdDSA", "ed"), &claims(), |_| Vec::new()),
        token(&head("EdDSA", "ed"), &claims(), |_| vec![0; 64]),
        token(&head("ES256", "p256"), &claims(), |_| vec![0; 64]),
        // A public key taken for a shared secret.
        token(&head("HS256", "rsa"), &claims(), |m| hs256(&public_rsa, m)),
        token(&head("HS256", "ed"), &claims(), |m| hs256(&public_ed, m)),
        token(&head("HS256", "ed"), &claims(), |m| hs256(jwks.as_bytes(), m)),
        token(&head("HS256", "ed"), &claims(), |m| hs256(b"", m)),
        // Another key, another kind of key, another kind of signature.
        token(&head("EdDSA", "ed"), &claims(), |m| others.eddsa(m)),
        token(&head("ES256", "p256"), &claims(), |m| others.es256(m)),
        token(&head("EdDSA", "p256"), &claims(), |m| pens.eddsa(m)),
        token(&head("ES256", "ed"), &claims(), |m| pens.eddsa(m)),
        token(&head("RS256", "ed"), &claims(), |m| pens.rs256(m)),
        token(&head("PS256", "rsa"), &claims(), |m| pens.rs256(m)),
        token(&head("RS512", "rsa"), &claims(), |m| pens.rs256(m)),
        token(&head("ES384", "p256"), &claims(), |m| pens.es256(m)),
        token(&head("EdDSA", "another"), &claims(), |m| pens.eddsa(m)),
        token(&head("EdDSA", &"k".repeat(300)), &claims(), |m| pens.eddsa(m)),
        // The token names the key that it should be checked with.
        token(&json!({"alg": "EdDSA", "kid": "ed", "jwk": others.ed_jwk()}), &claims(), |m| others.eddsa(m)),
        token(&json!({"alg": "EdDSA", "jwk": others.ed_jwk()}), &claims(), |m| others.eddsa(m)),
        token(&json!({"alg": "EdDSA", "kid": "o", "jku": "https://evil.example/k"}), &claims(), |m| {
            others.eddsa(m)
        }),
        token(&json!({"alg": "EdDSA", "kid": "o", "x5u": "https://evil.example/c"}), &claims(), |m| {
            others.eddsa(m)
        }),
        // What must be understood and is not; other kinds of statement.
        token(&json!({"alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": false}), &claims(), |m| pens.eddsa(m)),
        token(&json!({"alg": "EdDSA", "kid": "ed", "typ": "logout+jwt"}), &claims(), |m| pens.eddsa(m)),
        token(&json!({"alg": "EdDSA", "kid": "ed", "zip": "DEF"}), &claims(), |m| pens.eddsa(m)),
        // Pieces of good ones.
        format!("{message}."),
        message.to_owned(),
        format!("{message}.{}", &signature[..signature.len() - 2]),
        format!("{message}.{signature}="),
        format!("{message}.{signature}.{signature}"),
        format!(".{good}"),
        format!("{good} "),
        format!(" {good}"),
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        "\u{202e}.é.\0".to_owned(),
    ] {
        assert_eq!(refused(&pens, &forged).await, Refused::NotAuthenticated, "{forged}");
    }
}

#[tokio::test]
async fn a_token_whose_claims_were_changed_is_refused() {
    let pens = Pens::new();
    let signature = pens.good().rsplit_once('.').unwrap().1.to_owned();
    let other = pens.signed(&but(json!({"roles": ["supervisor"]})));
    let bent = format!("{}.{signature}", other.rsplit_once('.').unwrap().0);
    assert_eq!(refused(&pens, &bent).await, Refused::NotAuthenticated);
}

#[tokio::test]
async fn a_token_for_somebody_else_or_another_time_is_refused() {
    let pens = Pens::new();
    for changes in [
        json!({"iss": "https://other.example"}),
        json!({"iss": null}),
        json!({"iss": 1}),
        json!({"iss": {"a": NAME}}),
        json!({"aud": "somebody-else"}),
        json!({"aud": ["a", "b"]}),
        json!({"aud": []}),
        json!({"aud": null}),
        json!({"aud": {"holdfast": true}}),
        json!({"exp": null}),
        json!({"exp": "1800000600"}),
        json!({"exp": -1}),
        json!({"exp": 1e300}),
        json!({"exp": NOW + 90_000}),
        json!({"nbf": NOW + 31}),
        json!({"nbf": "soon"}),
        json!({"iat": NOW + 31}),
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": 7}),
        json!({"sub": "a".repeat(201)}),
        json!({"helplines": {"north": true}}),
        json!({"helplines": [1]}),
        json!({"roles": 5}),
        json!({"roles": vec!["responder"; 1001]}),
        json!({"capabilities": ["skill:minors>=many"]}),
        json!({"capabilities": vec!["a"; 257]}),
    ] {
        let token = pens.signed(&but(changes));
        assert_eq!(refused(&pens, &token).await, Refused::NotAuthenticated, "{token}");
    }
}

#[tokio::test]
async fn a_token_holds_until_its_time_and_a_little_longer() {
    let pens = Pens::new();
    let tokens = reader(&pens.jwks(), settings(|_| ())).await;
    let (ends, later) = (pens.good(), pens.signed(&but(json!({"nbf": NOW + 30, "iat": 1_800_000_030.5}))));
    assert!(tokens.verify(&later, NOW).await.is_ok(), "clocks differ a little");
    // Also when it is remembered.
    for _ in 0..2 {
        assert!(tokens.verify(&ends, NOW + 629).await.is_ok());
        assert_eq!(tokens.verify(&ends, NOW + 630).await.unwrap_err(), Refused::TokenExpired);
    }
    let fresh = reader(&pens.jwks(), settings(|_| ())).await;
    assert_eq!(fresh.verify(&ends, NOW + 630).await.unwrap_err(), Refused::TokenExpired);
    let forged = ends.replace('.', ".A");
    assert_eq!(
        fresh.verify(&forged, NOW + 630).await.unwrap_err(),
        Refused::NotAuthenticated,
        "only if it was good"
    );
}

#[tokio::test]
async fn a_token_that_is_far_too_long_is_refused_before_it_is_read() {
    let pens = Pens::new();
    let long = pens.signed(&but(json!({"more": "a".repeat(MAX_TOKEN_BYTES)})));
    assert_eq!(refused(&pens, &long).await, Refused::NotAuthenticated);
    let nested = token(&json!({"alg": "EdDSA", "kid": "ed"}), &Value::from(1), |m| pens.eddsa(m));
    assert_eq!(refused(&pens, &nested).await, Refused::NotAuthenticated);
    let deep = format!("{}1{}", "[".repeat(2000), "]".repeat(2000));
    let deep: String = {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(deep), URL_SAFE_NO_PAD.encode("{}"))
    };
    assert_eq!(refused(&pens, &deep).await, Refused::NotAuthenticated);
}

#[tokio::test]
async fn claims_are_read_under_the_names_that_the_issuer_gives_them() {
    let pens = Pens::new();
    let tokens = reader(
        &pens.jwks(),
        settings(|s| {
            s.subject_claim = "https://helpline.example/id".to_owned();
            s.helpline_claim = "org".to_owned();
            s.roles_claim = "realm_access.roles".to_owned();
            s.role_prefix = "holdfast-".to_owned();
            s.capabilities_claim = "can".to_owned();
        }),
    )
    .await;
    let token = pens.signed(&but(json!({
        "sub": "auth0|7",
        "https://helpline.example/id": "v-7",
        "org": "north south",
        "realm_access": {"roles": ["holdfast-responder", "holdfast-shift_lead", "supervisor", "holdfast-king"]},
        "can": ["lang:es", "skill:minors>=2", "skill:minors>=3", "lang:fr>=1"],
    })));

    let (principal, _) = tokens.verify(&token, NOW).await.unwrap();

    assert_eq!(principal.subject, "v-7");
    assert!(["north", "south"].iter().all(|helpline| principal.helplines.contain(helpline)));
    assert_eq!(principal.grants, BTreeSet::from([Grant::Responder, Grant::ShiftLead]));
    let can = [("lang:es", 5), ("skill:minors", 3), ("lang:fr", 1)].map(|(tag, level)| (tag.to_owned(), level));
    assert_eq!(principal.capabilities, Some(BTreeMap::from(can)));
}

#[tokio::test]
async fn no_token_makes_anybody_a_service_and_no_role_an_integrator() {
    let pens = Pens::new();
    let tokens = reader(&pens.jwks(), settings(|_| ())).await;
    let roles = json!(["intake", "dispatch", "chats:request", "responder"]);
    let token = pens.signed(&but(json!({"roles": roles, "scope": "intake operator supervisor"})));
    assert_eq!(tokens.verify(&token, NOW).await.unwrap().0.grants, BTreeSet::from([Grant::Responder]));
    let integrator = pens.signed(&but(json!({"roles": null, "scope": "openid chats:request"})));
    assert_eq!(tokens.verify(&integrator, NOW).await.unwrap().0.grants, BTreeSet::from([Grant::RequestChats]));
}

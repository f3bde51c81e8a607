use holdfast_access::Refused;
use proptest::prelude::*;
use serde_json::json;

use crate::forge::{NOW, Pens, claims, reader, settings, token};

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// One byte of a good token is another one: it is good no longer.
    #[test]
    fn a_token_that_differs_in_one_place_is_refused(at in any::<prop::sample::Index>(), by in 1_u8..128, kind in 0..3) {
        let pens = Pens::new();
        let good = match kind {
            0 => token(&json!({"alg": "RS256", "kid": "rsa"}), &claims(), |m| pens.rs256(m)),
            1 => token(&json!({"alg": "ES256", "kid": "p256"}), &claims(), |m| pens.es256(m)),
            _ => pens.good(),
        };
        let mut bytes = good.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = (bytes[at] ^ by) & 0x7f;
        prop_assume!(bytes != good.as_bytes());
        let bent = String::from_utf8(bytes).unwrap();
        let answer = wait(async { reader(&pens.jwks(), settings(|_| ())).await.verify(&bent, NOW).await });
        prop_assert_eq!(answer.unwrap_err(), Refused::NotAuthenticated, "{}", bent);
    }

    #[test]
    fn whatever_is_no_token_is_refused_and_breaks_nothing(text in "\\PC{0,200}|([A-Za-z0-9_-]{0,80}\\.){1,4}[A-Za-z0-9_-]{0,80}") {
        let pens = Pens::new();
        let answer = wait(async { reader(&pens.jwks(), settings(|_| ())).await.verify(&text, NOW).await });
        prop_assert_eq!(answer.unwrap_err(), Refused::NotAuthenticated);
    }

    /// A header that nobody asked for, with whatever in it.
    #[test]
    fn whatever_stands_in_a_header_breaks_nothing(name in "[a-z0-9#_]{1,8}", value in any::<Option<Vec<i64>>>()) {
        let pens = Pens::new();
        let mut header = json!({"alg": "EdDSA", "kid": "ed"});
        header[name.as_str()] = json!(value);
        let text = token(&header, &claims(), |m| pens.eddsa(m));
        // Good or not: it is decided, and by nothing that stands in the way of another.
        let _ = wait(async { reader(&pens.jwks(), settings(|_| ())).await.verify(&text, NOW).await });
    }

    #[test]
    fn a_set_of_keys_that_is_none_breaks_nothing(text in "\\PC{0,100}|\\{\"keys\":\\[\\{\"kty\":\"(EC|RSA|OKP|oct)\",\"(crv|n|e|x)\":\"\\PC{0,20}\"\\}\\]\\}") {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        let keys = holdfast_access::jwks::Keys::new(
            holdfast_access::jwks::Source::File(file.path().to_owned()),
            settings(|_| ()).rhythm(),
        );
        prop_assert!(wait(keys.refresh()).is_err());
    }
}

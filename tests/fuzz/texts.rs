//! Small texts with a form: signatures, names, digests, timers, cursors, tokens, records.

use crate::mutate::{folder, fuzz};
use holdfast_domain::ids::DigestHex;
use holdfast_domain::line::Timer;
use holdfast_domain::{
    ChatId, EventKind, HelplineId, Mask, Reason, Requirement, ResponderId, Status, Step, TokenHash,
};
use holdfast_intake::returning::{ReturnKey, TOKEN_BYTES};
use holdfast_intake::token::{TokenKey, hash_of};
use holdfast_queue::fuzzing;
use std::collections::BTreeMap;

fn good(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// What is understood is written as it was read, or reads back as the same.
fn signature(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mask = Mask::from_text(&text).inspect(|mask| assert_eq!(Mask::from_text(&mask.to_text()), Some(*mask)));
    let hex = Mask::from_hex(&text).inspect(|mask| assert_eq!(Mask::from_hex(&mask.to_hex()), Some(*mask)));
    let requirement = Requirement::from_signature(&text)
        .inspect(|r| assert_eq!(Requirement::from_signature(&r.signature()).as_ref(), Some(r)));
    let step = Step::from_signature(7, &text)
        .inspect(|s| assert_eq!(Step::from_signature(7, &s.signature()).as_ref(), Some(s)));
    mask.is_some() || hex.is_some() || requirement.is_some() || step.is_some()
}

#[test]
fn a_signature_reads_back_or_is_none() {
    let corpus = [
        folder("fuzz/corpus/signatures"),
        good(&["-", "00000001", "00000001,0000000200000000", "=ana=00000001", "=ana.b-2=-,00000001"]),
    ]
    .concat();
    fuzz("signatures", &corpus, &["-", ",", "=", "00000001", "ffffffff"], 20_000, signature);
}

fn name(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let ids = [
        HelplineId::parse(&text).map(|id| id.to_string()),
        ChatId::parse(&text).map(|id| id.to_string()),
        ResponderId::parse(&text).map(|id| id.to_string()),
        DigestHex::parse(&text).map(|id| id.to_string()),
    ];
    let known: Vec<&String> = ids.iter().filter_map(|id| id.as_ref().ok()).collect();
    assert!(known.iter().all(|id| **id == text && plain(id) && id.len() <= 64), "{text:?}");
    let timer = Timer::from_name(&text);
    if let Some(timer) = &timer {
        assert_eq!(Timer::from_name(&timer.name()).as_ref(), Some(timer));
    }
    let digest = TokenHash::from_hex(&text);
    let words = (EventKind::from_word(&text), Reason::from_word(&text), Status::from_word(&text));
    let token = hash_of(&text);
    !known.is_empty() || timer.is_some() || digest.is_some() || token.is_some() || words.0.is_some()
}

#[test]
fn a_name_is_taken_as_it_is_or_refused() {
    let texts = ["offer:0192-a:3", "wrap:ana:0192-a", "page:line", "presence:ana.b", "nightline", "accepted"];
    let corpus = [folder("fuzz/corpus/texts"), good(&texts), good(&["ab".repeat(32).as_str()])].concat();
    fuzz("names", &corpus, &[":", "offer:", "step:", "+3"], 20_000, name);
}

#[test]
fn a_cursor_reads_back_or_is_refused() {
    let corpus = good(&["", "a1-b2.7.42", "0f.18446744073709551615.0", "g.0.0"]);
    fuzz("cursors", &corpus, &[".", "+1", "a1-b2"], 20_000, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let written = fuzzing::cursor(&text);
        if let Some(written) = &written {
            assert_eq!(fuzzing::cursor(written).as_ref(), Some(written));
        }
        written.is_some()
    });
}

#[test]
fn a_traceparent_is_kept_as_it_came_or_not_at_all() {
    let corpus = good(&["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]);
    fuzz("traceparents", &corpus, &["-", "00-", "ff"], 10_000, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let kept = fuzzing::traceparent(&text);
        assert!(kept.is_empty() || kept == text, "{text:?} became {kept:?}");
        !kept.is_empty()
    });
}

/// A token that was changed leads to nobody.
#[test]
fn a_return_token_says_what_was_sealed_or_nothing() {
    let key = TokenKey::new(b"a key of more than thirty-two bytes").expect("a key");
    let key = ReturnKey::new(&key, 30);
    let helpline = HelplineId::parse("nightline").expect("a name");
    let responder = ResponderId::parse("ana").expect("a name");
    let now_ms = 1_800_000_000_000;
    let sealed = key.seal(&helpline, &responder, &[5; 32], now_ms).expect("a token");
    let corpus = vec![sealed.clone(), Vec::new(), vec![1; TOKEN_BYTES]];
    fuzz("return tokens", &corpus, &[], 20_000, |bytes| {
        let preferred = key.wishes(&helpline, bytes, &[], now_ms).map(|wishes| wishes.preferred);
        let expected = (bytes == sealed).then(|| responder.clone());
        assert!(preferred.as_ref().is_ok_and(|p| *p == expected) || (preferred.is_err() && expected.is_none()));
        let never = key.wishes(&helpline, &[], &[bytes.to_vec()], now_ms);
        assert_eq!(never.is_ok(), bytes == sealed, "a changed token bars somebody");
        preferred.is_ok()
    });
}

/// `kind`, then a field in each line.
fn record(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let kind = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let fields: BTreeMap<String, Vec<u8>> = lines
        .filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b'=')?;
            Some((String::from_utf8_lossy(&line[..at]).into_owned(), line[at + 1..].to_vec()))
        })
        .collect();
    fuzzing::record(&kind, fields)
}

#[test]
fn a_stored_record_is_understood_or_refused() {
    let corpus = folder("fuzz/corpus/records");
    let words = ["\n", "=", "@", ";", ",", "active", "-", "offer", "owner=", "steps=", "holdings="];
    fuzz("records", &corpus, &words, 20_000, record);
}

#[test]
fn a_notice_is_understood_or_passed_over() {
    let line = "s=7 t=3 a=1800000000000 k=accepted p=1 c=0192-a r=ana u=2 o=1 e=3145729 m=7 d=9 w=asked";
    let corpus = good(&[&format!("generation\n{line}\n{line}"), &format!("g\n{line}"), "g"]);
    let words = ["\n", " ", "=", "k=ended ", "e=", "m=", "x=completed", "s="];
    fuzz("notices", &corpus, &words, 20_000, |bytes| fuzzing::notice(&String::from_utf8_lossy(bytes)));
}

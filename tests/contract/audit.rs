//! Where an audit is kept, whoever keeps it: nothing is appended but behind what was read.

use crate::fixture::{Fixture, chat};
use futures::future::join_all;
use holdfast_domain::Urgency;
use holdfast_queue::audit::{Entry, Hash};
use holdfast_queue::store::Cursor;
use holdfast_queue::store::audit::{Head, Piece};

fn entry(text: &str) -> Entry {
    Entry { text: text.to_owned(), seal: vec![0, 1, 255] }
}

/// A piece with these entries, read up to that event.
fn piece(texts: &[&str], sequence: u64) -> Piece {
    let entries: Vec<_> = texts.iter().map(|text| entry(text)).collect();
    let hash = entries.last().map(Entry::hash).unwrap_or_default();
    let cursor = Cursor { generation: "first".to_owned(), term: 1, sequence };
    Piece { entries, hash, first: 1, cursor, ..Piece::default() }
}

async fn head(f: &Fixture) -> Head {
    f.store.audits().head(&f.helpline).await.unwrap()
}

async fn append(f: &Fixture, head: &Head, piece: &Piece) -> bool {
    f.store.audits().append(&f.helpline, head, piece).await.unwrap()
}

async fn texts(f: &Fixture, after: u64, limit: usize) -> Vec<String> {
    let entries = f.store.audits().entries(&f.helpline, after, limit).await.unwrap();
    entries.into_iter().map(|entry| entry.text).collect()
}

pub async fn an_audit_is_appended_to_only_where_it_stands(f: Fixture) {
    let f = f.ready().await;
    let empty = head(&f).await;
    assert_eq!(
        (empty.number, empty.hash, empty.first, &empty.cursor),
        (0, Hash::default(), 0, &Cursor::default())
    );
    assert_eq!((empty.generation.as_str(), empty.reached), ("first", 1), "the policy was put");
    let first = piece(&["number=1", "number=2"], 3);

    let pieces: Vec<_> = (0..8).map(|n| piece(&["number=1", &format!("number=2 by={n}")], 3)).collect();
    let appended = join_all(pieces.iter().map(|piece| append(&f, &empty, piece))).await;

    assert_eq!(appended.iter().filter(|done| **done).count(), 1, "{appended:?}");
    let now = head(&f).await;
    assert_eq!((now.number, now.first, now.cursor.sequence), (2, 1, 3));
    assert_eq!(f.store.audits().entries(&f.helpline, 1, 9).await.unwrap()[0].hash(), now.hash);
    for other in [
        Head { number: 1, ..now.clone() },
        Head { hash: Hash([1; 32]), ..now.clone() },
        Head { cursor: Cursor { sequence: 4, ..now.cursor.clone() }, ..now.clone() },
        empty,
    ] {
        assert!(!append(&f, &other, &first).await, "{other:?}");
    }
    assert_eq!(head(&f).await, now, "nothing has changed");
    assert!(append(&f, &now, &Piece { hash: now.hash, ..piece(&[], 9) }).await, "events without a decision");
    assert_eq!((head(&f).await.number, head(&f).await.cursor.sequence), (2, 9));
}

pub async fn an_audit_is_read_page_by_page_and_loses_what_is_too_old(f: Fixture) {
    let f = f.ready().await;
    append(&f, &head(&f).await, &piece(&["a=1", "a=2", "a=3"], 3)).await;
    assert_eq!(texts(&f, 0, 2).await, ["a=1", "a=2"]);
    assert_eq!(texts(&f, 2, 2).await, ["a=3"]);
    assert!(texts(&f, 3, 2).await.is_empty());

    let now = head(&f).await;
    append(&f, &now, &Piece { first: 3, ..piece(&["a=4", "a=5"], 4) }).await;

    assert_eq!(texts(&f, 0, 9).await, ["a=3", "a=4", "a=5"]);
    let now = head(&f).await;
    assert_eq!((now.number, now.first), (5, 3));
    let kept = f.store.audits().entries(&f.helpline, 4, 1).await.unwrap();
    assert_eq!(kept, [entry("a=5")], "with its seal");
}

pub async fn a_chats_name_goes_in_the_step_that_says_so(f: Fixture) {
    let f = f.ready().await;
    f.ask(1, Urgency::Low).await;
    let names = async || f.store.audits().names(&f.helpline, &[chat(1), chat(2), chat(3)]).await.unwrap();
    let named = vec![(chat(1), "one".to_owned()), (chat(2), "two".to_owned())];
    append(&f, &head(&f).await, &Piece { names: named, ..piece(&["a=1"], 1) }).await;
    assert_eq!(names().await, [Some("one".to_owned()), Some("two".to_owned()), None]);

    let stale = Head { number: 7, ..head(&f).await };
    assert!(!append(&f, &stale, &Piece { unnamed: vec![chat(1)], ..piece(&["a=2"], 2) }).await);
    assert_eq!(names().await[0], Some("one".to_owned()), "nothing was appended");
    append(&f, &head(&f).await, &Piece { unnamed: vec![chat(1)], ..piece(&["a=2"], 2) }).await;

    assert_eq!(names().await, [None, Some("two".to_owned()), None]);
}

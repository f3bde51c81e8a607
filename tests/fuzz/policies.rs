//! Policies: whatever somebody writes into the file.

use crate::mutate::{folder, fuzz};
use holdfast_domain::Policy;
use holdfast_domain::policy::{Answer, Asking, lint};

const WORDS: [&str; 14] = [
    "[[tags]]\n",
    "[[steps]]\n",
    "[[surge]]\n",
    "levels = 5\n",
    "revision = 9\n",
    "after_ms = ",
    "zone = \"Europe/Berlin\"\n",
    "24:00",
    "00:00-24:00",
    "2026-02-29",
    "all = []",
    "not = ",
    "[[partners]]\n",
    "numbers.",
];

/// What is read is what was written, and can be asked everything that a service asks a policy.
fn read(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    for finding in lint(&text) {
        assert!(finding.line <= text.lines().count() + 1, "a finding beyond the end: {finding:?}");
    }
    let publishable = Policy::publishable(&text).is_ok();
    let Ok(policy) = Policy::from_toml(&text) else {
        assert!(!publishable, "it can be published and not read");
        return false;
    };
    let written = policy.to_toml().expect("a policy can be written");
    assert_eq!(Policy::from_toml(&written).as_ref(), Ok(&policy), "it reads back as another");
    assert!(Policy::diff(&policy, &policy).is_empty(), "it differs from itself");
    for wall_ms in [0, 1_800_000_000_000, 1_803_427_200_000, u64::MAX] {
        let opening = policy.opening(wall_ms);
        assert!(opening.until_ms.is_none_or(|until| until > wall_ms), "{opening:?} at {wall_ms}");
    }
    ask(&policy);
    publishable
}

fn ask(policy: &Policy) {
    let answers =
        policy.survey.iter().map(|question| Answer { question: question.id.clone(), value: "yes".to_owned() });
    let asking = Asking { answers: answers.take(32).collect(), region: Some("north".to_owned()), language: None };
    let _verdict = policy.triage(&asking, None);
    let _ladder = policy.route(&asking);
}

#[test]
fn whatever_stands_in_a_policy_file_it_is_read_whole_or_refused() {
    let corpus = [folder("../deploy/policies"), folder("bad_input/policies")].concat();
    fuzz("policies", &corpus, &WORDS, 2_500, read);
}

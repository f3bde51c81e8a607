//! The files that ship with Holdfast, and a folder of files with one mistake each.

use holdfast_domain::Policy;
use holdfast_domain::policy::{Finding, Severity, lint};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn folder(path: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "toml"))
        .collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// `# expect: line 7: error: numbers.fan_out: must be` at the top of a file; the problem goes on as it likes.
fn expectations(text: &str) -> Vec<&str> {
    text.lines().map_while(|line| line.strip_prefix("# expect: ")).collect()
}

fn fits(finding: &Finding, expected: &str) -> bool {
    let (place, fragment) = split(expected);
    let said = finding.to_string();
    said.starts_with(&place) && finding.problem.contains(fragment)
}

/// `line 7: error: field: ` and the fragment of the problem.
fn split(expected: &str) -> (String, &str) {
    let parts: Vec<&str> = expected.splitn(4, ": ").collect();
    assert_eq!(parts.len(), 4, "{expected:?} is no expectation");
    (parts[..3].join(": ") + ": ", parts[3])
}

#[test]
fn each_file_with_a_mistake_has_exactly_the_findings_that_it_expects() {
    let files = folder("tests/bad_input/policies");
    assert!(files.len() >= 35, "{} files", files.len());
    let mut wrong = Vec::new();
    for (path, text) in &files {
        let (expected, findings) = (expectations(text), lint(text));
        let all_there = expected.iter().all(|e| findings.iter().any(|finding| fits(finding, e)));
        if expected.is_empty() || expected.len() != findings.len() || !all_there {
            let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
            wrong.push(format!("{}\n  expects {expected:#?}\n  but {said:#?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn errors_stand_in_the_way_of_publishing_and_warnings_do_not() {
    for (path, text) in folder("tests/bad_input/policies") {
        let findings = lint(&text);
        let refused = findings.iter().any(|finding| finding.severity == Severity::Error);
        match Policy::publishable(&text) {
            Ok(_) => assert!(!refused, "{} was let through", path.display()),
            Err(told) => assert!(refused && told == findings, "{} was refused", path.display()),
        }
    }
}

#[test]
fn the_samples_have_nothing_to_find() {
    let samples = folder("deploy/policies");
    assert!(samples.len() >= 3);
    for (path, text) in samples {
        let found: Vec<String> = lint(&text).iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{}: {found:#?}", path.display());
        let policy = Policy::publishable(&text).unwrap();
        assert_eq!(path.file_stem().unwrap().to_str(), Some(policy.helpline.as_str()), "named like its helpline");
    }
}

#[test]
fn the_samples_partners_are_there_and_take_from_each_other() {
    let read = |(_, text): &(PathBuf, String)| Policy::from_toml(text).unwrap();
    let samples: BTreeMap<String, Policy> =
        folder("deploy/policies").iter().map(read).map(|p| (p.helpline.clone(), p)).collect();
    let names = |list: &[holdfast_domain::policy::Partner]| -> Vec<String> {
        list.iter().map(|partner| partner.helpline.clone()).collect()
    };
    for (name, policy) in &samples {
        for partner in names(&policy.partners) {
            let other =
                samples.get(&partner).unwrap_or_else(|| panic!("{name} overflows to {partner}: no such file"));
            assert!(names(&other.takes_from).contains(name), "{partner} does not take from {name}");
        }
        for giver in names(&policy.takes_from) {
            let other = samples.get(&giver).unwrap_or_else(|| panic!("{name} takes from {giver}: no such file"));
            assert!(names(&other.partners).contains(name), "{giver} does not overflow to {name}");
        }
    }
}

#[test]
fn the_policies_that_are_built_in_can_be_published() {
    for (path, text) in folder("services/queue") {
        if path.ends_with("demo.toml") {
            Policy::publishable(&text).unwrap();
        }
    }
}

#[test]
fn a_policy_survives_being_written_and_read() {
    for (path, text) in folder("deploy/policies") {
        let policy = Policy::from_toml(&text).unwrap();
        let written = policy.to_toml().unwrap();
        assert_eq!(Policy::from_toml(&written).unwrap(), policy, "{}", path.display());
        assert_eq!(Policy::publishable(&written).unwrap(), policy);
    }
}

#[test]
fn a_file_of_before_these_sections_still_loads() {
    let policy = Policy::from_toml("helpline = \"old\"\nname = \"Old\"\n").unwrap();
    assert_eq!(policy, Policy { helpline: "old".to_owned(), name: "Old".to_owned(), ..Policy::default() });
    assert_eq!(policy.takes_at_most, 50);
}

#[test]
fn a_file_out_of_all_proportion_is_refused() {
    let text = "#".repeat(holdfast_domain::policy::lint::MAX_POLICY_BYTES + 1);
    assert!(lint(&text)[0].problem.contains("longer than"));
}

#[test]
fn a_number_that_the_version_before_does_not_know_is_written_only_where_it_is_another() {
    let mut policy = Policy { helpline: "demo".to_owned(), ..Policy::default() };
    assert!(!policy.to_toml().unwrap().contains("failing_after"));
    policy.numbers.failing_after = 3;
    assert_eq!(Policy::from_toml(&policy.to_toml().unwrap()).unwrap().numbers.failing_after, 3);
}

#[test]
fn a_quota_and_a_challenge_are_written_only_where_there_is_one() {
    let (_, text) =
        folder("deploy/policies").into_iter().find(|(path, _)| path.ends_with("nightline.toml")).unwrap();
    let mut policy = Policy::from_toml(&text).unwrap();
    assert!(policy.admission.is_some() && policy.surge.iter().any(|stage| stage.challenge_bits > 0));
    assert_eq!(Policy::from_toml(&policy.to_toml().unwrap()).unwrap(), policy);
    policy.admission = None;
    policy.surge.iter_mut().for_each(|stage| stage.challenge_bits = 0);
    let written = policy.to_toml().unwrap();
    assert!(!written.contains("admission") && !written.contains("challenge_bits"), "{written}");
}

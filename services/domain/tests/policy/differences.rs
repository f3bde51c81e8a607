//! What a change of policy changes.

use holdfast_domain::Policy;

const OLD: &str = r#"
helpline = "river"
name = "River"

[numbers]
fan_out = 2
head_start_ms = [0, 600_000, 1_800_000]

[[tags]]
name = "lang:es"

[[routes]]
name = "spanish"
when = [{ language = "es" }]
steps = [{ any_of = [["lang:es"]] }]
"#;

fn changes(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (Policy::from_toml(old).unwrap(), Policy::from_toml(new).unwrap());
    Policy::diff(&old, &new).iter().map(ToString::to_string).collect()
}

#[test]
fn equal_policies_do_not_differ_whatever_their_revision() {
    assert_eq!(changes(OLD, OLD), Vec::<String>::new());
    assert_eq!(changes(OLD, &format!("revision = 7\n{OLD}")), Vec::<String>::new());
}

#[test]
fn each_field_that_differs_is_told_by_its_path() {
    let new = OLD.replace("fan_out = 2", "fan_out = 3").replace("600_000", "900_000").replace(
        "steps = [{ any_of = [[\"lang:es\"]] }]",
        "steps = [{ any_of = [[\"lang:es\"]] }, { after_ms = 30_000 }]\n[hours]\ntime_zone = \"UTC\"\nmon = [\"08:00-20:00\"]",
    );
    let expected = [
        "hours.closed: \"resources\" (new)",
        "hours.mon: [\"08:00-20:00\"] (new)",
        "hours.time_zone: \"UTC\" (new)",
        "numbers.fan_out: 2 -> 3",
        "numbers.head_start_ms: [0, 600000, 1800000] -> [0, 900000, 1800000]",
        "routes[0].steps[1].after_ms: 30000 (new)",
    ];
    assert_eq!(changes(OLD, &new), expected);
    assert_eq!(changes(&new, OLD).first().map(String::as_str), Some("hours.closed: \"resources\" (gone)"));
}

#[test]
fn the_tenth_entry_stands_after_the_second() {
    let tags: String = (0..11).map(|i| format!("[[tags]]\nname = \"tag-{i}\"\n")).collect();
    let old = format!("helpline = \"river\"\nname = \"River\"\n{tags}");
    let new = old.replace("tag-2", "other-2").replace("tag-10", "other-10");
    let changed = changes(&old, &new);
    assert_eq!(changed, ["tags[2].name: \"tag-2\" -> \"other-2\"", "tags[10].name: \"tag-10\" -> \"other-10\""]);
}

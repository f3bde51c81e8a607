//! Where else to turn, by language and place.

use holdfast_domain::Policy;
use holdfast_domain::policy::Resource;

fn policy(resources: &[(&str, &str, &str)]) -> Policy {
    let resource = |(locale, region, title): &(&str, &str, &str)| Resource {
        locale: (*locale).into(),
        region: (*region).into(),
        title: (*title).into(),
        contact: "112".into(),
    };
    Policy { resources: resources.iter().map(resource).collect(), ..Policy::default() }
}

fn titles<'a>(policy: &'a Policy, locale: &str, region: &str) -> Vec<&'a str> {
    policy.resources_in(locale, region).into_iter().map(|r| r.title.as_str()).collect()
}

#[test]
fn those_of_the_region_come_first_then_those_for_every_region() {
    let policy = policy(&[
        ("", "", "everybody"),
        ("en", "", "english"),
        ("en", "north", "english in the north"),
        ("", "north", "north"),
        ("", "south", "south"),
        ("es", "north", "spanish in the north"),
    ]);
    let north = ["english in the north", "north", "english", "everybody"];
    assert_eq!(titles(&policy, "en-GB", "north"), north);
    assert_eq!(titles(&policy, "en-GB", "North-Coast"), north);
    assert_eq!(titles(&policy, "en", ""), ["english", "everybody"]);
    assert_eq!(titles(&policy, "en", "islands"), ["english", "everybody"]);
}

#[test]
fn there_are_never_none_if_there_are_any() {
    let far = policy(&[("es", "south", "a"), ("fr", "south", "b")]);
    assert_eq!(titles(&far, "de", "north"), ["a", "b"]);
    let foreign = policy(&[("es", "north", "a"), ("de", "south", "b")]);
    assert_eq!(titles(&foreign, "de", "north"), ["a"], "nearby in another language before far away");
    assert_eq!(titles(&policy(&[]), "de", "north"), Vec::<&str>::new());
}

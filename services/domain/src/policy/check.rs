//! What every policy must hold to be used at all. Whether it is wise is the lint's matter.

use super::survey::is_word;
use super::{
    MAX_FAILING_AFTER, MAX_HARD, MAX_MIN_ON_SHIFT, MAX_NAME_BYTES, MAX_PARTNERS, MAX_RESOURCES, MAX_STAGES,
    MAX_TAKES_FROM, MAX_WORD_BYTES, Numbers, Partner, Policy, PolicyError, Promise, SurgeStage,
};
use crate::ids::HelplineId;
use crate::limits::{MAX_CAPABILITY_BITS, MAX_CHALLENGE_BITS, MAX_DURATION_MS, MAX_FAN_OUT, MAX_RESERVE};

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(super) struct Mistakes(pub(super) Vec<PolicyError>);

impl Mistakes {
    pub(super) fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push(PolicyError { field: field.into(), problem: problem.into() });
    }

    pub(super) fn must(&mut self, holds: bool, field: impl Into<String>, problem: impl Into<String>) {
        if !holds {
            self.add(field, problem);
        }
    }

    pub(super) fn at_most(&mut self, field: impl Into<String>, count: usize, most: usize) {
        self.must(count <= most, field, format!("{count} of them, at most {most}"));
    }

    /// A number within bounds.
    pub(super) fn within(&mut self, field: impl Into<String>, value: u64, least: u64, most: u64) {
        self.must((least..=most).contains(&value), field, format!("must be {least} to {most}"));
    }

    /// A duration; 0 is allowed where `none` says what it means.
    fn duration(&mut self, field: impl Into<String>, value: u64, least: u64, none: Option<&str>) {
        match none {
            None => self.within(field, value, least, MAX_DURATION_MS),
            Some(_) if value == 0 => {}
            Some(none) => {
                let fits = (least..=MAX_DURATION_MS).contains(&value);
                self.must(fits, field, format!("must be {least} to {MAX_DURATION_MS}, or 0 for {none}"));
            }
        }
    }

    /// A name that rules and answers use.
    pub(super) fn word(&mut self, field: impl Into<String>, text: &str) {
        let problem = format!("must be 1 to {MAX_WORD_BYTES} letters, digits, '-', '_' and '.'");
        self.must(is_word(text), field, problem);
    }

    /// A name that people read.
    pub(super) fn name(&mut self, field: impl Into<String>, text: &str) {
        let fits = !text.trim().is_empty() && text.len() <= MAX_NAME_BYTES && !text.contains(char::is_control);
        self.must(fits, field, format!("must be a line of 1 to {MAX_NAME_BYTES} bytes"));
    }
}

impl Policy {
    /// Refuses numbers that cannot be meant, tags that cannot be stored and rules that speak of what is not there.
    pub fn check(&self) -> Result<(), PolicyError> {
        self.mistakes().into_iter().next().map_or(Ok(()), Err)
    }

    /// Everything that [`Self::check`] refuses.
    pub(super) fn mistakes(&self) -> Vec<PolicyError> {
        let mut mistakes = Mistakes::default();
        if let Err(e) = HelplineId::parse(&self.helpline) {
            mistakes.add("helpline", e.to_string());
        }
        mistakes.within("takes_at_most", self.takes_at_most, 0, 1_000_000);
        self.numbers.check(&mut mistakes);
        self.check_tags(&mut mistakes);
        self.check_resources(&mut mistakes);
        check_partners("partners", &self.partners, MAX_PARTNERS, &self.helpline, &mut mistakes);
        check_partners("takes_from", &self.takes_from, MAX_TAKES_FROM, &self.helpline, &mut mistakes);
        self.check_surge(&mut mistakes);
        if let Some(admission) = &self.admission {
            admission.check(&mut mistakes);
        }
        self.promise.check(&mut mistakes);
        self.check_survey(&mut mistakes);
        self.check_triage(&mut mistakes);
        self.check_routes(&mut mistakes);
        self.check_hours(&mut mistakes);
        self.check_paging(&mut mistakes);
        mistakes.0
    }

    fn check_tags(&self, mistakes: &mut Mistakes) {
        let mut bits = 0;
        for (i, tag) in self.tags.iter().enumerate() {
            let field = format!("tags[{i}]");
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b":-_.".contains(&b);
            mistakes.must((1..=40).contains(&tag.name.len()), &field, "name must be 1 to 40 bytes long");
            let problem = "name may only hold lower-case letters, digits, ':', '-', '_' and '.'";
            mistakes.must(tag.name.bytes().all(allowed), &field, problem);
            mistakes.must((1..=5).contains(&tag.levels), &field, "levels must be 1 to 5");
            let twice = self.tags.iter().take(i).any(|other| other.name == tag.name);
            mistakes.must(!twice, &field, format!("'{}' stands here twice", tag.name));
            bits += usize::from(tag.levels);
        }
        let problem = format!("the levels of all tags add up to {bits}, at most {MAX_CAPABILITY_BITS}");
        mistakes.must(bits <= MAX_CAPABILITY_BITS, "tags", problem);
    }

    fn check_resources(&self, mistakes: &mut Mistakes) {
        mistakes.at_most("resources", self.resources.len(), MAX_RESOURCES);
        for (i, resource) in self.resources.iter().enumerate() {
            let field = format!("resources[{i}].region");
            mistakes.must(
                resource.region.is_empty() || is_word(&resource.region),
                field,
                "is no name of a region",
            );
        }
    }

    fn check_surge(&self, mistakes: &mut Mistakes) {
        mistakes.at_most("surge", self.surge.len(), MAX_STAGES);
        for (i, stage) in self.surge.iter().enumerate() {
            stage.check(&format!("surge[{i}]"), mistakes);
            let before = i.checked_sub(1).and_then(|i| self.surge.get(i));
            let rises = before.is_none_or(|before| stage.enter_percent > before.enter_percent);
            mistakes.must(
                rises,
                format!("surge[{i}].enter_percent"),
                "must be higher than that of the stage before",
            );
        }
    }
}

fn check_partners(key: &str, partners: &[Partner], most: usize, own: &str, mistakes: &mut Mistakes) {
    mistakes.at_most(key, partners.len(), most);
    for (i, partner) in partners.iter().enumerate() {
        let field = format!("{key}[{i}].helpline");
        if let Err(e) = HelplineId::parse(&partner.helpline) {
            mistakes.add(&field, e.to_string());
        }
        mistakes.must(partner.helpline != own, &field, "is this helpline itself");
        let twice = partners.iter().take(i).any(|other| other.helpline == partner.helpline);
        mistakes.must(!twice, &field, format!("'{}' stands here twice", partner.helpline));
    }
}

impl SurgeStage {
    fn check(&self, field: &str, mistakes: &mut Mistakes) {
        mistakes.name(format!("{field}.name"), &self.name);
        mistakes.within(format!("{field}.enter_percent"), self.enter_percent, 1, 1_000_000);
        let ends = self.leave_percent < self.enter_percent;
        mistakes.must(ends, format!("{field}.leave_percent"), "must be lower than enter_percent");
        mistakes.duration(format!("{field}.hold_ms"), self.hold_ms, 1, None);
        let fan_out = usize::try_from(self.fan_out).is_ok_and(|n| n <= MAX_FAN_OUT);
        mistakes.must(fan_out, format!("{field}.fan_out"), format!("must be 0 to {MAX_FAN_OUT}"));
        mistakes.within(format!("{field}.wrap_up_percent"), self.wrap_up_percent, 0, 100);
        let (bits, most) = (self.challenge_bits.into(), MAX_CHALLENGE_BITS.into());
        mistakes.within(format!("{field}.challenge_bits"), bits, 0, most);
        mistakes.within(format!("{field}.page_until"), self.page_until, 0, 100_000);
        mistakes.duration(format!("{field}.page_every_ms"), self.page_every_ms, 1000, None);
        mistakes.within(format!("{field}.page_waves"), self.page_waves, 1, 100);
    }
}

impl Promise {
    fn check(&self, mistakes: &mut Mistakes) {
        for (i, promised) in self.reach_within_ms.iter().enumerate() {
            mistakes.duration(format!("promise.reach_within_ms[{i}]"), *promised, 1000, None);
        }
    }
}

impl Numbers {
    fn check(&self, mistakes: &mut Mistakes) {
        self.check_durations(mistakes);
        self.check_lists(mistakes);
        self.check_counts(mistakes);
        self.check_pairs(mistakes);
    }

    fn check_durations(&self, mistakes: &mut Mistakes) {
        let durations: [(&str, u64, u64, Option<&str>); 20] = [
            ("offer_deadline_ms", self.offer_deadline_ms, 100, None),
            ("back_off_ms", self.back_off_ms, 0, None),
            ("min_back_off_ms", self.min_back_off_ms, 1, None),
            ("heartbeat_ms", self.heartbeat_ms, 50, None),
            ("presence_lease_ms", self.presence_lease_ms, 100, None),
            ("reconnect_grace_ms", self.reconnect_grace_ms, 1, None),
            ("away_after_ms", self.away_after_ms, 100, None),
            ("abandon_after_ms", self.abandon_after_ms, 100, None),
            ("anyone_after_ms", self.anyone_after_ms, 1, None),
            ("retention_ms", self.retention_ms, 1000, None),
            ("return_head_start_ms", self.return_head_start_ms, 0, None),
            ("first_reply_ms", self.first_reply_ms, 1000, Some("no limit")),
            ("hard_rest_ms", self.hard_rest_ms, 1, None),
            ("shift_gap_ms", self.shift_gap_ms, 1, None),
            ("shift_guard_ms", self.shift_guard_ms, 0, None),
            ("overflow_answer_ms", self.overflow_answer_ms, 100, None),
            ("overflow_retry_ms", self.overflow_retry_ms, 100, None),
            ("prefer_for_ms", self.prefer_for_ms, 0, None),
            ("recovery_hold_ms", self.recovery_hold_ms, 0, None),
            ("keep_events_ms", self.keep_events_ms, 1000, None),
        ];
        for (name, value, least, none) in durations {
            mistakes.duration(format!("numbers.{name}"), value, least, none);
        }
    }

    fn check_lists(&self, mistakes: &mut Mistakes) {
        let lists: [(&str, &[u64]); 4] = [
            ("head_start_ms", &self.head_start_ms),
            ("wrap_up_ms", &self.wrap_up_ms),
            ("cool_down_ms", &self.cool_down_ms),
            ("overflow_after_ms", &self.overflow_after_ms),
        ];
        for (name, values) in lists {
            let fits = values.iter().all(|v| *v <= MAX_DURATION_MS);
            mistakes.must(fits, format!("numbers.{name}"), format!("each must be at most {MAX_DURATION_MS}"));
        }
        let in_order = self.head_start_ms.is_sorted();
        mistakes.must(in_order, "numbers.head_start_ms", "a higher urgency must not start behind a lower one");
        let fits = self.weight.iter().all(|w| (1..=20).contains(w));
        mistakes.must(fits, "numbers.weight", "each must be 1 to 20");
        let fits = self.strain_percent.iter().all(|s| *s <= 10_000);
        mistakes.must(fits, "numbers.strain_percent", "each must be at most 10000");
    }

    fn check_counts(&self, mistakes: &mut Mistakes) {
        let counts: [(&str, u64, u64, u64); 8] = [
            ("fan_out", self.fan_out.into(), 1, u64::try_from(MAX_FAN_OUT).unwrap_or(1)),
            ("reserve", self.reserve.into(), 0, MAX_RESERVE.into()),
            ("max_waiting", self.max_waiting, 1, 1_000_000),
            ("keep_events", self.keep_events, 100, 10_000_000),
            ("max_hard_in_row", self.max_hard_in_row.into(), 0, MAX_HARD.into()),
            ("max_hard_per_shift", self.max_hard_per_shift.into(), 0, MAX_HARD.into()),
            ("min_on_shift", self.min_on_shift, 0, MAX_MIN_ON_SHIFT),
            ("failing_after", self.failing_after.into(), 1, MAX_FAILING_AFTER),
        ];
        for (name, value, least, most) in counts {
            mistakes.within(format!("numbers.{name}"), value, least, most);
        }
    }

    fn check_pairs(&self, mistakes: &mut Mistakes) {
        let lease = self.heartbeat_ms < self.presence_lease_ms;
        mistakes.must(lease, "numbers.heartbeat_ms", "must be shorter than presence_lease_ms");
        let back_off = self.min_back_off_ms <= self.back_off_ms.max(1);
        mistakes.must(back_off, "numbers.min_back_off_ms", "must not be longer than back_off_ms");
    }
}

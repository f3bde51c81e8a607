//! Who stands where: groups of members in the order of their scores, and the groups in the order of their heads.
//! It serves both sides, lanes of waiting chats and classes of free responders, so that both are searched alike.

use std::collections::{BTreeMap, BTreeSet};

/// Ordered members in ordered groups. Ties go by bytes, as in the store's sorted sets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    groups: BTreeMap<String, BTreeSet<(i64, String)>>,
    heads: BTreeSet<(i64, String)>,
    all: BTreeSet<(i64, String)>,
}

impl Index {
    /// Adds a member to a group.
    pub fn insert(&mut self, group: &str, score: i64, member: &str) {
        self.changing_head(group, |members| members.insert((score, member.to_owned())));
        self.all.insert((score, member.to_owned()));
    }

    /// Takes a member out of a group.
    pub fn remove(&mut self, group: &str, score: i64, member: &str) {
        self.changing_head(group, |members| members.remove(&(score, member.to_owned())));
        self.all.remove(&(score, member.to_owned()));
    }

    fn changing_head(&mut self, group: &str, change: impl FnOnce(&mut BTreeSet<(i64, String)>) -> bool) {
        let members = self.groups.entry(group.to_owned()).or_default();
        let old = members.first().map(|(score, _)| *score);
        change(members);
        let new = members.first().map(|(score, _)| *score);
        if members.is_empty() {
            self.groups.remove(group);
        }
        if old == new {
            return;
        }
        if let Some(score) = old {
            self.heads.remove(&(score, group.to_owned()));
        }
        if let Some(score) = new {
            self.heads.insert((score, group.to_owned()));
        }
    }

    /// The groups, by the score of their first member.
    pub fn heads(&self) -> impl Iterator<Item = (i64, &str)> {
        self.heads.iter().map(|(score, group)| (*score, group.as_str()))
    }

    /// The members of a group, in order.
    pub fn members(&self, group: &str) -> impl Iterator<Item = (i64, &str)> {
        self.groups.get(group).into_iter().flatten().map(|(score, member)| (*score, member.as_str()))
    }

    /// Every member of every group, in order.
    pub fn all(&self) -> impl Iterator<Item = (i64, &str)> {
        self.all.iter().map(|(score, member)| (*score, member.as_str()))
    }

    /// How many members there are in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nobody stands here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// 1 for the first of all members; 0 if it is not here.
    #[must_use]
    pub fn place(&self, score: i64, member: &str) -> u64 {
        let wanted = (score, member.to_owned());
        if !self.all.contains(&wanted) {
            return 0;
        }
        u64::try_from(self.all.range(..=wanted).count()).unwrap_or(u64::MAX)
    }
}

//! The checker is checked: bugs that are planted in the scripts from outside, each of which one short run must catch.

use super::checker::Law;
use super::nemesis::{Class, Wishes};
use super::store::Keeping;
use super::{Form, Run, run};
use crate::script_editor::{Edit, Editor};

/// A bug, and how it is found.
#[derive(Debug, Clone, Copy)]
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// How it gets into the scripts.
    pub edits: &'static [Edit],
    /// What must happen for it to show.
    pub classes: &'static [Class],
    /// How the store is kept.
    pub keeping: Keeping,
    /// It only shows where more come than can be served.
    pub crowded: bool,
    /// One of these laws must be found broken.
    pub breaks: &'static [Law],
}

const fn edit(from: &'static str, to: &'static str) -> Edit {
    Edit { from, to }
}

/// All of them.
pub const BUGS: &[Bug] = &[
    Bug {
        name: "no fence",
        edits: &[edit(
            "local theirs = c and c.owner == id and c.epoch == epoch and c.minted == minted",
            "local theirs = c",
        )],
        classes: &[Class::Vanish, Class::Hang],
        keeping: Keeping::Single,
        crowded: false,
        breaks: &[Law::Fences],
    },
    Bug {
        name: "equal fences",
        edits: &[edit("L.term * H.EPOCHS_PER_TERM + c.assigned", "L.term * H.EPOCHS_PER_TERM + 1")],
        classes: &[],
        keeping: Keeping::Single,
        crowded: false,
        breaks: &[Law::Fences],
    },
    Bug {
        name: "acknowledged before it is stored",
        edits: &[edit(
            "H.tell('requested', { chat = chat_id, urgency = urgency })",
            "if urgency == 3 then return H.view(c, false) end H.tell('requested', { chat = chat_id, urgency = urgency })",
        )],
        classes: &[],
        keeping: Keeping::Single,
        crowded: false,
        breaks: &[Law::Loss],
    },
    Bug {
        name: "taken out before there is a lease",
        edits: &[edit("H.set_timer('presence:' .. responder_id, now + P.presence_lease)", "")],
        classes: &[Class::Hang],
        keeping: Keeping::Single,
        crowded: false,
        breaks: &[Law::Liveness],
    },
    Bug {
        name: "back to the tail",
        edits: &[edit("  c.returned = 1\n", "  c.returned, c.arrival = 0, now\n")],
        classes: &[],
        keeping: Keeping::Single,
        crowded: true,
        breaks: &[Law::Order],
    },
    Bug {
        name: "naive clock",
        edits: &[edit("L.now = L.now + math.min(math.max(wall - L.last, 0), H.MAX_STEP_MS)", "L.now = wall")],
        classes: &[Class::ClockJump],
        keeping: Keeping::Single,
        crowded: false,
        breaks: &[Law::Clock],
    },
    Bug {
        name: "a lost notice is not made good",
        edits: &[
            edit(
                "  redis.call('PUBLISH', base .. 'notices'",
                "  if not string.find(table.concat(H.told), 'k=offered', 1, true) then redis.call('PUBLISH', base .. 'notices'",
            ),
            edit("table.concat(H.told, '\\n'))\nend", "table.concat(H.told, '\\n')) end\nend"),
            edit("  r.version = r.version + 1\n  H.happen(c, 'offer')", "  H.happen(c, 'offer')"),
        ],
        classes: &[Class::FlushScripts, Class::Ignore],
        keeping: Keeping::Single,
        crowded: false,
        breaks: &[Law::Notices],
    },
    Bug {
        name: "capacity ignored",
        edits: &[edit(
            "function H.free_of(r) return math.max(r.capacity - H.load_of(r), 0) end",
            "function H.free_of(r) return r.capacity end",
        )],
        classes: &[],
        keeping: Keeping::Single,
        crowded: true,
        breaks: &[Law::Capacity],
    },
    Bug {
        name: "idempotency ignored",
        edits: &[edit("if made then\n", "if made and false then\n")],
        classes: &[],
        keeping: Keeping::Single,
        crowded: false,
        breaks: &[Law::Idempotency],
    },
    Bug {
        name: "offers never end",
        edits: &[edit("H.set_timer('offer:' .. c.id .. ':' .. str(c.offers_made), deadline)", "")],
        classes: &[Class::Ignore],
        keeping: Keeping::Single,
        crowded: false,
        breaks: &[Law::Liveness],
    },
    Bug {
        name: "handed over twice",
        edits: &[
            edit("for _, other in ipairs(others) do H.rescind(c, other, 'taken') end", ""),
            edit(
                "  c.offers = {}\n  c.version = c.version + 1\n  c.assigned",
                "  c.version = c.version + 1\n  c.assigned",
            ),
        ],
        classes: &[],
        keeping: Keeping::Single,
        crowded: false,
        breaks: &[Law::Owners],
    },
    Bug {
        name: "a count that drifts",
        edits: &[edit("if from_cell ~= 'held' then", "if from_cell ~= 'held' and happening ~= 'give_back' then")],
        classes: &[],
        keeping: Keeping::Single,
        crowded: false,
        breaks: &[Law::Ledger],
    },
    Bug {
        name: "an event that is skipped",
        edits: &[edit("  L.events = L.events + 1\n", "  L.events = L.events + (kind == 'declined' and 2 or 1)\n")],
        classes: &[],
        keeping: Keeping::Single,
        crowded: false,
        breaks: &[Law::Stream],
    },
    Bug {
        name: "danger waits like everybody",
        edits: &[edit("if c.urgency == H.IMMINENT then return lane, str(c.arrival - H.IMMINENT_OFFSET) end", "")],
        classes: &[],
        keeping: Keeping::Single,
        crowded: true,
        breaks: &[Law::Order],
    },
    Bug {
        name: "a lost chat stays lost",
        edits: &[edit(
            "if not H.may_have_lost(sealed, node) then return H.refuse('unknown_chat') end",
            "do return H.refuse('unknown_chat') end",
        )],
        classes: &[Class::Wipe],
        keeping: Keeping::Single,
        crowded: true,
        breaks: &[Law::Loss],
    },
    Bug {
        name: "no WAIT",
        edits: &[],
        classes: &[Class::LonelyPrimary],
        keeping: Keeping::Hasty,
        // Whoever waits then is handed over again by a node that has not heard of the first time.
        crowded: true,
        breaks: &[Law::Loss, Law::Owners],
    },
];

/// Plays a bug; how it was caught, or why it was not.
pub async fn play(bug: &Bug, seed: u64) -> Result<String, String> {
    let editor = Editor::new(bug.edits);
    let wishes = Wishes {
        classes: bug.classes.to_vec(),
        faults: bug.classes.len(),
        longest_stop_ms: 2_000,
        pause_ms: (1_000, 2_000),
    };
    let usual = Form {
        name: format!("planted-{}", bug.name.replace(' ', "-")),
        wishes,
        keeping: bug.keeping,
        visitors: 20,
        integrators: 5,
        responders: 24,
        think_ms: 500,
        chats: 250,
        patience_s: 30,
        quiet_s: 15,
        editor: (!bug.edits.is_empty()).then(|| editor.clone()),
        ..Form::short(seed)
    };
    let form = match bug.crowded {
        true => Form { visitors: 40, responders: 4, think_ms: 200, talk_ms: (200, 500), ..usual },
        false => usual,
    };
    let Run { findings, history, .. } = run(&form).await?;
    if !editor.all_planted() {
        return Err(format!("it was not planted: the scripts do not hold {:?}", bug.edits));
    }
    let caught = bug.breaks.iter().find(|law| findings.broken(**law) > 0);
    let Some(law) = caught else {
        let broken = findings.broken_laws();
        return Err(format!("not caught; broken were {broken:?}; {}", history.display()));
    };
    let words = findings.laws.get(law).and_then(|(_, kept, _)| kept.first().cloned());
    Ok(format!("{}: {}", law.sentence(), words.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_bug_has_its_place_in_the_scripts() {
        let lua = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/queue/src/store/lua");
        let mut text = String::new();
        for folder in [lua.clone(), lua.join("shared")] {
            for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_file() {
                    text.push_str(&std::fs::read_to_string(entry).unwrap());
                }
            }
        }
        for bug in BUGS {
            for edit in bug.edits {
                assert!(text.contains(edit.from), "{}: the scripts do not hold {:?}", bug.name, edit.from);
            }
        }
    }
}

//! What happens when more people wait than the line is made for. Each tick weighs the load; stages begin at once and
//! end with patience, and everything that a stage does ends with it.

use super::{About, Line, Timer};
use crate::command::{Refusal, Reply};
use crate::event::EventKind;
use crate::policy::{Numbers, SurgeStage};
use crate::priority::Urgency;

/// The surge of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Surge {
    /// Which stage is in force, from 1; 0 for none.
    pub stage: u64,
    /// Since when the load has been low enough for the stage to end, on the service clock; 0 when it is not.
    pub calm_since_ms: u64,
    /// Waves of volunteers that were called up in this stage.
    pub waves: u64,
}

impl Line {
    fn stages(&self) -> &[SurgeStage] {
        self.state.policy.as_ref().map_or(&[], |p| p.surge.as_slice())
    }

    /// The stage in force.
    pub(super) fn surge_stage(&self) -> Option<&SurgeStage> {
        let stage = usize::try_from(self.state.surge.stage).ok()?.checked_sub(1)?;
        self.stages().get(stage)
    }

    /// To how many responders a chat is offered at once.
    pub(super) fn fan_out_for(&self, urgency: Urgency) -> u32 {
        if urgency != Urgency::Imminent {
            return 1;
        }
        let surging = self.surge_stage().map(|s| s.fan_out).filter(|n| *n > 0);
        surging.unwrap_or_else(|| self.numbers().fan_out)
    }

    /// The time for notes after a chat: shorter in a surge, but never after a hard chat.
    pub(super) fn wrap_up_for(&self, numbers: &Numbers, urgency: Urgency) -> u64 {
        let usual = Numbers::by(&numbers.wrap_up_ms, urgency);
        match self.surge_stage() {
            Some(stage) if !crate::chat::is_hard(urgency) => usual * stage.wrap_up_percent / 100,
            _ => usual,
        }
    }

    /// Chats waiting or offered for each hundred responders on shift.
    fn load_percent(&self) -> u64 {
        (self.state.ledger.waiting + self.state.ledger.offered) * 100 / self.state.on_shift.max(1)
    }

    pub(super) fn weigh_load(&mut self) {
        let load = self.load_percent();
        let was = self.state.surge.stage;
        let count = self.stages().len() as u64;
        let reached = self.stages().iter().enumerate().filter(|(_, s)| load >= s.enter_percent);
        let reached = reached.map(|(i, _)| i as u64 + 1).max().unwrap_or(0);
        if was > count {
            self.enter_stage(count);
        } else if reached > was {
            self.enter_stage(reached);
        } else if let Some((leave, hold)) = self.surge_stage().map(|s| (s.leave_percent, s.hold_ms)) {
            self.calm_down(load, leave, hold);
        }
    }

    fn calm_down(&mut self, load: u64, leave: u64, hold: u64) {
        let surge = &mut self.state.surge;
        if load > leave {
            surge.calm_since_ms = 0;
        } else if surge.calm_since_ms == 0 {
            surge.calm_since_ms = self.now;
        } else if self.now - surge.calm_since_ms >= hold {
            let below = surge.stage - 1;
            self.enter_stage(below);
        }
    }

    fn enter_stage(&mut self, stage: u64) {
        self.state.surge = Surge { stage, ..Surge::default() };
        self.state.timers.cancel(&Timer::Page);
        if self.surge_stage().is_some_and(|s| s.page_until > 0) {
            self.state.timers.set(&Timer::Page, self.now);
        }
        self.tell(EventKind::Surge, About { number: Some(stage), ..About::default() });
    }

    /// A wave of off-shift volunteers is called up, unless enough have come.
    pub(super) fn page(&mut self) {
        let Some(stage) = self.surge_stage() else {
            return;
        };
        let (until, every, waves) = (stage.page_until, stage.page_every_ms, stage.page_waves);
        if self.state.on_shift >= until || self.state.surge.waves >= waves {
            return;
        }
        self.state.surge.waves += 1;
        let wave = self.state.surge.waves;
        self.state.timers.set(&Timer::Page, self.now + every);
        self.tell(EventKind::Paging, About { number: Some(wave), ..About::default() });
    }

    pub(super) fn report_page(&mut self, wave: u64, delivered: bool) -> Result<Reply, Refusal> {
        if self.state.policy.is_none() {
            return Err(Refusal::NoPolicy);
        }
        let kind = if delivered { EventKind::Paged } else { EventKind::PageFailed };
        self.tell(kind, About { number: Some(wave), ..About::default() });
        Ok(Reply::Done { now_ms: self.now })
    }
}

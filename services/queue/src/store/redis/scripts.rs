//! The scripts: each command's own file behind the shared parts, joined once at start.

use holdfast_domain::{Act, Command};
use std::sync::Arc;

const PRELUDE: &str = include_str!("../lua/shared/prelude.lua");

/// Each is run when the first of its functions is needed, in this order.
const PARTS: [&str; 5] = [
    include_str!("../lua/shared/records.lua"),
    include_str!("../lua/shared/index.lua"),
    include_str!("../lua/shared/line.lua"),
    include_str!("../lua/shared/matching.lua"),
    include_str!("../lua/shared/seldom.lua"),
];

/// A script, and the name by which a node that has it knows it.
pub(super) struct Script {
    code: String,
    hash: String,
}

impl Script {
    fn new(code: String) -> Arc<Self> {
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Arc::new(Self { code, hash })
    }

    pub(super) fn code(&self) -> &str {
        &self.code
    }

    pub(super) fn hash(&self) -> &str {
        &self.hash
    }
}

/// The first line (`#!lua flags=…`) must stay the first; the shared parts follow it.
fn join(own: &str) -> Arc<Script> {
    let (first, rest) = own.split_once('\n').unwrap_or((own, ""));
    let parts: String =
        PARTS.iter().map(|part| format!("parts[#parts + 1] = function()\n{part}\nend\n")).collect();
    Script::new(format!("{first}\n{PRELUDE}\n{parts}\n{rest}"))
}

macro_rules! scripts {
    ($($name:ident = $file:literal for $pattern:pat),+ $(,)?) => {
        /// One script per command.
        pub(super) struct Scripts { $($name: Arc<Script>),+ }

        impl Scripts {
            pub(super) fn new() -> Self {
                Self { $($name: join(include_str!(concat!("../lua/", $file, ".lua")))),+ }
            }

            pub(super) fn of(&self, command: &Command) -> &Arc<Script> {
                match command { $($pattern => &self.$name),+ }
            }
        }
    };
}

scripts! {
    request = "request" for Command::Request(_),
    triage = "triage" for Command::Triage { .. },
    beat = "beat" for Command::Beat { .. },
    leave = "leave" for Command::Leave { .. },
    resume = "resume" for Command::Resume { .. },
    erase = "erase" for Command::Erase { .. },
    sign_in = "sign_in" for Command::SignIn { .. },
    heartbeat = "heartbeat" for Command::Heartbeat { .. },
    set_status = "set_status" for Command::SetStatus { .. },
    unlink = "unlink" for Command::Unlink { .. },
    sign_out = "sign_out" for Command::SignOut { .. },
    accept = "accept" for Command::Accept { .. },
    decline = "decline" for Command::Decline { .. },
    engage = "engage" for Command::Engage { .. },
    call_supervisor = "call_supervisor" for Command::CallSupervisor { .. },
    close = "close" for Command::Close { .. },
    transfer = "transfer" for Command::Transfer { .. },
    finish_wrap_up = "finish_wrap_up" for Command::FinishWrapUp { .. },
    extend_cool_down = "extend_cool_down" for Command::ExtendCoolDown { .. },
    set_urgency = "set_urgency" for Command::Supervise { act: Act::SetUrgency { .. }, .. },
    assign = "assign" for Command::Supervise { act: Act::Assign { .. }, .. },
    pull = "pull" for Command::Supervise { act: Act::Pull { .. }, .. },
    take_over = "take_over" for Command::Supervise { act: Act::TakeOver { .. }, .. },
    end = "end" for Command::Supervise { act: Act::End { .. }, .. },
    end_break = "end_break" for Command::Supervise { act: Act::EndBreak { .. }, .. },
    rest = "rest" for Command::Supervise { act: Act::Rest { .. }, .. },
    force_offline = "force_offline" for Command::Supervise { act: Act::ForceOffline { .. }, .. },
    reroute = "reroute" for Command::Supervise { act: Act::Reroute { .. }, .. },
    hold = "hold" for Command::Hold(_),
    admit = "admit" for Command::Admit { .. },
    release = "release" for Command::Release { .. },
    settle_proposal = "settle_proposal" for Command::SettleProposal { .. },
    report_page = "report_page" for Command::ReportPage { .. },
    tick = "tick" for Command::Tick { .. },
    set_policy = "set_policy" for Command::SetPolicy { .. },
}

//! The scripts: each command's own file behind the shared parts, joined once at start.

use holdfast_domain::{Act, Command};
use std::sync::Arc;

const ARGUMENTS: &str = include_str!("../lua/shared/arguments.lua");

const APPEND_AUDIT: &str = include_str!("../lua/append_audit.lua");

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

/// The first line (`#!lua flags=…`) must stay the first; the look at the arguments and the shared parts follow it.
fn join(own: &str, kinds: &str) -> Arc<Script> {
    let (first, rest) = own.split_once('\n').unwrap_or((own, ""));
    let parts: String =
        PARTS.iter().map(|part| format!("parts[#parts + 1] = function()\n{part}\nend\n")).collect();
    let look = format!("do\n{ARGUMENTS}\ntakes('{kinds}')\nend");
    Script::new(format!("{first}\n{look}\n{PRELUDE}\n{parts}\n{rest}"))
}

macro_rules! scripts {
    ($($name:ident = $file:literal takes $kinds:literal for $pattern:pat),+ $(,)?) => {
        /// One script per command, and the kinds of its arguments after the time.
        pub(super) struct Scripts { append_audit: Arc<Script>, $($name: Arc<Script>),+ }

        impl Scripts {
            pub(super) fn new() -> Self {
                Self { append_audit: Script::new(APPEND_AUDIT.to_owned()), $($name: join(include_str!(concat!("../lua/", $file, ".lua")), $kinds)),+ }
            }

            /// No command of the line, so none of what they share.
            pub(super) fn append_audit(&self) -> &Arc<Script> {
                &self.append_audit
            }

            pub(super) fn of(&self, command: &Command) -> &Arc<Script> {
                match command { $($pattern => &self.$name),+ }
            }
        }
    };
}

scripts! {
    request = "request" takes "chat digest digest hash urgency steps mask_or_none people whole flag sealed trace flag flag subject hash_or_none few" for Command::Request(_),
    triage = "triage" takes "chat hash urgency word" for Command::Triage { .. },
    beat = "beat" takes "chat hash" for Command::Beat { .. },
    leave = "leave" takes "chat hash flag" for Command::Leave { .. },
    resume = "resume" takes "chat hash" for Command::Resume { .. },
    erase = "erase" takes "chat hash" for Command::Erase { .. },
    restore = "restore" takes "chat digest digest hash urgency steps mask_or_none people whole flag sealed trace life number whole whole whole whole whole step flag flag number number number came_from subject" for Command::Restore(_),
    reassert = "reassert" takes "chat digest digest hash urgency steps mask_or_none people whole flag sealed trace life number whole whole whole whole whole step flag flag number number number came_from subject person whole number whole number sealed" for Command::Reassert(_),
    sign_in = "sign_in" takes "person mask few mask_or_none ms load flag whole" for Command::SignIn { .. },
    heartbeat = "heartbeat" takes "person whole" for Command::Heartbeat { .. },
    set_status = "set_status" takes "person whole status" for Command::SetStatus { .. },
    unlink = "unlink" takes "person whole" for Command::Unlink { .. },
    sign_out = "sign_out" takes "person whole" for Command::SignOut { .. },
    accept = "accept" takes "person whole chat number sealed" for Command::Accept { .. },
    decline = "decline" takes "person whole chat number word" for Command::Decline { .. },
    engage = "engage" takes "person whole chat whole number" for Command::Engage { .. },
    call_supervisor = "call_supervisor" takes "person whole chat whole number" for Command::CallSupervisor { .. },
    close = "close" takes "person whole chat whole number" for Command::Close { .. },
    transfer = "transfer" takes "person whole chat whole number" for Command::Transfer { .. },
    finish_wrap_up = "finish_wrap_up" takes "person whole chat" for Command::FinishWrapUp { .. },
    extend_cool_down = "extend_cool_down" takes "person whole ms" for Command::ExtendCoolDown { .. },
    set_urgency = "set_urgency" takes "person word chat urgency" for Command::Supervise { act: Act::SetUrgency { .. }, .. },
    assign = "assign" takes "person word chat person flag" for Command::Supervise { act: Act::Assign { .. }, .. },
    pull = "pull" takes "person word chat" for Command::Supervise { act: Act::Pull { .. }, .. },
    take_over = "take_over" takes "person word chat whole sealed" for Command::Supervise { act: Act::TakeOver { .. }, .. },
    end = "end" takes "person word chat word" for Command::Supervise { act: Act::End { .. }, .. },
    end_break = "end_break" takes "person word person" for Command::Supervise { act: Act::EndBreak { .. }, .. },
    rest = "rest" takes "person word person ms" for Command::Supervise { act: Act::Rest { .. }, .. },
    force_offline = "force_offline" takes "person word person" for Command::Supervise { act: Act::ForceOffline { .. }, .. },
    reroute = "reroute" takes "person word signature signature ms whole" for Command::Supervise { act: Act::Reroute { .. }, .. },
    propose_block = "propose_block" takes "person word block chat ms ms" for Command::Supervise { act: Act::ProposeBlock { .. }, .. },
    confirm_block = "confirm_block" takes "person word block" for Command::Supervise { act: Act::ConfirmBlock { .. }, .. },
    lift_block = "lift_block" takes "person word block" for Command::Supervise { act: Act::LiftBlock { .. }, .. },
    hold = "hold" takes "chat digest digest hash urgency steps mask_or_none people whole flag sealed trace helpline number whole" for Command::Hold(_),
    admit = "admit" takes "chat helpline number" for Command::Admit { .. },
    release = "release" takes "chat helpline number" for Command::Release { .. },
    settle_proposal = "settle_proposal" takes "chat helpline number flag" for Command::SettleProposal { .. },
    report_page = "report_page" takes "whole flag" for Command::ReportPage { .. },
    tick = "tick" takes "digest batch" for Command::Tick { .. },
    set_policy = "set_policy" takes "whole text text text nobody_or_person" for Command::SetPolicy { .. },
    revive = "revive" takes "whole text text text whole" for Command::Revive { .. },
    renew = "renew" takes "life life whole whole" for Command::Renew { .. },
}

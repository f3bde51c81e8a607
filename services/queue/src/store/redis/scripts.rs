//! The scripts: each command's own file behind the shared parts, joined once at start.

use holdfast_domain::Command;
use redis::Script;

/// For commands that move nobody in the order of the line: a script pays for every function that it defines.
const RECORDS: [&str; 2] = [include_str!("../lua/shared/prelude.lua"), include_str!("../lua/shared/records.lua")];

/// For those that may.
const LINE: [&str; 3] = [
    include_str!("../lua/shared/index.lua"),
    include_str!("../lua/shared/line.lua"),
    include_str!("../lua/shared/matching.lua"),
];

/// The first line (`#!lua flags=…`) must stay the first; the shared parts follow it.
fn join(own: &str, shared: &[&str]) -> Script {
    let (first, rest) = own.split_once('\n').unwrap_or((own, ""));
    Script::new(&format!("{first}\n{}\n{}\n{rest}", RECORDS.join("\n"), shared.join("\n")))
}

macro_rules! scripts {
    ($($name:ident = $file:literal with $shared:expr, for $pattern:pat),+ $(,)?) => {
        /// One script per command.
        pub(super) struct Scripts { $($name: Script),+ }

        impl Scripts {
            pub(super) fn new() -> Self {
                Self { $($name: join(include_str!(concat!("../lua/", $file, ".lua")), &$shared)),+ }
            }

            pub(super) fn of(&self, command: &Command) -> &Script {
                match command { $($pattern => &self.$name),+ }
            }
        }
    };
}

scripts! {
    request = "request" with LINE, for Command::Request(_),
    triage = "triage" with LINE, for Command::Triage { .. },
    beat = "beat" with LINE, for Command::Beat { .. },
    leave = "leave" with LINE, for Command::Leave { .. },
    resume = "resume" with LINE, for Command::Resume { .. },
    erase = "erase" with LINE, for Command::Erase { .. },
    sign_in = "sign_in" with LINE, for Command::SignIn { .. },
    heartbeat = "heartbeat" with [], for Command::Heartbeat { .. },
    set_status = "set_status" with LINE, for Command::SetStatus { .. },
    unlink = "unlink" with LINE, for Command::Unlink { .. },
    sign_out = "sign_out" with LINE, for Command::SignOut { .. },
    accept = "accept" with LINE, for Command::Accept { .. },
    decline = "decline" with LINE, for Command::Decline { .. },
    engage = "engage" with [], for Command::Engage { .. },
    call_supervisor = "call_supervisor" with [], for Command::CallSupervisor { .. },
    close = "close" with LINE, for Command::Close { .. },
    transfer = "transfer" with LINE, for Command::Transfer { .. },
    finish_wrap_up = "finish_wrap_up" with LINE, for Command::FinishWrapUp { .. },
    tick = "tick" with LINE, for Command::Tick { .. },
    set_policy = "set_policy" with LINE, for Command::SetPolicy { .. },
}

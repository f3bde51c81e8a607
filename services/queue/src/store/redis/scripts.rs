//! The scripts: each command's own file behind the shared parts, joined once at start.

use holdfast_domain::Command;
use redis::Script;

const SHARED: [&str; 5] = [
    include_str!("../lua/shared/prelude.lua"),
    include_str!("../lua/shared/records.lua"),
    include_str!("../lua/shared/index.lua"),
    include_str!("../lua/shared/line.lua"),
    include_str!("../lua/shared/matching.lua"),
];

/// The first line (`#!lua flags=…`) must stay the first; the shared parts follow it.
fn join(own: &str) -> Script {
    let (first, rest) = own.split_once('\n').unwrap_or((own, ""));
    Script::new(&format!("{first}\n{}\n{rest}", SHARED.join("\n")))
}

macro_rules! scripts {
    ($($name:ident = $file:literal for $pattern:pat),+ $(,)?) => {
        /// One script per command.
        pub(super) struct Scripts { $($name: Script),+ }

        impl Scripts {
            pub(super) fn new() -> Self {
                Self { $($name: join(include_str!(concat!("../lua/", $file, ".lua")))),+ }
            }

            pub(super) fn of(&self, command: &Command) -> &Script {
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
    tick = "tick" for Command::Tick { .. },
    set_policy = "set_policy" for Command::SetPolicy { .. },
}

//! What a caller may ask of the line: each door the commands of its own side, everybody what is of their own helplines.

use holdfast_access::{Caller, Grant, Refused, table};
use holdfast_proto::v1::{self, command::Command as C};

/// The command may be given by the caller, at that helpline.
///
/// # Errors
/// When it may not.
pub(crate) fn check(caller: &Caller, command: Option<&v1::Command>) -> Result<(), Refused> {
    let Some(v1::Command { helpline, command: Some(command) }) = command else {
        return Ok(()); // it is refused for what it lacks
    };
    let door = table::door_of(name(command));
    if !door.is_some_and(|door| caller.has(door)) {
        return Err(Refused::not_allowed(name(command), "is a command of another door"));
    }
    caller.at(helpline)
}

/// Whoever attaches is the door that they say.
///
/// # Errors
/// When they are not.
pub(crate) fn check_role(caller: &Caller, intake: bool) -> Result<(), Refused> {
    let door = if intake { Grant::Intake } else { Grant::Dispatch };
    if caller.has(door) { Ok(()) } else { Err(Refused::not_allowed("hello.role", "is another door's")) }
}

/// As the contract names it.
fn name(command: &C) -> &'static str {
    match command {
        C::Request(_) => "request",
        C::Triage(_) => "triage",
        C::Beat(_) => "beat",
        C::Leave(_) => "leave",
        C::Resume(_) => "resume",
        C::Erase(_) => "erase",
        C::Restore(_) => "restore",
        C::SignIn(_) => "sign_in",
        C::Heartbeat(_) => "heartbeat",
        C::SetStatus(_) => "set_status",
        C::Unlink(_) => "unlink",
        C::SignOut(_) => "sign_out",
        C::Accept(_) => "accept",
        C::Decline(_) => "decline",
        C::Engage(_) => "engage",
        C::Close(_) => "close",
        C::Transfer(_) => "transfer",
        C::FinishWrapUp(_) => "finish_wrap_up",
        C::CallSupervisor(_) => "call_supervisor",
        C::ExtendCoolDown(_) => "extend_cool_down",
        C::Supervise(_) => "supervise",
        C::Reassert(_) => "reassert",
    }
}

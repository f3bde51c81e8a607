//! What a responder types.

use holdfast_proto::v1::DeclineReason;

pub(super) const HELP: &str = "\
a(ccept) [chat]   d(ecline) [busy|not-suited|needs-break]   e(ngaged) [chat]   c(lose) [chat]
n(otes done) [chat]   t(ransfer) [chat]   s(upervisor) [chat]   b(reak)   r(eady)   l(eave when done)   q(uit now)";

/// One thing typed. A chat is named by any part of its name; without a name it is the only or oldest one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Accept(Option<String>),
    Decline(DeclineReason),
    Engaged(Option<String>),
    Close(Option<String>),
    Notes(Option<String>),
    Transfer(Option<String>),
    Supervisor(Option<String>),
    Break,
    Ready,
    Leave,
    Quit,
    Help,
}

/// `None` for an empty line.
pub(super) fn parse(line: &str) -> Result<Option<Command>, String> {
    let mut words = line.split_whitespace();
    let Some(word) = words.next() else {
        return Ok(None);
    };
    let rest = words.next().map(str::to_owned);
    let command = match word.to_ascii_lowercase().as_str() {
        "a" | "accept" => Command::Accept(rest),
        "d" | "decline" => Command::Decline(reason(rest.as_deref())?),
        "e" | "engaged" => Command::Engaged(rest),
        "c" | "close" => Command::Close(rest),
        "n" | "notes" => Command::Notes(rest),
        "t" | "transfer" => Command::Transfer(rest),
        "s" | "supervisor" => Command::Supervisor(rest),
        "b" | "break" => Command::Break,
        "r" | "ready" => Command::Ready,
        "l" | "leave" => Command::Leave,
        "q" | "quit" => Command::Quit,
        "h" | "help" | "?" => Command::Help,
        other => return Err(format!("'{other}' is not a command; h for help")),
    };
    Ok(Some(command))
}

fn reason(word: Option<&str>) -> Result<DeclineReason, String> {
    match word {
        None => Ok(DeclineReason::Unspecified),
        Some("busy") => Ok(DeclineReason::Busy),
        Some("not-suited") => Ok(DeclineReason::NotSuited),
        Some("needs-break") => Ok(DeclineReason::NeedsBreak),
        Some(other) => Err(format!("'{other}' is not a reason: busy, not-suited or needs-break")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_is_enough() {
        assert_eq!(parse("a"), Ok(Some(Command::Accept(None))));
        assert_eq!(parse(" c 4f2 "), Ok(Some(Command::Close(Some("4f2".to_owned())))));
        assert_eq!(parse("Quit"), Ok(Some(Command::Quit)));
        assert_eq!(parse("  "), Ok(None));
    }

    #[test]
    fn a_reason_is_one_of_three() {
        assert_eq!(parse("d busy"), Ok(Some(Command::Decline(DeclineReason::Busy))));
        assert!(parse("d tired").is_err());
        assert!(parse("x").is_err());
    }
}

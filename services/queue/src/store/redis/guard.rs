//! Which commands wait for replicas before they are answered: those by which somebody is given a word that they rely on.
//!
//! | command | waits | why |
//! | --- | --- | --- |
//! | request, resume, leave, erase, triage | yes | a visitor, or whoever asks for them, is told that it is so |
//! | accept, take over | yes | a chat is handed over, by a fence that no other may have |
//! | close, transfer, decline, engage, finish wrap-up, extend cool-down, call a supervisor | yes | a responder lets go of something and turns to something else |
//! | sign in, set status, sign out | yes | a responder believes to be here, or to be free to go |
//! | all acts of supervisors | yes | they are audited by what was answered |
//! | hold, admit, release, settle | yes | a chat goes to a partner: forgetting a step might leave it in both lines |
//! | set policy | yes | somebody is told that it is in force |
//! | restore, reassert, revive, renew | yes | whoever came back must not be lost a second time |
//! | beat, heartbeat | no | the next one comes in seconds and says the same; forgetting one loses nobody |
//! | unlink | no | nobody waits for the answer; if it is forgotten, the presence lease does the same a little later |
//! | tick | no | a promoted node that has forgotten a tick finds the same timers due |
//! | report page | no | forgetting it calls a wave of volunteers twice at worst |

use holdfast_domain::Command;

/// Whether the answer waits for replicas.
pub(super) fn waits(command: &Command) -> bool {
    match command {
        Command::Request(_)
        | Command::Triage { .. }
        | Command::Leave { .. }
        | Command::Resume { .. }
        | Command::Erase { .. }
        | Command::Restore(_)
        | Command::Reassert(_)
        | Command::SignIn { .. }
        | Command::SetStatus { .. }
        | Command::SignOut { .. }
        | Command::Accept { .. }
        | Command::Decline { .. }
        | Command::Engage { .. }
        | Command::CallSupervisor { .. }
        | Command::Close { .. }
        | Command::Transfer { .. }
        | Command::FinishWrapUp { .. }
        | Command::ExtendCoolDown { .. }
        | Command::Supervise { .. }
        | Command::Hold(_)
        | Command::Admit { .. }
        | Command::Release { .. }
        | Command::SettleProposal { .. }
        | Command::SetPolicy { .. }
        | Command::Revive { .. }
        | Command::Renew { .. } => true,
        Command::Beat { .. }
        | Command::Heartbeat { .. }
        | Command::Unlink { .. }
        | Command::Tick { .. }
        | Command::ReportPage { .. } => false,
    }
}

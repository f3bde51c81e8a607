//! Messages of the contract, from the bytes of the wire to what a service makes of them.

use crate::mutate::fuzz;
use holdfast_dispatch::convert as dispatch;
use holdfast_domain::{HelplineId, Policy, ResponderId, histories};
use holdfast_intake::convert as intake;
use holdfast_proto::v1;
use holdfast_queue::fuzzing;
use prost::Message;

const HELPLINE: &str = "test";

fn tags(names: &[&str]) -> Vec<v1::Tag> {
    names.iter().map(|name| v1::Tag { name: (*name).to_owned(), level: 1 }).collect()
}

fn steps() -> Vec<v1::RoutingStep> {
    let step = |seconds, names: &[&str]| v1::RoutingStep {
        after: Some(prost_types::Duration { seconds, nanos: 0 }),
        any_of: vec![v1::Alternative { all_of: tags(names) }],
    };
    vec![step(0, &["lang:es", "skill:minors"]), step(30, &["lang:es"])]
}

/// Commands as intake and dispatch send them: one of them for each kind of field.
fn commands() -> Vec<Vec<u8>> {
    use v1::command::Command as Wire;
    let session = || Some(v1::SessionKey { responder_id: "ana".to_owned(), session: 7 });
    let key = || Some(v1::HashedChatKey { chat_id: "0192-a".to_owned(), token_hash: vec![7; 32] });
    let fence = Some(v1::Fence { epoch: 3_145_729, minted_by: 7 });
    let chat_id = || "0192-a".to_owned();
    let all = vec![
        Wire::Request(v1::RequestCommand {
            chat_id: chat_id(),
            request_key: vec![1; 32],
            body_digest: vec![2; 32],
            token_hash: vec![3; 32],
            urgency: v1::Urgency::High.into(),
            routing_steps: steps(),
            handoff: vec![9; 40],
            ..v1::RequestCommand::default()
        }),
        Wire::Beat(v1::BeatCommand { key: key() }),
        Wire::Leave(v1::LeaveCommand { key: key(), fallback_accepted: true }),
        Wire::SignIn(v1::SignInCommand {
            responder_id: "ana".to_owned(),
            capabilities: tags(&["lang:en", "lang:es"]),
            capacity: 2,
            ready: true,
            ..v1::SignInCommand::default()
        }),
        Wire::Accept(v1::AcceptCommand {
            offer: Some(v1::OfferKey { session: session(), chat_id: chat_id(), offer_number: 1 }),
            reply_handoff: vec![1, 2, 3],
        }),
        Wire::Close(v1::CloseCommand {
            assignment: Some(v1::AssignmentKey { session: session(), chat_id: chat_id(), fence }),
        }),
        Wire::Restore(v1::RestoreCommand { key: key(), ticket: vec![1; 60] }),
        Wire::Reassert(v1::ReassertCommand { session: session(), chat_id: chat_id(), sealed: vec![1; 60] }),
    ];
    let whole = |command| v1::Command { helpline: HELPLINE.to_owned(), command: Some(command) };
    all.into_iter().map(|command| whole(command).encode_to_vec()).collect()
}

#[test]
fn a_command_to_the_queue_is_understood_or_refused() {
    let policy = Policy { revision: 1, ..histories::policy(0) };
    fuzz("commands", &commands(), &["test", "ana", "lang:es"], 20_000, |bytes| fuzzing::command(bytes, &policy));
}

#[test]
fn a_policy_by_call_is_understood_or_refused() {
    let toml = include_str!("../../deploy/policies/nightline.toml");
    let request = v1::PutPolicyRequest {
        helpline: "nightline".to_owned(),
        toml: toml.to_owned(),
        supervisor_id: "sue".to_owned(),
        ..v1::PutPolicyRequest::default()
    };
    fuzz("put-policies", &[request.encode_to_vec()], &["nightline", "\n[[tags]]\n"], 600, fuzzing::put_policy);
}

#[test]
fn a_visitors_request_is_understood_or_refused() {
    let request = v1::RequestChatRequest {
        helpline: HELPLINE.to_owned(),
        request_id: "4f0c5a7e".to_owned(),
        urgency: v1::Urgency::Moderate.into(),
        routing_steps: steps(),
        answers: vec![v1::Answer { question: "age".to_owned(), value: "17".to_owned() }],
        preferences: tags(&["lang:es"]),
        locale: "es-MX".to_owned(),
        region: "north".to_owned(),
        handoff: vec![7; 20],
        ..v1::RequestChatRequest::default()
    };
    let hold = v1::ChatKey {
        helpline: HELPLINE.to_owned(),
        chat_id: "0192-a".to_owned(),
        visitor_token: "jlS1FR4hQjcwEOaJXIrt7jRyrZMI7D6P-PvUWivjYk0".to_owned(),
    };
    let corpus = [request.encode_to_vec(), hold.encode_to_vec()];
    fuzz("requests", &corpus, &["test", "es", "-MX", "age"], 20_000, |bytes| {
        let wanted = v1::RequestChatRequest::decode(bytes).ok().and_then(|r| intake::wanted(r).ok());
        let hold = v1::ChatKey::decode(bytes).ok().and_then(|key| intake::hold(Some(key)).ok());
        wanted.is_some() || hold.is_some()
    });
}

#[test]
fn a_responders_words_are_understood_or_refused() {
    use v1::action::Action as Does;
    let fence = Some(v1::Fence { epoch: 3_145_729, minted_by: 7 });
    let chat_id = || "0192-a".to_owned();
    let sign_in = v1::SignIn {
        helpline: HELPLINE.to_owned(),
        responder_id: "ana".to_owned(),
        capabilities: tags(&["lang:en"]),
        capacity: 2,
        ready: true,
        opt_out_topics: vec!["topic:loss".to_owned()],
        shift_remaining: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        sealed_assignments: vec![v1::SealedAssignment { chat_id: chat_id(), sealed: vec![1; 60] }],
    };
    let actions = [
        Does::Accept(v1::Accept { chat_id: chat_id(), offer_number: 1, reply_handoff: vec![1; 9] }),
        Does::Transfer(v1::Transfer { chat_id: chat_id(), fence }),
        Does::SetStatus(v1::SetStatus { status: 2 }),
        Does::ExtendCoolDown(v1::ExtendCoolDown { r#for: Some(prost_types::Duration { seconds: 9, nanos: 5 }) }),
    ];
    let mut corpus = vec![sign_in.encode_to_vec()];
    corpus.extend(actions.map(|does| v1::Action { action: Some(does) }.encode_to_vec()));
    let who = dispatch::Who {
        helpline: HELPLINE.parse::<HelplineId>().expect("a name"),
        responder: "ana".parse::<ResponderId>().expect("a name"),
    };
    fuzz("words", &corpus, &["ana", "test", "topic:"], 20_000, |bytes| {
        let signs_in = v1::SignIn::decode(bytes)
            .is_ok_and(|said| dispatch::sealed(&said).is_ok() && dispatch::sign_in(said).is_ok());
        let acts = v1::Action::decode(bytes).is_ok_and(|action| dispatch::action(&who, 7, Some(action)).is_ok());
        signs_in || acts
    });
}

#[test]
fn a_supervisors_wish_is_understood_or_refused() {
    use dispatch::acts;
    let supervisor = || {
        Some(v1::Supervisor {
            helpline: HELPLINE.to_owned(),
            supervisor_id: "sue".to_owned(),
            reason: v1::SupervisionReason::Safety.into(),
        })
    };
    let urgency = v1::SetUrgencyRequest { supervisor: supervisor(), chat_id: "0192-a".to_owned(), urgency: 3 };
    let reroute = v1::RerouteRequest { supervisor: supervisor(), ..v1::RerouteRequest::default() };
    let corpus = [urgency.encode_to_vec(), reroute.encode_to_vec()];
    fuzz("wishes", &corpus, &["sue", "test"], 20_000, |bytes| {
        let set = v1::SetUrgencyRequest::decode(bytes).is_ok_and(|r| acts::set_urgency(r).is_ok());
        let assigned = v1::AssignChatRequest::decode(bytes).is_ok_and(|r| acts::assign(r).is_ok());
        let rested = v1::ExtendRestRequest::decode(bytes).is_ok_and(|r| acts::rest(r).is_ok());
        let rerouted = v1::RerouteRequest::decode(bytes).is_ok_and(|r| acts::reroute(r).is_ok());
        let proposed = v1::ProposeBlockRequest::decode(bytes).is_ok_and(|r| acts::propose_block(r).is_ok());
        let listed =
            v1::SupervisionServiceListBlocksRequest::decode(bytes).is_ok_and(|r| acts::list_blocks(r).is_ok());
        let figures = v1::SupervisionServiceGetKpisRequest::decode(bytes).is_ok_and(|r| acts::kpis(r).is_ok());
        set || assigned || rested || rerouted || proposed || listed || figures
    });
}

//! A message for every RPC, as whole as the check of whom it speaks for needs it.

use holdfast_proto::v1::*;
use prost::Message;

fn supervisor(helpline: &str, person: &str) -> Option<Supervisor> {
    let reason = SupervisionReason::Safety.into();
    Some(Supervisor { helpline: helpline.to_owned(), supervisor_id: person.to_owned(), reason })
}

fn sign_in(helpline: &str, person: &str) -> Option<SignIn> {
    Some(SignIn {
        helpline: helpline.to_owned(),
        responder_id: person.to_owned(),
        capacity: 1,
        ..SignIn::default()
    })
}

fn key(helpline: &str) -> Option<ChatKey> {
    let (chat_id, visitor_token) = ("c-1".to_owned(), "A".repeat(43));
    Some(ChatKey { helpline: helpline.to_owned(), chat_id, visitor_token })
}

fn beat() -> Option<Action> {
    Some(Action { action: Some(action::Action::Heartbeat(Heartbeat {})) })
}

/// The message of `rpc` that speaks for `person` at `helpline`; `None` for an RPC that speaks for nobody.
pub fn of(rpc: &str, helpline: &str, person: &str) -> Option<Vec<u8>> {
    let (line, who) = (helpline.to_owned(), person.to_owned());
    let chat_id = "c-1".to_owned();
    let by = supervisor(helpline, person);
    Some(match rpc {
        "holdfast.v1.IntakeService/RequestChat" => {
            RequestChatRequest { helpline: line, request_id: "r-1".to_owned(), ..Default::default() }
                .encode_to_vec()
        }
        "holdfast.v1.IntakeService/WatchChat" => {
            WatchChatRequest { key: key(helpline), ..Default::default() }.encode_to_vec()
        }
        "holdfast.v1.IntakeService/UpdateChat" => {
            UpdateChatRequest { key: key(helpline), ..Default::default() }.encode_to_vec()
        }
        "holdfast.v1.IntakeService/LeaveChat" => {
            LeaveChatRequest { key: key(helpline), ..Default::default() }.encode_to_vec()
        }
        "holdfast.v1.IntakeService/ResumeChat" => {
            ResumeChatRequest { key: key(helpline), ..Default::default() }.encode_to_vec()
        }
        "holdfast.v1.IntakeService/EraseChat" => EraseChatRequest { key: key(helpline) }.encode_to_vec(),
        "holdfast.v1.IntakeService/GetFallback" => {
            GetFallbackRequest { helpline: line, ..Default::default() }.encode_to_vec()
        }
        "holdfast.v1.DispatchService/Session" => {
            let message = sign_in(helpline, person).map(session_request::Message::SignIn);
            SessionRequest { request_number: 1, message }.encode_to_vec()
        }
        "holdfast.v1.DispatchService/Watch" => WatchRequest { sign_in: sign_in(helpline, person) }.encode_to_vec(),
        "holdfast.v1.DispatchService/Act" => {
            ActRequest { helpline: line, responder_id: who, session: 1, action: beat() }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/WatchFloor" => {
            WatchFloorRequest { helpline: line, limit: 1 }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/AssignChat" => {
            let responder_id = "bea".to_owned();
            AssignChatRequest { supervisor: by, chat_id, responder_id, break_glass: false }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/PullChat" => PullChatRequest { supervisor: by, chat_id }.encode_to_vec(),
        "holdfast.v1.SupervisionService/TakeOver" => {
            TakeOverRequest { supervisor: by, chat_id, session: 1, reply_handoff: Vec::new() }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/SetUrgency" => {
            SetUrgencyRequest { supervisor: by, chat_id, urgency: Urgency::High.into() }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/EndChat" => {
            EndChatRequest { supervisor: by, chat_id, outcome: ChatOutcome::Fallback.into() }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/EndBreak" => {
            EndBreakRequest { supervisor: by, responder_id: "bea".to_owned() }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/ExtendRest" => {
            let r#for = Some(prost_types::Duration { seconds: 60, nanos: 0 });
            ExtendRestRequest { supervisor: by, responder_id: "bea".to_owned(), r#for }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/ForceOffline" => {
            ForceOfflineRequest { supervisor: by, responder_id: "bea".to_owned() }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/Reroute" => {
            let tag = Tag { name: "lang:es".to_owned(), level: 1 };
            let from_any_of = vec![Alternative { all_of: vec![tag] }];
            RerouteRequest { supervisor: by, from_any_of, ..Default::default() }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/ProposeBlock" => {
            let r#for = Some(prost_types::Duration { seconds: 60, nanos: 0 });
            ProposeBlockRequest { supervisor: by, chat_id, r#for }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/ConfirmBlock" => {
            ConfirmBlockRequest { supervisor: by, block_id: "b-1".to_owned() }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/LiftBlock" => {
            LiftBlockRequest { supervisor: by, block_id: "b-1".to_owned() }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/ListBlocks" => {
            SupervisionServiceListBlocksRequest { helpline: line, ..Default::default() }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/ExplainRouting" => {
            SupervisionServiceExplainRoutingRequest { helpline: line, chat_id }.encode_to_vec()
        }
        "holdfast.v1.SupervisionService/GetKpis" => {
            SupervisionServiceGetKpisRequest { helpline: line, window: None }.encode_to_vec()
        }
        "holdfast.v1.QueueService/WatchEvents" => {
            WatchEventsRequest { helpline: line, ..Default::default() }.encode_to_vec()
        }
        "holdfast.v1.QueueService/GetChat" => {
            let key = HashedChatKey { chat_id, token_hash: vec![0; 32] };
            GetChatRequest { helpline: line, key: Some(key), ..Default::default() }.encode_to_vec()
        }
        "holdfast.v1.QueueService/GetPlace" => GetPlaceRequest { helpline: line, chat_id }.encode_to_vec(),
        "holdfast.v1.QueueService/GetResponder" => {
            GetResponderRequest { helpline: line, responder_id: who }.encode_to_vec()
        }
        "holdfast.v1.QueueService/GetFloor" => GetFloorRequest { helpline: line, limit: 1 }.encode_to_vec(),
        "holdfast.v1.QueueService/GetPolicy" => GetPolicyRequest { helpline: line, revision: 0 }.encode_to_vec(),
        "holdfast.v1.QueueService/PutPolicy" => {
            let toml = format!("helpline = {helpline:?}\n");
            PutPolicyRequest { toml, helpline: line, supervisor_id: who, dry_run: true, ..Default::default() }
                .encode_to_vec()
        }
        "holdfast.v1.QueueService/ExplainRouting" => {
            ExplainRoutingRequest { helpline: line, chat_id }.encode_to_vec()
        }
        "holdfast.v1.QueueService/ListBlocks" => {
            ListBlocksRequest { helpline: line, ..Default::default() }.encode_to_vec()
        }
        "holdfast.v1.QueueService/GetKpis" => GetKpisRequest { helpline: line, window: None }.encode_to_vec(),
        "holdfast.v1.QueueService/ReadAudit" => {
            ReadAuditRequest { helpline: line, after: 0, limit: 1 }.encode_to_vec()
        }
        "holdfast.v1.IntakeService/GetLimits"
        | "holdfast.v1.QueueService/Attach"
        | "holdfast.v1.QueueService/Execute"
        | "holdfast.v1.TriageClassifier/Classify" => return None,
        other if other.starts_with("grpc.") => return None,
        other => panic!("{other} needs a message here"),
    })
}

/// The same in which only helplines are named.
pub fn names_a_person(rpc: &str) -> bool {
    let north = |person| of(rpc, "north", person);
    // The responder whom a queue's reader asks about is nobody's own name.
    !rpc.ends_with("/GetResponder") && north("ana") != north("bea")
}

//! What is seen of chats that go to a partner or come from one.

use holdfast_domain::{Command as Asked, Hold, Request};
use holdfast_proto::v1::{self, command::Command};
use holdfast_queue::{DEMO, store::Store};
use tonic::Code;

use crate::bench::{Bench, asked, chat_request, helpline, key, why};

fn north() -> holdfast_domain::HelplineId {
    holdfast_domain::HelplineId::parse("north").unwrap()
}

async fn get_chat(bench: &Bench, chat: &str) -> Result<v1::GetChatResponse, tonic::Status> {
    let request = v1::GetChatRequest { helpline: "demo".to_owned(), key: key(chat), ticket_version: 0 };
    Ok(bench.client().get_chat(request).await?.into_inner())
}

#[tokio::test]
async fn a_chat_that_is_only_kept_for_a_partner_is_unknown_to_everybody() {
    let bench = Bench::start().await;
    let revision = bench.set_policy(&format!("{DEMO}\n[[takes_from]]\nhelpline = \"north\"\n")).await;
    let request = Request { revision, ..asked("c1") };
    let hold = Asked::Hold(Box::new(Hold { from: north(), number: 1, age_ms: 0, request }));
    bench.store.execute(&helpline(), &hold).await.unwrap().reply.unwrap();

    let place = v1::GetPlaceRequest { helpline: "demo".to_owned(), chat_id: "c1".to_owned() };
    let explain = v1::ExplainRoutingRequest { helpline: "demo".to_owned(), chat_id: "c1".to_owned() };
    let refused = [
        get_chat(&bench, "c1").await.unwrap_err(),
        bench.client().get_place(place).await.unwrap_err(),
        bench.client().explain_routing(explain).await.unwrap_err(),
        bench.execute(Command::Beat(v1::BeatCommand { key: key("c1") })).await.unwrap_err(),
        bench
            .execute(Command::Leave(v1::LeaveCommand { key: key("c1"), fallback_accepted: false }))
            .await
            .unwrap_err(),
    ];
    for status in refused {
        assert_eq!(why(&status), (Code::NotFound, "UNKNOWN_CHAT".to_owned()));
    }

    let admit = Asked::Admit { chat: holdfast_domain::ChatId::parse("c1").unwrap(), from: north(), number: 1 };
    bench.store.execute(&helpline(), &admit).await.unwrap().reply.unwrap();
    assert_eq!(get_chat(&bench, "c1").await.unwrap().chat.unwrap().state(), v1::ChatState::Waiting);
}

#[tokio::test]
async fn once_a_partner_has_a_chat_its_visitor_is_told_where_it_goes_on() {
    let bench = Bench::start().await;
    let takes = DEMO.replace("helpline = \"demo\"", "helpline = \"north\"");
    let put = v1::PutPolicyRequest {
        helpline: "north".to_owned(),
        toml: format!("{takes}\n[[takes_from]]\nhelpline = \"demo\"\n"),
        supervisor_id: "sue".to_owned(),
        ..v1::PutPolicyRequest::default()
    };
    bench.client().put_policy(put).await.unwrap();
    bench
        .set_policy(&format!("{DEMO}\n[[partners]]\nhelpline = \"north\"\n\n[numbers]\nmin_on_shift = 1\n"))
        .await;
    let mut intake = bench.intake().await;
    let before = bench.requested(chat_request("c1")).await;
    let ended = intake.notice("ended").await;

    let gone = get_chat(&bench, "c1").await.unwrap().chat.unwrap();
    let again = bench.requested(chat_request("c1")).await;

    assert_eq!((before.continued_at.as_str(), ended.reason.as_str()), ("", "partner"));
    for chat in [gone, again] {
        assert_eq!((chat.outcome(), chat.continued_at.as_str()), (v1::ChatOutcome::Overflowed, "north"));
    }
}

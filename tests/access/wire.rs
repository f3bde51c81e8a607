//! Any call, by its name and bytes.

use std::time::Duration;

use holdfast_tests::{in_process::channel, wire::AsBytes};
use prost::bytes::Bytes;
use tokio::time::timeout;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_types::StatusExt;

/// A stream that says nothing for so long has let whoever called in.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of a call, as far as it says whether it was let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub code: Code,
    pub reason: String,
    pub message: String,
    pub details: Vec<u8>,
}

impl Answer {
    fn of(status: &Status) -> Self {
        let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        let (message, details) = (status.message().to_owned(), status.details().to_vec());
        Self { code: status.code(), reason, message, details }
    }

    pub fn said(&self) -> (Code, &str) {
        (self.code, &self.reason)
    }

    /// It was carried out, or refused for what it asked.
    pub fn passed_the_gate(&self) -> bool {
        !matches!(self.code, Code::Unauthenticated | Code::PermissionDenied) && self.reason != "UNKNOWN_RPC"
    }
}

/// Calls `rpc` with one message, and each of these values of the header.
pub async fn call_with(channel: &Channel, rpc: &str, message: Vec<u8>, headers: &[&[u8]]) -> Answer {
    match timeout(PATIENCE, calling(channel, rpc, message, headers)).await {
        Ok(answer) => answer,
        Err(_silent) => {
            Answer { code: Code::Ok, reason: "SILENT".to_owned(), message: String::new(), details: Vec::new() }
        }
    }
}

async fn calling(channel: &Channel, rpc: &str, message: Vec<u8>, headers: &[&[u8]]) -> Answer {
    let mut request = Request::new(tokio_stream::once(Bytes::from(message)));
    for header in headers {
        let value = tonic::metadata::MetadataValue::try_from(*header).unwrap();
        request.metadata_mut().append("authorization", value);
    }
    let path: PathAndQuery = format!("/{rpc}").parse().unwrap();
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let first = async {
        let mut answers = client.streaming(request, path, AsBytes).await?.into_inner();
        answers.message().await
    };
    match first.await {
        Ok(_) => Answer { code: Code::Ok, reason: String::new(), message: String::new(), details: Vec::new() },
        Err(status) => Answer::of(&status),
    }
}

/// The same for a call that is answered, however many others there are.
pub async fn call_among_many(channel: &Channel, rpc: &str, message: Vec<u8>, credential: &str) -> Answer {
    calling(channel, rpc, message, &[format!("Bearer {credential}").as_bytes()]).await
}

/// Calls `rpc` with a credential.
pub async fn call(channel: &Channel, rpc: &str, message: Vec<u8>, credential: &str) -> Answer {
    call_with(channel, rpc, message, &[format!("Bearer {credential}").as_bytes()]).await
}

/// The same without one.
pub async fn call_as_nobody(channel: &Channel, rpc: &str, message: Vec<u8>) -> Answer {
    call_with(channel, rpc, message, &[]).await
}

pub fn to(address: std::net::SocketAddr) -> Channel {
    channel(address)
}

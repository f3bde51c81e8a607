//! gRPC without generated code: any bytes to any RPC, and the bytes that come back.

use holdfast_tests::wire::AsBytes;
use prost::bytes::Bytes;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// Calls `rpc`, such as `QueueService/GetFloor`. On the wire a unary call is a stream of one message.
pub async fn call(
    channel: Channel,
    rpc: &str,
    messages: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<Streaming<Bytes>, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let path = PathAndQuery::try_from(format!("/holdfast.v1.{rpc}")).expect("a path");
    grpc.streaming(Request::new(messages), path, AsBytes).await.map(tonic::Response::into_inner)
}

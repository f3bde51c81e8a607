//! Bytes that are no message of the contract, at every place of every request where there can be such.

use crate::row::{Bad, Row, Way, bad, bytes_to};
use holdfast_proto::v1::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost::bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use std::collections::HashMap;
use tonic::Code;

/// No request is nested deeper.
const DEPTH: usize = 8;
/// No service reads a message of so many bytes.
const TOO_LARGE: usize = 2 << 20;

/// Called by intake, and served by whoever writes one.
const NOT_OURS: &str = "TriageClassifier";

/// An RPC of the contract: `QueueService/GetFloor`, and the name of its request's type.
pub fn rpcs() -> Vec<(String, String)> {
    let mut rpcs = Vec::new();
    for file in files().file.iter().filter(|f| f.package() == "holdfast.v1") {
        for service in file.service.iter().filter(|s| s.name() != NOT_OURS) {
            let method = |m: &prost_types::MethodDescriptorProto| {
                (format!("{}/{}", service.name(), m.name()), m.input_type().to_owned())
            };
            rpcs.extend(service.method.iter().map(method));
        }
    }
    rpcs
}

fn files() -> FileDescriptorSet {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the descriptors of the contract")
}

/// Text that is not UTF-8 in every text field of every request, and every request cut short.
pub fn rows() -> Vec<Row> {
    let files = files();
    let mut types = HashMap::new();
    for file in &files.file {
        for message in &file.message_type {
            types.insert(format!(".{}.{}", file.package(), message.name()), message);
        }
    }
    let mut rows = vec![
        bad("an RPC that there is not", bytes_to("QueueService/Forget", Vec::new()))
            .refused(Code::Unimplemented, ""),
        bad("a message that is too large", too_large()).unreadable(),
    ];
    for (rpc, request) in rpcs() {
        let rpc: &'static str = rpc.leak();
        rows.extend(of_rpc(rpc, &texts(&types, &request, 0)));
    }
    rows
}

fn of_rpc(rpc: &'static str, texts: &[(String, Vec<u8>)]) -> Vec<Row> {
    let refused = |bad: Bad| match rpc {
        // The first message of these decides what the stream is: whatever cannot be read is not what it must be.
        "DispatchService/Session" => bad.refused(Code::FailedPrecondition, "SIGN_IN_EXPECTED"),
        "QueueService/Attach" => bad.refused(Code::FailedPrecondition, "HELLO_EXPECTED"),
        _ => bad.unreadable(),
    };
    let mut inputs = vec![
        ("a length without its bytes".to_owned(), vec![0x0a, 0x05, b'x']),
        ("half a number".to_owned(), vec![0x08, 0x80]),
        ("a field of number 0".to_owned(), vec![0x02, 0x00]),
    ];
    for (path, text) in texts {
        inputs.push((format!("{path} that is not UTF-8"), text.clone()));
        // It is cut inside the text.
        inputs.push((
            format!("a message that is cut in {path}"),
            text.split_last().map_or(Vec::new(), |t| t.1.to_vec()),
        ));
    }
    inputs.into_iter().map(|(what, bytes)| refused(bad(what, bytes_to(rpc, bytes)))).collect()
}

/// More than any service reads, in a field that none knows.
fn too_large() -> Vec<Way> {
    let mut bytes = Vec::new();
    encode_key(1000, WireType::LengthDelimited, &mut bytes);
    encode_varint(TOO_LARGE as u64, &mut bytes);
    bytes.resize(bytes.len() + TOO_LARGE, 0);
    let bytes = Bytes::from(bytes);
    let rpcs = ["IntakeService/RequestChat", "DispatchService/Act", "QueueService/Execute"];
    rpcs.into_iter().flat_map(|rpc| bytes_to(rpc, bytes.clone())).collect()
}

/// The path of each text field under a type, and a message that holds only it, with two bytes that no text has.
fn texts(types: &HashMap<String, &DescriptorProto>, of: &str, depth: usize) -> Vec<(String, Vec<u8>)> {
    let Some(message) = types.get(of).filter(|_| depth < DEPTH) else { return Vec::new() };
    let mut found = Vec::new();
    for field in &message.field {
        let number = u32::try_from(field.number()).expect("a field's number");
        let below = match field.r#type() {
            Type::String => vec![(String::new(), vec![0xff, 0xfe])],
            Type::Message => texts(types, field.type_name(), depth + 1),
            _ => Vec::new(),
        };
        for (path, inner) in below {
            let path = if path.is_empty() { field.name().to_owned() } else { format!("{}.{path}", field.name()) };
            let mut bytes = Vec::new();
            encode_key(number, WireType::LengthDelimited, &mut bytes);
            encode_varint(inner.len() as u64, &mut bytes);
            bytes.extend(inner);
            found.push((path, bytes));
        }
    }
    found
}

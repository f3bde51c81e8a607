//! Every place of the contract where somebody outside can put text or bytes, as its descriptors say. A field that is added
//! is planted without a word here.

use holdfast_proto::v1::{self, FILE_DESCRIPTOR_SET};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use std::collections::HashMap;

/// No request is nested deeper.
const DEPTH: usize = 8;

/// RPCs that nobody outside calls, and why they are not planted.
const INSIDE: [&str; 3] = [
    // Between our own services, which put into them what came by the others.
    "holdfast.v1.QueueService/Attach",
    "holdfast.v1.QueueService/Execute",
    // Called by intake, served by whoever writes one.
    "holdfast.v1.TriageClassifier/Classify",
];

/// A field of text or bytes within a request.
#[derive(Debug, Clone)]
pub struct Field {
    /// Such as `holdfast.v1.IntakeService/WatchChat`.
    pub rpc: String,
    /// From the request on, such as `key.chat_id`.
    pub path: String,
    /// The numbers on the way to it, with what else a message there needs so that the field is looked at.
    way: Vec<(u32, Vec<u8>)>,
}

impl Field {
    /// Bytes that, behind a request, put this value into the field.
    pub fn holding(&self, value: &[u8]) -> Vec<u8> {
        self.way.iter().rev().fold(value.to_vec(), |inner, (number, beside)| {
            let mut bytes = Vec::new();
            encode_key(*number, WireType::LengthDelimited, &mut bytes);
            encode_varint((beside.len() + inner.len()) as u64, &mut bytes);
            bytes.extend(beside);
            bytes.extend(inner);
            bytes
        })
    }

    /// As a reader names it.
    pub fn name(&self) -> String {
        format!("{}: {}", self.rpc, self.path)
    }
}

struct Files {
    files: Vec<prost_types::FileDescriptorProto>,
}

impl Files {
    fn read() -> Self {
        let sets = [
            FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let files = sets.iter().flat_map(|set| FileDescriptorSet::decode(*set).expect("descriptors").file);
        Self { files: files.collect() }
    }

    fn messages(&self) -> HashMap<String, &DescriptorProto> {
        let mut messages = HashMap::new();
        for file in &self.files {
            for message in &file.message_type {
                messages.insert(format!(".{}.{}", file.package(), message.name()), message);
            }
        }
        messages
    }

    /// Each RPC that somebody outside can call, with the type of its request.
    fn rpcs(&self) -> Vec<(String, String)> {
        let mut rpcs = Vec::new();
        for file in &self.files {
            for service in &file.service {
                for method in &service.method {
                    let rpc = format!("{}.{}/{}", file.package(), service.name(), method.name());
                    rpcs.push((rpc, method.input_type().to_owned()));
                }
            }
        }
        rpcs.retain(|(rpc, _)| !INSIDE.contains(&rpc.as_str()));
        rpcs
    }
}

/// Each RPC that somebody outside can call.
pub fn rpcs() -> Vec<String> {
    Files::read().rpcs().into_iter().map(|(rpc, _)| rpc).collect()
}

/// Each field of text or bytes of their requests.
pub fn fields() -> Vec<Field> {
    let files = Files::read();
    let messages = files.messages();
    let mut fields = Vec::new();
    for (rpc, request) in files.rpcs() {
        for (path, way) in below(&messages, &request, 0) {
            fields.push(Field { rpc: rpc.clone(), path, way });
        }
    }
    fields
}

type Way = (String, Vec<(u32, Vec<u8>)>);

fn below(messages: &HashMap<String, &DescriptorProto>, of: &str, depth: usize) -> Vec<Way> {
    let Some(message) = messages.get(of).filter(|_| depth < DEPTH) else { return Vec::new() };
    let mut found = Vec::new();
    for field in &message.field {
        let number = u32::try_from(field.number()).expect("a field's number");
        match field.r#type() {
            Type::String | Type::Bytes => found.push((field.name().to_owned(), vec![(number, Vec::new())])),
            Type::Message => {
                for (path, way) in below(messages, field.type_name(), depth + 1) {
                    let way = [vec![(number, beside(field))], way].concat();
                    found.push((format!("{}.{path}", field.name()), way));
                }
            }
            _ => {}
        }
    }
    found
}

/// What else one more message of a list needs, so that the planted field of it is what is wrong with it.
fn beside(field: &FieldDescriptorProto) -> Vec<u8> {
    if field.label() != Label::Repeated {
        return Vec::new(); // it is merged with the one that is there
    }
    match field.type_name() {
        ".holdfast.v1.Answer" => {
            v1::Answer { question: "topic".to_owned(), value: "grief".to_owned() }.encode_to_vec()
        }
        ".holdfast.v1.Tag" => v1::Tag { name: "lang:en".to_owned(), level: 1 }.encode_to_vec(),
        ".holdfast.v1.SealedAssignment" => {
            v1::SealedAssignment { chat_id: "c-1".to_owned(), sealed: vec![1; 64] }.encode_to_vec()
        }
        _ => Vec::new(),
    }
}

#[test]
fn a_planted_field_holds_its_value_and_leaves_the_rest_of_the_request() {
    let all = fields();
    let field = |path: &str| all.iter().find(|field| field.rpc.ends_with("/RequestChat") && field.path == path);
    let request = v1::RequestChatRequest { helpline: "river".to_owned(), ..Default::default() };
    let planted = |path: &str| {
        let bytes = [request.encode_to_vec(), field(path).expect("a field").holding(b"x")].concat();
        v1::RequestChatRequest::decode(&*bytes).expect("a request")
    };
    assert_eq!(planted("locale"), v1::RequestChatRequest { locale: "x".to_owned(), ..request.clone() });
    let answer = v1::Answer { question: "topic".to_owned(), value: "x".to_owned() };
    assert_eq!(planted("answers.value"), v1::RequestChatRequest { answers: vec![answer], ..request.clone() });
    assert_eq!(planted("routing_steps.any_of.all_of.name").routing_steps[0].any_of[0].all_of[0].name, "x");
}

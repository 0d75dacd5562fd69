//! How does an API server write objects as protobuf? client-go asks for it, so CoreDNS reads in a
//! cluster a fifth of what it would read as JSON.
//!
//! Made from the JSON, so that both are the same objects. Field numbers are those of the `.proto`
//! files of k8s.io/api and k8s.io/apimachinery; a watch is a sequence of frames, each with its
//! length before it.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::store::Kind;

/// The media type of a list, and the begin of that of a watch.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What every object begins with.
const MAGIC: &[u8] = b"k8s\0";

/// A field: its name in JSON, its number, and what it holds.
struct Field(&'static str, u32, Holds);

/// What a field holds.
enum Holds {
    Text,
    Number,
    Flag,
    Time,
    Texts,
    /// From text to text.
    Map,
    Message(&'static [Field]),
    Messages(&'static [Field]),
    /// A text or a number; only texts are used here.
    IntOrString,
    /// JSON as it is, in the first field of a message.
    Json,
}

use Holds::{Flag, IntOrString, Json, Map, Message, Messages, Number, Text, Texts, Time};

const META: &[Field] = &[
    Field("name", 1, Text),
    Field("generateName", 2, Text),
    Field("namespace", 3, Text),
    Field("uid", 5, Text),
    Field("resourceVersion", 6, Text),
    Field("generation", 7, Number),
    Field("creationTimestamp", 8, Time),
    Field("labels", 11, Map),
    Field("annotations", 12, Map),
    Field("ownerReferences", 13, Messages(OWNER)),
    Field("managedFields", 17, Messages(MANAGED)),
];
const OWNER: &[Field] = &[
    Field("kind", 1, Text),
    Field("name", 3, Text),
    Field("uid", 4, Text),
    Field("apiVersion", 5, Text),
    Field("controller", 6, Flag),
    Field("blockOwnerDeletion", 7, Flag),
];
const MANAGED: &[Field] = &[
    Field("manager", 1, Text),
    Field("operation", 2, Text),
    Field("apiVersion", 3, Text),
    Field("time", 4, Time),
    Field("fieldsType", 6, Text),
    Field("fieldsV1", 7, Json),
];
const NAMESPACE: &[Field] = &[
    Field("metadata", 1, Message(META)),
    Field("spec", 2, Message(&[Field("finalizers", 1, Texts)])),
    Field("status", 3, Message(&[Field("phase", 1, Text)])),
];
const SERVICE: &[Field] =
    &[Field("metadata", 1, Message(META)), Field("spec", 2, Message(SERVICE_SPEC))];
const SERVICE_SPEC: &[Field] = &[
    Field("ports", 1, Messages(SERVICE_PORT)),
    Field("selector", 2, Map),
    Field("clusterIP", 3, Text),
    Field("type", 4, Text),
    Field("sessionAffinity", 7, Text),
    Field("ipFamilyPolicy", 17, Text),
    Field("clusterIPs", 18, Texts),
    Field("ipFamilies", 19, Texts),
    Field("internalTrafficPolicy", 22, Text),
];
const SERVICE_PORT: &[Field] = &[
    Field("name", 1, Text),
    Field("protocol", 2, Text),
    Field("port", 3, Number),
    Field("targetPort", 4, IntOrString),
];
const SLICE: &[Field] = &[
    Field("metadata", 1, Message(META)),
    Field("endpoints", 2, Messages(ENDPOINT)),
    Field("ports", 3, Messages(SLICE_PORT)),
    Field("addressType", 4, Text),
];
const SLICE_PORT: &[Field] =
    &[Field("name", 1, Text), Field("protocol", 2, Text), Field("port", 3, Number)];
const ENDPOINT: &[Field] = &[
    Field("addresses", 1, Texts),
    Field("conditions", 2, Message(CONDITIONS)),
    Field("hostname", 3, Text),
    Field("targetRef", 4, Message(REFERENCE)),
    Field("nodeName", 6, Text),
    Field("zone", 7, Text),
];
const CONDITIONS: &[Field] =
    &[Field("ready", 1, Flag), Field("serving", 2, Flag), Field("terminating", 3, Flag)];
const REFERENCE: &[Field] = &[
    Field("kind", 1, Text),
    Field("namespace", 2, Text),
    Field("name", 3, Text),
    Field("uid", 4, Text),
];
const STATUS: &[Field] = &[
    Field("status", 2, Text),
    Field("message", 3, Text),
    Field("reason", 4, Text),
    Field("code", 6, Number),
];
const LIST_META: &[Field] = &[
    Field("resourceVersion", 2, Text),
    Field("continue", 3, Text),
    Field("remainingItemCount", 4, Number),
];

/// An object from its JSON, without what stands before it in a watch.
pub fn object(kind: Kind, json: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(json).expect("we wrote it");
    encode(fields(kind.names().0), &value)
}

/// A list, from its JSON `metadata` and its objects.
pub fn list<'a>(kind: Kind, meta: &str, objects: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let meta: Value = serde_json::from_str(meta).expect("we wrote it");
    let (name, version) = kind.names();
    let mut body = Vec::new();
    put_octets(&mut body, 1, &encode(LIST_META, &meta));
    objects.for_each(|object| put_octets(&mut body, 2, object));
    envelope(version, &format!("{name}List"), &body)
}

/// A frame of a watch, from an object.
pub fn frame(kind: Kind, event: &str, object: &[u8]) -> Vec<u8> {
    let (name, version) = kind.names();
    framed(event, &envelope(version, name, object))
}

/// A frame of a watch, from its line in JSON.
pub fn frame_of_line(line: &[u8]) -> Vec<u8> {
    let line: Value = serde_json::from_slice(line).expect("we wrote it");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &line["object"];
    let (kind, version) = (text(&object["kind"]), text(&object["apiVersion"]));
    let body = encode(fields(&kind), object);
    framed(&text(&line["type"]), &envelope(&version, &kind, &body))
}

fn framed(event: &str, object: &[u8]) -> Vec<u8> {
    let (mut raw, mut body) = (Vec::new(), Vec::new());
    put_octets(&mut raw, 1, object);
    put_octets(&mut body, 1, event.as_bytes());
    put_octets(&mut body, 2, &raw);
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

fn envelope(api_version: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    put_octets(&mut types, 1, api_version.as_bytes());
    put_octets(&mut types, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    put_octets(&mut out, 1, &types);
    put_octets(&mut out, 2, body);
    out
}

fn fields(kind: &str) -> &'static [Field] {
    match kind {
        "Namespace" => NAMESPACE,
        "Service" => SERVICE,
        "EndpointSlice" => SLICE,
        "Status" => STATUS,
        _ => &[],
    }
}

fn encode(fields: &[Field], value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for Field(name, number, holds) in fields {
        if let Some(value) = value.get(name) {
            put(&mut out, *number, holds, value);
        }
    }
    out
}

fn put(out: &mut Vec<u8>, number: u32, holds: &Holds, value: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match holds {
        Text => put_octets(out, number, text(value).as_bytes()),
        Number => put_number(out, number, value.as_u64().unwrap_or_default()),
        Flag => put_number(out, number, value.as_bool().unwrap_or_default().into()),
        Message(fields) => put_octets(out, number, &encode(fields, value)),
        Texts => each(value, |one| put_octets(out, number, text(one).as_bytes())),
        Messages(fields) => each(value, |one| put_octets(out, number, &encode(fields, one))),
        Time => {
            let at: Timestamp = text(value).parse().expect("we wrote it");
            let mut time = Vec::new();
            put_number(&mut time, 1, at.as_second() as u64);
            put_octets(out, number, &time);
        }
        Map => {
            for (key, value) in value.as_object().into_iter().flatten() {
                let mut pair = Vec::new();
                put_octets(&mut pair, 1, key.as_bytes());
                put_octets(&mut pair, 2, text(value).as_bytes());
                put_octets(out, number, &pair);
            }
        }
        IntOrString => {
            let mut either = Vec::new();
            put_number(&mut either, 1, 1);
            put_octets(&mut either, 3, text(value).as_bytes());
            put_octets(out, number, &either);
        }
        Json => {
            let mut raw = Vec::new();
            put_octets(&mut raw, 1, value.to_string().as_bytes());
            put_octets(out, number, &raw);
        }
    }
}

fn each(value: &Value, take: impl FnMut(&Value)) {
    value.as_array().into_iter().flatten().for_each(take);
}

fn put_octets(out: &mut Vec<u8>, number: u32, octets: &[u8]) {
    put_varint(out, u64::from(number << 3 | 2));
    put_varint(out, octets.len() as u64);
    out.extend_from_slice(octets);
}

fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number << 3));
    put_varint(out, value);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

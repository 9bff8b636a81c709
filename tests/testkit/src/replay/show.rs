//! Outcomes as compact JSON in the trace's form, with long values shortened.

use serde_json::{Value as Json, json};

use super::answer::Answer;
use crate::trace::{Expected, Symbols};
use crate::wire::Failure;

/// The length of the longest bytes that are shown in full.
const LONGEST: usize = 96;

pub fn expected(expected: &Expected) -> String {
    match expected {
        Expected::Answer(answer) => json!({ "resp": shortened(answer) }).to_string(),
        Expected::Error(failure) => error(failure),
        Expected::Later => "an answer in a later step".to_owned(),
    }
}

pub fn outcome(got: &Result<Answer, Failure>, symbols: &Symbols) -> String {
    match got {
        Ok(answer) => json!({ "resp": to_json(answer, symbols) }).to_string(),
        Err(failure) => error(failure),
    }
}

fn error(Failure { code, message }: &Failure) -> String {
    json!({ "err": { "code": code, "message": message } }).to_string()
}

pub fn answer(answer: &Answer, symbols: &Symbols) -> String {
    to_json(answer, symbols).to_string()
}

pub fn json(json: &Json) -> String {
    shortened(json).to_string()
}

fn to_json(answer: &Answer, symbols: &Symbols) -> Json {
    match answer {
        Answer::Unset => Json::Null,
        Answer::Flag(flag) => (*flag).into(),
        Answer::Integer(number) | Answer::Seconds(number) => (*number).into(),
        Answer::Id(id) => symbols.name(*id).map_or_else(|| (*id).into(), Json::from),
        Answer::Text(text) => text.as_str().into(),
        Answer::Bytes(bytes) => bytes_to_json(bytes),
        Answer::List(elements) => elements.iter().map(|element| to_json(element, symbols)).collect(),
        Answer::Message(fields) | Answer::Pair(fields) => Json::Object(
            fields.iter().map(|(name, value)| ((*name).to_owned(), to_json(value, symbols))).collect(),
        ),
    }
}

fn bytes_to_json(bytes: &[u8]) -> Json {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    match bytes {
        [first, rest @ ..] if bytes.len() > LONGEST && rest.iter().all(|byte| byte == first) => {
            json!({ "repeat": { "hex": hex(&[*first]), "count": bytes.len() } })
        }
        _ => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains(is_control) => shortened(&text.into()),
            _ => json!({ "hex": shortened(&hex(bytes).into()) }),
        },
    }
}

/// Returns whether a string with this character is shown in hexadecimal.
fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

fn shortened(json: &Json) -> Json {
    match json {
        Json::String(text) if text.len() > LONGEST => {
            let start: String = text.chars().take(LONGEST / 2).collect();
            format!("{start}… ({} bytes)", text.len()).into()
        }
        Json::Array(elements) => elements.iter().map(shortened).collect(),
        Json::Object(members) => {
            Json::Object(members.iter().map(|(name, value)| (name.clone(), shortened(value))).collect())
        }
        _ => json.clone(),
    }
}

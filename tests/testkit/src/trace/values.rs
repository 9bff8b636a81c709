//! Values with a special form in a trace: bytes, integers, and lease ids that the server chose.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::error::Problem;

/// The values of the symbolic ids (`$lease1`, …).
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    ids: BTreeMap<String, i64>,
}

/// A piece of a template.
enum Piece<'a> {
    Text(&'a str),
    /// A symbol, which is in hexadecimal in the bytes.
    Symbol(&'a str),
}

impl Symbols {
    /// Returns an id that is written as a number or as a symbol.
    pub fn id(&self, field: &str, json: &Json) -> Result<i64, Problem> {
        match json {
            Json::String(symbol) => self.ids.get(symbol).copied().ok_or_else(|| unbound(field, symbol)),
            _ => integer(field, json),
        }
    }

    /// Returns bytes in any of their forms.
    pub fn bytes(&self, field: &str, json: &Json) -> Result<Vec<u8>, Problem> {
        let wrong = || not_a(field, "bytes", json);
        if let Json::String(text) = json {
            return Ok(text.clone().into_bytes());
        }
        let (form, inner) = only_member(json).ok_or_else(wrong)?;
        match form {
            "hex" => inner.as_str().and_then(from_hex).ok_or_else(wrong),
            "repeat" => repeated(inner).ok_or_else(wrong),
            "tmpl" => {
                let mut bytes = Vec::new();
                for piece in pieces(inner.as_str().ok_or_else(wrong)?) {
                    match piece {
                        Piece::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                        Piece::Symbol(symbol) => {
                            let id = self.ids.get(symbol).ok_or_else(|| unbound(field, symbol))?;
                            bytes.extend_from_slice(format!("{id:x}").as_bytes());
                        }
                    }
                }
                Ok(bytes)
            }
            _ => Err(wrong()),
        }
    }

    /// Returns the symbol of an id that the server chose.
    pub fn name(&self, id: i64) -> Option<&str> {
        self.ids.iter().find(|(_, bound)| **bound == id).map(|(symbol, _)| symbol.as_str())
    }

    /// Returns whether `id` is the value of `json`. An unbound symbol is bound to an id that a server can choose.
    pub fn accepts_id(&mut self, json: &Json, id: i64) -> bool {
        match json {
            Json::String(symbol) if is_symbol(symbol) => match self.ids.get(symbol) {
                Some(bound) => *bound == id,
                None => self.bind(symbol, id),
            },
            _ => json.as_i64() == Some(id),
        }
    }

    /// Returns whether `bytes` are the value of `json`. A template binds its unbound symbols.
    pub fn accepts_bytes(&mut self, json: &Json, bytes: &[u8]) -> bool {
        if let Some(("tmpl", Json::String(template))) = only_member(json) {
            self.bind_template(template, bytes);
        }
        self.bytes("", json).is_ok_and(|wanted| wanted == bytes)
    }

    /// Binds every symbol in an answer to a placeholder, so the lines after it can be read before a replay.
    pub fn declare(&mut self, answer: &Json) {
        match answer {
            Json::String(text) if is_symbol(text) => self.declare_symbol(text),
            Json::Array(elements) => elements.iter().for_each(|element| self.declare(element)),
            Json::Object(members) => {
                if let Some(("tmpl", Json::String(template))) = only_member(answer) {
                    for piece in pieces(template) {
                        if let Piece::Symbol(symbol) = piece {
                            self.declare_symbol(symbol);
                        }
                    }
                }
                members.values().for_each(|member| self.declare(member));
            }
            _ => {}
        }
    }

    fn declare_symbol(&mut self, symbol: &str) {
        let stand_in = self.ids.len() as i64 + 1;
        self.ids.entry(symbol.to_owned()).or_insert(stand_in);
    }

    fn bind(&mut self, symbol: &str, id: i64) -> bool {
        if id > 0 {
            self.ids.insert(symbol.to_owned(), id);
        }
        id > 0
    }

    /// Binds the symbols of a template to the ids in the bytes. The caller checks whether the bytes match as a whole.
    fn bind_template(&mut self, template: &str, mut bytes: &[u8]) {
        for piece in pieces(template) {
            let taken = match piece {
                Piece::Text(text) => text.len(),
                Piece::Symbol(symbol) => {
                    let digits = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                    let text = std::str::from_utf8(&bytes[..digits]).unwrap_or_default();
                    if let (Ok(id), false) = (i64::from_str_radix(text, 16), self.ids.contains_key(symbol)) {
                        self.bind(symbol, id);
                    }
                    digits
                }
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }
}

pub fn integer(field: &str, json: &Json) -> Result<i64, Problem> {
    json.as_i64().ok_or_else(|| not_a(field, "a 64-bit integer", json))
}

pub fn text(field: &str, json: &Json) -> Result<String, Problem> {
    json.as_str().map(str::to_owned).ok_or_else(|| not_a(field, "a string", json))
}

pub fn not_a(field: &str, wanted: &'static str, found: &Json) -> Problem {
    let found = found.to_string().chars().take(80).collect();
    Problem::NotA { field: field.to_owned(), wanted, found }
}

fn unbound(field: &str, symbol: &str) -> Problem {
    Problem::UnboundSymbol { field: field.to_owned(), symbol: symbol.to_owned() }
}

fn is_symbol(text: &str) -> bool {
    let digits = text.strip_prefix("$lease").unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the name and value of the only member of an object.
fn only_member(json: &Json) -> Option<(&str, &Json)> {
    let mut members = json.as_object()?.iter();
    let (name, value) = members.next()?;
    members.next().is_none().then_some((name, value))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| (digit as char).to_digit(16);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()).collect()
}

fn repeated(json: &Json) -> Option<Vec<u8>> {
    let count = usize::try_from(json.get("count")?.as_u64()?).ok()?;
    let unit = json.get("hex")?.as_str().and_then(from_hex)?;
    // A larger count is a mistake in the trace, and its bytes could exhaust the memory.
    (unit.len().checked_mul(count)? <= 1 << 26).then(|| unit.repeat(count))
}

/// Splits a template at its symbols, such as `<$lease1>`.
fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("<$") {
        let Some((name, tail)) = after.split_once('>') else { break };
        let symbol = &rest[before.len() + 1..before.len() + 2 + name.len()];
        found.push(Piece::Text(before));
        found.push(Piece::Symbol(symbol));
        rest = tail;
    }
    found.push(Piece::Text(rest));
    found
}

//! Compares an answer with the recorded one, field by field.

use serde_json::{Map, Value as Json};

use super::answer::Answer;
use super::show;
use crate::trace::Symbols;

/// The first difference between an answer and the recorded one, in the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub field: String,
    pub what: String,
}

impl Difference {
    pub fn new(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self { field: field.into(), what: what.into() }
    }
}

/// The comparison of one answer. It binds symbols at their first use.
pub struct Comparison<'a> {
    symbols: &'a mut Symbols,
    events: usize,
}

impl<'a> Comparison<'a> {
    pub fn new(symbols: &'a mut Symbols) -> Self {
        Self { symbols, events: 0 }
    }

    /// Returns the number of compared pairs.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Compares a whole answer. If `unordered` is set, the order of its leases does not matter.
    pub fn answer(&mut self, pattern: &Json, answer: &Answer, unordered: bool) -> Result<(), Difference> {
        if let (true, Answer::Message(fields), Some(leases)) = (unordered, answer, pattern.get("leases")) {
            let sorted = fields.iter().map(|(name, value)| match value {
                Answer::List(ids) => (*name, Answer::List(self.in_recorded_order(leases, ids))),
                _ => (*name, value.clone()),
            });
            let sorted = Answer::Message(sorted.collect());
            return self.value("resp", pattern, &sorted);
        }
        self.value("resp", pattern, answer)
    }

    fn value(&mut self, field: &str, pattern: &Json, answer: &Answer) -> Result<(), Difference> {
        let same = match answer {
            Answer::Unset => pattern.is_null(),
            Answer::Flag(flag) => pattern.as_bool() == Some(*flag),
            Answer::Integer(number) => pattern.as_i64() == Some(*number),
            Answer::Seconds(seconds) => accepts_seconds(pattern, *seconds),
            Answer::Id(id) => self.symbols.accepts_id(pattern, *id),
            Answer::Text(text) => pattern.as_str() == Some(text),
            Answer::Bytes(bytes) => self.symbols.accepts_bytes(pattern, bytes),
            Answer::List(elements) => match pattern {
                Json::Array(patterns) => return self.list(field, patterns, elements),
                _ => false,
            },
            Answer::Message(fields) | Answer::Pair(fields) => match pattern {
                Json::Object(patterns) => {
                    self.events += usize::from(matches!(answer, Answer::Pair(_)));
                    return self.fields(field, patterns, fields);
                }
                _ => false,
            },
        };
        if same {
            return Ok(());
        }
        let (got, wanted) = (show::answer(answer, self.symbols), show::json(pattern));
        Err(Difference::new(field, format!("{got} instead of {wanted}")))
    }

    fn list(&mut self, field: &str, patterns: &[Json], elements: &[Answer]) -> Result<(), Difference> {
        for (index, (pattern, element)) in patterns.iter().zip(elements).enumerate() {
            self.value(&format!("{field}[{index}]"), pattern, element)?;
        }
        if patterns.len() == elements.len() {
            return Ok(());
        }
        Err(Difference::new(field, format!("{} elements instead of {}", elements.len(), patterns.len())))
    }

    fn fields(
        &mut self,
        field: &str,
        patterns: &Map<String, Json>,
        fields: &[(&'static str, Answer)],
    ) -> Result<(), Difference> {
        for (name, pattern) in patterns {
            let field = format!("{field}.{name}");
            match fields.iter().find(|(answered, _)| answered == name) {
                Some((_, answer)) => self.value(&field, pattern, answer)?,
                None => return Err(Difference::new(field, "is not in the answer")),
            }
        }
        match fields.iter().find(|(name, _)| !patterns.contains_key(*name)) {
            Some((name, _)) => Err(Difference::new(format!("{field}.{name}"), "is not recorded")),
            None => Ok(()),
        }
    }

    /// Returns the ids in the recorded order as far as possible. Unbound names take the remaining ids, in their order.
    fn in_recorded_order(&self, patterns: &Json, ids: &[Answer]) -> Vec<Answer> {
        let mut left = ids.to_vec();
        let mut places: Vec<Option<Answer>> = Vec::new();
        for pattern in patterns.as_array().into_iter().flatten() {
            // Compare with a copy of the symbols, so a trial binds no symbol.
            let fits = |id: &Answer| {
                let known = pattern.get("ID").is_some_and(|id| self.symbols.id("", id).is_ok());
                known && Comparison::new(&mut self.symbols.clone()).value("", pattern, id).is_ok()
            };
            places.push(left.iter().position(fits).map(|place| left.remove(place)));
        }
        let mut left = left.into_iter();
        let mut ordered: Vec<_> =
            places.into_iter().filter_map(|place| place.or_else(|| left.next())).collect();
        ordered.extend(left);
        ordered
    }
}

/// Compares the time left of a lease, which can be recorded as an inclusive range.
fn accepts_seconds(pattern: &Json, seconds: i64) -> bool {
    let bound = |name| pattern.get(name).and_then(Json::as_i64);
    match (pattern, bound("ge"), bound("le")) {
        (Json::Object(bounds), Some(ge), Some(le)) => bounds.len() == 2 && (ge..=le).contains(&seconds),
        _ => pattern.as_i64() == Some(seconds),
    }
}

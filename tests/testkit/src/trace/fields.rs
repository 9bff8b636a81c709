//! Reads the fields of a JSON object, each with its default, and refuses unknown fields.

use serde_json::{Map, Value as Json};

use super::error::Problem;
use super::values::{self, Symbols};

/// An object that is being read. [`Fields::finish`] must be called last.
pub struct Fields<'a> {
    path: String,
    map: &'a Map<String, Json>,
    symbols: &'a Symbols,
    read: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub fn new(path: &str, json: &'a Json, symbols: &'a Symbols) -> Result<Self, Problem> {
        let map = json.as_object().ok_or_else(|| values::not_a(path, "an object", json))?;
        Ok(Self { path: path.to_owned(), map, symbols, read: Vec::new() })
    }

    /// Returns the field's JSON, if the field is present.
    pub fn any(&mut self, name: &'static str) -> Option<&'a Json> {
        self.read.push(name);
        self.map.get(name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Returns the field's full name.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub fn integer(&mut self, name: &'static str) -> Result<i64, Problem> {
        self.any(name).map_or(Ok(0), |json| values::integer(&self.path(name), json))
    }

    /// Returns a lease id, which is a number or a name.
    pub fn id(&mut self, name: &'static str) -> Result<i64, Problem> {
        self.any(name).map_or(Ok(0), |json| self.symbols.id(&self.path(name), json))
    }

    pub fn flag(&mut self, name: &'static str) -> Result<bool, Problem> {
        let Some(json) = self.any(name) else { return Ok(false) };
        json.as_bool().ok_or_else(|| values::not_a(&self.path(name), "true or false", json))
    }

    pub fn bytes(&mut self, name: &'static str) -> Result<Vec<u8>, Problem> {
        self.any(name).map_or(Ok(Vec::new()), |json| self.symbols.bytes(&self.path(name), json))
    }

    /// Returns the index of the field's name among `names`. The default is the first.
    pub fn one_of(&mut self, name: &'static str, names: &[&str]) -> Result<i32, Problem> {
        let Some(json) = self.any(name) else { return Ok(0) };
        let place = json.as_str().and_then(|found| names.iter().position(|name| *name == found));
        let number = place.and_then(|place| i32::try_from(place).ok());
        number.ok_or_else(|| values::not_a(&self.path(name), "one of the names of its enum", json))
    }

    pub fn optional_text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        self.any(name).map(|json| values::text(&self.path(name), json)).transpose()
    }

    pub fn required_text(&mut self, name: &'static str) -> Result<String, Problem> {
        self.optional_text(name)?.ok_or_else(|| Problem::MissingField(self.path(name)))
    }

    pub fn list(&mut self, name: &'static str) -> Result<&'a [Json], Problem> {
        let Some(json) = self.any(name) else { return Ok(&[]) };
        json.as_array().map(Vec::as_slice).ok_or_else(|| values::not_a(&self.path(name), "a list", json))
    }

    /// Returns the elements of a list, each as an object.
    pub fn children(&mut self, name: &'static str) -> Result<Vec<Self>, Problem> {
        let path = self.path(name);
        let elements = self.list(name)?.iter().enumerate();
        elements.map(|(index, json)| Self::new(&format!("{path}[{index}]"), json, self.symbols)).collect()
    }

    pub fn child(&mut self, name: &'static str) -> Result<Option<Self>, Problem> {
        let path = self.path(name);
        self.any(name).map(|json| Self::new(&path, json, self.symbols)).transpose()
    }

    /// Returns the only member of an object with its name, or `None` for an empty object.
    pub fn only_child(&self) -> Result<Option<(&'a str, Self)>, Problem> {
        if self.map.len() > 1 {
            return Err(Problem::TooMany(self.path.clone()));
        }
        let Some((name, json)) = self.map.iter().next() else { return Ok(None) };
        Ok(Some((name, Self::new(&self.path(name), json, self.symbols)?)))
    }

    /// Returns an error if the object has a field that was not read.
    pub fn finish(self) -> Result<(), Problem> {
        match self.map.keys().find(|key| !self.read.contains(&key.as_str())) {
            Some(key) => Err(Problem::UnknownField(self.path(key))),
            None => Ok(()),
        }
    }
}

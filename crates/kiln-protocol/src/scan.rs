//! Finds the end of a message in bytes that come in pieces, looking at each byte's place once.
//!
//! Nothing is decoded here and nothing is held but the way to the current place in the message's [`Shape`], which is
//! as deep as shapes are nested: a handful of entries.

use crate::error::{Fault, ReadError};
use crate::shape::{Field, Shape};
use crate::version::Version;

/// Bytes of a number.
pub(crate) const NUMBER: usize = 8;

/// Something of the shape that is still to come.
#[derive(Debug, Clone, Copy)]
enum Todo {
    Value(&'static Shape),
    Fields { name: &'static str, fields: &'static [Field], current: Option<&'static str> },
    Elements { element: &'static Shape, missing: u64 },
}

/// Where the scan of one message is.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    todo: Vec<Todo>,
    /// Where the next number or string begins.
    position: usize,
}

/// What a scan came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The message has this many bytes.
    Complete(usize),
    /// The message has at least this many bytes, which is more than there are.
    Needs(usize),
}

/// The next string's or number's bytes aren't all there: where they would end.
struct Missing(usize);

enum Stop {
    Missing(Missing),
    Fault(Fault),
}

impl From<Missing> for Stop {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Scan {
    pub(crate) fn new(shape: &'static Shape) -> Self {
        Self { todo: vec![Todo::Value(shape)], position: 0 }
    }

    /// Goes on with what there is of the message: `bytes` from its beginning, as before and perhaps more.
    pub(crate) fn advance(&mut self, bytes: &[u8], version: Version) -> Result<Progress, ReadError> {
        while let Some(todo) = self.todo.last().copied() {
            match self.step(todo, bytes, version) {
                Ok(()) => {}
                Err(Stop::Missing(Missing(end))) => return Ok(Progress::Needs(end)),
                Err(Stop::Fault(fault)) => return Err(ReadError::at(self.path(), fault)),
            }
        }
        Ok(Progress::Complete(self.position))
    }

    fn step(&mut self, todo: Todo, bytes: &[u8], version: Version) -> Result<(), Stop> {
        match todo {
            Todo::Value(shape) => self.value(shape, bytes),
            Todo::Fields { name, fields, .. } => {
                self.todo.pop();
                if let Some((field, rest)) = fields.split_first() {
                    self.todo.push(Todo::Fields { name, fields: rest, current: Some(field.name) });
                    if field.versions.contains(version) {
                        self.todo.push(Todo::Value(&field.shape));
                    }
                }
                Ok(())
            }
            Todo::Elements { element, missing } => {
                self.todo.pop();
                if let Some(missing) = missing.checked_sub(1) {
                    self.todo.push(Todo::Elements { element, missing });
                    self.todo.push(Todo::Value(element));
                }
                Ok(())
            }
        }
    }

    /// Reads what the value begins with, and replaces the value by what is left of it.
    fn value(&mut self, shape: &'static Shape, bytes: &[u8]) -> Result<(), Stop> {
        match *shape {
            Shape::Number => {
                self.number(bytes)?;
                self.todo.pop();
            }
            Shape::Bytes { limit } => {
                self.string(bytes, limit)?;
                self.todo.pop();
            }
            Shape::Fields { name, fields } => {
                self.todo.pop();
                self.todo.push(Todo::Fields { name, fields, current: None });
            }
            Shape::List { limit, element } => {
                let start = self.position;
                let count = self.number(bytes)?;
                if count > limit {
                    self.position = start;
                    return Err(Fault::TooMany { count, limit }.into());
                }
                self.todo.pop();
                self.todo.push(Todo::Elements { element, missing: count });
            }
            Shape::Optional(value) => {
                let tag = self.number(bytes)?;
                self.todo.pop();
                if tag != 0 {
                    self.todo.push(Todo::Value(value));
                }
            }
            Shape::Choice { name, cases } => {
                let tag = self.number(bytes)?;
                let Some(case) = cases.iter().find(|case| case.tag == tag) else {
                    return Err(Fault::Unknown { what: name, number: tag }.into());
                };
                self.todo.pop();
                self.todo.push(Todo::Value(&case.shape));
            }
            Shape::Terminated { limit, rest } => {
                if self.string(bytes, limit)? == 0 {
                    self.todo.pop();
                } else {
                    self.todo.push(Todo::Value(rest));
                }
            }
        }
        Ok(())
    }

    fn number(&mut self, bytes: &[u8]) -> Result<u64, Missing> {
        let (number, end) = number_at(bytes, self.position)?;
        self.position = end;
        Ok(number)
    }

    /// Passes a string, and returns its length.
    fn string(&mut self, bytes: &[u8], limit: usize) -> Result<usize, Stop> {
        let (stated, start) = number_at(bytes, self.position)?;
        let length = usize::try_from(stated).unwrap_or(usize::MAX);
        if length > limit {
            return Err(Fault::TooLong { length: stated, limit }.into());
        }
        let padded_end = start.saturating_add(length.next_multiple_of(NUMBER));
        let padding = bytes.get(start.saturating_add(length)..padded_end).ok_or(Missing(padded_end))?;
        if padding.iter().any(|&byte| byte != 0) {
            return Err(Fault::NonZeroPadding.into());
        }
        self.position = padded_end;
        Ok(length)
    }

    /// Names of what is being scanned, from the outermost.
    fn path(&self) -> Vec<&'static str> {
        let mut path = Vec::new();
        for todo in &self.todo {
            if let Todo::Fields { name, current, .. } = todo {
                if path.is_empty() {
                    path.push(*name);
                }
                path.extend(*current);
            }
        }
        path
    }
}

/// The number at `position`, and where it ends.
fn number_at(bytes: &[u8], position: usize) -> Result<(u64, usize), Missing> {
    let end = position.saturating_add(NUMBER);
    let number = bytes.get(position..).and_then(|rest| rest.first_chunk()).ok_or(Missing(end))?;
    Ok((u64::from_le_bytes(*number), end))
}

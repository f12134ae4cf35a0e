//! What the rules about a query look at, and what they found.

use std::collections::{HashMap, HashSet};

use super::schema::{Schema, name_of, named, part};
use super::tree::{Definition, Field, Fragment, Operation, Part, Query, Variable};
use crate::rego::call::Call;
use crate::rego::failure::Failure;

/// Selections and values within one another, fragments included.
const MAX_DEPTH: usize = 128;

/// A query beside its schema.
pub(super) struct Context<'a, 'c> {
    pub call: &'c mut Call,
    pub schema: &'a Schema,
    pub query: &'a Query,
    fragments: HashMap<&'a str, &'a Fragment>,
    /// The field that each type has.
    type_name: &'a Part,
    /// The operation that is looked at, if any.
    pub operation: Option<&'a Operation>,
    /// The variables that it uses.
    pub used: HashSet<&'a str>,
    depth: usize,
    /// Bytes of what is kept for the rules beside the documents.
    held: usize,
    problem: Option<String>,
}

impl<'a, 'c> Context<'a, 'c> {
    pub fn new(call: &'c mut Call, schema: &'a Schema, query: &'a Query, type_name: &'a Part) -> Self {
        let mut fragments = HashMap::new();
        for fragment in &query.fragments {
            // The first one of a name.
            fragments.entry(fragment.name.as_str()).or_insert(fragment);
        }
        let (operation, used, problem) = (None, HashSet::new(), None);
        Self { call, schema, query, fragments, type_name, operation, used, depth: 0, held: 0, problem }
    }

    /// Notes what is wrong. The rest is looked at all the same, since OPA's process may end by it.
    pub fn wrong(&mut self, what: impl FnOnce() -> String) {
        if self.problem.is_none() {
            self.problem = Some(what());
        }
    }

    /// What is wrong, if anything.
    pub fn problem(self) -> Result<(), Failure> {
        self.problem.map_or(Ok(()), Failure::error)
    }

    /// Pays for a step of work.
    pub fn step(&mut self) -> Result<(), Failure> {
        self.call.take(1)
    }

    /// Counts bytes that a rule keeps.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Failure> {
        self.held = self.held.saturating_add(bytes);
        self.call.fits(self.held)
    }

    /// Bytes that it keeps no longer.
    pub const fn release(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(bytes);
    }

    /// Goes down by one.
    pub fn enter(&mut self) -> Result<(), Failure> {
        if self.depth >= MAX_DEPTH {
            return Err(Failure::Halt("a query that is nested so deeply is not looked at here".into()));
        }
        self.depth = self.depth.saturating_add(1);
        Ok(())
    }

    /// Goes up again.
    pub const fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Does something one further down.
    pub fn within<T>(&mut self, go: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        self.enter()?;
        let found = go(self);
        self.leave();
        found
    }

    pub fn fragment(&self, name: &str) -> Option<&'a Fragment> {
        self.fragments.get(name).copied()
    }

    /// The variable of a name that the operation defines.
    pub fn variable(&mut self, name: &str) -> Result<Option<&'a Variable>, Failure> {
        let Some(operation) = self.operation else { return Ok(None) };
        named(self.call, &operation.variables, |variable| &variable.name, name)
    }

    /// The definition of the field of a type.
    pub fn field(
        &mut self,
        field: &Field,
        parent: Option<&'a Definition>,
    ) -> Result<Option<&'a Part>, Failure> {
        match parent {
            _ if field.name == "__typename" => Ok(Some(self.type_name)),
            Some(parent) => part(self.call, &parent.fields, &field.name),
            None => Ok(None),
        }
    }

    /// The definition of the type of a field or an argument.
    pub fn definition_of(&self, part: &Part) -> Result<Option<&'a Definition>, Failure> {
        Ok(self.schema.definition(name_of(part.of.as_ref())?))
    }
}

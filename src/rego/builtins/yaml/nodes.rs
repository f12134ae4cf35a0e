//! The nodes of the documents of a text of YAML, from its tokens (`go.yaml.in/yaml/v3:parserc.go`). They stand in a list, since an alias is the
//! same node as its anchor.

use std::collections::HashMap;

use super::cursor::{unread, wrong};
use super::marks::Tag;
use super::resolve;
use super::scanner::{Scanner, Token};
use crate::rego::call::Call;
use crate::rego::failure::Failure;

/// Nodes within one another: each takes a part of the stack.
pub(super) const MAX_DEPTH: usize = 128;

#[derive(Debug)]
pub(super) enum Node {
    /// A text, and the type that it has.
    Scalar(String, Tag),
    Sequence(Vec<usize>),
    Mapping(Vec<(usize, usize)>),
    /// The name of an anchor, and its node.
    Alias(String, usize),
}

impl Node {
    /// Whether it is the key of members that are taken over.
    pub const fn is_merge(&self) -> bool {
        matches!(self, Self::Scalar(_, Tag::Merge))
    }
}

/// The first document of a text, whose other documents can be read too.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub nodes: Vec<Node>,
    /// `None` where there is no document.
    pub root: Option<usize>,
}

impl Document {
    pub fn read(call: &mut Call, text: &str) -> Result<Self, Failure> {
        let scanner = Scanner::new(text)?;
        let mut composer = Composer { scanner, call, nodes: Vec::new(), anchors: HashMap::new() };
        let (mut first, mut is_first) = (None, true);
        while composer.begin(is_first)? {
            let root = composer.document()?;
            first.get_or_insert((root, composer.nodes.len()));
            is_first = false;
        }
        let Some((root, count)) = first else { return Ok(Self::default()) };
        let mut nodes = composer.nodes;
        nodes.truncate(count);
        Ok(Self { nodes, root: Some(root) })
    }

    pub fn node(&self, node: usize) -> Result<&Node, Failure> {
        self.nodes.get(node).map_or_else(|| unread("an unknown node"), Ok)
    }

    /// The node that an alias is.
    pub fn target(&self, node: usize) -> Result<&Node, Failure> {
        match self.node(node)? {
            Node::Alias(_, target) => self.node(*target),
            other => Ok(other),
        }
    }
}

/// What stands before a node.
#[derive(Debug, Default)]
struct Marks {
    anchor: Option<String>,
    tag: Option<Tag>,
    are_there: bool,
}

struct Composer<'c> {
    scanner: Scanner,
    call: &'c mut Call,
    nodes: Vec<Node>,
    /// The last node of each name; they are those of earlier documents too.
    anchors: HashMap<String, usize>,
}

impl Composer<'_> {
    fn peek(&mut self) -> Result<&Token, Failure> {
        self.scanner.peek(self.call)
    }

    fn take(&mut self) -> Result<Token, Failure> {
        self.scanner.take(self.call)
    }

    /// Whether the next token is this one, which is then taken.
    fn eat(&mut self, token: &Token) -> Result<bool, Failure> {
        let is_next = self.peek()? == token;
        if is_next {
            self.take()?;
        }
        Ok(is_next)
    }

    fn is_one_of(&mut self, tokens: &[Token]) -> Result<bool, Failure> {
        Ok(tokens.contains(self.peek()?))
    }

    fn wrong<T>(&self, what: &str) -> Result<T, Failure> {
        wrong(self.scanner.line(), what)
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len().saturating_sub(1)
    }

    fn set(&mut self, place: usize, node: Node) {
        if let Some(place) = self.nodes.get_mut(place) {
            *place = node;
        }
    }

    fn empty(&mut self) -> usize {
        self.add(Node::Scalar(String::new(), Tag::Null))
    }

    /// Whether a document begins, behind its directives.
    fn begin(&mut self, is_first: bool) -> Result<bool, Failure> {
        while !is_first && self.eat(&Token::DocumentEnd)? {}
        let mut has_version = false;
        while let Token::Version(is_read) = *self.peek()? {
            if has_version || !is_read {
                return self.wrong("a second version, or another than 1.1");
            }
            has_version = true;
            self.take()?;
        }
        match self.peek()? {
            Token::StreamEnd if !has_version => Ok(false),
            Token::DocumentStart => Ok(true),
            _ if is_first && !has_version => Ok(true),
            _ => self.wrong("more behind the end of a document"),
        }
    }

    fn document(&mut self) -> Result<usize, Failure> {
        let ends = [
            Token::Version(true),
            Token::Version(false),
            Token::DocumentStart,
            Token::DocumentEnd,
            Token::StreamEnd,
        ];
        let is_marked = self.eat(&Token::DocumentStart)?;
        let root =
            if is_marked && self.is_one_of(&ends)? { self.empty() } else { self.node(true, false, 0)? };
        self.eat(&Token::DocumentEnd)?;
        Ok(root)
    }

    fn marks(&mut self) -> Result<Marks, Failure> {
        let mut marks = Marks::default();
        let mut has_tag = false;
        for _ in 0..2 {
            match self.peek()? {
                Token::Anchor(name) if marks.anchor.is_none() => {
                    marks.anchor = Some(name.clone());
                }
                Token::Tag(tag) if !has_tag => {
                    marks.tag = *tag;
                    has_tag = true;
                }
                _ => break,
            }
            self.take()?;
        }
        marks.are_there = has_tag || marks.anchor.is_some();
        Ok(marks)
    }

    /// A node, in a block or in brackets; a list that is the value of a key may be as deep as the key.
    fn node(&mut self, is_block: bool, may_be_list: bool, depth: usize) -> Result<usize, Failure> {
        if depth > MAX_DEPTH {
            return unread("more than 128 values within one another");
        }
        if let Token::Alias(name) = self.peek()? {
            let name = name.clone();
            self.take()?;
            let Some(target) = self.anchors.get(&name).copied() else {
                return self.wrong("an alias of an unknown anchor");
            };
            return Ok(self.add(Node::Alias(name, target)));
        }
        let marks = self.marks()?;
        // An anchor is known inside of its own node.
        let place = self.add(Node::Sequence(Vec::new()));
        if let Some(name) = marks.anchor {
            self.anchors.insert(name, place);
        }
        let depth = depth.saturating_add(1);
        let node = match self.peek()? {
            Token::BlockEntry if may_be_list => self.entries(false, depth)?,
            Token::Scalar(..) => {
                let Token::Scalar(text, is_plain) = self.take()? else { return self.wrong("no text") };
                let tag = marks.tag.unwrap_or_else(|| if is_plain { resolve::tag(&text) } else { Tag::Text });
                Node::Scalar(text, tag)
            }
            Token::FlowSequence => self.flow_sequence(depth)?,
            Token::FlowMapping => self.flow_mapping(depth)?,
            Token::BlockSequence if is_block => {
                self.take()?;
                self.entries(true, depth)?
            }
            Token::BlockMapping if is_block => self.mapping(depth)?,
            _ if marks.are_there => Node::Scalar(String::new(), marks.tag.unwrap_or(Tag::Null)),
            _ => return self.wrong("no value where one is expected"),
        };
        self.set(place, node);
        Ok(place)
    }

    /// A node where none of these tokens follows, and an empty one where one does.
    fn node_unless(
        &mut self,
        ends: &[Token],
        is_block: bool,
        may_be_list: bool,
        depth: usize,
    ) -> Result<usize, Failure> {
        if self.is_one_of(ends)? { Ok(self.empty()) } else { self.node(is_block, may_be_list, depth) }
    }

    /// The entries of a list, which ends with its block or, where it is as deep as its key, with the next key.
    fn entries(&mut self, has_block: bool, depth: usize) -> Result<Node, Failure> {
        let ends: &[Token] = if has_block {
            &[Token::BlockEntry, Token::BlockEnd]
        } else {
            &[Token::BlockEntry, Token::Key, Token::Value, Token::BlockEnd]
        };
        let mut items = Vec::new();
        while self.eat(&Token::BlockEntry)? {
            items.push(self.node_unless(ends, true, false, depth)?);
        }
        if has_block && !self.eat(&Token::BlockEnd)? {
            return self.wrong("no `-` where an entry of a list is expected");
        }
        Ok(Node::Sequence(items))
    }

    fn mapping(&mut self, depth: usize) -> Result<Node, Failure> {
        let ends = [Token::Key, Token::Value, Token::BlockEnd];
        self.take()?;
        let mut members = Vec::new();
        while self.eat(&Token::Key)? {
            let key = self.node_unless(&ends, true, true, depth)?;
            let value = if self.eat(&Token::Value)? {
                self.node_unless(&ends, true, true, depth)?
            } else {
                self.empty()
            };
            members.push((key, value));
        }
        if !self.eat(&Token::BlockEnd)? {
            return self.wrong("no key where one is expected");
        }
        Ok(Node::Mapping(members))
    }

    fn flow_sequence(&mut self, depth: usize) -> Result<Node, Failure> {
        self.take()?;
        let mut items = Vec::new();
        loop {
            if self.eat(&Token::FlowSequenceEnd)? {
                return Ok(Node::Sequence(items));
            }
            if !items.is_empty() && !self.eat(&Token::FlowEntry)? {
                return self.wrong("no `,` or `]` in a list");
            }
            if self.eat(&Token::Key)? {
                let place = self.add(Node::Sequence(Vec::new()));
                let member = self.pair(depth)?;
                self.set(place, Node::Mapping(vec![member]));
                items.push(place);
            } else if self.eat(&Token::FlowSequenceEnd)? {
                return Ok(Node::Sequence(items));
            } else {
                items.push(self.node(false, false, depth)?);
            }
        }
    }

    /// A key and a value in a list, which are a mapping of their own.
    fn pair(&mut self, depth: usize) -> Result<(usize, usize), Failure> {
        let ends = [Token::FlowEntry, Token::FlowSequenceEnd];
        let depth = depth.saturating_add(1);
        let key = if self.peek()? == &Token::Value || self.is_one_of(&ends)? {
            // What follows an empty key is lost, as it is in libyaml.
            self.take()?;
            self.empty()
        } else {
            self.node(false, false, depth)?
        };
        let value = if self.eat(&Token::Value)? {
            self.node_unless(&ends, false, false, depth)?
        } else {
            self.empty()
        };
        Ok((key, value))
    }

    fn flow_mapping(&mut self, depth: usize) -> Result<Node, Failure> {
        let ends = [Token::Value, Token::FlowEntry, Token::FlowMappingEnd];
        self.take()?;
        let mut members = Vec::new();
        loop {
            if self.eat(&Token::FlowMappingEnd)? {
                return Ok(Node::Mapping(members));
            }
            if !members.is_empty() && !self.eat(&Token::FlowEntry)? {
                return self.wrong("no `,` or `}` in a mapping");
            }
            if self.eat(&Token::Key)? {
                let key = self.node_unless(&ends, false, false, depth)?;
                let value = if self.eat(&Token::Value)? {
                    self.node_unless(&[Token::FlowEntry, Token::FlowMappingEnd], false, false, depth)?
                } else {
                    self.empty()
                };
                members.push((key, value));
            } else if self.eat(&Token::FlowMappingEnd)? {
                return Ok(Node::Mapping(members));
            } else {
                let key = self.node(false, false, depth)?;
                let value = self.empty();
                members.push((key, value));
            }
        }
    }
}

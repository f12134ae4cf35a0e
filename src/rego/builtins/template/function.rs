//! The names of the functions that a template may call, and how many arguments each takes.

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Or,
    Not,
    Len,
    Index,
    Slice,
    Print,
    Printf,
    Println,
    Html,
    Js,
    UrlQuery,
    Call,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Function {
    /// The function of a name.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "and" => Self::And,
            "or" => Self::Or,
            "not" => Self::Not,
            "len" => Self::Len,
            "index" => Self::Index,
            "slice" => Self::Slice,
            "print" => Self::Print,
            "printf" => Self::Printf,
            "println" => Self::Println,
            "html" => Self::Html,
            "js" => Self::Js,
            "urlquery" => Self::UrlQuery,
            "call" => Self::Call,
            "eq" => Self::Eq,
            "ne" => Self::Ne,
            "lt" => Self::Lt,
            "le" => Self::Le,
            "gt" => Self::Gt,
            "ge" => Self::Ge,
            _ => return None,
        })
    }

    /// Whether it takes so many arguments.
    pub const fn takes(self, count: usize) -> bool {
        match self {
            Self::Not | Self::Len => count == 1,
            Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge => count == 2,
            Self::Print | Self::Println | Self::Html | Self::Js | Self::UrlQuery => true,
            Self::And | Self::Or | Self::Index | Self::Slice | Self::Printf | Self::Call | Self::Eq => {
                count >= 1
            }
        }
    }
}

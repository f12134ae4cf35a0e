//! Why an image could not be read.

use thiserror::Error;

/// Why an image name or the bytes of an image could not be read. Cloneable, because concurrent reviews share one
/// look-up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The image name does not parse.
    #[error("could not parse the image name `{image}`: {message}")]
    ParseReference {
        /// As written.
        image: String,
        /// What is wrong with it.
        message: String,
    },
    /// Something exceeds its limit.
    #[error("{what} of `{image}` is larger than the limit of {limit} bytes{}", in_brackets(.setting))]
    TooLarge {
        /// As written.
        image: String,
        /// `the manifest`, `the config`, `layer sha256:…`.
        what: String,
        /// The limit in bytes.
        limit: u64,
        /// The setting that the limit follows from, as a sentence names it; empty where there is none.
        setting: &'static str,
    },
    /// Fetched bytes are malformed.
    #[error("could not read {what} of `{image}`: {message}")]
    Read {
        /// As written.
        image: String,
        /// `the manifest`, `the config`, `layer sha256:…`, `the locked app`.
        what: String,
        /// What is wrong with it.
        message: String,
    },
}

fn in_brackets(setting: &str) -> String {
    if setting.is_empty() { String::new() } else { format!(" ({setting})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_says_which_setting_it_exceeds_where_there_is_one() {
        let said = |setting| {
            let (image, what) = ("a:1".to_owned(), "the config".to_owned());
            Error::TooLarge { image, what, limit: 7, setting }.to_string()
        };
        assert_eq!(said(""), "the config of `a:1` is larger than the limit of 7 bytes");
        let named = "the config of `a:1` is larger than the limit of 7 bytes (`images.limits.config`)";
        assert_eq!(said("`images.limits.config`"), named);
    }
}

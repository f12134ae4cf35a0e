//! An error with its causes.

use std::error::Error;
use std::io;

/// Causes that are followed: a chain has a handful, and the bound is for one that comes back to itself.
const MOST: usize = 32;

/// An error and its causes, outermost first. Those inside of I/O errors are among them, which `source` leaves out.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |current| cause(*current)).take(MOST)
}

fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inside.map(|inner| inner as &'a (dyn Error + 'static)).or_else(|| error.source())
}

/// The messages of an error and its causes with colons between them. Many a message quotes its cause already, which is
/// then not said again. What they say may be foreign, and is not made harmless yet: messages keep their line breaks.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).fold(String::new(), |said, more| match said {
        said if said.is_empty() => more,
        said if said.contains(&more) => said,
        said => format!("{said}: {more}"),
    })
}

//! Rows in columns for a terminal.

use std::fmt::Write as _;

use anstyle::Style;

use super::words::{BOLD, DIM, blanks, columns, paint, wrap};

/// Blanks between columns.
const GAP: usize = 2;

/// A table of `N` columns. Each is as wide as its content, except the one that is broken into lines.
pub(in crate::cli) struct Table<const N: usize> {
    /// Names of the columns.
    pub header: [&'static str; N],
    /// Blanks before each line.
    pub indent: usize,
    /// The column, from 0, that is at most as wide as what the others leave.
    pub broken: usize,
    /// Columns of the terminal that it has on a narrow one.
    pub narrowest: usize,
}

/// A row of a table.
pub(in crate::cli) struct Row<const N: usize> {
    /// The text of each cell.
    pub cells: [String; N],
    /// The style of each cell.
    pub styles: [Style; N],
    /// A text below the row, in lines of their own.
    pub below: Option<String>,
}

impl<const N: usize> Table<N> {
    /// The header and the rows, in lines of `width` columns.
    pub fn text(&self, rows: &[Row<N>], width: usize) -> String {
        let widths = self.widths(rows, width);
        let mut out = self.lines(&self.header.map(String::from), &[BOLD; N], &widths);
        let indent = self.indent + GAP;
        for row in rows {
            out.push_str(&self.lines(&row.cells, &row.styles, &widths));
            for line in row.below.iter().flat_map(|text| wrap(text, width.saturating_sub(indent))) {
                // Writing to a string cannot fail, here and below.
                let _ = writeln!(out, "{}{}", blanks(indent), paint(DIM, &line));
            }
        }
        out
    }

    fn widths(&self, rows: &[Row<N>], width: usize) -> [usize; N] {
        let mut widths = self.header.map(columns);
        for row in rows {
            for (widest, cell) in widths.iter_mut().zip(&row.cells) {
                *widest = columns(cell).max(*widest);
            }
        }
        let others = widths.iter().enumerate().filter(|(column, _)| *column != self.broken);
        let others: usize = others.map(|(_, own)| own + GAP).sum();
        // Beside the last column there is nothing.
        let gap = if self.broken + 1 == N { 0 } else { GAP };
        if let Some(own) = widths.get_mut(self.broken) {
            *own = (*own).min(width.saturating_sub(self.indent + gap + others)).max(self.narrowest);
        }
        widths
    }

    /// One row, in as many lines as its longest cell needs.
    fn lines(&self, cells: &[String; N], styles: &[Style; N], widths: &[usize; N]) -> String {
        let cells: Vec<Vec<String>> =
            cells.iter().zip(widths).map(|(cell, width)| wrap(cell, *width)).collect();
        let mut out = String::new();
        for index in 0..cells.iter().map(Vec::len).max().unwrap_or_default() {
            let mut line = blanks(self.indent);
            for ((cell, style), width) in cells.iter().zip(styles).zip(widths) {
                let part = cell.get(index).map(String::as_str).unwrap_or_default();
                if !part.is_empty() {
                    line.push_str(&paint(*style, part));
                }
                line.push_str(&blanks(width.saturating_sub(columns(part)) + GAP));
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::{PLAIN, RED};
    use super::*;

    fn row(cells: [&str; 2], styles: [Style; 2], below: Option<&str>) -> Row<2> {
        Row { cells: cells.map(String::from), styles, below: below.map(String::from) }
    }

    /// The lines without colour.
    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn the_last_column_is_broken_to_what_the_others_leave() {
        let table = Table { header: ["NAME", "WHAT"], indent: 0, broken: 1, narrowest: 20 };
        let rows = [
            row(["a", "one two three four five\nsix"], [PLAIN, RED], None),
            row(["longer", ""], [PLAIN, RED], None),
        ];
        let text = table.text(&rows, 28);
        let expected = "NAME    WHAT\na       one two three four\n        five\n        six\nlonger\n";
        assert_eq!(plain(&text), expected);
        assert!(text.contains(&paint(RED, "five")) && !text.contains(&paint(RED, "a")), "{text:?}");
        let widest = plain(&table.text(&rows, 0)).lines().map(columns).max();
        assert_eq!(widest, Some(8 + "one two three four".len()), "the narrowest that it gets");
    }

    #[test]
    fn a_first_column_is_broken_too_and_what_is_below_a_row_is_indented() {
        let table = Table { header: ["NAME", "WHAT"], indent: 4, broken: 0, narrowest: 20 };
        let rows = [row(["one two three four five", "yes"], [PLAIN; 2], Some("seen there"))];
        let expected =
            "    NAME                  WHAT\n    one two three four    yes\n    five\n      seen there\n";
        assert_eq!(plain(&table.text(&rows, 30)), expected);
        let whole = plain(&table.text(&rows, 100));
        assert!(whole.contains("    one two three four five  yes\n"), "{whole}");
    }
}

//! Tables for listings (`points list`, `ping`, `jobs list`, `runs list`).
//!
//! What lives here: aligned columns that fit a width without losing a character: cells wrap, and
//! where even that does not fit, each row becomes a list of `heading: value`. What does not: what
//! the columns are.

use super::render::{Style, one_line, text_width, wrap};
use super::{Sink, stdout_width};

/// Blanks between columns.
const GAP: usize = 2;
/// No column is made narrower than this by wrapping.
const NARROWEST_COLUMN: usize = 8;
/// Words longer than this may be broken: paths, digests.
const LONGEST_WORD: usize = 24;

/// A table with headings. Cells may hold anything: they are cleaned when they are shown.
#[derive(Debug, Clone, Default)]
pub struct Table {
    headers: Vec<String>,
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
}

impl Table {
    /// A table with these headings and no rows.
    pub fn new<S: Into<String>>(headers: impl IntoIterator<Item = S>) -> Self {
        Self { headers: headers.into_iter().map(Into::into).collect(), rows: Vec::new(), right: Vec::new() }
    }

    /// Aligns column `column` (from 0) at its right: for numbers.
    #[must_use]
    pub fn right(mut self, column: usize) -> Self {
        self.right.push(column);
        self
    }

    /// Adds a row. Missing cells are empty, cells beyond the headings get columns without one.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    /// True when it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines of at most `width` columns (`usize::MAX` for no limit: one line a row), in
    /// Unicode, without colours.
    pub fn render(&self, width: usize) -> Vec<String> {
        self.render_in(width, Style { colour: false, unicode: true })
    }

    /// [`render`](Self::render) in a style: headings are dim where there are colours.
    pub fn render_in(&self, width: usize, style: Style) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).chain([self.headers.len()]).max().unwrap_or(0);
        if columns == 0 {
            return Vec::new();
        }
        let cell = |row: &[String], column: usize| -> Vec<String> {
            let text = row.get(column).map_or("", String::as_str);
            text.split('\n').map(|line| one_line(line, style)).collect()
        };
        let all: Vec<Vec<Vec<String>>> = std::iter::once(&self.headers)
            .chain(&self.rows)
            .map(|row| (0..columns).map(|column| cell(row, column)).collect())
            .collect();
        let mut widths = vec![0; columns];
        for row in &all {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.iter().map(|line| text_width(line)).max().unwrap_or(0).max(*width);
            }
        }
        let mut shown: Vec<usize> = (0..columns).collect();
        if widths.iter().sum::<usize>() + GAP * columns.saturating_sub(1) > width {
            // A column in which nothing stands gives way first. Then cells wrap, and no word is broken that a person may
            // want to copy: an id, an address.
            let said = |column: &usize| all.iter().skip(1).any(|row| row[*column].iter().any(|line| !line.is_empty()));
            shown.retain(|column| all.len() == 1 || said(column));
            widths = shown.iter().map(|column| widths[*column]).collect();
            let longest = |column: &usize| {
                let words = all.iter().flat_map(|row| &row[*column]).flat_map(|line| line.split(' '));
                words.map(text_width).max().unwrap_or(0).clamp(NARROWEST_COLUMN, LONGEST_WORD)
            };
            let least: Vec<usize> = shown.iter().map(longest).collect();
            if !squeeze(&mut widths, &least, width) {
                return self.records(&all, width, style);
            }
        }
        let mut lines = Vec::new();
        // Columns without names need no row for them.
        let nameless = self.headers.iter().all(String::is_empty) && !self.headers.is_empty();
        for (number, row) in all.iter().enumerate().skip(usize::from(nameless)) {
            let wrapped: Vec<Vec<String>> = shown
                .iter()
                .filter_map(|column| row.get(*column))
                .zip(&widths)
                .map(|(cell, width)| cell.iter().flat_map(|line| wrap(line, *width)).collect())
                .collect();
            let height = wrapped.iter().map(Vec::len).max().unwrap_or(1);
            for at in 0..height {
                let mut line = String::new();
                for (place, ((cell, width), column)) in wrapped.iter().zip(&widths).zip(&shown).enumerate() {
                    let text = cell.get(at).map_or("", String::as_str);
                    let blanks = " ".repeat(width.saturating_sub(text_width(text)));
                    if place > 0 {
                        line.push_str(&" ".repeat(GAP));
                    }
                    if self.right.contains(column) {
                        line.push_str(&blanks);
                        line.push_str(text);
                    } else {
                        line.push_str(text);
                        line.push_str(&blanks);
                    }
                }
                let line = line.trim_end();
                lines.push(if number == 0 && style.colour { format!("\x1b[2m{line}\x1b[0m") } else { line.to_owned() });
            }
        }
        lines
    }

    /// One `heading: value` a line, rows parted by an empty line.
    fn records(&self, all: &[Vec<Vec<String>>], width: usize, style: Style) -> Vec<String> {
        let mut lines = Vec::new();
        for (number, row) in all.iter().skip(1).enumerate() {
            if number > 0 {
                lines.push(String::new());
            }
            for (column, cell) in row.iter().enumerate() {
                let text = cell.join(" ");
                if text.is_empty() {
                    continue;
                }
                let text = match self.headers.get(column) {
                    Some(header) => format!("{}: {text}", one_line(header, style)),
                    None => text,
                };
                for (at, line) in wrap(&text, width.saturating_sub(2).max(2)).into_iter().enumerate() {
                    lines.push(if at == 0 { line } else { format!("  {line}") });
                }
            }
        }
        lines
    }

    /// Writes the table to standard output, as wide as the terminal.
    pub fn print(&self) {
        Sink::stdout().lines(&self.render_in(stdout_width(), Style::stdout()));
    }
}

/// Makes the widest columns narrower until all fit, none narrower than `least` says; false when they cannot.
fn squeeze(widths: &mut [usize], least: &[usize], width: usize) -> bool {
    let gaps = GAP * widths.len().saturating_sub(1);
    loop {
        let total = widths.iter().sum::<usize>() + gaps;
        if total <= width {
            return true;
        }
        // The widest of those that can give way, one column at a time: equal ones take turns.
        let widest =
            widths.iter_mut().zip(least).filter(|(wide, least)| **wide > **least).max_by_key(|(wide, _)| **wide);
        match widest {
            Some((wide, _)) => *wide -= 1,
            None => return false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn points() -> Table {
        let mut table = Table::new(["POINT", "SIZE", "VERDICT"]).right(1);
        table.row(["20261122T041500Z-7f3a", "1.2 GiB", "verified"]);
        table.row(["20261123T041500Z-0a0a", "999 B", "suspect: unlike its predecessors"]);
        table
    }

    #[test]
    fn columns_stand_under_each_other() {
        assert_eq!(
            points().render(120),
            [
                "POINT                     SIZE  VERDICT",
                "20261122T041500Z-7f3a  1.2 GiB  verified",
                "20261123T041500Z-0a0a    999 B  suspect: unlike its predecessors",
            ]
        );
    }

    #[test]
    fn nothing_is_lost_at_any_width() {
        for width in 2..100 {
            let lines = points().render(width);
            let text: String = lines.concat().split_whitespace().collect();
            for line in &lines {
                assert!(text_width(line) <= width.max(4), "{width}: {line:?}");
            }
            if width >= 24 {
                assert!(lines.iter().any(|line| line.contains("20261122T041500Z-7f3a")) || width < 60, "{lines:?}");
            }
            assert!(text.contains("predecessors") || lines.len() > 3, "{width}: {lines:?}");
        }
        assert!(Table::new(Vec::<String>::new()).render(80).is_empty());
    }

    #[test]
    fn no_id_is_broken_and_empty_columns_give_way() {
        let mut table = Table::new(["cluster", "point", "state", "size", "PCE", "node", "label", "fits"]).right(3);
        let fits = "dr ? (its PCE version is not known), prod yes (in place)";
        table.row(["prod", "20261122T041500Z-7f3a", "verified", "13.2 MiB", "3.0.2", "prod-1", "", fits]);
        for width in [30, 40, 70, 80, 100, 200] {
            let lines = table.render(width);
            assert!(lines.iter().any(|line| line.contains("20261122T041500Z-7f3a")), "{width}: {lines:#?}");
            assert!(lines.iter().all(|line| text_width(line) <= width), "{width}: {lines:#?}");
        }
        assert!(table.render(80)[0].contains("fits") && !table.render(80)[0].contains("label"));
        assert!(table.render(200)[0].contains("label"));
    }

    #[test]
    fn cells_of_hosts_cannot_act() {
        let mut table = Table::new(["HOST"]);
        table.row(["a\x1b[2Jb\u{202e}é"]);
        let lines = table.render_in(80, Style::BARE);
        assert_eq!(lines[1], "a\\x1b[2Jb\\u{202e}\\u{e9}");
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_too_wide(cells in proptest::collection::vec("\\PC{0,30}", 1..12), width in 20_usize..120) {
            let mut table = Table::new(["ONE", "TWO", "THREE"]);
            for row in cells.chunks(3) {
                table.row(row.to_vec());
            }
            for line in table.render(width) {
                proptest::prop_assert!(console::measure_text_width(&line) <= width, "{line:?}");
            }
        }
    }
}

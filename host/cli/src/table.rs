//! Tables for people: columns with a header, or one thing with its properties. Knows no models.

use std::io::IsTerminal as _;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

/// Narrower terminals break the lines themselves, more legibly than columns of single letters.
const MIN_WIDTH: u16 = 40;

/// Rows under a header. A cell of several lines makes its row as high.
pub fn rows<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    columns(header.map(str::to_owned).to_vec(), rows.into_iter().map(Vec::from))
}

/// As [`rows`], with a number of columns that only the data tells.
pub fn columns(header: Vec<String>, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = plain();
    table.set_header(header.into_iter().map(|name| name.to_uppercase()));
    table.add_rows(rows.into_iter().map(|row| row.iter().map(|cell| printable(cell)).collect::<Vec<_>>()));
    text(&table)
}

/// Properties of one thing, one a line; those without a value are left out.
pub fn properties<'a>(properties: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = plain();
    let present = properties.into_iter().filter(|(_, value)| !value.is_empty());
    table.add_rows(present.map(|(name, value)| [name.to_owned(), printable(&value)]));
    text(&table)
}

/// Text comes from strangers, a model's answers and other people's comments: it may not steer the terminal.
fn printable(text: &str) -> String {
    let is_harmless = |character: char| character == '\n' || !character.is_control();
    text.chars().fold(String::with_capacity(text.len()), |mut printable, character| {
        if is_harmless(character) {
            printable.push(character);
        } else {
            printable.extend(character.escape_default());
        }
        printable
    })
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    // Only a terminal has a width to fit into: a file or a pipe gets whole lines. Some terminals say 0.
    if std::io::stdout().is_terminal() && table.width().is_some_and(|width| width >= MIN_WIDTH) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

fn text(table: &Table) -> String {
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    let indent =
        lines.iter().filter(|line| !line.is_empty()).map(|line| leading_spaces(line)).min().unwrap_or(0);
    lines.iter().map(|line| line.get(indent..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn leading_spaces(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let table =
            rows(["model", "serves"], [["income", "3"], ["a", "none"]].map(|row| row.map(str::to_owned)));
        assert_eq!(table, "MODEL   SERVES\nincome  3\na       none");
    }

    #[test]
    fn cells_cannot_steer_the_terminal() {
        assert_eq!(rows(["a"], [["\u{1b}[2Jx\u{9b}".to_owned()]]), "A\n\\u{1b}[2Jx\\u{9b}");
    }

    #[test]
    fn a_table_without_rows_still_says_its_columns() {
        assert_eq!(rows(["model", "serves"], []), "MODEL  SERVES");
    }

    #[test]
    fn properties_without_a_value_are_left_out() {
        let shown =
            properties([("name", "income".to_owned()), ("by", String::new()), ("a", "1\n2".to_owned())]);
        assert_eq!(shown, "name  income\na     1\n      2");
    }
}

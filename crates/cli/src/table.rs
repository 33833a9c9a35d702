//! Columns as Go's tabwriter lays them out for Docker: at least 10 wide, 3 blanks between, the last one ragged.

use std::io::Write;

use crate::error::CliError;

/// Prints tab separated lines in columns.
pub(crate) fn print(lines: &[String]) -> Result<(), CliError> {
    print_wide(lines, 10)
}

/// The same with columns of at least `least` letters.
pub(crate) fn print_wide(lines: &[String], least: usize) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    for line in layout(lines, least) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn layout(lines: &[String], least: usize) -> Vec<String> {
    let cells: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let widest =
            cells.iter().filter(|row| row.len() > column + 1).map(|row| row[column].chars().count()).max();
        widest.map_or(0, |widest| (widest + 3).max(least))
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let pad = |(column, cell): (usize, &&str), last: usize| {
        if column == last { (*cell).to_owned() } else { format!("{cell:<width$}", width = widths[column]) }
    };
    cells.iter().map(|row| row.iter().enumerate().map(|cell| pad(cell, row.len() - 1)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::layout;

    #[test]
    fn columns_line_up() {
        let lines = ["NAME\tSIZE".to_owned(), "a-long-name-here\t1".to_owned()];
        assert_eq!(layout(&lines, 10), ["NAME               SIZE", "a-long-name-here   1"]);
    }
}

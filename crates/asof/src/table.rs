//! Tables for people: columns aligned, numbers to the right, no lines but a quiet one under the head.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use console::{Style, measure_text_width, truncate_str};

/// The widest a cell is shown.
const WIDEST: usize = 40;
/// The widest where no terminal's width is known: a cell may hold a whole document.
const WIDEST_ELSEWHERE: usize = 120;

/// A table of texts.
#[derive(Debug, Default)]
pub(crate) struct Table {
    heads: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these columns; a name that begins with `>` is of numbers and stands to the right.
    pub(crate) fn new(heads: &[&str]) -> Table {
        Table {
            heads: heads.iter().map(|head| head.trim_start_matches('>').to_owned()).collect(),
            right: heads.iter().map(|head| head.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// One more column.
    pub(crate) fn column(&mut self, head: &str) {
        self.heads.push(head.to_owned());
        self.right.push(false);
    }

    /// One more row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The first rows of these batches, at most `most`.
    pub(crate) fn of_batches(batches: &[RecordBatch], most: usize) -> Table {
        let mut table = Table::default();
        for batch in batches {
            if table.heads.is_empty() {
                for field in batch.schema().fields() {
                    table.heads.push(field.name().clone());
                    table.right.push(field.data_type().is_numeric());
                }
            }
            for row in 0..batch.num_rows().min(most - table.rows.len()) {
                table.rows.push(batch.columns().iter().map(|column| cell(column, row)).collect());
            }
        }
        table
    }

    /// The text with every cell whole.
    pub(crate) fn wide_text(&self, color: bool) -> String {
        self.text_within(0, usize::MAX, color)
    }

    /// Names and values, two columns without a head.
    pub(crate) fn text_without_head(&self) -> String {
        let width = self.rows.iter().filter_map(|row| row.first()).map(|name| measure_text_width(name)).max();
        let line = |row: &Vec<String>| {
            let name = row.first().map(String::as_str).unwrap_or_default();
            let space = " ".repeat(width.unwrap_or_default().saturating_sub(measure_text_width(name)));
            format!("{name}{space}  {}", row[1..].join("  ")).trim_end().to_owned()
        };
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The text, without a last line end. Columns past `width` are left out and counted, long cells are
    /// cut, those of the last column where the line ends; 0, where no terminal is: every column, cells of at most
    /// 120 letters.
    pub(crate) fn text(&self, width: usize, color: bool) -> String {
        self.text_within(width, if width == 0 { WIDEST_ELSEWHERE } else { WIDEST }, color)
    }

    fn text_within(&self, width: usize, widest: usize, color: bool) -> String {
        let shown = |text: &str, widest: usize| {
            truncate_str(&text.replace(['\n', '\r', '\t'], " "), widest, "…").into_owned()
        };
        let mut widths: Vec<usize> =
            self.heads.iter().map(|head| measure_text_width(head).min(widest)).collect();
        let last = widths.len().saturating_sub(1);
        let mut rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row[..row.len().min(last)].iter().map(|text| shown(text, widest)).collect())
            .collect();
        let used: usize = (0..last)
            .map(|at| {
                rows.iter()
                    .map(|row| row.get(at).map_or(0, |text| measure_text_width(text)))
                    .max()
                    .unwrap_or(0)
                    .max(widths[at])
                    + 2
            })
            .sum();
        // What the line has left, where that is enough to read.
        let rest = if width == 0 { widest } else { width.saturating_sub(used).max(widest.min(16)) };
        for (row, whole) in rows.iter_mut().zip(&self.rows) {
            row.extend(whole.get(last).map(|text| shown(text, rest)));
        }
        for row in &rows {
            for (width, text) in widths.iter_mut().zip(row) {
                *width = (*width).max(measure_text_width(text));
            }
        }
        let mut fit = widths.len();
        if width > 0 {
            let mut used = 0;
            fit = widths
                .iter()
                .take_while(|one| {
                    used += **one + 2;
                    used <= width + 2
                })
                .count()
                .max(1);
        }
        let head_style =
            if color { Style::new().bold().force_styling(true) } else { Style::new().force_styling(false) };
        let mut lines = Vec::with_capacity(rows.len() + 2);
        let line = |cells: &[String], style: Option<&Style>| {
            let mut line = String::new();
            for (index, text) in cells.iter().take(fit).enumerate() {
                let space = " ".repeat(widths[index].saturating_sub(measure_text_width(text)));
                let text = style.map_or_else(|| text.clone(), |style| style.apply_to(text).to_string());
                if index > 0 {
                    line.push_str("  ");
                }
                if self.right.get(index).copied().unwrap_or_default() {
                    line.push_str(&space);
                    line.push_str(&text);
                } else {
                    line.push_str(&text);
                    line.push_str(&space);
                }
            }
            line.trim_end().to_owned()
        };
        let heads: Vec<String> = self.heads.iter().map(|head| shown(head, widest)).collect();
        lines.push(line(&heads, Some(&head_style)));
        lines.extend(rows.iter().map(|row| line(row, None)));
        if fit < widths.len() {
            let more = widths.len() - fit;
            lines.push(format!("({more} more column{}; --json gives all)", if more == 1 { "" } else { "s" }));
        }
        lines.join("\n")
    }
}

fn cell(column: &dyn Array, row: usize) -> String {
    if column.is_null(row) {
        return "null".to_owned();
    }
    match asof_compute::cells(column) {
        Ok(formatter) => match column.data_type() {
            DataType::Timestamp(..) => formatter.value(row).to_string().replace(".000000Z", "Z"),
            _ => formatter.value(row).to_string(),
        },
        Err(error) => error.to_string(),
    }
}

/// The width of the terminal; 0 where there is none.
pub(crate) fn terminal_width() -> usize {
    console::Term::stdout().size_checked().map_or(0, |(_, columns)| usize::from(columns))
}

/// 336776 as `336,776`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `2 rows`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A time that passed, as people say it.
pub(crate) fn took(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.001 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:.0} s", (seconds / 60.0).floor(), seconds % 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_one_another() {
        let mut table = Table::new(&["view", ">rows"]);
        table.row(["weather".to_owned(), grouped(26_115)]);
        table.row(["x".to_owned(), grouped(7)]);
        assert_eq!(table.text(0, false), "view       rows\nweather  26,115\nx             7");
        assert_eq!(table.text(8, false), "view\nweather\nx\n(1 more column; --json gives all)");
    }

    #[test]
    fn long_cells_are_cut_and_no_line_is_wider_than_the_terminal() {
        let mut table = Table::new(&["a", "b", "c"]);
        table.row(["x".repeat(6_000), "y".repeat(6_000), "z".repeat(6_000)]);
        for width in [20, 60, 80, 200] {
            let text = table.text(width, false);
            let widest = text.lines().map(measure_text_width).max().unwrap();
            assert!(widest <= width.max(60), "{width}: {text}");
            assert!(text.contains('…'), "{text}");
        }
        assert!(
            table.text(60, false).ends_with("(2 more columns; --json gives all)")
                || table.text(60, false).ends_with("(1 more column; --json gives all)")
        );
        let elsewhere = table.text(0, false);
        assert!(elsewhere.lines().all(|line| measure_text_width(line) <= 3 * 122), "{elsewhere}");
        assert!(table.wide_text(false).contains(&"z".repeat(6_000)));
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (336_776, "336,776"), (1_000_000, "1,000,000")]
        {
            assert_eq!(grouped(number), text);
        }
    }
}

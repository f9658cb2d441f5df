//! Columns as kubectl sets them: Go's `text/tabwriter`, because its borders are what people's scripts cut at.
//!
//! ```text
//! NAME\tREADY\tAGE            NAME   READY   AGE
//! web\t1/1\t5m         ->     web    1/1     5m
//! ```
//!
//! A tab ends a cell; what stands after the last tab of a line belongs to no column and is never padded. A column is as
//! wide as its widest cell *within a run of lines that have it*, so `describe` aligns each block on its own. Widths are
//! counted in characters, not in terminal cells: so does upstream.

/// The settings of one writer; it lives as long as the output whose widths belong together.
#[derive(Debug, Clone)]
pub struct Columns {
    min: usize,
    gap: usize,
    /// The widest of each column so far, for a watch: columns may grow between two prints, never shrink.
    remembered: Option<Vec<usize>>,
}

impl Columns {
    /// `get`: gap 3, no column narrower than 6, widths kept from print to print (`cli-runtime/pkg/printers/tabwriter.go`).
    pub fn of_get() -> Columns {
        Columns { min: 6, gap: 3, remembered: Some(Vec::new()) }
    }

    /// `describe`: gap 2, each block for itself (`tabbedString` in `kubectl/pkg/describe/describe.go`).
    pub fn of_describe() -> Columns {
        Columns { min: 0, gap: 2, remembered: None }
    }

    /// The text with its tabs turned into spaces. Every line comes back with its newline.
    pub fn align(&mut self, text: &str) -> String {
        let lines: Vec<Vec<&str>> = text.split_terminator(['\n', '\x0c']).map(|line| line.split(['\t', '\x0b']).collect()).collect();
        let widths = self.widths(&lines);
        let mut out = String::with_capacity(text.len() * 2);
        for (cells, widths) in lines.iter().zip(&widths) {
            for (column, cell) in cells.iter().enumerate() {
                out.push_str(cell);
                if let Some(width) = widths.get(column) {
                    out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
                }
            }
            out.push('\n');
        }
        out
    }

    /// The width of each padded cell. One pass per column over the lines that still have it: the work is the number of
    /// cells, however many tabs a hostile value brings.
    fn widths(&mut self, lines: &[Vec<&str>]) -> Vec<Vec<usize>> {
        let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| Vec::with_capacity(cells.len() - 1)).collect();
        let mut having: Vec<usize> = (0..lines.len()).collect();
        for column in 0.. {
            having.retain(|line| lines[*line].len() > column + 1);
            if having.is_empty() {
                return widths;
            }
            for run in having.chunk_by(|above, below| above + 1 == *below) {
                let widest = run.iter().map(|line| lines[*line][column].chars().count() + self.gap).max().unwrap_or(0).max(self.min);
                let width = self.remember(column, widest);
                run.iter().for_each(|line| widths[*line].push(width));
            }
        }
        widths
    }

    fn remember(&mut self, column: usize, width: usize) -> usize {
        let Some(remembered) = &mut self.remembered else { return width };
        if remembered.len() <= column {
            remembered.resize(column + 1, 0);
        }
        remembered[column] = remembered[column].max(width);
        remembered[column]
    }
}

/// A cell of a `get` table: cut at the first line end (which would break the table) and without terminal escapes.
pub fn cell(text: &str) -> String {
    match text.find(['\x0c', '\n', '\r']) {
        Some(end) => harmless(&text[..end]) + "...",
        None => harmless(text),
    }
}

/// Text that cannot drive the terminal: as kubectl, ESC is shown as `^[` and a carriage return as `\r`.
pub fn harmless(text: &str) -> String {
    text.replace('\x1b', "^[").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cell_of_a_line_is_not_padded() {
        assert_eq!(Columns::of_get().align("NAME\tAGE\nlonger-name\t5m\n"), "NAME          AGE\nlonger-name   5m\n");
    }

    #[test]
    fn no_column_of_get_is_narrower_than_six() {
        assert_eq!(Columns::of_get().align("p\t1/1\t0\t12s\n"), "p     1/1   0     12s\n");
    }

    #[test]
    fn a_later_print_keeps_the_width_of_an_earlier_one() {
        let mut columns = Columns::of_get();
        columns.align("long-pod-name\tx\n");
        assert_eq!(columns.align("p\tx\n"), "p               x\n");
        assert_eq!(columns.align("an-even-longer-name\tx\n"), "an-even-longer-name   x\n");
        assert_eq!(Columns::of_describe().align("a:\tb\n"), "a:  b\n");
    }

    #[test]
    fn a_line_without_the_column_separates_two_blocks() {
        let text = "Name:\tweb\nNode:\t<none>\nIPs:\n  IP:\t10.0.0.1\nControlled By:\tx\n";
        assert_eq!(Columns::of_describe().align(text), "Name:  web\nNode:  <none>\nIPs:\n  IP:           10.0.0.1\nControlled By:  x\n");
    }

    #[test]
    fn an_inner_column_ends_where_a_line_lacks_it() {
        let text = "a\tbbbbbb\tc\nx\ty\nk\tl\tm\n";
        assert_eq!(Columns::of_describe().align(text), "a  bbbbbb  c\nx  y\nk  l  m\n");
    }

    #[test]
    fn an_empty_cell_and_an_empty_line_are_kept() {
        assert_eq!(Columns::of_describe().align("ab\t\tc\n\n\td\n"), "ab    c\n\n  d\n");
    }

    #[test]
    fn widths_count_characters() {
        assert_eq!(Columns::of_describe().align("é\tx\nab\ty\n"), "é   x\nab  y\n");
    }

    #[test]
    fn a_cell_is_cut_at_a_line_end_and_cannot_drive_the_terminal() {
        assert_eq!(cell("one\ntwo"), "one...");
        assert_eq!(cell("\x1b[2Jx"), "^[[2Jx");
        assert_eq!(harmless("a\rb"), "a\\rb");
    }
}

//! Tables without borders, in the manner of kubectl.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};

use super::text;

/// Cells of these columns are what people copy: they are never cut.
const WHOLE: &[&str] = &["NAME", "ID", "REQUEST", "TIME"];
/// No column is squeezed below this many characters.
const NARROWEST: u16 = 7;
const GAP: u16 = 2;

/// No cell is shown at greater length on a terminal: other formats have it whole.
pub(super) const LONGEST_CELL: usize = 200;
/// Cells are cut after so many characters where nothing would make the whole fit.
const WIDE_ENOUGH: u16 = 24;

/// Lays out a table. With a `width`, the longest cells are cut so that it fits, unless names and ids leave too
/// little room: then the terminal may wrap whole lines.
pub(super) fn layout(headers: &[&str], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    more(headers, rows, width, &mut Vec::new())
}

/// Lays out rows as they come: below the `headers` at first, and then below the rows before, whose columns were as wide
/// as `least` says.
pub(super) fn more(
    headers: &[&str],
    rows: Vec<Vec<String>>,
    width: Option<u16>,
    least: &mut Vec<u16>,
) -> String {
    let with_headers = least.is_empty();
    least.resize(headers.len(), 0);
    let mut measured = Table::new();
    measured.add_rows(rows.iter());
    if with_headers {
        measured.set_header(headers);
    }
    for (least, natural) in least.iter_mut().zip(measured.column_max_content_widths()) {
        *least = natural.max(*least);
    }
    let cap = width.map_or(u16::MAX, |width| cap(headers, least, width));
    let clipped = rows.into_iter().map(|mut row| {
        for ((cell, header), natural) in row.iter_mut().zip(headers).zip(least.iter()) {
            if !WHOLE.contains(header) && *natural > cap {
                text::clip(cell, usize::from(cap));
            }
        }
        row
    });
    let mut table = Table::new();
    table.load_style(presets::NOTHING).add_rows(clipped);
    if with_headers {
        table.set_header(headers);
    }
    // Each column's width is set here, so what is left for the library is to align the cells.
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(u16::MAX);
    for ((column, header), natural) in table.column_iter_mut().zip(headers).zip(least) {
        let own = if WHOLE.contains(header) { *natural } else { (*natural).min(cap) };
        column.set_padding((0, GAP));
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(own.saturating_add(GAP))));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The most that a column may take that can be cut: so much that the whole fits `width`, if that can be.
fn cap(headers: &[&str], natural: &[u16], width: u16) -> u16 {
    let total = |cap: u16| -> u32 {
        let own = headers.iter().zip(natural).map(|(header, natural)| {
            let width = if WHOLE.contains(header) { *natural } else { (*natural).min(cap) };
            u32::from(width) + u32::from(GAP)
        });
        // The last column needs no gap behind it.
        own.sum::<u32>().saturating_sub(u32::from(GAP))
    };
    if total(u16::MAX) <= u32::from(width) {
        return u16::MAX;
    }
    let widest = natural.iter().copied().max().unwrap_or_default();
    let fitting = (NARROWEST..=widest.max(NARROWEST)).rev().find(|cap| total(*cap) <= u32::from(width));
    fitting.unwrap_or(WIDE_ENOUGH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        vec![
            row(["gpt", "openai", "secret://openai/api-key", "caaaaaaaaaaaaaaaaaaaaaaaa"]),
            row(["a-longer-name", "vllm", "-", "cbbbbbbbbbbbbbbbbbbbbbbbb"]),
        ]
    }

    #[test]
    fn columns_are_aligned_two_spaces_apart() {
        let text = layout(&["NAME", "TYPE", "KEY", "ID"], rows(), None);
        insta::assert_snapshot!(text, @r"
        NAME           TYPE    KEY                      ID
        gpt            openai  secret://openai/api-key  caaaaaaaaaaaaaaaaaaaaaaaa
        a-longer-name  vllm    -                        cbbbbbbbbbbbbbbbbbbbbbbbb
        ");
    }

    #[test]
    fn a_narrow_terminal_cuts_the_longest_cells_and_keeps_names_and_ids() {
        let text = layout(&["NAME", "TYPE", "KEY", "ID"], rows(), Some(66));
        insta::assert_snapshot!(text, @r"
        NAME           TYPE    KEY               ID
        gpt            openai  secret://openai…  caaaaaaaaaaaaaaaaaaaaaaaa
        a-longer-name  vllm    -                 cbbbbbbbbbbbbbbbbbbbbbbbb
        ");
        let wide = layout(&["NAME", "TYPE", "KEY", "ID"], rows(), Some(200));
        assert_eq!(wide, layout(&["NAME", "TYPE", "KEY", "ID"], rows(), None));
        let tiny = layout(&["NAME", "TYPE", "KEY", "ID"], rows(), Some(5));
        assert_eq!(wide, tiny);
    }

    #[test]
    fn rows_that_come_later_go_below_those_before() {
        let (headers, mut least) = (["NAME", "TYPE", "KEY", "ID"], Vec::new());
        let mut later = rows();
        let text =
            more(&headers, later.split_off(1), None, &mut least) + &more(&headers, later, None, &mut least);
        insta::assert_snapshot!(text, @r"
        NAME           TYPE  KEY  ID
        a-longer-name  vllm  -    cbbbbbbbbbbbbbbbbbbbbbbbb
        gpt            openai  secret://openai/api-key  caaaaaaaaaaaaaaaaaaaaaaaa
        ");
    }

    #[test]
    fn long_cells_do_not_make_long_lines_where_nothing_fits() {
        let row = vec!["x".repeat(200), "y".repeat(40)];
        let text = layout(&["ERROR", "REQUEST"], vec![row], Some(30));
        assert!(text.lines().all(|line| line.chars().count() <= 24 + 2 + 40), "{text}");
    }
}

//! Tables without borders, in the manner of kubectl.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};

/// Cells of these columns are what people copy: they are never broken.
const WHOLE: &[&str] = &["NAME", "ID"];
/// No column is squeezed below this many characters.
const NARROWEST: u16 = 8;

/// Lays out a table. With a `width`, cells are broken so that it fits, as far as names and ids leave room.
pub(super) fn layout(headers: &[&str], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headers).add_rows(rows);
    match width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    for (column, header) in table.column_iter_mut().zip(headers) {
        column.set_padding((0, 2));
        column.set_constraint(if WHOLE.contains(header) {
            ColumnConstraint::ContentWidth
        } else {
            ColumnConstraint::LowerBoundary(Width::Fixed(NARROWEST.min(header.len() as u16) + 2))
        });
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
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
    fn a_narrow_terminal_breaks_long_cells_and_keeps_names_and_ids() {
        let text = layout(&["NAME", "TYPE", "KEY", "ID"], rows(), Some(66));
        assert!(text.lines().all(|line| line.chars().count() <= 66), "{text}");
        assert!(text.contains("caaaaaaaaaaaaaaaaaaaaaaaa") && text.contains("a-longer-name"), "{text}");
    }
}

//! Tables without borders, in the manner of kubectl.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};

/// Cells of these columns are what people copy: they are never broken.
const WHOLE: &[&str] = &["NAME", "ID", "REQUEST", "TIME"];
/// No column is squeezed below this many characters.
const NARROWEST: u16 = 7;
const GAP: u16 = 2;

/// Lays out a table. With a `width`, the longest cells are broken so that it fits, unless names and ids leave
/// too little room: then the terminal may wrap whole lines, which is easier to read than both.
pub(super) fn layout(headers: &[&str], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headers).add_rows(rows);
    let natural = table.column_max_content_widths();
    let cap = width.and_then(|width| cap(headers, &natural, width));
    table.set_content_arrangement(match cap {
        Some(_) => ContentArrangement::Dynamic,
        None => ContentArrangement::Disabled,
    });
    // Each column's width is set here, so what is left for the library is to break the cells.
    table.set_width(u16::MAX);
    for ((column, header), natural) in table.column_iter_mut().zip(headers).zip(natural) {
        column.set_padding((0, GAP));
        if let Some(cap) = cap {
            let own = if WHOLE.contains(header) { natural } else { natural.min(cap) };
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(own.saturating_add(GAP))));
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The most that a breakable column may take for the whole to fit `width`; none when it fits as it is, or cannot fit.
fn cap(headers: &[&str], natural: &[u16], width: u16) -> Option<u16> {
    let total = |cap: u16| -> u32 {
        let own = headers.iter().zip(natural).map(|(header, natural)| {
            let width = if WHOLE.contains(header) { *natural } else { (*natural).min(cap) };
            u32::from(width) + u32::from(GAP)
        });
        // The last column needs no gap behind it.
        own.sum::<u32>().saturating_sub(u32::from(GAP))
    };
    if total(u16::MAX) <= u32::from(width) {
        return None;
    }
    let widest = natural.iter().copied().max().unwrap_or_default();
    (NARROWEST..=widest.max(NARROWEST)).rev().find(|cap| total(*cap) <= u32::from(width))
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
    fn a_narrow_terminal_breaks_the_longest_cells_and_keeps_names_and_ids() {
        let text = layout(&["NAME", "TYPE", "KEY", "ID"], rows(), Some(66));
        insta::assert_snapshot!(text, @r"
        NAME           TYPE    KEY               ID
        gpt            openai  secret://openai/  caaaaaaaaaaaaaaaaaaaaaaaa
                               api-key
        a-longer-name  vllm    -                 cbbbbbbbbbbbbbbbbbbbbbbbb
        ");
        let wide = layout(&["NAME", "TYPE", "KEY", "ID"], rows(), Some(200));
        assert_eq!(wide, layout(&["NAME", "TYPE", "KEY", "ID"], rows(), None));
        let tiny = layout(&["NAME", "TYPE", "KEY", "ID"], rows(), Some(5));
        assert_eq!(wide, tiny);
    }
}

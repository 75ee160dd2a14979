//! The evaluation table: one row per metric, one column per model, with the change from one model to the next.

use serde::Serialize;

/// Metrics of several models on the same records. Higher is better throughout.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EvaluationTable {
    /// The models, in the order of training.
    pub columns: Vec<Column>,
    /// The metrics.
    pub rows: Vec<Row>,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    /// Its name (`constant`, `base`, the name of a stage).
    pub name: String,
    /// The column that changes are counted from; `None` shows none.
    pub delta_from: Option<usize>,
}

/// A metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name (`test / tag_miou_03`).
    pub metric: String,
    /// Records it was taken over.
    pub num_records: usize,
    /// One value per column; `None` where it could not be computed.
    pub values: Vec<Option<f64>>,
}

/// A cell as text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Cell {
    pub(super) value: String,
    /// `+0.120`, empty where there is nothing to compare with.
    pub(super) delta: String,
    /// `up`, `down` or empty.
    pub(super) direction: &'static str,
    /// Whether no other column has more.
    pub(super) is_best: bool,
}

/// Changes smaller than this are shown as none: they vanish in three decimals.
const SMALLEST_DELTA: f64 = 5e-4;

impl EvaluationTable {
    /// Columns for a constant baseline, the untrained model, and each stage; every stage is compared with the model
    /// before it.
    pub fn columns_of(has_constant: bool, has_base: bool, stages: &[String]) -> Vec<Column> {
        let mut columns = Vec::new();
        if has_constant {
            columns.push(Column { name: "constant".to_owned(), delta_from: None });
        }
        let mut previous = None;
        if has_base {
            previous = Some(columns.len());
            columns.push(Column { name: "base".to_owned(), delta_from: None });
        }
        for stage in stages {
            columns.push(Column { name: stage.clone(), delta_from: previous });
            previous = Some(columns.len() - 1);
        }
        columns
    }

    /// The cells of a row, one per column.
    pub(super) fn cells(&self, row: &Row) -> Vec<Cell> {
        let value_of =
            |column: usize| row.values.get(column).copied().flatten().filter(|value| value.is_finite());
        let best = (0..self.columns.len()).filter_map(value_of).max_by(f64::total_cmp);
        let cell = |(index, column): (usize, &Column)| {
            let Some(value) = value_of(index) else {
                return Cell { value: "–".to_owned(), delta: String::new(), direction: "", is_best: false };
            };
            let change = column.delta_from.and_then(value_of).map(|from| value - from);
            let (delta, direction) = match change {
                None => (String::new(), ""),
                Some(change) if change.abs() < SMALLEST_DELTA => ("±0.000".to_owned(), ""),
                Some(change) => (format!("{change:+.3}"), if change > 0.0 { "up" } else { "down" }),
            };
            Cell { value: format!("{value:.3}"), delta, direction, is_best: best == Some(value) }
        };
        self.columns.iter().enumerate().map(cell).collect()
    }

    /// The table as aligned Markdown, which also reads well in a terminal.
    pub fn to_markdown(&self) -> String {
        let mut lines = vec![vec!["metric".to_owned(), "records".to_owned()]];
        lines[0].extend(self.columns.iter().map(|column| column.name.clone()));
        for row in &self.rows {
            let mut line = vec![row.metric.clone(), row.num_records.to_string()];
            line.extend(self.cells(row).into_iter().map(|cell| {
                let delta = if cell.delta.is_empty() { String::new() } else { format!(" ({})", cell.delta) };
                format!("{}{delta}", cell.value)
            }));
            lines.push(line);
        }
        aligned(&lines)
    }
}

/// Lines of as many cells each as aligned Markdown, the first being the heading; numbers stand to the right.
pub(crate) fn aligned(lines: &[Vec<String>]) -> String {
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
    let text_of = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{:<width$}", cell.replace('|', "\\|")),
            _ => format!("{cell:>width$}"),
        });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = |(column, width): (usize, &usize)| match column {
        0 => "-".repeat(*width),
        _ => format!("{}:", "-".repeat(width - 1)),
    };
    let mut text = text_of(&lines[0]);
    text.push_str(&format!("| {} |\n", widths.iter().enumerate().map(rule).collect::<Vec<_>>().join(" | ")));
    lines[1..].iter().for_each(|line| text.push_str(&text_of(line)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> EvaluationTable {
        EvaluationTable {
            columns: EvaluationTable::columns_of(true, true, &["sft".to_owned(), "grpo".to_owned()]),
            rows: vec![
                Row {
                    metric: "stg_miou".to_owned(),
                    num_records: 12,
                    values: vec![Some(0.25), Some(0.0), Some(0.5), Some(0.4375)],
                },
                Row {
                    metric: "cvs_acc".to_owned(),
                    num_records: 8,
                    values: vec![Some(0.5), None, Some(f64::NAN)],
                },
            ],
        }
    }

    #[test]
    fn stages_are_compared_with_the_model_before_them() {
        let table = table();
        let cells = table.cells(&table.rows[0]);
        assert_eq!(
            cells.iter().map(|cell| cell.delta.as_str()).collect::<Vec<_>>(),
            ["", "", "+0.500", "-0.062"]
        );
        assert_eq!(cells.iter().map(|cell| cell.is_best).collect::<Vec<_>>(), [false, false, true, false]);
        let gaps = table.cells(&table.rows[1]);
        assert_eq!(gaps.iter().map(|cell| cell.value.as_str()).collect::<Vec<_>>(), ["0.500", "–", "–", "–"]);
    }

    #[test]
    fn markdown_is_aligned() {
        let text = table().to_markdown();
        let lengths: Vec<_> = text.lines().map(|line| line.chars().count()).collect();
        assert!(lengths.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
        assert_eq!(
            text.lines().nth(2),
            Some("| stg_miou |      12 |    0.250 | 0.000 | 0.500 (+0.500) | 0.438 (-0.062) |")
        );
    }
}

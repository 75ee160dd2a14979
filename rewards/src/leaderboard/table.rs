//! Reports side by side as a Markdown table.

use std::collections::BTreeSet;

use super::report::Report;

/// Headline numbers and then each dataset's, one column a report, in the order given; a dash where a report has none.
///
/// Put the constant baseline's report beside the model's: some of these numbers are high without looking.
pub fn table(columns: &[(&str, &Report)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let mut lines =
        vec![format!("| metric | {} |", names.join(" | ")), format!("|---|{}", "---|".repeat(names.len()))];
    let mut line = |name: &str, value: &dyn Fn(&Report) -> Option<String>| {
        let cells: Vec<String> =
            columns.iter().map(|(_, report)| value(report).unwrap_or_else(|| "–".to_owned())).collect();
        lines.push(format!("| {name} | {} |", cells.join(" | ")));
    };
    let mut headlines: Vec<&'static str> = Vec::new();
    for (name, _) in columns.iter().flat_map(|(_, report)| report.headlines()) {
        if !headlines.contains(&name) {
            headlines.push(name);
        }
    }
    for name in headlines {
        line(name, &|report| {
            let (_, value) = report.headlines().into_iter().find(|(other, _)| *other == name)?;
            let interval = report.intervals.get(name);
            Some(interval.map_or_else(
                || format!("{value:.3}"),
                |i| format!("{value:.3} [{:.3}, {:.3}]", i.low, i.high),
            ))
        });
    }
    let groups: BTreeSet<(&str, &str, &str)> = columns
        .iter()
        .flat_map(|(_, report)| &report.per_dataset)
        .flat_map(|(task, datasets)| datasets.iter().map(move |(dataset, group)| (task, dataset, group)))
        .flat_map(|(task, dataset, group)| {
            group.metrics.keys().map(move |metric| (*task, dataset.as_str(), *metric))
        })
        .collect();
    for (task, dataset, metric) in groups {
        line(&format!("{dataset}: {metric}"), &|report| {
            let group = report.per_dataset.get(task)?.get(dataset)?;
            let value = group.metrics.get(metric)?;
            Some(format!("{value:.3} ({}/{})", group.counts.n_scored(), group.counts.n_total))
        });
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use medgrpo_datasets::{Gold, TaskKind};

    use super::table;
    use crate::{leaderboard::evaluate, task::contract::sample};

    #[test]
    fn model_and_baseline_stand_side_by_side() {
        let answered = |text: &str| {
            let tag = sample(TaskKind::NextAction, Gold::Class("adjust camera".into()));
            evaluate(&[(tag, text.to_owned())])
        };
        let (model, baseline) = (answered("adjust camera"), answered("lift flap with forceps"));
        let text = table(&[("model", &model), ("constant", &baseline)]);
        let expected = "| metric | model | constant |\n|---|---|---|\n| nap_acc | 1.000 | 0.000 |\n\
                        | CoPESD: nap_acc | 1.000 (1/1) | 0.000 (1/1) |\n";
        assert_eq!(text, expected);
    }
}

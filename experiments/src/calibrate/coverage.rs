//! What a calibration covers, and where it is thin.

use medgrpo_rewards::compose::normalise::Calibration;

use super::Measured;

/// An interquartile range below this is no scale.
const NARROW_IQR: f64 = 0.02;

/// A Markdown table of the pairs, each with what is to be said against it, and a last line that counts them.
pub(super) fn report(measured: &Measured, table: &Calibration, min_count: usize) -> String {
    let mut lines = vec![
        "| dataset | task | component | values | unscored | p25 | p50 [95 %] | p75 | |".to_owned(),
        "|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    let mut num_thin = 0;
    for (pair, values) in &measured.by_pair {
        let start = format!("| {} | {} | {} |", pair.dataset, pair.task, pair.component);
        let Some(found) = table.get(pair) else {
            num_thin += 1;
            lines.push(format!("{start} 0 | {} | – | – | – | no reward at all |", values.num_unscored));
            continue;
        };
        let verdict = if found.count < min_count {
            format!("too few: {min_count} are needed")
        } else if found.max == 0.0 {
            "never above 0".to_owned()
        } else if found.iqr() < NARROW_IQR {
            "IQR near 0".to_owned()
        } else {
            String::new()
        };
        num_thin += usize::from(!verdict.is_empty());
        let [low, high] = found.p50_interval.unwrap_or([found.p50; 2]);
        lines.push(format!(
            "{start} {} | {} | {:.3} | {:.3} [{low:.3}, {high:.3}] | {:.3} | {verdict} |",
            found.count, found.num_unscored, found.p25, found.p50, found.p75
        ));
    }
    let num_pairs = measured.by_pair.len();
    lines.push(format!("\n{num_pairs} pairs calibrated, {num_thin} of them with a remark"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use medgrpo_datasets::TaskKind;
    use medgrpo_rewards::Score;

    use super::*;

    #[test]
    fn thin_pairs_are_named() {
        let mut measured = Measured::default();
        let mut add = |source: &str, values: &[f32]| {
            let source = source.into();
            measured.expect(&source, TaskKind::Stg, &["iou"]);
            for &value in values {
                let score = Score::Scored { value, raw: value, parts: vec![("iou".into(), value)] };
                measured.add_score(&source, TaskKind::Stg, &["iou"], &score);
            }
            measured.add_score(&source, TaskKind::Stg, &["iou"], &Score::Unscored("down".to_owned()));
        };
        add("Good", &[0.1, 0.4, 0.5, 0.9]);
        add("Few", &[0.5]);
        add("Flat", &[0.3; 6]);
        add("Zero", &[0.0; 6]);
        add("None", &[]);
        let text = report(&measured, &measured.table("sft"), 4);
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
        assert_eq!(line("Good"), "| Good | stg | iou | 4 | 1 | 0.325 | 0.450 [0.100, 0.900] | 0.600 |  |");
        for (name, remark) in [
            ("Few", "too few: 4 are needed"),
            ("Flat", "IQR near 0"),
            ("Zero", "never above 0"),
            ("None", "no reward at all"),
        ] {
            assert!(line(name).ends_with(&format!("{remark} |")), "{text}");
        }
        assert!(text.ends_with("5 pairs calibrated, 4 of them with a remark"), "{text}");
    }
}

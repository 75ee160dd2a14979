//! The audit for people to read.

use std::fmt::Write as _;

use medgrpo_datasets::TaskKind;

use super::{Answer, Audit, REWARD, Row};

impl Audit {
    /// One Markdown table a task: answers down, and across what the reward pays (mean, highest), how often an attack beats
    /// the half-right answer, and the means of the raw metric and of the reward's parts.
    pub fn to_markdown(&self) -> String {
        let mut tasks: Vec<TaskKind> = self.rows.iter().map(|row| row.task).collect();
        tasks.dedup();
        tasks.iter().map(|task| self.task_table(*task)).collect::<Vec<_>>().join("\n")
    }

    fn task_table(&self, task: TaskKind) -> String {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.task == task).collect();
        let mut answers: Vec<Answer> = rows.iter().map(|row| row.answer).collect();
        answers.dedup();
        let mut components: Vec<&str> = Vec::new();
        for row in rows.iter().filter(|row| row.component != REWARD) {
            if !components.contains(&row.component.as_str()) {
                components.push(&row.component);
            }
        }
        let find = |answer: Answer, component: &str| {
            rows.iter().find(|row| row.answer == answer && row.component == component)
        };
        let num_records = rows.iter().map(|row| row.records).max().unwrap_or_default();
        let mut table =
            format!("### {task}, {num_records} records\n\n| answer | reward | max | beats half right |");
        for component in &components {
            let _ = write!(table, " {component} |");
        }
        table += "\n|---|---|---|---|";
        table += &"---|".repeat(components.len());
        table += "\n";
        for answer in answers {
            let Some(row) = find(answer, REWARD) else { continue };
            let beaten = row.beaten_share.map_or(String::new(), |share| format!("{:.0} %", 100.0 * share));
            let _ = write!(table, "| {} | {:.3} | {:.3} | {beaten} |", answer.as_str(), row.mean, row.max);
            for component in &components {
                let mean = find(answer, component).map_or(String::new(), |row| format!("{:.3}", row.mean));
                let _ = write!(table, " {mean} |");
            }
            table += "\n";
        }
        table
    }
}

//! Prompts that do not fit are known before a run computes anything.

use super::Unbroken;

#[test]
fn prompts_that_do_not_fit_are_refused_or_left_out_before_training() {
    let unbroken = Unbroken::shared();
    let train = |name: &str, max_prompt_tokens: usize, on_bad_row: &str| {
        let run = unbroken.scene.run(name);
        let limit = format!("data.max_prompt_tokens={max_prompt_tokens}");
        let policy = format!("data.on_bad_row={on_bad_row:?}");
        let output = run
            .command(["experiment.toml", "--out", name, "--set", &limit, "--set", &policy])
            .output()
            .unwrap();
        (run, output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (run, code, stderr) = train("too-long", 1, "error");
    assert_eq!(code, Some(2), "{stderr}");
    for wanted in [
        "error: practice/train.json, row ",
        "more than max_prompt_tokens = 1;",
        "rows do not fit or cannot be read",
    ] {
        assert!(stderr.contains(wanted), "`{wanted}` is not in:\n{stderr}");
    }
    assert!(!run.path().join("metrics.jsonl").exists(), "it began to train");

    let counts = stderr.split("its prompt has ").skip(1).map(|rest| rest.split(' ').next().unwrap());
    let mut counts: Vec<usize> = counts.map(|count| count.parse().unwrap()).collect();
    counts.sort_unstable();
    let median = counts[counts.len() / 2];
    assert!(median < *counts.last().unwrap(), "all prompts are equally long: {counts:?}");
    // The directory of a run that was refused is free: the mended command works as it stands.
    let (run, code, stderr) = train("too-long", median, "skip");
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("rows do not fit or cannot be read and are left out"), "{stderr}");
    let metrics = std::fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 12, "every step of both stages");
    assert!(metrics.lines().all(|line| line.contains("\"data/skipped\":0.0")), "they were met in training");
}

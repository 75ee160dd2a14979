//! What `check` says of memory before there is a run.

use std::process::Command;

use super::Scene;
use crate::cli::binary;

/// What `check` says of the second stage, with these overrides and options.
fn forecast(scene: &Scene, args: &[&str]) -> Vec<String> {
    let mut command = Command::new(binary());
    command.args(["check", "experiment.toml", "--threads", "2"]).args(args);
    let output = command.current_dir(scene.dir.path()).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<String> = stdout
        .lines()
        .skip_while(|line| !line.starts_with("stage \"medgrpo\": "))
        .map(str::to_owned)
        .collect();
    assert!(lines.first().is_some_and(|line| line.contains(" of memory at most, during ")), "{stdout}");
    lines
}

/// The whole of it in mebibytes.
fn total(lines: &[String]) -> f64 {
    let rest = lines[0].strip_prefix("stage \"medgrpo\": ").unwrap();
    let mut words = rest.split(' ');
    let number: f64 = words.next().unwrap().parse().unwrap();
    number * if words.next() == Some("GiB") { 1024.0 } else { 1.0 }
}

#[test]
fn memory_is_forecast_from_the_config_alone_and_what_lowers_it_does() {
    let scene = Scene::new();
    let wide = [
        "--workers=1",
        "--set=model.init.hidden_size=256",
        "--set=model.init.num_hidden_layers=6",
        "--set=stage.1.trainer.micro_batch_size=4",
    ];
    let with = |more: &[&str]| forecast(&scene, &[&wide, more].concat());
    let plain = with(&[]);
    assert!(plain[0].contains("during the update"), "{plain:?}");
    assert!(plain[1].contains("weights ") && plain[1].contains("sampling "), "{plain:?}");
    assert!(!plain.iter().any(|line| line.contains("warning")), "{plain:?}");
    for lowering in ["stage.1.trainer.gradient_checkpointing=true", "data.max_prompt_tokens=512"] {
        let lower = with(&["--set", lowering]);
        assert!(total(&lower) < 0.8 * total(&plain), "{lowering}: {lower:?} and {plain:?}");
    }

    let much = ["--set=model.init.hidden_size=16384", "--set=model.init.num_hidden_layers=300"];
    let much = forecast(&scene, &much);
    let warning = much.iter().find(|line| line.contains("warning: this machine has"));
    let warning = warning.unwrap_or_else(|| panic!("{much:?}"));
    assert!(warning.contains("`[stage.lora]`") && warning.contains("`data.max_prompt_tokens`"), "{warning}");
}

//! Other ways to stop or to disturb a run: Ctrl-C, a second process, a damaged checkpoint.

use super::{Run, Unbroken};

/// Sends a signal as a shell does.
#[cfg(unix)]
fn signal(child: &std::process::Child, name: &str) {
    let command = format!("kill -{name} {}", child.id());
    assert!(std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_and_sigterm_finish_the_step_and_the_run_goes_on_from_there() {
    let unbroken = Unbroken::shared();
    for name in ["INT", "TERM"] {
        let run = unbroken.scene.run(&format!("interrupted-by-{name}"));
        let mut child = run.start_command().spawn().unwrap();
        run.wait_for(&mut child, "metrics.jsonl");
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", output.status);
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(stdout.contains("stopped") && stdout.contains("--resume"), "{stdout}");
        assert!(!run.path().join("model").exists(), "the run was not stopped");
        let (stage, step) = *run.logged_steps().last().unwrap();
        let newest = run.checkpoints().pop().unwrap();
        assert!(
            newest.starts_with(&format!("{stage:02}-")) && newest.ends_with(&format!("-step-{step:06}")),
            "stopped after step {step} of stage {stage}, saved {newest}"
        );
        println!("{name}: stopped after step {step} of stage {stage}");
        run.succeed();
        unbroken.outcome.assert_equal(&run.outcome(), name);
    }
}

#[cfg(unix)]
#[test]
fn a_second_process_is_refused_while_the_first_is_at_it() {
    let unbroken = Unbroken::shared();
    let run = unbroken.scene.run("in-use");
    let mut child = run.start_command().spawn().unwrap();
    run.wait_for(&mut child, "checkpoints");
    signal(&child, "STOP");
    for mut second in [run.resume_command(), run.start_command()] {
        let output = second.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(&format!("error: in-use is in use by process {}", child.id())), "{stderr}");
    }
    assert!(child.try_wait().unwrap().is_none(), "the first process should have been there all the time");
    signal(&child, "CONT");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    unbroken.outcome.assert_equal(&run.outcome(), "the first process");
    let output = run.start_command().output().unwrap();
    assert_eq!(output.status.code(), Some(2), "a run is never overwritten");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--resume in-use"));
}

/// Changes one bit in the middle of a file of a checkpoint.
fn damage(run: &Run, checkpoint: &str, file: &str) {
    let path = run.path().join("checkpoints").join(checkpoint).join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_told_of_and_the_one_before_is_taken() {
    let unbroken = Unbroken::shared();
    for file in ["model.safetensors", "optimizer_matrices.bin"] {
        let run = unbroken.scene.run(&format!("damaged-{file}"));
        run.succeed();
        // As if it had died before its end.
        std::fs::remove_dir_all(run.path().join("model")).unwrap();
        let checkpoints = run.checkpoints();
        let (newest, before) = checkpoints.split_last().unwrap();
        assert!(before.last().is_some_and(|before| before.starts_with("01-medgrpo")), "{checkpoints:?}");
        damage(&run, newest, file);
        let output = run.succeed();
        let stderr = String::from_utf8_lossy(&output.stderr);
        for wanted in ["ERROR", "checkpoint passed over", newest, file, "is damaged"] {
            assert!(stderr.contains(wanted), "`{wanted}` is not in:\n{stderr}");
        }
        assert_eq!(run.checkpoints(), checkpoints, "the damaged one was written anew");
        unbroken.outcome.assert_equal(&run.outcome(), file);
    }
}

#[test]
fn a_damaged_reference_or_nothing_but_damaged_checkpoints_end_the_run() {
    let unbroken = Unbroken::shared();
    let run = unbroken.scene.run("all-damaged");
    run.succeed();
    let checkpoints = run.checkpoints();
    let refuse = |wanted: &[&str]| {
        let output = run.resume_command().output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        for wanted in wanted {
            assert!(stderr.contains(wanted), "`{wanted}` is not in:\n{stderr}");
        }
    };
    // The KL term's reference is the model that the first stage left.
    let [.., sft, medgrpo, last] = checkpoints.as_slice() else { panic!("{checkpoints:?}") };
    damage(&run, sft, "model.safetensors");
    std::fs::remove_dir_all(run.path().join("checkpoints").join(last)).unwrap();
    refuse(&["error:", "reference", sft, "is damaged"]);
    assert_eq!(run.checkpoints().last(), Some(medgrpo));

    for checkpoint in run.checkpoints().iter().filter(|checkpoint| *checkpoint != sft) {
        damage(&run, checkpoint, "train_state.json");
    }
    refuse(&["error:", "none of the", "is whole", "remove the folder"]);
    assert!(run.checkpoints().contains(medgrpo), "nothing is renamed where nothing is whole");
}

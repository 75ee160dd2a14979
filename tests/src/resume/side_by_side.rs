//! Threads and workers change the time a run takes and nothing else.

use super::Unbroken;

#[test]
fn a_run_gives_the_same_files_however_many_work_on_it() {
    let unbroken = Unbroken::shared();
    for (threads, workers) in [("1", "1"), ("3", "4")] {
        let name = format!("threads-{threads}-workers-{workers}");
        let run = unbroken.scene.run(&name);
        let mut command = run.start_command();
        let output = command.args(["--threads", threads, "--workers", workers]).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        unbroken.outcome.assert_equal(&run.outcome(), &name);
    }
}

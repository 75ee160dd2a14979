//! Threads and workers change the time a run takes and nothing else.

use medgrpo::device::Device;

use super::Unbroken;
use crate::device::chosen;

#[test]
fn a_run_gives_the_same_files_however_many_work_on_it() {
    let unbroken = Unbroken::shared();
    let [one, several] = [("1", "1"), ("3", "4")].map(|(threads, workers)| {
        let name = format!("threads-{threads}-workers-{workers}");
        let run = unbroken.scene.run(&name);
        let mut command = run.start_command();
        let output = command.args(["--threads", threads, "--workers", workers]).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        run.outcome()
    });
    one.assert_equal(&several, "one worker and four");
    // libtorch rounds by the threads an operation has, and this machine may give it more than one unasked.
    if chosen() == Device::Cpu {
        unbroken.outcome.assert_equal(&one, "as many as the machine has and one");
    }
}

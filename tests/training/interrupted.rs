//! A training that is killed, interrupted or runs out of space, and is given again.
//!
//! `SIPF_TEST_KILLS=10 cargo test --release -p sipf-tests killed` kills ten times instead of two.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sipf_tests::{kills, run, run_well, skipped, with_little_space};

use super::{assert_same_files, files, metrics, pairs, sft_rows, train, train_from};

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until `out` has so many lines of metrics; `false` when the command ended before.
fn wait_for_lines(child: &mut Child, out: &Path, lines: usize) -> bool {
    let since = Instant::now();
    while metrics(out).len() < lines {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(
            since.elapsed() < Duration::from_secs(120),
            "no {lines} lines of metrics in {}",
            out.display()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Kills a training again and again at scattered moments; what it ends with is what an undisturbed one ends with.
fn killed(command: &str, data: impl Fn(&Path) -> std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    run_well(&mut train(command, &data, &whole));
    let steps = metrics(&whole).len();
    let kills = kills();
    let mut done = 0;
    for kill in 0..kills {
        let mut child = start(train(command, &data, &parts));
        // From the first step to the last, and some way into the step after.
        if wait_for_lines(&mut child, &parts, 1 + (kill * 7 + 3) % (steps - 1)) {
            std::thread::sleep(Duration::from_millis((kill as u64 * 13) % 29));
            done += 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(done > 0, "the training ended before it was killed");
    run_well(&mut train(command, &data, &parts));
    assert_same_files(&whole, &parts);
    // Given once more, nothing changes.
    let before = files(&parts);
    run_well(&mut train(command, &data, &parts));
    assert!(before == files(&parts));
}

#[test]
fn orpo_killed_and_given_again_ends_with_the_same_bytes() {
    killed("align --loss orpo --max-steps 12 --batch-size 2 --learning-rate 1e-3 --save-steps 2", |folder| {
        pairs(folder, 9)
    });
}

#[test]
fn dpo_with_dropout_in_an_adapter_killed_and_given_again_ends_with_the_same_bytes() {
    killed(
        "align --loss dpo --max-steps 12 --batch-size 2 --learning-rate 1e-3 --save-steps 3 --lora-r 4 --lora-dropout 0.2",
        |folder| pairs(folder, 9),
    );
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    run_well(Command::new("kill").args(["-INT", &child.id().to_string()]));
}

#[cfg(unix)]
#[test]
fn ctrl_c_finishes_the_step_keeps_a_checkpoint_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = sft_rows(folder.path(), 20);
    let command = "sft --max-steps 60 --batch-size 4 --learning-rate 1e-3";
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let mut child = start(train(command, &data, &parts));
    assert!(wait_for_lines(&mut child, &parts, 3));
    interrupt(&child);
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("give the same command again"), "{said}");
    assert!(parts.join("checkpoint.safetensors").is_file());
    run_well(&mut train(command, &data, &whole));
    run_well(&mut train(command, &data, &parts));
    assert_same_files(&whole, &parts);
}

#[cfg(unix)]
#[test]
fn ctrl_c_twice_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = sft_rows(folder.path(), 2000);
    let out = folder.path().join("out");
    // One step over everything, which takes far longer than this test waits.
    let mut child = start(train("sft --max-steps 1 --batch-size 100 --grad-accum 20", &data, &out));
    let since = Instant::now();
    while !out.join("metrics.jsonl").is_file() {
        assert!(child.try_wait().unwrap().is_none() && since.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(5));
    }
    interrupt(&child);
    std::thread::sleep(Duration::from_millis(100));
    assert!(child.try_wait().unwrap().is_none(), "the first one lets the step finish");
    interrupt(&child);
    let since = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(since.elapsed() < Duration::from_secs(2));
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_said_and_leaves_the_last_checkpoint_whole() {
    let folder = tempfile::tempdir().unwrap();
    let data = sft_rows(folder.path(), 20);
    let command = "sft --max-steps 12 --batch-size 4 --learning-rate 1e-3 --save-steps 4";
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    // A bundled model would itself be written to disk.
    let base = folder.path().join("base");
    run_well(&mut train("sft --max-steps 1", &data, &base));
    let train = |out: &Path| train_from(&base, command, &data, out);
    let mut child = start(train(&parts));
    assert!(wait_for_lines(&mut child, &parts, 5));
    child.kill().unwrap();
    child.wait().unwrap();
    let checkpoint = std::fs::read(parts.join("checkpoint.safetensors")).unwrap();
    // Smaller than a checkpoint, larger than everything else that is written.
    let full = run(&mut with_little_space(&train(&parts), 1000));
    if full.status == Some(0) {
        return skipped("this shell does not limit the size of files");
    }
    assert_eq!(full.status, Some(1), "{}", full.stderr);
    for part in ["safetensors", "is whole", "same command"] {
        assert!(full.stderr.contains(part), "{part} in {}", full.stderr);
    }
    assert!(checkpoint == std::fs::read(parts.join("checkpoint.safetensors")).unwrap());
    assert!(!parts.join("checkpoint.safetensors.new").exists());
    run_well(&mut train(&parts));
    run_well(&mut train(&whole));
    assert_same_files(&whole, &parts);
}

#[test]
fn a_folder_that_cannot_be_written_is_named_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let data = sft_rows(folder.path(), 4);
    let file = folder.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let ran = run(&mut train("sft --max-steps 2", &data, &file.join("out")));
    assert_eq!(ran.status, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("a-file"), "{}", ran.stderr);
}

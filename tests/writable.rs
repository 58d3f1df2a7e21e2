//! A place that no result can be written to is refused before any work: the flag, the path, the cause once, what to do.

use sipf_tests::{run, sipf};

/// Every command that writes a result. `IN` is a folder with the inputs, `OUT` the place.
const COMMANDS: &[&str] = &[
    "run --limit 2 --iterations 1 --run-dir OUT",
    "sft --model tiny --max-steps 1 --data IN/rows.jsonl --out OUT",
    "align --model tiny --max-steps 1 --data IN/rows.jsonl --out OUT",
    "align --loss dpo --model tiny --max-steps 1 --data IN/rows.jsonl --out OUT",
    "reward train --model tiny --max-steps 1 --data IN/labels.jsonl --out OUT",
    "reward score --model tiny --data IN/labels.jsonl --out OUT",
    "align pairs --pair-policy outcome --data IN/none.jsonl --out OUT",
    "sample --task arith --model tiny --limit 1 --out OUT",
    "simulate --task arith --simulator tiny --data IN/none.jsonl --out OUT",
    "evaluate --task arith --model tiny --limit 1 --out OUT",
    "verify --task arith --limit 1 --reference --out OUT",
    "verify --task arith --completions IN/none.jsonl --out OUT",
    "task export arith --limit 1 --out OUT",
    "sandbox batch IN/none.jsonl --out OUT",
    "model merge --model tiny --adapter IN --out OUT",
    "model convert IN --out OUT",
    "report IN --out OUT",
];

#[test]
fn a_place_that_cannot_be_written_is_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let row = r##"{"prompt": "Q: 1 + 1\n", "completion": "2", "chosen": "2\n", "rejected": "3\n"}"##;
    std::fs::write(at("rows.jsonl"), row).unwrap();
    let row = r#"{"prompt": "Q: 1 + 1\n", "completions": ["2"], "labels": [true]}"#;
    std::fs::write(at("labels.jsonl"), row).unwrap();
    std::fs::write(at("none.jsonl"), "").unwrap();
    std::fs::write(at("a-file"), "").unwrap();
    let before = std::fs::read_dir(folder.path()).unwrap().count();
    let below = at("a-file").join("below").to_str().unwrap().to_owned();
    // Root may write anywhere else, but nobody in /proc.
    let places = [(below.as_str(), "a-file is a file"), ("/proc/nope", "nothing can be written in /proc: ")];
    for (place, why) in &places[..if cfg!(target_os = "linux") { 2 } else { 1 }] {
        for command in COMMANDS {
            let words = command.split(' ').map(|word| match word {
                "OUT" => (*place).to_owned(),
                _ => word.replace("IN", folder.path().to_str().unwrap()),
            });
            let ran = run(sipf().args(words).current_dir(folder.path()).env("HF_HUB_OFFLINE", "1"));
            assert_eq!((ran.status, &*ran.stdout), (Some(2), ""), "{command}: {}", ran.stderr);
            let flag = if command.starts_with("run ") { "--run-dir" } else { "--out" };
            for said in [&*format!("{flag} {place}: "), why, "name another place"] {
                assert_eq!(ran.stderr.matches(said).count(), 1, "{command}: {said:?} in {}", ran.stderr);
            }
            assert!(ran.stderr.matches("os error").count() <= 1, "{command}: {}", ran.stderr);
            assert_eq!(ran.stderr.lines().count(), 1, "{command}: {}", ran.stderr);
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before, "nothing is left behind");
}

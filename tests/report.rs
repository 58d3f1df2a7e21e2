//! `sipf report`: one page from a run's files, whole, closed, the same every time.

use std::path::Path;

use serde_json::{Value, json};
use sipf_tests::{run, run_well, sipf};

/// What a hostile model may write.
const HOSTILE: &str = "</script><img src=x onerror=alert(1)><!-- \u{2028} \u{1F4A1} & \"'";

fn put(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn put_lines(folder: &Path, name: &str, rows: &[Value]) {
    put(folder, name, &rows.iter().map(|row| format!("{row}\n")).collect::<String>());
}

/// A run of two iterations over three questions.
fn small_run(folder: &Path) {
    put(
        folder,
        "run.toml",
        "task = \"arith\"\nmodel = \"tiny\"\nseed = 42\n[align]\nbeta = 0.1\nnote = \"<b>\"\n",
    );
    let stage = |name: &str, tokens: u32| json!({ "name": name, "usage": { "forward_tokens": tokens, "flops": 1e9 } });
    let manifest = json!({ "schema": 1, "stages": [stage("sft", 1000), stage("iter-0/sample", 500)] });
    put(folder, "manifest.json", &manifest.to_string());
    put(folder, "timings.json", &json!({ "sft": { "wall": 98765.4, "cpu": 20.0 } }).to_string());
    put_lines(
        folder,
        "sft/metrics.jsonl",
        &[json!({ "step": 1, "loss": 2.0 }), json!({ "step": 2, "loss": 1.5 })],
    );
    put(folder, "reward/quality.json", &json!({ "step_auc": 0.951, "steps": 40 }).to_string());
    let mut samples = Vec::new();
    let mut scores = Vec::new();
    for question in 0..3 {
        for index in 0..4 {
            let id = format!("arith/train/{question}#0.{index}");
            let step = format!("é {HOSTILE}");
            let completion = format!("{step}\nso 3\n#### 3");
            let steps = json!([
                { "start": 0, "end": step.len(), "chunk": 0 },
                { "start": step.len() + 1, "end": step.len() + 5, "chunk": 1 }
            ]);
            samples.push(json!({
                "id": id, "problem": format!("arith/train/{question}"), "iteration": 0, "index": index,
                "prompt": format!("How many? {HOSTILE}\n"), "completion": completion, "passed": index % 2 == 0,
                "answer": "3", "steps": steps, "tokens": 9, "kept": index != 3, "dropped_because": "duplicate"
            }));
            let score = if index % 2 == 0 { 0.9 } else { 0.2 };
            scores.push(json!({ "sample": id, "scores": [score, score - 0.1], "reward": score - 0.05 }));
        }
    }
    put_lines(folder, "iter-0/samples.jsonl", &samples);
    let label = |right: u32| json!({ "start": 0, "end": 1, "tried": 8, "right": right, "label": right.min(1), "low": 0.1, "high": 0.9 });
    let labels: Vec<Value> = (0..4)
        .map(|n| json!({ "sample": format!("arith/train/0#0.{n}"), "k": 8, "steps": [label(1 - n % 2), label(1 - n % 2)] }))
        .collect();
    put_lines(folder, "iter-0/labels.jsonl", &labels);
    put_lines(folder, "iter-1/scores.jsonl", &scores);
    let pair = json!({
        "prompt": "", "chosen": "", "rejected": "", "problem": "arith/train/0", "chosen_sample": "arith/train/0#0.0",
        "rejected_sample": "arith/train/0#0.1", "chosen_reward": 0.85, "rejected_reward": 0.15
    });
    put_lines(folder, "iter-1/pairs.jsonl", &[pair]);
    let metric =
        |step: u32| json!({ "step": step, "loss": 0.6, "logps/chosen": -0.5, "logps/rejected": -0.7 });
    put_lines(folder, "iter-1/policy/metrics.jsonl", &[metric(1), metric(2), metric(3)]);
    for (name, accuracy) in [("iter-0", 0.5), ("iter-1", 0.75), ("control", 0.55)] {
        let evaluation = json!({
            "accuracy": accuracy, "sampled_accuracy": accuracy - 0.1, "problems": 40,
            "measures": { "fully_right": accuracy - 0.2 }
        });
        put(folder, &format!("{name}/eval.json"), &evaluation.to_string());
        let answers: Vec<Value> = (0..40)
            .map(|n| json!({
                "doc_id": n, "doc": { "id": format!("arith/test/{n}"), "question": "How many?" },
                "resps": [[format!("so 3 {HOSTILE}")]], "exact_match": f64::from(u8::from(f64::from(n) < accuracy * 40.0))
            }))
            .collect();
        put_lines(folder, &format!("{name}/samples_arith.jsonl"), &answers);
    }
}

fn report(folder: &Path) -> String {
    let printed = run_well(sipf().args(["report", "--json"]).arg(folder));
    let named: Value = serde_json::from_str(&printed).unwrap();
    std::fs::read_to_string(named["report"].as_str().unwrap()).unwrap()
}

/// The data behind the browser of questions.
fn questions(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"run-data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn the_page_holds_the_run_s_numbers_and_every_path() {
    let scratch = tempfile::tempdir().unwrap();
    small_run(scratch.path());
    let page = report(scratch.path());
    for part in ["75.0%", "from 50.0%", "+25.0 points", "+20.0", "0.951", "Fully right", "McNemar", "1000"] {
        assert!(page.contains(part), "{part} is missing");
    }
    for section in ["accuracy", "data", "reward", "training", "cost", "questions", "settings"] {
        assert!(page.contains(&format!("<section id=\"{section}\">")), "{section}");
    }
    let questions = questions(&page);
    assert_eq!(questions.as_array().unwrap().len(), 3 + 40);
    let paths = questions[0]["paths"].as_array().unwrap();
    assert_eq!(paths.len(), 4);
    let (text, steps) = (paths[0]["t"].as_str().unwrap(), paths[0]["s"].as_array().unwrap());
    let units: Vec<u16> = text.encode_utf16().collect();
    let step = |n: usize| {
        let at = |k: usize| steps[n][k].as_u64().unwrap() as usize;
        String::from_utf16(&units[at(0)..at(1)]).unwrap()
    };
    assert_eq!([step(0), step(1)], [format!("é {HOSTILE}"), "so 3".to_owned()]);
    assert_eq!(steps[0][2], 0.9);
    assert_eq!(steps[0][3], json!([1, 8, 1.0]));
    assert_eq!(paths[0]["p"], json!([[1, 1, "0.1", 0.7]]));
    assert_eq!(paths[1]["p"], json!([[1, 0, "0.0", 0.7]]));
    assert_eq!(paths[3]["d"], "duplicate");
    assert_eq!(questions[3]["greedy"].as_array().unwrap().len(), 3);
}

#[test]
fn what_a_model_wrote_stays_text_and_nothing_is_fetched() {
    let scratch = tempfile::tempdir().unwrap();
    small_run(scratch.path());
    let page = report(scratch.path());
    assert!(!page.contains("<img"), "a model's markup is markup here");
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(!page.contains('\u{2028}'));
    assert!(page.contains("&lt;b&gt;"), "a setting is escaped");
    for outside in ["http://", "https://", "//cdn", "@import", "url(", "innerHTML"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn the_page_is_the_same_wherever_and_whenever_it_is_made() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    small_run(one.path());
    small_run(two.path());
    let page = report(one.path());
    assert_eq!(page, report(two.path()));
    assert!(!page.contains("98765.4") && !page.contains(&*one.path().to_string_lossy()));
}

#[test]
fn seconds_only_go_into_a_copy_outside_the_run() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    small_run(folder.path());
    let ask = |out: &Path| {
        let mut command = sipf();
        command.arg("report").arg(folder.path()).arg("--times").arg("--out").arg(out);
        command
    };
    let ran = run(&mut ask(&folder.path().join("times.html")));
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("outside"), "{}", ran.stderr);
    let copy = other.path().join("times.html");
    run_well(&mut ask(&copy));
    assert!(std::fs::read_to_string(copy).unwrap().contains("98765.4"));
    assert!(!folder.path().join("times.html").exists());
}

#[test]
fn an_unfinished_run_gives_what_there_is_and_no_run_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let ran = run(sipf().arg("report").arg(scratch.path()));
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("run.toml"), "{}", ran.stderr);
    put(scratch.path(), "run.toml", "task = \"arith\"\n");
    let page = report(scratch.path());
    assert!(page.contains("before the first iteration") && !page.contains("section id=\"accuracy\""));
    assert_eq!(questions(&page), json!([]));
    put(scratch.path(), "iter-0/samples.jsonl", "{\"id\": 3}\n");
    let ran = run(sipf().arg("report").arg(scratch.path()));
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("samples.jsonl, line 1"), "{}", ran.stderr);
}

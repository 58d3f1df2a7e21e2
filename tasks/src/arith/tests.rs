//! The generator, its noise and its oracle.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sipf_plugin::conformance;

use super::*;

const ARITH: Arith = WordProblems;
const OOD: ArithOod = WordProblems;

fn problems(task: &dyn Task, split: Split, count: u64) -> Vec<Problem> {
    (0..count)
        .flat_map(|index| task.problems(&task.generate(split, index).expect("row"), split).expect("problem"))
        .collect()
}

fn passed(task: &dyn Task, problem: &Problem, completion: &str) -> Verdict {
    match task.verify(problem, completion).expect("a check") {
        Check::Verdict(verdict) => verdict,
        other => panic!("{other:?}"),
    }
}

#[test]
fn references_are_fully_right_and_demonstrations_are_noisy() {
    for task in [&ARITH as &dyn Task, &OOD] {
        let problems = problems(task, Split::Train, 1500);
        let two_way = problems.iter().filter(|problem| problem.chance == 0.5).count();
        assert!((600..900).contains(&two_way), "{two_way} of 1500 are two-way");
        let (mut right, mut fully, mut wrong, mut wrong_true) = (0, 0, 0, 0);
        for problem in &problems {
            let reference = problem.solution.as_deref().expect("a reference");
            let verdict = passed(task, problem, reference);
            assert!(verdict.by_rule.values().all(|right| *right), "{problem:?} {verdict:?}");
            let (flags, complete) = judge(problem, reference).expect("truth");
            assert!(complete && flags.iter().all(|flag| *flag), "{}\n{reference}", problem.question);
            let demonstration = problem.demonstration.as_deref().expect("a demonstration");
            let verdict = passed(task, problem, demonstration);
            let measure = task.measure(problem, demonstration, &verdict).expect("a measure");
            right += usize::from(verdict.passed);
            fully += usize::from(measure[0].value == 1.0);
            if measure[0].value == 0.0 {
                wrong += 1;
                let flawed = matches!(signature(demonstration), Signature::Key { flaw: Some(_), .. });
                wrong_true += usize::from(!flawed);
            }
        }
        // The point of the bed: wrong demonstrations whose equations are all true.
        assert!(right > fully && fully > problems.len() / 4, "{right} right, {fully} fully right");
        assert!(
            wrong_true * 10 > wrong * 8,
            "{wrong_true} of {wrong} wrong demonstrations have true equations"
        );
    }
}

#[test]
fn the_splits_do_not_meet_and_rows_are_fixed() {
    let questions = |split| -> BTreeSet<String> {
        problems(&ARITH, split, 2000).into_iter().map(|problem| problem.question).collect()
    };
    let (train, test) = (questions(Split::Train), questions(Split::Test));
    assert!(train.is_disjoint(&test));
    assert!(train.len() > 1980 && test.len() > 1980, "{} {}", train.len(), test.len());
    assert_eq!(ARITH.generate(Split::Test, 7).expect("row"), ARITH.generate(Split::Test, 7).expect("row"));
    assert_eq!(problems(&ARITH, Split::Test, 1)[0].id, "arith/test/0");
    let error = ARITH.generate(Split::Validation, 0).expect_err("no such split").to_string();
    assert!(error.contains("validation"), "{error}");
}

fn apples() -> Problem {
    // Tom has 4 apples. Tom buys 3 more. Then the number doubles; Ann has 2 fewer than Tom at first.
    let line = |left, operator: &str, right, result, who: &str, needs: &[usize]| json!({ "left": left, "operator": operator, "right": right, "result": result, "subject": [who], "needs": needs });
    let truth = json!({
        "lines": [line(4, "+", 3, 7, "Tom", &[]), line(7, "*", 2, 14, "Tom", &[0]), line(4, "-", 2, 2, "Ann", &[])],
        "restated": ["We know Tom has 4 apples."],
    });
    Problem::new("arith/test/0", "How many?").answer("14").extra(json!({ "choices": [], "truth": truth }))
}

#[test]
fn the_oracle_reads_meaning_not_text() {
    let problem = apples();
    let truth = |text: &str| ARITH.step_truth(&problem, text).expect("truth").expect("known");
    let any_order = "So Ann is at <<4-2=2>>2.\nWe know Tom has 4 apples.\n<<3+4=7>>7 for Tom.\nTom: <<2*7=14>>14\n#### 14";
    assert_eq!(truth(any_order), [true; 4]);
    assert_eq!(
        truth("Tom has <<7*2=14>>14 apples.\n<<4+3=7>>7 for Tom."),
        [false, false],
        "an input not derived yet"
    );
    assert_eq!(truth("Tom has <<4+3=7>>8 apples."), [false], "another number after the equation");
    assert_eq!(truth("Ann has <<4+3=7>>7 apples.\n<<4-2=2>>2 for Ann"), [false, false], "the wrong person");
    assert_eq!(truth("Tom has <<4+3=7>>7.\nTom has <<4+3=7>>7."), [true, false], "the same step twice");
    assert_eq!(truth("Ann has <<2-4=2>>2."), [false], "a difference turned round");
    assert_eq!(truth("Tom has <<4+2=6>>6."), [false], "a true equation of another plan");
    assert_eq!(truth("Nobody knows."), [false]);
    let fully = |text: &str| {
        let verdict = passed(&ARITH, &problem, text);
        ARITH.measure(&problem, text, &verdict).expect("measure")[0].value
    };
    assert_eq!(fully(any_order), 1.0);
    assert_eq!(fully("<<3+4=7>>7 for Tom.\nTom: <<2*7=14>>14\n#### 14"), 0.0, "a step is missing");
    assert_eq!(fully(&any_order.replace("#### 14", "#### 15")), 0.0, "the answer is wrong");
}

#[test]
fn answers_are_read_by_three_rules() {
    let rules = |problem: &Problem, text: &str| -> Vec<bool> {
        let verdict = passed(&ARITH, problem, text);
        number::RULES.iter().map(|rule| verdict.by_rule[*rule]).collect()
    };
    let number = apples();
    assert_eq!(rules(&number, "14 it is\n#### 14"), [true, true, true]);
    assert_eq!(rules(&number, "#### 14.0"), [true, false, false]);
    assert_eq!(rules(&number, "so 14"), [false, false, true]);
    assert_eq!(rules(&number, "#### 15\n14"), [false, false, true]);
    let two_way = Problem::new("arith/test/1", "Who?")
        .answer("Tom")
        .extra(json!({ "choices": ["Tom", "Ann"], "truth": {} }));
    assert_eq!(rules(&two_way, "Ann has 3.\n#### Tom"), [true, true, true]);
    assert_eq!(rules(&two_way, "#### Tom wins"), [false, true, true]);
    assert_eq!(rules(&two_way, "Ann, no, Tom"), [false, false, true]);
    assert_eq!(rules(&two_way, "####"), [false, false, false]);
}

#[test]
fn the_tasks_conform() {
    for task in [&ARITH as &dyn Task, &OOD, &ArithDrill] {
        let findings = conformance::check_task(task, None);
        assert!(conformance::all_hold(&findings), "{}: {findings:#?}", task.card().name);
    }
}

#[test]
fn out_of_domain_problems_are_longer() {
    let mean = |task: &dyn Task| {
        let lines: usize = problems(task, Split::Test, 400)
            .iter()
            .map(|problem| steps(problem.solution.as_deref().unwrap_or("")).len())
            .sum();
        lines as f64 / 400.0
    };
    let (near, far) = (mean(&ARITH), mean(&OOD));
    assert!(near > 2.3 && far > near + 1.0, "{near} {far}");
}

proptest! {
    #[test]
    fn never_a_panic(text in any::<String>()) {
        let problem = apples();
        let _ = (ARITH.step_truth(&problem, &text), ARITH.verify(&problem, &text), ARITH.answer(&text), clean(&text));
        let _ = (ARITH.signature(&problem, &text), ARITH.steps(&problem, &text));
    }

    #[test]
    fn huge_numbers_are_wrong_not_fatal(digits in "[0-9]{1,60}") {
        let text = format!("Tom has <<{digits}+3={digits}>>{digits} apples.\n#### {digits}");
        prop_assert!(ARITH.step_truth(&apples(), &text).is_ok());
    }
}

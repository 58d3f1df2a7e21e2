//! Final answers that are numbers: three rules, side by side.
//!
//! - `sipf`: the paper's scripts: what follows the first `The answer is` (where the text has none: what stands in the
//!   last `\boxed{}`, or on the last line `A: n`, as GSM8K's published model solutions end), compared as a number.
//! - `strict`: lm-evaluation-harness' `strict-match`: the first `#### n`, compared as text.
//! - `flexible`: its `flexible-extract`: the last number of the text, compared as text.

use std::sync::LazyLock;

use regex::Regex;
use sipf_plugin::{Check, Verdict};

use crate::math::equation;

/// Names of the rules; the first is the default.
pub const RULES: [&str; 3] = ["sipf", "strict", "flexible"];

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| unreachable!("{text}: {error}"))
}

/// A number in normal form: no commas, no trailing zeros; `None` for anything that is not one finite number.
pub fn normal(text: &str) -> Option<String> {
    let kept: String = text.chars().filter(|c| c.is_ascii_digit() || ".+-".contains(*c)).collect();
    let kept = kept.trim_matches('.');
    if kept.matches('.').count() > 1 || !kept.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let value: f64 = kept.parse().ok()?;
    value.is_finite().then(|| if value == 0.0 { "0".into() } else { value.to_string() })
}

/// The number after the first `The answer is` on its line, calculator annotations left out, in normal form.
pub fn stated(text: &str) -> Option<String> {
    let found = sipf_plugin::text::after(text, "The answer is")?;
    normal(&equation::without_annotations(found))
}

/// The number in the last `\boxed{}`, in normal form.
pub fn boxed(text: &str) -> Option<String> {
    let (_, rest) = text.rsplit_once("\\boxed{")?;
    let mut depth = 1;
    let end = rest.find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    })?;
    normal(&rest[..end])
}

/// The number on the last line that begins with `A:`, in normal form.
pub fn lettered(text: &str) -> Option<String> {
    text.lines().rev().find_map(|line| line.strip_prefix("A:")).and_then(normal)
}

/// The rule `sipf`: what is stated, or else what is boxed, or else what stands after `A:`.
pub fn sipf(text: &str) -> Option<String> {
    match text.contains("The answer is") {
        true => stated(text),
        false => boxed(text).or_else(|| lettered(text)),
    }
}

/// The rule `strict`: the first `#### n`, as text.
pub fn strict(text: &str) -> Option<String> {
    static HASHES: LazyLock<Regex> = LazyLock::new(|| pattern(r"#### (\-?[0-9\.\,]+)"));
    HASHES.captures(text).map(|found| found[1].to_owned())
}

/// The rule `flexible`: the last number, as text.
pub fn flexible(text: &str) -> Option<String> {
    static NUMBERS: LazyLock<Regex> = LazyLock::new(|| pattern(r"(-?[$0-9.,]{2,})|(-?[0-9]+)"));
    NUMBERS.find_iter(text).last().map(|found| found.as_str().to_owned())
}

/// What `exact_match` compares: without commas and dollars, without what stands up to `#### `, without a final
/// full stop, in small letters.
pub fn comparable(text: &str) -> String {
    let text = text.replace([',', '$'], "");
    let text = text.rsplit("#### ").next().unwrap_or("");
    text.strip_suffix('.').unwrap_or(text).to_lowercase()
}

/// All three rules against the truth; `passed` is the rule `sipf`.
pub fn judge(completion: &str, truth: Option<&str>) -> Check {
    let answer = sipf(completion);
    let number = truth.and_then(normal);
    let as_text = |found: Option<String>| match (found, truth) {
        (Some(found), Some(truth)) => comparable(&found) == comparable(truth),
        _ => false,
    };
    let right = answer.is_some() && answer == number;
    let by_rule = [right, as_text(strict(completion)), as_text(flexible(completion))];
    Check::Verdict(Verdict {
        passed: right,
        by_rule: RULES.iter().map(|rule| (*rule).to_owned()).zip(by_rule).collect(),
        message: answer.is_none().then(|| "no final answer found".to_owned()),
        answer,
    })
}

/// Whether a line states the final answer and is therefore no reasoning step.
pub fn is_answer_line(line: &str) -> bool {
    line.starts_with("The answer is") || line.starts_with("####")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn normal_form_drops_what_is_not_the_number() {
        assert_eq!(normal("$1,234.50."), Some("1234.5".into()));
        assert_eq!(normal(" 18"), Some("18".into()));
        assert_eq!(normal("-0"), Some("0".into()));
        assert_eq!(normal("1.2.3"), None);
        assert_eq!(normal("18-5"), None);
        assert_eq!(normal("none"), None);
        assert_eq!(normal(&"9".repeat(400)), None);
    }

    #[test]
    fn rules_read_what_they_should() {
        let text = "5+5=10\n#### 1,000\nThe answer is 10 apples.\nThe answer is 12";
        assert_eq!(sipf(text), Some("10".into()));
        assert_eq!(strict(text).as_deref(), Some("1,000"));
        assert_eq!(flexible(text).as_deref(), Some("12"));
        assert_eq!(boxed("so \\boxed{\\frac{1}{2}}: \\boxed{42}"), Some("42".into()));
        assert_eq!(boxed("\\boxed{42"), None);
        assert_eq!(sipf("7 - 4 = 3\nA: 3 apples.\n"), Some("3".into()));
        assert_eq!(sipf("The answer is <<8=8>>8."), Some("8".into()));
        assert_eq!(sipf("A: 3\nThe answer is four"), None);
    }

    #[test]
    fn text_rules_compare_text() {
        assert_eq!(comparable("$29.00"), "29.00");
        assert_ne!(comparable("29.00"), comparable("29"));
        assert_eq!(comparable("18."), "18");
    }

    proptest! {
        #[test]
        fn never_a_panic_and_normal_form_is_stable(text in any::<String>()) {
            let _ = (sipf(&text), strict(&text), flexible(&text), boxed(&text), judge(&text, Some("3")));
            if let Some(once) = normal(&text) {
                prop_assert_eq!(normal(&once), Some(once.clone()));
            }
        }

        #[test]
        fn a_stated_integer_is_read(n in -1_000_000i64..1_000_000) {
            prop_assert_eq!(sipf(&format!("so\nThe answer is {n}.")), Some(n.to_string()));
        }
    }
}

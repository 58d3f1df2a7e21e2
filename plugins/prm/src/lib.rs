//! The reward models that sipf has built in, as descriptors: one card a file, linked in without any export.
//!
//! A descriptor says which checkpoint is read, what the model reads, and where each step's score stands. The host owns
//! the weights, and refuses to run where tokenisation does not give one place to read per step.

pub mod math_shepherd;
pub mod orm;
pub mod prm_deepseek;
pub mod prm_tiny;
pub mod prm_trl;
pub mod qwen_math;
pub mod rlhflow;

use std::sync::Arc;

use sipf_plugin::{Problem, RewardModel};

pub use math_shepherd::PrmMathShepherd;
pub use orm::Orm;
pub use prm_deepseek::PrmDeepseek;
pub use prm_tiny::PrmTiny;
pub use prm_trl::PrmTrl;
pub use qwen_math::PrmQwenMath;
pub use rlhflow::PrmRlhflow;

/// Every built-in reward model; `prm-trl` is the one used where none is named.
pub fn all() -> Vec<Arc<dyn RewardModel>> {
    vec![
        Arc::new(PrmTrl),
        Arc::new(PrmDeepseek),
        Arc::new(PrmMathShepherd),
        Arc::new(PrmRlhflow),
        Arc::new(PrmQwenMath),
        Arc::new(PrmTiny),
        Arc::new(Orm),
    ]
}

/// The prompt that a task keeps with its problem (`extra.asked`): code tasks show tests there that the question
/// does not hold.
pub(crate) fn kept_prompt(problem: &Problem) -> Option<&str> {
    problem.extra.get("asked")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sipf_plugin::conformance::{all_hold, check_reward};
    use sipf_plugin::{Marker, Piece};

    /// The layout as one text, markers in angle brackets, turns by their role.
    pub(crate) fn as_text(reward: &dyn RewardModel, problem: &Problem, steps: &[&str]) -> String {
        let pieces = reward.layout(problem, steps).expect("a layout");
        let one = |piece: &Piece| match piece {
            Piece::Text { text } => text.clone(),
            Piece::Turn { role, text } => format!("[{role}]{text}"),
            _ => match reward.card().marker {
                Marker::Token { token } => token,
                Marker::Text { text } => text,
                _ => "<pad>".to_owned(),
            },
        };
        pieces.iter().map(one).collect()
    }

    #[test]
    fn every_reward_model_conforms() {
        for reward in all() {
            let findings = check_reward(&*reward);
            assert!(all_hold(&findings), "{}: {findings:?}", reward.card().name);
        }
    }

    #[test]
    fn names_are_unique_and_say_where_they_read() {
        let names: std::collections::BTreeSet<String> = all().iter().map(|r| r.card().name).collect();
        assert_eq!(names.len(), all().len());
        assert!(all().iter().all(|reward| reward.card().summary.contains("read")));
    }

    #[test]
    fn layouts_are_the_published_ones() {
        let problem = Problem::new("sums/0", "What is 1 + 1, doubled?");
        let steps = ["1 + 1 = 2", "2 * 2 = 4"];
        let text = |reward: &dyn RewardModel| as_text(reward, &problem, &steps);
        assert_eq!(
            text(&PrmDeepseek),
            "What is 1 + 1, doubled?\nPlease reason step by step.\n1 + 1 = 2\n<pad>2 * 2 = 4\n<pad>"
        );
        assert_eq!(text(&Orm), text(&PrmDeepseek));
        assert_eq!(text(&PrmTrl), "What is 1 + 1, doubled?1 + 1 = 2\n2 * 2 = 4\n");
        assert_eq!(
            text(&PrmMathShepherd),
            "What is 1 + 1, doubled? Step 1: 1 + 1 = 2▁ки\nStep 2: 2 * 2 = 4▁ки"
        );
        assert_eq!(
            text(&PrmRlhflow),
            "[user]What is 1 + 1, doubled? 1 + 1 = 2[assistant]+[user]2 * 2 = 4[assistant]+"
        );
        assert_eq!(
            text(&PrmQwenMath),
            "[system]Please reason step by step, and put your final answer within \\boxed{}.\
             [user]What is 1 + 1, doubled?[assistant]1 + 1 = 2<extra_0>2 * 2 = 4<extra_0>"
        );
    }

    #[test]
    fn a_kept_prompt_stands_in_for_the_question() {
        let asked = "'''\nAdd.\n'''\n";
        let problem = Problem::new("p/0", "Add.").extra(serde_json::json!({ "asked": asked }));
        assert_eq!(as_text(&PrmDeepseek, &problem, &["def f():"]), format!("{asked}def f():\n<pad>"));
        assert_eq!(as_text(&PrmTrl, &problem, &["def f():"]), format!("{asked}def f():\n"));
    }
}

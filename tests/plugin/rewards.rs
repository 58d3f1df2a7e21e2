//! Every built-in reward model reads one place per step, or refuses the tokenizer.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sipf_core::model::Tokenizer;
use sipf_core::reward::Layout;
use sipf_core::reward::layout::of_pieces;
use sipf_plugin::{Marker, Problem, RewardModel};

const STEPS: [&str; 3] = ["1 + 1 = 2", "2 * 2 = 4", "so 4"];
/// Llama's shape: a header before every turn.
const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }};{% endfor %}";

/// A tokenizer of single characters and these tokens; characters in `without` are not in its vocabulary.
fn tokenizer(without: &str, tokens: &[&str], config: Value) -> Tokenizer {
    let space = '\u{2581}';
    let letters = ('!'..='~').chain(['\n', space, 'к', 'и']).filter(|letter| !without.contains(*letter));
    let mut vocab: Vec<String> = letters.map(String::from).collect();
    let merges = match tokens.contains(&"\u{2581}ки") {
        true => vec![format!("{space} к"), format!("{space}к и")],
        false => Vec::new(),
    };
    vocab.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let added: Vec<&&str> = tokens.iter().filter(|token| !token.starts_with(space)).collect();
    let ids: Map<String, Value> =
        vocab.iter().zip(0..).map(|(token, id)| (token.clone(), id.into())).collect();
    let specials = added.iter().zip(vocab.len()..).map(|(token, id)| {
        json!({ "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true })
    });
    let file = json!({
        "version": "1.0",
        "added_tokens": specials.collect::<Vec<_>>(),
        "normalizer": { "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" },
        "model": { "type": "BPE", "vocab": ids, "merges": merges },
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    Tokenizer::load(folder.path()).unwrap()
}

fn reward(name: &str) -> Arc<dyn RewardModel> {
    sipf_reward_models::all().into_iter().find(|reward| reward.card().name == name).unwrap()
}

fn laid_out(reward: &dyn RewardModel, tokenizer: &Tokenizer, steps: &[&str]) -> Result<Layout, String> {
    let pieces = reward.layout(&Problem::new("p/0", "What is 1 + 1?"), steps).unwrap();
    of_pieces(tokenizer, &reward.card(), &pieces, steps.len()).map_err(|error| error.to_string())
}

/// A tokenizer that has what each reward model reads at.
fn fitting() -> Tokenizer {
    let config = json!({ "pad_token": "<pad>", "eos_token": "</s>", "chat_template": TEMPLATE });
    tokenizer("", &["<pad>", "</s>", "<extra_0>", "\u{2581}ки"], config)
}

#[test]
fn each_reads_once_a_step_where_its_card_says() {
    let tokenizer = fitting();
    for reward in sipf_reward_models::all() {
        let card = reward.card();
        let layout = laid_out(&*reward, &tokenizer, &STEPS).unwrap();
        assert_eq!(layout.reads.len(), STEPS.len(), "{}", card.name);
        assert!(layout.reads.is_sorted() && layout.spans.len() == STEPS.len(), "{}", card.name);
        let wanted = match &card.marker {
            Marker::Pad => "<pad>",
            Marker::Token { token } | Marker::Text { text: token } => token,
            other => panic!("{other:?}"),
        };
        for read in &layout.reads {
            let at = (*read as i64 - i64::from(card.offset)) as usize;
            assert_eq!(Some(layout.ids[at]), tokenizer.id(wanted), "{} reads at {wanted:?}", card.name);
        }
    }
}

#[test]
fn each_refuses_a_tokenizer_without_what_it_reads_at() {
    let chat = json!({ "chat_template": TEMPLATE });
    let full = json!({ "pad_token": "<pad>", "chat_template": TEMPLATE });
    let all = ["<pad>", "<extra_0>", "\u{2581}ки"];
    let cases = [
        ("prm-trl", tokenizer("\n", &all, full.clone()), "\\n"),
        ("prm-tiny", tokenizer("\n", &all, full.clone()), "\\n"),
        ("prm-deepseek", tokenizer("", &all, chat.clone()), "Pad"),
        ("orm", tokenizer("", &all, chat.clone()), "Pad"),
        ("prm-math-shepherd", tokenizer("", &["<pad>", "<extra_0>"], full.clone()), "ки"),
        ("prm-qwen2.5-math", tokenizer("", &["<pad>", "\u{2581}ки"], full.clone()), "<extra_0>"),
        ("prm-rlhflow", tokenizer("+", &all, full), "+"),
    ];
    assert_eq!(cases.len(), sipf_reward_models::all().len());
    for (name, tokenizer, missing) in cases {
        let error = laid_out(&*reward(name), &tokenizer, &STEPS).unwrap_err();
        assert!(error.contains(missing), "{name}: {error}");
    }
    for name in ["prm-qwen2.5-math", "prm-rlhflow"] {
        let silent = tokenizer("", &all, json!({ "pad_token": "<pad>" }));
        let error = laid_out(&*reward(name), &silent, &STEPS).unwrap_err();
        assert!(error.contains("chat"), "{name}: {error}");
    }
}

#[test]
fn a_step_that_bears_the_marker_itself_is_refused() {
    let tokenizer = fitting();
    for (name, step) in
        [("prm-qwen2.5-math", "two <extra_0> at once"), ("prm-math-shepherd", "two ки at once")]
    {
        let error = laid_out(&*reward(name), &tokenizer, &[step, "4"]).unwrap_err();
        assert!(error.contains("3 places to read for 2 steps") && error.contains(name), "{error}");
    }
    // Steps that are tokenised apart from their marker, and users' turns, may hold what looks like one.
    for (name, step) in [("prm-trl", "two\nlines"), ("prm-deepseek", "a\nb"), ("prm-rlhflow", "1 + 1 = 2")] {
        assert_eq!(laid_out(&*reward(name), &tokenizer, &[step, "4"]).unwrap().reads.len(), 2, "{name}");
    }
}

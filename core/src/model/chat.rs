//! Chats as text: the template that a tokenizer's folder brings along.

use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, context};
use serde::Serialize;

use super::Tokenizer;
use crate::{Error, Result};

#[derive(Serialize)]
struct Message<'a> {
    role: &'a str,
    content: &'a str,
}

impl Tokenizer {
    /// The text of a chat of (role, content), ready for the assistant's answer. Encode it without special tokens: the
    /// template writes them itself.
    ///
    /// # Errors
    /// When the folder has no template, or the template refuses the chat.
    pub fn chat(&self, messages: &[(&str, &str)]) -> Result<String> {
        self.render(messages, true)
    }

    /// As [`Self::chat`]; without `answer_follows` the text ends where the last message does.
    ///
    /// # Errors
    /// As [`Self::chat`].
    pub fn render(&self, messages: &[(&str, &str)], answer_follows: bool) -> Result<String> {
        let Some(template) = self.chat_template() else {
            return Err(Error::unusable("the tokenizer has no chat template; give the prompt as plain text"));
        };
        let messages: Vec<Message<'_>> =
            messages.iter().map(|(role, content)| Message { role, content }).collect();
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        // Templates use Python's methods on text and lists.
        environment.set_unknown_method_callback(method);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<String, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        let token = |id: Option<u32>| id.and_then(|id| self.inner().id_to_token(id)).unwrap_or_default();
        environment
            .render_str(
                template,
                context! {
                    messages, add_generation_prompt => answer_follows,
                    bos_token => token(self.bos()), eos_token => token(self.eos()), pad_token => token(self.pad()),
                },
            )
            .map_err(|error| Error::unusable(format!("the chat template fails: {error:#}")))
    }
}

fn method(
    _: &minijinja::State<'_, '_>,
    value: &minijinja::Value,
    name: &str,
    arguments: &[minijinja::Value],
) -> std::result::Result<minijinja::Value, minijinja::Error> {
    let unknown = || minijinja::Error::from(ErrorKind::UnknownMethod);
    let text = value.as_str().ok_or_else(unknown)?;
    let (arguments, _): (&[minijinja::Value], Kwargs) = minijinja::value::from_args(arguments)?;
    let argument = arguments.first().and_then(minijinja::Value::as_str);
    let set = |c: char| argument.map_or(c.is_whitespace(), |set| set.contains(c));
    Ok(match (name, argument) {
        ("strip", _) => text.trim_matches(set).into(),
        ("lstrip", _) => text.trim_start_matches(set).into(),
        ("rstrip", _) => text.trim_end_matches(set).into(),
        ("startswith", Some(start)) => text.starts_with(start).into(),
        ("endswith", Some(end)) => text.ends_with(end).into(),
        ("upper", _) => text.to_uppercase().into(),
        ("lower", _) => text.to_lowercase().into(),
        ("split", Some(by)) => text.split(by).map(minijinja::Value::from).collect(),
        ("split", None) => text.split_whitespace().map(minijinja::Value::from).collect(),
        _ => return Err(unknown()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_applied_and_may_refuse() {
        let folder = tempfile::tempdir().expect("a folder");
        let json = Tokenizer::numbered(4).expect("a tokenizer").inner().to_string(false).expect("json");
        std::fs::write(folder.path().join("tokenizer.json"), json).expect("written");
        let load = |template: &str| {
            let config = serde_json::json!({"bos_token": "w1", "eos_token": {"content": "w2"}, "chat_template": template});
            std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).expect("written");
            Tokenizer::load(folder.path()).expect("loads")
        };
        let template = "{{ bos_token }}{% for m in messages %}\n{% if m['role'] == 'system' %}{{ raise_exception('no system') }}\
            {% endif %}<{{ m.role }}>{{ m.content.strip() }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<model>{% endif %}";
        let tokenizer = load(template);
        assert_eq!(tokenizer.chat(&[("user", " hi ")]).expect("a text"), "w1<user>hiw2<model>");
        let refused = tokenizer.chat(&[("system", "x")]).expect_err("refused").to_string();
        assert!(refused.contains("no system"), "{refused}");
        let without =
            Tokenizer::numbered(4).expect("a tokenizer").chat(&[]).expect_err("refused").to_string();
        assert!(without.contains("no chat template"), "{without}");
    }
}

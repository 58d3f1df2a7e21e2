//! The recipes of docs/recipes, embedded: files of settings under a name.

/// Name and text of every recipe.
const RECIPES: [(&str, &str); 5] = [
    ("tiny", include_str!("../../../docs/recipes/tiny.toml")),
    ("gsm8k-tinyllama", include_str!("../../../docs/recipes/gsm8k-tinyllama.toml")),
    ("gsm8k-gemma-2b", include_str!("../../../docs/recipes/gsm8k-gemma-2b.toml")),
    ("mbpp-phi-1.5", include_str!("../../../docs/recipes/mbpp-phi-1.5.toml")),
    ("mbpp-gemma-2b", include_str!("../../../docs/recipes/mbpp-gemma-2b.toml")),
];

/// The text of a recipe.
pub(crate) fn text(name: &str) -> anyhow::Result<&'static str> {
    let found = RECIPES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
    found.ok_or_else(|| {
        let known: Vec<&str> = RECIPES.iter().map(|(name, _)| *name).collect();
        anyhow::anyhow!("--recipe {name}: there is no such recipe, only {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sipf_core::config::{self, Layer};

    #[test]
    fn every_recipe_reads_as_settings_that_make_sense() {
        for (name, text) in RECIPES {
            let layer = Layer::of_toml(name, text).unwrap();
            config::resolve(&[layer]).unwrap().0.check().unwrap();
        }
    }
}

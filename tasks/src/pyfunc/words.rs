//! The words around a pipeline: what the function and its argument are called, and how the question begins.

const VERBS: [&str; 24] = [
    "change",
    "convert",
    "adjust",
    "compute",
    "scale",
    "shift",
    "collect",
    "process",
    "select",
    "gather",
    "filter",
    "transform",
    "make",
    "find",
    "get",
    "build",
    "update",
    "derive",
    "prepare",
    "handle",
    "work_out",
    "reduce",
    "turn",
    "treat",
];
const NOUNS: [&str; 24] = [
    "value", "score", "count", "price", "points", "result", "amount", "level", "weight", "size", "age",
    "rate", "grade", "time", "step", "length", "cost", "rank", "speed", "share", "mark", "load", "depth",
    "width",
];
/// What one number and a list of them are called.
const ARGUMENTS: [(&str, &str); 6] =
    [("x", "xs"), ("n", "ns"), ("number", "numbers"), ("a", "items"), ("m", "values"), ("start", "data")];
const OPENINGS: usize = 4;

/// All there are.
const SPACE: u64 = (VERBS.len() * NOUNS.len() * ARGUMENTS.len() * OPENINGS) as u64;
/// Shares no divisor with [`SPACE`], so that its multiples come by every place once; neighbours differ in every word.
const STRIDE: u64 = 5477;

/// One choice of words.
#[derive(Debug, Clone)]
pub(super) struct Words {
    pub(super) name: String,
    arguments: (&'static str, &'static str),
    opening: usize,
}

impl Words {
    /// The words of a problem by its number: another choice for each of [`SPACE`] in a row.
    pub(super) fn of(index: u64) -> Self {
        let mut place = (index % SPACE * STRIDE % SPACE) as usize;
        let mut next = |count: usize| {
            let at = place % count;
            place /= count;
            at
        };
        let (verb, noun) = (VERBS[next(VERBS.len())], NOUNS[next(NOUNS.len())]);
        let (arguments, opening) = (ARGUMENTS[next(ARGUMENTS.len())], next(OPENINGS));
        Self { name: format!("{verb}_{noun}"), arguments, opening }
    }

    /// The name of a variable that holds one number, or a list.
    pub(super) fn argument(&self, is_list: bool) -> &'static str {
        if is_list { self.arguments.1 } else { self.arguments.0 }
    }

    /// The question: what the function takes, and what it does, stage by stage.
    pub(super) fn question(&self, of_list: bool, told: &[String]) -> String {
        let (name, argument) = (&self.name, self.argument(of_list));
        let of = if of_list { "list" } else { "number" };
        let does = told.join(", then ");
        match self.opening {
            0 => format!("Write a function {name} that takes a {of} {argument} and {does}."),
            1 => format!("Write a Python function {name}({argument}) that takes a {of} and {does}."),
            2 => format!("Given a {of} {argument}, write a function {name} that {does}."),
            _ => format!("Define {name}({argument}), a function that takes a {of} and {does}."),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_choice_of_words_comes_twice_before_all_came() {
        let told = ["sorts them".to_owned()];
        for of_list in [false, true] {
            let questions: BTreeSet<String> =
                (7..7 + SPACE).map(|index| Words::of(index).question(of_list, &told)).collect();
            assert_eq!(questions.len() as u64, SPACE);
        }
    }
}

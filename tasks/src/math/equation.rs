//! Calculator annotations `<<left=right>>`: the key of a path, and whether its equations are true.

use sipf_plugin::Signature;

/// Largest error of a true equation (the paper's scripts).
pub const TOLERANCE: f64 = 1e-3;

/// The bodies of all `<<...>>` spans, spaces removed, in order.
pub fn bodies(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("<<") {
        let Some((body, next)) = after.split_once(">>") else { break };
        found.push(body.chars().filter(|c| !c.is_whitespace()).collect());
        rest = next;
    }
    found
}

/// The text without its `<<...>>` spans.
pub fn without_annotations(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<<") {
        let Some((_, next)) = after.split_once(">>") else { break };
        kept.push_str(before);
        rest = next;
    }
    kept.push_str(rest);
    kept
}

/// Whether an equation holds within [`TOLERANCE`]; `None` when a side is no arithmetic.
pub fn holds(body: &str) -> Option<bool> {
    let (left, right) = body.split_once('=')?;
    let (left, right) = (value(left)?, value(right)?);
    Some((left - right).abs() < TOLERANCE)
}

/// The value of an expression of digits and `+-*/().,%`; `None` for anything else.
pub fn value(text: &str) -> Option<f64> {
    let symbols: Vec<char> = text.chars().filter(|c| !c.is_whitespace() && !",$".contains(*c)).collect();
    let mut parser = Parser { symbols: &symbols, at: 0, depth: 0 };
    let value = parser.sum()?;
    (parser.at == symbols.len() && value.is_finite()).then_some(value)
}

/// What makes two paths the same: their equations, or the text where there are none. A false equation is a flaw,
/// which the host's equation filter drops.
pub fn signature(text: &str) -> Signature {
    let bodies = bodies(text);
    if bodies.is_empty() {
        return Signature::exact(text);
    }
    let flaw =
        bodies.iter().find(|body| holds(body) != Some(true)).map(|body| format!("<<{body}>> is not true"));
    Signature::key(bodies.join("|"), text).flawed(flaw)
}

/// Deepest nesting of parentheses; model-written text may hold any number.
const MAX_DEPTH: usize = 32;

struct Parser<'a> {
    symbols: &'a [char],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn next_if(&mut self, wanted: &str) -> Option<char> {
        let symbol = *self.symbols.get(self.at)?;
        wanted.contains(symbol).then(|| {
            self.at += 1;
            symbol
        })
    }

    fn sum(&mut self) -> Option<f64> {
        let mut total = self.product()?;
        while let Some(sign) = self.next_if("+-") {
            let term = self.product()?;
            total += if sign == '+' { term } else { -term };
        }
        Some(total)
    }

    fn product(&mut self) -> Option<f64> {
        let mut total = self.factor()?;
        while let Some(sign) = self.next_if("*/x×÷") {
            let factor = self.factor()?;
            total = if "/÷".contains(sign) { total / factor } else { total * factor };
        }
        Some(total)
    }

    fn factor(&mut self) -> Option<f64> {
        let mut negative = false;
        while let Some(sign) = self.next_if("+-") {
            negative ^= sign == '-';
        }
        let mut value = match self.next_if("(") {
            Some(_) => {
                self.depth += 1;
                let inner = if self.depth > MAX_DEPTH { None } else { self.sum() };
                self.depth -= 1;
                self.next_if(")")?;
                inner?
            }
            None => self.number()?,
        };
        if self.next_if("%").is_some() {
            value /= 100.0;
        }
        Some(if negative { -value } else { value })
    }

    fn number(&mut self) -> Option<f64> {
        let start = self.at;
        while self.next_if("0123456789.").is_some() {}
        let text: String = self.symbols[start..self.at].iter().collect();
        text.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equations_are_checked() {
        assert_eq!(holds("16-3-4=9"), Some(true));
        assert_eq!(holds("2*(3+4)/7=2"), Some(true));
        assert_eq!(holds("1/3=0.333"), Some(true));
        assert_eq!(holds("1/3=0.33"), Some(false));
        assert_eq!(holds("50%*1,000=500"), Some(true));
        assert_eq!(holds("x=3"), None);
        assert_eq!(holds("1/0=0"), None);
    }

    #[test]
    fn the_key_is_the_equations_and_a_false_one_is_a_flaw() {
        let path = "a <<1 + 1=2>>2\nb <<2*3=7>>7";
        assert_eq!(bodies(path), ["1+1=2", "2*3=7"]);
        match signature(path) {
            Signature::Key { key, flaw, .. } => {
                assert_eq!(key, "1+1=2|2*3=7");
                assert_eq!(flaw.as_deref(), Some("<<2*3=7>> is not true"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(without_annotations(path), "a 2\nb 7");
    }

    proptest! {
        #[test]
        fn never_a_panic(text in any::<String>()) {
            let _ = (bodies(&text), without_annotations(&text), value(&text), signature(&text));
        }

        #[test]
        fn deep_nesting_is_refused_not_overflowed(depth in 0usize..5000) {
            let _ = value(&format!("{}1{}", "(".repeat(depth), ")".repeat(depth)));
        }
    }
}

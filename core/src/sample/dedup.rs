//! Which paths of a question are the same (the paper's A.2). The task names a path's signature, this compares.
//!
//! Right and wrong paths are compared among themselves: the same equations with another answer are another path.

use sipf_plugin::Signature;

use super::distance::{distance, within};

/// The distinct right (or wrong) paths of a question, in the order they came.
#[derive(Debug, Default)]
pub struct Shelf {
    paths: Vec<Path>,
}

#[derive(Debug)]
struct Path {
    id: String,
    /// `Exact`: the text; `Key`: the key; `Near`: nothing.
    key: Option<(Kind, String)>,
    text: Vec<char>,
    /// Drawn by an earlier iteration: not counted and never replaced.
    earlier: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact,
    Key,
}

/// What becomes of a path that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// No path is like it.
    New,
    /// The same as the path of this id, which stays.
    Duplicate(String),
    /// The same as the path of this id, which goes: the new one is farther from all others.
    Replaces(String),
    /// Not a path at all, and why.
    Dropped(String),
}

impl Shelf {
    /// Paths that were put here by this iteration.
    pub fn fresh(&self) -> usize {
        self.paths.iter().filter(|path| !path.earlier).count()
    }

    /// Compares a path with all that are here. Nothing is changed.
    pub fn offer(&self, signature: &Signature) -> Offer {
        let candidate = match Path::of("", signature, false) {
            Ok(path) => path,
            Err(why) => return Offer::Dropped(why),
        };
        let twin = match signature {
            Signature::Near { bound, .. } => {
                self.paths.iter().position(|path| is_near(&candidate.text, &path.text, *bound))
            }
            _ => self.paths.iter().position(|path| path.key.is_some() && path.key == candidate.key),
        };
        let Some(twin) = twin else { return Offer::New };
        let stays = &self.paths[twin];
        let is_key = matches!(signature, Signature::Key { .. });
        if is_key
            && !stays.earlier
            && self.apartness(&candidate.text, twin) > self.apartness(&stays.text, twin)
        {
            return Offer::Replaces(stays.id.clone());
        }
        Offer::Duplicate(stays.id.clone())
    }

    /// The summed edit distance to all paths but one.
    fn apartness(&self, text: &[char], but: usize) -> usize {
        let others = self.paths.iter().enumerate().filter(|(place, _)| *place != but);
        others.map(|(_, path)| distance(text, &path.text)).sum()
    }

    /// Puts a path here; `earlier` says that an iteration before drew it.
    pub fn put(&mut self, id: &str, signature: &Signature, earlier: bool) {
        self.paths.extend(Path::of(id, signature, earlier));
    }

    /// Puts a path in the place of another.
    pub fn replace(&mut self, gone: &str, id: &str, signature: &Signature) {
        let place = self.paths.iter().position(|path| path.id == gone);
        if let (Some(place), Ok(path)) = (place, Path::of(id, signature, false)) {
            self.paths[place] = path;
        }
    }
}

impl Path {
    fn of(id: &str, signature: &Signature, earlier: bool) -> Result<Self, String> {
        let (key, text) = match signature {
            Signature::Exact { text } => (Some((Kind::Exact, text.clone())), text),
            Signature::Key { key, tie_break, .. } => (Some((Kind::Key, key.clone())), tie_break),
            Signature::Near { text, .. } => (None, text),
            Signature::Drop { why } => return Err(why.clone()),
            _ => return Err("a signature of a kind that this version does not know".into()),
        };
        Ok(Self { id: id.to_owned(), key, text: text.chars().collect(), earlier })
    }
}

/// Whether `distance < bound + |length difference| / 2`.
fn is_near(a: &[char], b: &[char], bound: f32) -> bool {
    let limit = f64::from(bound) + a.len().abs_diff(b.len()) as f64 / 2.0;
    // The largest whole distance below the limit.
    let most = limit.ceil() - 1.0;
    most >= 0.0 && within(a, b, most as usize).is_some()
}

/// The reason that a signature gives to leave a path out where the equation filter is on.
pub fn flaw(signature: &Signature) -> Option<&str> {
    match signature {
        Signature::Key { flaw, .. } => flaw.as_deref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shelf(signatures: &[Signature]) -> Shelf {
        let mut shelf = Shelf::default();
        for (number, signature) in signatures.iter().enumerate() {
            if shelf.offer(signature) == Offer::New {
                shelf.put(&number.to_string(), signature, false);
            }
        }
        shelf
    }

    #[test]
    fn equal_texts_are_one_path() {
        let shelf = shelf(&[Signature::exact("a"), Signature::exact("b"), Signature::exact("a")]);
        assert_eq!(shelf.fresh(), 2);
        assert_eq!(shelf.offer(&Signature::exact("b")), Offer::Duplicate("1".into()));
    }

    #[test]
    fn of_equal_keys_the_text_farther_from_the_others_stays() {
        let shelf = shelf(&[
            Signature::key("1+1=2", "one and one is two"),
            Signature::key("2+2=4", "one and one is twenty"),
        ]);
        let far = Signature::key("1+1=2", "if you add them you get 2");
        assert_eq!(shelf.offer(&far), Offer::Replaces("0".into()));
        let near = Signature::key("1+1=2", "one and one is twent");
        assert_eq!(shelf.offer(&near), Offer::Duplicate("0".into()));
        // An exact text is never the same as a key.
        assert_eq!(shelf.offer(&Signature::exact("1+1=2")), Offer::New);
    }

    #[test]
    fn paths_of_earlier_iterations_are_not_counted_and_never_replaced() {
        let mut shelf = Shelf::default();
        shelf.put("q#0.0", &Signature::key("k", "x"), true);
        shelf.put("q#0.1", &Signature::key("l", "y"), true);
        assert_eq!(shelf.fresh(), 0);
        assert_eq!(shelf.offer(&Signature::key("k", "very far away")), Offer::Duplicate("q#0.0".into()));
    }

    #[test]
    fn near_programs_are_one_path_and_the_bound_grows_with_the_difference_in_length() {
        let shelf = shelf(&[Signature::near("deff(x):returnx+1", 3.0)]);
        assert_eq!(shelf.offer(&Signature::near("deff(y):returny+1", 3.0)), Offer::Duplicate("0".into()));
        assert_eq!(shelf.offer(&Signature::near("deff(y):returny+1", 2.0)), Offer::New);
        // Four more characters: four edits, and a bound of 3 + 2.
        assert_eq!(shelf.offer(&Signature::near("deff(x):returnx+1+1+1", 3.0)), Offer::Duplicate("0".into()));
        assert_eq!(shelf.offer(&Signature::near("deff(x):returnx+1+1+1", 2.0)), Offer::New);
        assert_eq!(shelf.offer(&Signature::near("anything", 0.0)), Offer::New);
    }

    #[test]
    fn what_is_no_path_is_dropped_with_its_reason() {
        assert_eq!(Shelf::default().offer(&Signature::drop("empty")), Offer::Dropped("empty".into()));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_apart_and_what_is_refused_is_not(
            texts in prop::collection::vec("[ab]{0,12}", 0..12),
            bound in 0.0f32..6.0,
        ) {
            let mut kept: Vec<String> = Vec::new();
            let mut shelf = Shelf::default();
            let close = |a: &str, b: &str| {
                (Signature::distance(a, b) as f32) < bound + a.len().abs_diff(b.len()) as f32 / 2.0
            };
            for (number, text) in texts.iter().enumerate() {
                let signature = Signature::near(text.as_str(), bound);
                match shelf.offer(&signature) {
                    Offer::New => {
                        prop_assert!(kept.iter().all(|other| !close(text, other)));
                        kept.push(text.clone());
                        shelf.put(&number.to_string(), &signature, false);
                    }
                    Offer::Duplicate(_) => prop_assert!(kept.iter().any(|other| close(text, other))),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }

        #[test]
        fn as_many_paths_stay_as_there_are_keys(paths in prop::collection::vec(("[ab]{1,2}", "[xyz]{0,9}"), 0..16)) {
            let mut shelf = Shelf::default();
            for (number, (key, text)) in paths.iter().enumerate() {
                let signature = Signature::key(key.as_str(), text.as_str());
                match shelf.offer(&signature) {
                    Offer::New => shelf.put(&number.to_string(), &signature, false),
                    Offer::Replaces(gone) => shelf.replace(&gone, &number.to_string(), &signature),
                    _ => {}
                }
            }
            let keys: std::collections::BTreeSet<&String> = paths.iter().map(|(key, _)| key).collect();
            prop_assert_eq!(shelf.fresh(), keys.len());
        }
    }
}

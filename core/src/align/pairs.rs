//! Preference pairs from scored paths (Eq. 6), and the paths that rejection fine-tuning learns from.
//!
//! Everything is chosen by seeded streams of its own per question, so a question's pairs do not depend on the others
//! but for the cut at `max-pairs`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sipf_plugin::random::Stream;

use crate::record::{Pair, Sample, ScoredPath};
use crate::sample::EquationFilter;
use crate::stream::StreamName;
use crate::{Error, Result};

/// How much better the chosen path's reward is at least, eta in Eq. 6. Ours: the paper gives no number (docs/stages.md).
pub const MARGIN: f32 = 0.3;
/// What every step of a chosen path scores at least. Ours (docs/stages.md).
pub const STEP_FLOOR: f32 = 0.5;

/// Which two paths of a question make a pair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairPolicy {
    /// Chosen: right, every step at or above the floor. Rejected: any path whose reward is lower by the margin, right
    /// answers included.
    #[default]
    OutcomeAndMargin,
    /// Any two paths whose rewards differ by the margin (Eq. 6 to the letter).
    MarginOnly,
    /// A right and a wrong path, whatever they score: without process feedback (SIOF).
    Outcome,
}

impl std::str::FromStr for PairPolicy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name.replace('-', "_").as_str() {
            "outcome_and_margin" => Self::OutcomeAndMargin,
            "margin_only" => Self::MarginOnly,
            "outcome" => Self::Outcome,
            _ => {
                return Err(Error::unusable(format!(
                    "pair policy {name:?} is none of outcome_and_margin, margin_only, outcome"
                )));
            }
        })
    }
}

/// Which pairs are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PairSettings {
    /// How much better the chosen path's reward is at least (eta in Eq. 6).
    #[serde(serialize_with = "crate::record::as_written")]
    pub margin: f32,
    /// Which two paths of a question make a pair.
    pub policy: PairPolicy,
    /// What every step of a chosen path scores at least; only `outcome_and_margin` asks.
    #[serde(serialize_with = "crate::record::as_written")]
    pub step_floor: f32,
    /// Pairs of a question at most; 0: all.
    pub pairs_per_question: usize,
    /// Pairs altogether at most, drawn by seed; 0: all.
    pub max_pairs: usize,
    /// Which paths with a flaw (a false equation) are left out.
    pub equation_filter: EquationFilter,
}

impl Default for PairSettings {
    fn default() -> Self {
        Self {
            margin: MARGIN,
            policy: PairPolicy::default(),
            step_floor: STEP_FLOOR,
            pairs_per_question: 0,
            max_pairs: 0,
            equation_filter: EquationFilter::Off,
        }
    }
}

impl PairSettings {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// Names the setting and its value.
    pub fn check(&self) -> Result<()> {
        let holds = self.margin >= 0.0 && self.margin.is_finite();
        Error::unless(holds, "margin", self.margin, "0 or more")?;
        Error::unless(self.step_floor.is_finite(), "step-floor", self.step_floor, "a finite number")
    }
}

/// Pairs, and why questions gave none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pairs {
    /// In the order of the questions.
    pub pairs: Vec<Pair>,
    /// What came of the questions.
    pub counts: PairCounts,
}

/// What came of the questions, when pairs or paths were chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PairCounts {
    /// Questions with at least one path.
    pub questions: usize,
    /// Of these, with at least one pair (or path) before the cut.
    pub with_pairs: usize,
    /// Without a right path to choose.
    pub no_right: usize,
    /// With right paths, each of them with a step below the floor, or flawed where the filter is on.
    pub none_clean: usize,
    /// With a path to choose and no other path, or no wrong one where that is asked.
    pub none_to_reject: usize,
    /// With both, but no two that are the margin apart.
    pub within_margin: usize,
    /// Paths that have no score; they make no pairs.
    pub unscored: usize,
    /// Pairs (or paths) that there are.
    pub available: usize,
    /// Pairs (or paths) left by the caps.
    pub chosen: usize,
}

/// A path with what is known of it.
#[derive(Clone, Copy)]
struct Scored<'a> {
    sample: &'a Sample,
    reward: f32,
    lowest: f32,
}

/// Makes preference pairs of kept samples. Rewards come from `scores`; the policy `outcome` needs none.
pub fn pairs(
    samples: &[Sample],
    scores: &[ScoredPath],
    settings: &PairSettings,
    seed: u64,
    iteration: u64,
) -> Pairs {
    let needs_scores = settings.policy != PairPolicy::Outcome;
    let mut counts = PairCounts::default();
    let mut pairs: Vec<Pair> = Vec::new();
    for paths in by_question(samples, scores, needs_scores, &mut counts) {
        counts.questions += 1;
        let problem = &paths[0].sample.problem;
        let all = candidates(&paths, settings, &mut counts);
        counts.available += all.len();
        counts.with_pairs += usize::from(!all.is_empty());
        let mut stream = stream(seed, iteration, problem);
        let taken = take(all, settings.pairs_per_question, &mut stream);
        pairs.extend(taken.into_iter().map(|(chosen, rejected)| pair(&paths[chosen], &paths[rejected])));
    }
    cut(&mut pairs, settings.max_pairs, seed, iteration);
    counts.chosen = pairs.len();
    Pairs { pairs, counts }
}

/// The paths that supervised training learns from: right ones (RFT), or with `clean` right ones whose every step scores at
/// least the floor (pRFT). The caps of the settings count paths here.
pub fn right_paths<'a>(
    samples: &'a [Sample],
    scores: &[ScoredPath],
    clean: bool,
    settings: &PairSettings,
    seed: u64,
    iteration: u64,
) -> (Vec<&'a Sample>, PairCounts) {
    let mut counts = PairCounts::default();
    let mut chosen: Vec<&Sample> = Vec::new();
    let policy = if clean { PairPolicy::OutcomeAndMargin } else { PairPolicy::Outcome };
    let settings = PairSettings { policy, ..settings.clone() };
    for paths in by_question(samples, scores, clean, &mut counts) {
        counts.questions += 1;
        let problem = &paths[0].sample.problem;
        let mut good: Vec<usize> =
            (0..paths.len()).filter(|at| may_be_chosen(&paths[*at], &settings)).collect();
        match paths.iter().any(|path| path.sample.passed) {
            _ if !good.is_empty() => counts.with_pairs += 1,
            true => counts.none_clean += 1,
            false => counts.no_right += 1,
        }
        counts.available += good.len();
        stream(seed, iteration, problem).shuffle(&mut good);
        good.truncate(cap(settings.pairs_per_question));
        chosen.extend(good.into_iter().map(|at| paths[at].sample));
    }
    cut(&mut chosen, settings.max_pairs, seed, iteration);
    counts.chosen = chosen.len();
    (chosen, counts)
}

/// Kept paths by question, in the order in which questions first occur.
fn by_question<'a>(
    samples: &'a [Sample],
    scores: &[ScoredPath],
    needs_scores: bool,
    counts: &mut PairCounts,
) -> Vec<Vec<Scored<'a>>> {
    let scores: BTreeMap<&str, &ScoredPath> =
        scores.iter().map(|scored| (scored.sample.as_str(), scored)).collect();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut questions: Vec<Vec<Scored<'a>>> = Vec::new();
    for sample in samples.iter().filter(|sample| sample.kept) {
        let scored = scores.get(sample.id.as_str());
        if needs_scores && scored.is_none() {
            counts.unscored += 1;
            continue;
        }
        let lowest = |scored: &&ScoredPath| scored.scores.iter().copied().fold(f32::INFINITY, f32::min);
        let path = Scored {
            sample,
            reward: scored.map_or(0.0, |scored| scored.reward),
            lowest: scored.map_or(0.0, lowest),
        };
        let place = *places.entry(&sample.problem).or_insert(questions.len());
        if place == questions.len() {
            questions.push(Vec::new());
        }
        questions[place].push(path);
    }
    questions
}

fn may_be_chosen(path: &Scored<'_>, settings: &PairSettings) -> bool {
    let unflawed = settings.equation_filter == EquationFilter::Off || path.sample.flaw.is_none();
    unflawed
        && match settings.policy {
            PairPolicy::OutcomeAndMargin => path.sample.passed && path.lowest >= settings.step_floor,
            PairPolicy::MarginOnly => true,
            PairPolicy::Outcome => path.sample.passed,
        }
}

fn may_be_rejected(path: &Scored<'_>, settings: &PairSettings) -> bool {
    let unflawed = settings.equation_filter != EquationFilter::Both || path.sample.flaw.is_none();
    unflawed && (settings.policy != PairPolicy::Outcome || !path.sample.passed)
}

/// All pairs of a question, as places; counts why there are none.
fn candidates(paths: &[Scored<'_>], settings: &PairSettings, counts: &mut PairCounts) -> Vec<(usize, usize)> {
    let places = |fits: fn(&Scored<'_>, &PairSettings) -> bool| -> Vec<usize> {
        (0..paths.len()).filter(|at| fits(&paths[*at], settings)).collect()
    };
    let (good, bad) = (places(may_be_chosen), places(may_be_rejected));
    let by_margin = settings.policy != PairPolicy::Outcome;
    let apart = |g: usize, b: usize| !by_margin || paths[g].reward - paths[b].reward >= settings.margin;
    let all: Vec<(usize, usize)> = good
        .iter()
        .flat_map(|g| bad.iter().map(move |b| (*g, *b)))
        .filter(|(g, b)| g != b && apart(*g, *b))
        .collect();
    if all.is_empty() {
        let asks_right = settings.policy != PairPolicy::MarginOnly;
        let why = match () {
            () if asks_right && !paths.iter().any(|path| path.sample.passed) => &mut counts.no_right,
            () if good.is_empty() => &mut counts.none_clean,
            () if !good.iter().any(|g| bad.iter().any(|b| g != b)) => &mut counts.none_to_reject,
            () => &mut counts.within_margin,
        };
        *why += 1;
    }
    all
}

/// At most so many pairs, in random order, those first whose two paths are in no pair yet.
fn take(mut all: Vec<(usize, usize)>, most: usize, stream: &mut Stream) -> Vec<(usize, usize)> {
    stream.shuffle(&mut all);
    let (mut chosen, mut rejected) = (BTreeSet::new(), BTreeSet::new());
    let (mut fresh, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|(g, b)| {
        let unused = !chosen.contains(g) && !rejected.contains(b);
        if unused {
            chosen.insert(*g);
            rejected.insert(*b);
        }
        unused
    });
    fresh.extend(rest);
    fresh.truncate(cap(most));
    fresh
}

fn cap(most: usize) -> usize {
    if most == 0 { usize::MAX } else { most }
}

/// Cuts to `most`, drawn by seed; the order stays.
fn cut<T>(items: &mut Vec<T>, most: usize, seed: u64, iteration: u64) {
    if most == 0 || items.len() <= most {
        return;
    }
    let mut places: Vec<usize> = (0..items.len()).collect();
    stream(seed, iteration, "").shuffle(&mut places);
    let stay: BTreeSet<usize> = places.into_iter().take(most).collect();
    let mut place = 0..;
    items.retain(|_| place.next().is_some_and(|place| stay.contains(&place)));
}

fn stream(seed: u64, iteration: u64, problem: &str) -> Stream {
    Stream::new(StreamName { seed, stage: "pairs", iteration, problem, ..StreamName::default() }.key())
}

fn pair(chosen: &Scored<'_>, rejected: &Scored<'_>) -> Pair {
    Pair {
        prompt: chosen.sample.prompt.clone(),
        chosen: chosen.sample.completion.clone(),
        rejected: rejected.sample.completion.clone(),
        problem: chosen.sample.problem.clone(),
        chosen_sample: chosen.sample.id.clone(),
        rejected_sample: rejected.sample.id.clone(),
        chosen_reward: chosen.reward,
        rejected_reward: rejected.reward,
        ..Pair::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Paths of question `q`: right or wrong, step scores, flawed or not. Their reward is the mean.
    fn scored(question: &str, paths: &[(bool, &[f32], bool)]) -> (Vec<Sample>, Vec<ScoredPath>) {
        let (mut samples, mut all) = (Vec::new(), Vec::new());
        for (index, (passed, scores, flawed)) in paths.iter().enumerate() {
            let id = format!("{question}#0.{index}");
            samples.push(Sample {
                id: id.clone(),
                problem: question.into(),
                prompt: format!("ask {question}"),
                completion: format!("path {index}"),
                passed: *passed,
                kept: true,
                flaw: flawed.then(|| "false".into()),
                ..Sample::default()
            });
            let reward = scores.iter().sum::<f32>() / scores.len() as f32;
            all.push(ScoredPath { sample: id, scores: scores.to_vec(), reward, ..ScoredPath::default() });
        }
        (samples, all)
    }

    fn of(policy: PairPolicy) -> PairSettings {
        PairSettings { policy, ..PairSettings::default() }
    }

    fn places(pairs: &Pairs) -> Vec<(String, String)> {
        let place = |id: &str| id.rsplit('.').next().expect("a place").to_owned();
        let mut places: Vec<(String, String)> = pairs
            .pairs
            .iter()
            .map(|pair| (place(&pair.chosen_sample), place(&pair.rejected_sample)))
            .collect();
        places.sort();
        places
    }

    fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    const PATHS: &[(bool, &[f32], bool)] = &[
        (true, &[0.9, 0.9], false),
        (true, &[0.9, 0.25], true),
        (false, &[0.75, 0.75], false),
        (false, &[0.25, 0.25], false),
    ];

    #[test]
    fn the_default_chooses_right_clean_paths_over_anything_the_margin_below() {
        let (samples, scores) = scored("q", PATHS);
        let found = pairs(&samples, &scores, &of(PairPolicy::OutcomeAndMargin), 1, 1);
        assert_eq!(places(&found), named(&[("0", "1"), ("0", "3")]), "right answers may be rejected");
        let pair = &found.pairs[0];
        assert_eq!(
            (pair.prompt.as_str(), pair.chosen.as_str(), pair.problem.as_str()),
            ("ask q", "path 0", "q")
        );
        assert!(pair.chosen_reward - pair.rejected_reward >= MARGIN);
    }

    #[test]
    fn margin_only_and_outcome_look_at_one_thing_each() {
        let (samples, scores) = scored("q", PATHS);
        let found = pairs(&samples, &scores, &of(PairPolicy::MarginOnly), 1, 1);
        assert_eq!(places(&found), named(&[("0", "1"), ("0", "3"), ("1", "3"), ("2", "3")]));
        let found = pairs(&samples, &[], &of(PairPolicy::Outcome), 1, 1);
        assert_eq!(places(&found), named(&[("0", "2"), ("0", "3"), ("1", "2"), ("1", "3")]));
        assert_eq!(found.counts.unscored, 0);
    }

    #[test]
    fn a_difference_of_just_the_margin_is_enough() {
        let (samples, scores) = scored("q", &[(true, &[0.75], false), (false, &[0.5], false)]);
        let margin = |margin| PairSettings { margin, ..PairSettings::default() };
        assert_eq!(pairs(&samples, &scores, &margin(0.25), 1, 1).pairs.len(), 1);
        let found = pairs(&samples, &scores, &margin(0.26), 1, 1);
        assert_eq!((found.pairs.len(), found.counts.within_margin), (0, 1));
    }

    #[test]
    fn the_equation_filter_covers_one_side_or_both() {
        let flawed: &[(bool, &[f32], bool)] =
            &[(true, &[0.9], true), (true, &[0.8], false), (false, &[0.1], true), (false, &[0.2], false)];
        let (samples, scores) = scored("q", flawed);
        let with = |equation_filter| PairSettings { equation_filter, ..PairSettings::default() };
        let found = |filter| places(&pairs(&samples, &scores, &with(filter), 1, 1));
        assert_eq!(found(EquationFilter::Off).len(), 4);
        assert_eq!(found(EquationFilter::Chosen), named(&[("1", "2"), ("1", "3")]));
        assert_eq!(found(EquationFilter::Both), named(&[("1", "3")]));
    }

    #[test]
    fn questions_without_pairs_say_why() {
        let sets: [&[(bool, &[f32], bool)]; 5] = [
            PATHS,
            &[(false, &[0.9], false), (false, &[0.1], false)],
            &[(true, &[0.9, 0.1], false), (false, &[0.1], false)],
            &[(true, &[0.9], false)],
            &[(true, &[0.9], false), (false, &[0.8], false)],
        ];
        let (mut samples, mut scores) = (Vec::new(), Vec::new());
        for (number, set) in sets.iter().enumerate() {
            let (paths, scored) = scored(&format!("q{number}"), set);
            samples.extend(paths);
            scores.extend(scored);
        }
        let unscored = Sample { id: "q9#0.0".into(), problem: "q9".into(), kept: true, ..Sample::default() };
        samples.extend([unscored, Sample { id: "q8#0.0".into(), ..Sample::default() }]);
        let counts = pairs(&samples, &scores, &PairSettings::default(), 1, 1).counts;
        assert_eq!(
            counts,
            PairCounts {
                questions: 5,
                with_pairs: 1,
                no_right: 1,
                none_clean: 1,
                none_to_reject: 1,
                within_margin: 1,
                unscored: 1,
                available: 2,
                chosen: 2,
            }
        );
    }

    fn pool(questions: usize) -> (Vec<Sample>, Vec<ScoredPath>) {
        let (mut samples, mut scores) = (Vec::new(), Vec::new());
        for question in 0..questions {
            let (paths, scored) = scored(
                &format!("q{question}"),
                &[
                    (true, &[0.9], false),
                    (true, &[0.8], false),
                    (false, &[0.1], false),
                    (false, &[0.2], false),
                ],
            );
            samples.extend(paths);
            scores.extend(scored);
        }
        (samples, scores)
    }

    #[test]
    fn caps_prefer_paths_not_used_yet_and_the_seed_decides_which() {
        let (samples, scores) = pool(40);
        let settings = PairSettings { pairs_per_question: 2, ..PairSettings::default() };
        let found = pairs(&samples, &scores, &settings, 1, 1);
        assert_eq!((found.counts.available, found.counts.chosen), (160, 80));
        for two in found.pairs.chunks(2) {
            assert_ne!(two[0].chosen_sample, two[1].chosen_sample);
            assert_ne!(two[0].rejected_sample, two[1].rejected_sample);
        }
        assert_eq!(found, pairs(&samples, &scores, &settings, 1, 1));
        assert_ne!(found.pairs, pairs(&samples, &scores, &settings, 2, 1).pairs);
        assert_ne!(found.pairs, pairs(&samples, &scores, &settings, 1, 2).pairs);
        let cut = PairSettings { max_pairs: 30, ..settings };
        let few = pairs(&samples, &scores, &cut, 1, 1);
        assert_eq!(few.pairs.len(), 30);
        let mut rest = found.pairs.iter();
        assert!(few.pairs.iter().all(|pair| rest.any(|other| other == pair)), "in the old order");
    }

    #[test]
    fn a_question_s_pairs_do_not_depend_on_the_others() {
        let (samples, scores) = pool(10);
        let settings = PairSettings { pairs_per_question: 1, ..PairSettings::default() };
        let all = pairs(&samples, &scores, &settings, 3, 1).pairs;
        let last = pairs(&samples[36..], &scores[36..], &settings, 3, 1).pairs;
        assert_eq!(all[9..], last);
    }

    #[test]
    fn supervised_arms_take_right_paths_or_right_and_clean_ones() {
        let (samples, scores) = scored("q", PATHS);
        let ids = |clean, settings: &PairSettings| -> Vec<String> {
            let (paths, _) = right_paths(&samples, &scores, clean, settings, 1, 1);
            paths.iter().map(|path| path.id.clone()).collect()
        };
        let settings = PairSettings::default();
        let mut all = ids(false, &settings);
        all.sort();
        assert_eq!(all, ["q#0.0", "q#0.1"]);
        assert_eq!(ids(true, &settings), ["q#0.0"]);
        let filtered = PairSettings { equation_filter: EquationFilter::Chosen, ..settings.clone() };
        assert_eq!(ids(false, &filtered), ["q#0.0"]);
        assert_eq!(ids(false, &PairSettings { pairs_per_question: 1, ..settings.clone() }).len(), 1);
        let (_, counts) = right_paths(&samples[2..], &[], false, &settings, 1, 1);
        assert_eq!((counts.questions, counts.no_right, counts.chosen), (1, 1, 0));
    }

    proptest! {
        #[test]
        fn every_pair_keeps_the_margin_and_the_caps(
            paths in prop::collection::vec((any::<bool>(), prop::collection::vec(0.0f32..1.0, 1..4)), 1..9),
            margin in 0.0f32..0.6,
            per_question in 0usize..4,
        ) {
            let paths: Vec<(bool, &[f32], bool)> =
                paths.iter().map(|(passed, scores)| (*passed, scores.as_slice(), false)).collect();
            let (samples, scores) = scored("q", &paths);
            let settings = PairSettings { margin, pairs_per_question: per_question, ..PairSettings::default() };
            let found = pairs(&samples, &scores, &settings, 1, 1);
            prop_assert!(per_question == 0 || found.pairs.len() <= per_question);
            let mut seen = BTreeSet::new();
            for pair in &found.pairs {
                prop_assert!(pair.chosen_reward - pair.rejected_reward >= margin);
                prop_assert!(pair.chosen_sample != pair.rejected_sample);
                let index: usize = pair.chosen_sample["q#0.".len()..].parse().expect("a place");
                prop_assert!(paths[index].0 && paths[index].1.iter().all(|score| *score >= STEP_FLOOR));
                prop_assert!(seen.insert((&pair.chosen_sample, &pair.rejected_sample)));
            }
        }
    }
}

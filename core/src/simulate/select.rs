//! Which paths are labelled: a subset of the samples (Eq. 3), right and wrong ones in turn, and reference solutions.

use std::collections::BTreeMap;

use sipf_plugin::Problem;
use sipf_plugin::random::Stream;

use super::settings::SimulateSettings;
use crate::record::Sample;
use crate::stream::StreamName;

/// A path to be labelled.
#[derive(Debug, Clone, Copy)]
pub enum Path<'a> {
    /// Drawn by the policy: labelled by rollouts.
    Drawn {
        /// The question.
        problem: &'a Problem,
        /// The path.
        sample: &'a Sample,
    },
    /// The reference solution: every step is right.
    Gold {
        /// The question.
        problem: &'a Problem,
    },
}

/// The paths to be labelled, and what was left out.
#[derive(Debug, Clone, Default)]
pub struct Selection<'a> {
    /// In the order of the questions; of one question in the order of the samples, the reference last.
    pub paths: Vec<Path<'a>>,
    /// Questions of these paths.
    pub questions: usize,
    /// Questions left out because a blind guess is right too often.
    pub too_easy_to_guess: usize,
}

/// Chooses paths. Only kept samples with steps are taken, and only of problems that are given.
pub fn select<'a>(
    problems: &'a [Problem],
    samples: &'a [Sample],
    settings: &SimulateSettings,
    seed: u64,
) -> Selection<'a> {
    let mut of_problem: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.kept && !sample.steps.is_empty()) {
        of_problem.entry(&sample.problem).or_default().push(sample);
    }
    let mut selection = Selection::default();
    let mut chosen: Vec<&Problem> = Vec::new();
    for problem in problems.iter().filter(|problem| of_problem.contains_key(problem.id.as_str())) {
        if problem.chance > settings.max_chance {
            selection.too_easy_to_guess += 1;
        } else {
            chosen.push(problem);
        }
    }
    if settings.questions > 0 && settings.questions < chosen.len() {
        let mut places: Vec<usize> = (0..chosen.len()).collect();
        stream(seed, "").shuffle(&mut places);
        places.truncate(settings.questions);
        places.sort_unstable();
        chosen = places.into_iter().map(|place| chosen[place]).collect();
    }
    selection.questions = chosen.len();
    for problem in chosen {
        let samples = of_problem.remove(problem.id.as_str()).unwrap_or_default();
        let samples = in_turn(samples, settings.paths_per_question, &mut stream(seed, &problem.id));
        selection.paths.extend(samples.into_iter().map(|sample| Path::Drawn { problem, sample }));
        if settings.gold && problem.solution.is_some() {
            selection.paths.push(Path::Gold { problem });
        }
    }
    selection
}

fn stream(seed: u64, problem: &str) -> Stream {
    Stream::new(StreamName { seed, stage: "select", problem, ..StreamName::default() }.key())
}

/// At most so many: a wrong one, a right one, a wrong one, ... as far as there are any; then in their old order.
fn in_turn<'a>(samples: Vec<&'a Sample>, count: usize, stream: &mut Stream) -> Vec<&'a Sample> {
    if count == 0 || count >= samples.len() {
        return samples;
    }
    let mut places: Vec<usize> = (0..samples.len()).collect();
    stream.shuffle(&mut places);
    let (mut right, mut wrong): (Vec<usize>, Vec<usize>) =
        places.into_iter().partition(|place| samples[*place].passed);
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        let (first, second) =
            if taken.len() % 2 == 0 { (&mut wrong, &mut right) } else { (&mut right, &mut wrong) };
        match first.pop().or_else(|| second.pop()) {
            Some(place) => taken.push(place),
            None => break,
        }
    }
    taken.sort_unstable();
    taken.into_iter().map(|place| samples[place]).collect()
}

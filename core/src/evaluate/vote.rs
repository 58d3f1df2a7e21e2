//! One answer out of several. Ties go to what was answered first, so nothing depends on a hash or on a thread.

/// The first sample with the winning answer. Samples without an answer have no vote; `Some(None)` when none has one, and
/// `None` without samples.
pub(super) fn winner<'a>(votes: impl IntoIterator<Item = (Option<&'a str>, f64)>) -> Option<Option<usize>> {
    let mut tally: Vec<(&str, usize, f64)> = Vec::new();
    let mut any = false;
    for (place, (answer, weight)) in votes.into_iter().enumerate() {
        any = true;
        let Some(answer) = answer else { continue };
        match tally.iter_mut().find(|(known, ..)| *known == answer) {
            Some((_, _, sum)) => *sum += weight,
            None => tally.push((answer, place, weight)),
        }
    }
    let sums: Vec<f64> = tally.iter().map(|(_, _, sum)| *sum).collect();
    any.then(|| first_largest(&sums).map(|place| tally[place].1))
}

/// The place of the largest value, the first of equals; `None` where there is none.
pub(super) fn first_largest<T: PartialOrd + Copy>(values: &[T]) -> Option<usize> {
    let mut best = None;
    for (place, value) in values.iter().enumerate() {
        if best.is_none_or(|best: usize| *value > values[best]) {
            best = Some(place);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_answer_wins_and_ties_go_to_the_first() {
        let equal = |answers: &[Option<&'static str>]| winner(answers.iter().map(|answer| (*answer, 1.0)));
        assert_eq!(equal(&[Some("7"), Some("8"), Some("8")]), Some(Some(1)));
        assert_eq!(equal(&[Some("8"), Some("7"), Some("7"), Some("8")]), Some(Some(0)));
        assert_eq!(equal(&[None, None, Some("3")]), Some(Some(2)), "no answer, no vote");
        assert_eq!(equal(&[None, None]), Some(None));
        assert_eq!(equal(&[]), None);
    }

    #[test]
    fn weights_can_overrule_the_count() {
        let votes = [(Some("7"), 0.9), (Some("8"), 0.3), (Some("8"), 0.5)];
        assert_eq!(winner(votes), Some(Some(0)));
        assert_eq!(first_largest(&[0.1_f32, 0.7, 0.7]), Some(1));
        assert_eq!(first_largest::<f32>(&[]), None);
    }
}

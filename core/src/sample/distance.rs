//! Edit distance between texts, no further than it matters.

/// The Levenshtein distance, in Unicode scalar values, if it is at most `limit`.
///
/// Only the cells within `limit` of the diagonal are looked at (Ukkonen): two programs of 200 lines that must differ by
/// 30 edits take a few hundred thousand steps instead of thirty million.
pub fn within(a: &[char], b: &[char], limit: usize) -> Option<usize> {
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[same..], &b[same..]);
    let same = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[..a.len() - same], &b[..b.len() - same]);
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let far = usize::MAX / 2;
    let width = limit.min(a.len().max(b.len()));
    let mut row: Vec<usize> = (0..=b.len()).map(|j| if j <= width { j } else { far }).collect();
    for (i, x) in (1usize..).zip(a) {
        let (from, to) = (i.saturating_sub(width).max(1), (i + width).min(b.len()));
        let mut diagonal = row[from - 1];
        row[from - 1] = if from == 1 && i <= width { i } else { far };
        let mut least = row[from - 1];
        for j in from..=to {
            let substitute = diagonal + usize::from(*x != b[j - 1]);
            diagonal = row[j];
            row[j] = substitute.min(row[j - 1] + 1).min(diagonal + 1);
            least = least.min(row[j]);
        }
        if least > limit {
            return None;
        }
    }
    (row[b.len()] <= limit).then_some(row[b.len()])
}

/// The Levenshtein distance.
pub fn distance(a: &[char], b: &[char]) -> usize {
    within(a, b, usize::MAX / 4).unwrap_or(usize::MAX / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sipf_plugin::Signature;

    use super::*;

    fn chars(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    #[test]
    fn known_distances() {
        assert_eq!(distance(&chars("kitten"), &chars("sitting")), 3);
        assert_eq!(distance(&chars(""), &chars("abc")), 3);
        assert_eq!(within(&chars("kitten"), &chars("sitting"), 2), None);
        assert_eq!(within(&chars("same"), &chars("same"), 0), Some(0));
    }

    proptest! {
        #[test]
        fn the_band_changes_nothing_but_the_cost(a in "[abc]{0,24}", b in "[abc]{0,24}", limit in 0usize..30) {
            let whole = Signature::distance(&a, &b);
            prop_assert_eq!(distance(&chars(&a), &chars(&b)), whole);
            prop_assert_eq!(within(&chars(&a), &chars(&b), limit), (whole <= limit).then_some(whole));
        }
    }
}

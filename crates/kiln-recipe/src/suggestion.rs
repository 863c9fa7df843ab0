//! "Did you mean": the known name that is most like an unknown one.

/// Names longer than this are not compared: comparing costs the product of the lengths.
const LONGEST: usize = 64;

/// The candidate that fewest changes turn into `name`, if they are few enough to look like a slip: one change, or a
/// third of the name's length.
pub(crate) fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let allowed = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(changes, _)| *changes <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many insertions, deletions, replacements and swaps of neighbours turn one text into the other (the "optimal
/// string alignment" distance); case counts as no difference.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.chars().flat_map(char::to_lowercase).collect();
    let other: Vec<char> = other.chars().flat_map(char::to_lowercase).collect();
    // Rows of the table: the one before the last, the last.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    let cell = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut least =
                (cell(&last, j) + usize::from(a != b)).min(cell(&last, j + 1) + 1).min(cell(&row, j) + 1);
            let swapped = i > 0 && j > 0 && one.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            if swapped {
                least = least.min(cell(&before, j - 1) + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    cell(&last, other.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_changes() {
        for (one, other, changes) in [
            ("", "", 0),
            ("abc", "", 3),
            ("", "abc", 3),
            ("builder", "bulider", 1),
            ("outputs", "output", 1),
            ("kitten", "sitting", 3),
            ("outputHash", "outputhash", 0),
            ("é", "e", 1),
        ] {
            assert_eq!(distance(one, other), changes, "{one} {other}");
            assert_eq!(distance(other, one), changes, "{other} {one}");
        }
    }

    #[test]
    fn suggests_only_what_is_alike() {
        let known = ["libgreet", "hello", "hello-test"];
        assert_eq!(closest("libgret", known), Some("libgreet"));
        assert_eq!(closest("helo", known), Some("hello"));
        assert_eq!(closest("sqlite", known), None);
        assert_eq!(closest(&"h".repeat(100_000), known), None);
    }
}

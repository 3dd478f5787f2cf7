//! Similar names, for messages about an unknown name.

/// Maximum number of names in a message.
const NAMES_MAX: usize = 5;

/// The names that are most similar to `wanted`, the nearest first.
pub(crate) fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let mut near: Vec<(usize, &str)> = names.map(|name| (distance(wanted, name), name)).collect();
    near.sort_unstable();
    near.into_iter().take(NAMES_MAX).map(|(_, name)| name.to_owned()).collect()
}

/// The end of a message about an unknown name.
pub(crate) fn listed(near: &[String]) -> String {
    match near {
        [] => "; it has no points".to_owned(),
        names => format!("; it has {}", names.join(", ")),
    }
}

/// Number of characters to insert, delete or replace, without regard to case (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    strsim::levenshtein(&a.to_lowercase(), &b.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first_and_at_most_five() {
        let cases = [("", "abc", 3), ("abc", "abc", 0), ("kitten", "Sitting", 3), ("été", "ete", 2)];
        for (a, b, steps) in cases {
            assert_eq!((distance(a, b), distance(b, a)), (steps, steps), "{a} {b}");
        }
        let names = ["nightly", "before-upgrade", "release", "a", "b", "c"];
        let near = nearest("befor-upgrade", names.into_iter());
        assert_eq!((near[0].as_str(), near.len()), ("before-upgrade", 5));
        assert_eq!(listed(&nearest("x", [].into_iter())), "; it has no points");
        assert_eq!(listed(&["a".to_owned(), "b".to_owned()]), "; it has a, b");
    }
}

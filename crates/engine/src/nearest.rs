//! "Did you mean": the nearest of the names there are.

/// The name nearest to what was written, if any is near enough to be meant.
pub(crate) fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = written.to_ascii_lowercase();
    names
        .map(|name| (strsim::damerau_levenshtein(&wanted, &name.to_ascii_lowercase()), name))
        .filter(|(far, name)| {
            let longest = wanted.chars().count().max(name.chars().count());
            *far <= (longest / 3).max(1) && *far < longest
        })
        .min_by_key(|(far, _)| *far)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_names_are_meant() {
        let names = ["price", "posted_at", "id"];
        for (written, near) in [
            ("prise", Some("price")),
            ("Posted", Some("posted_at")),
            ("posted_a", Some("posted_at")),
            ("xy", None),
        ] {
            assert_eq!(nearest(written, names.into_iter()), near, "{written}");
        }
    }
}

//! "Did you mean": the nearest of the names there are.

/// The candidate most like the text, where any is like it at all.
pub fn nearest<'a>(text: &str, among: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    among
        .into_iter()
        .map(|other| {
            let distance = strsim::damerau_levenshtein(&text.to_lowercase(), &other.to_lowercase());
            let longest = text.chars().count().max(other.chars().count());
            let starts = !text.is_empty() && (other.starts_with(text) || text.starts_with(other));
            (distance, longest, starts, other)
        })
        .filter(|(distance, longest, starts, _)| {
            *distance < *longest && *distance <= (longest / 3).max(1) || *starts && *longest >= 4
        })
        .min_by(|a, b| (a.0, a.3).cmp(&(b.0, b.3)))
        .map(|(.., other)| other)
}

/// ``did you mean `x`?``, or else what there is to choose from.
pub fn did_you_mean<'a>(
    text: &str,
    among: impl IntoIterator<Item = &'a str> + Clone,
    what: &str,
) -> Option<String> {
    if let Some(found) = nearest(text, among.clone()) {
        return Some(format!("did you mean `{found}`?"));
    }
    let all: Vec<&str> = among.into_iter().collect();
    match all.len() {
        0 => None,
        1..=12 => Some(format!("{what}: {}", all.join(", "))),
        more => Some(format!("{what}: {}, and {} more", all[..12].join(", "), more - 12)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_found_and_the_far_is_not() {
        let names = ["driver_stats", "sellers", "seller_activity"];
        for (text, found) in [
            ("driver_stat", Some("driver_stats")),
            ("seler", Some("sellers")),
            ("seller_activty", Some("seller_activity")),
            ("weather", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, names), found, "{text}");
        }
    }
}

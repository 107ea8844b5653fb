//! Windows of time, and the features that aggregates over them make (SEMANTICS section 3.2).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Aggregate, Feature, Features, Length, Name, View};

/// A window of time that an aggregate covers, asked at t: rows with `t - offset - length <= e < t - offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// From [`Window::SHORTEST`] to [`Window::LONGEST`]. None: `all`, no lower edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<Length>,
    /// How far back from t it ends; zero unless written.
    #[serde(default, skip_serializing_if = "Length::is_zero")]
    pub offset: Length,
    /// `t - offset - length < e <= t - offset` instead: what happens at t itself counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub include_now: bool,
    /// The lower edge is floored to a multiple of this since the epoch. None: exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Length>,
}

/// A window as written: with the ending of feature names if one is given (`as:`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NamedWindow {
    /// The window.
    #[serde(flatten)]
    pub window: Window,
    /// What names of features end in, in place of the length.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub alias: Option<Name>,
}

impl Window {
    /// The shortest length there is.
    pub const SHORTEST: Length = Length::minutes(1);
    /// The longest one, but for `all`.
    pub const LONGEST: Length = Length::days(365);

    /// How far back from t the oldest row that counts may lie; none where there is no lower edge.
    pub fn reach(&self) -> Option<Length> {
        let floored = self.resolution.map_or(0, Length::micros);
        self.length.map(|length| Length::from_micros(length.micros() + self.offset.micros() + floored))
    }
}

impl NamedWindow {
    /// What names of features end in: `as:`, else the length, `7d` or `all`, and the offset if there is one,
    /// `7d_offset_7d`. Lengths are written in the largest unit that divides them: `24h` is `1d`.
    pub fn suffix(&self) -> String {
        if let Some(alias) = &self.alias {
            return alias.to_string();
        }
        let length = self.window.length.map_or_else(|| "all".to_owned(), |length| length.to_string());
        if self.window.offset.is_zero() { length } else { format!("{length}_offset_{}", self.window.offset) }
    }
}

impl Aggregate {
    /// The windows it is over: its own, else those of its view.
    pub(crate) fn windows_in<'a>(&'a self, view: &'a View) -> &'a [NamedWindow] {
        if self.windows.is_empty() { &view.windows } else { &self.windows }
    }
}

impl View {
    /// Whether its features are aggregates over windows, not columns of the latest row.
    pub fn is_window(&self) -> bool {
        let aggregates = match &self.features {
            Features::Named(features) => features.iter().any(|it| it.aggregate.is_some()),
            Features::Star => false,
        };
        aggregates || !self.windows.is_empty()
    }

    /// Its features as they are asked for: an aggregate once for each of its windows, named
    /// `NAME_SUFFIX`, in the order written. None where it takes all columns and they are not known yet.
    /// What can have no name, or another one's, is left out: reading the view has refused it.
    pub fn expanded(&self) -> Option<Vec<Feature>> {
        let Features::Named(features) = &self.features else { return None };
        let mut found: Vec<Feature> = Vec::new();
        let mut names: BTreeSet<Name> = BTreeSet::new();
        for (feature, name, window) in expansions(self, features) {
            let Ok(name) = Name::new(name) else { continue };
            if !names.insert(name.clone()) {
                continue;
            }
            let mut one = Feature { name, ..feature.clone() };
            if let (Some(aggregate), Some(window)) = (&mut one.aggregate, window) {
                aggregate.windows = vec![window.clone()];
            }
            found.push(one);
        }
        Some(found)
    }
}

/// Every feature with each of its windows and the name it has with it.
pub(crate) fn expansions<'a>(
    view: &'a View,
    features: &'a [Feature],
) -> impl Iterator<Item = (&'a Feature, String, Option<&'a NamedWindow>)> {
    features.iter().flat_map(move |feature| {
        let windows: Vec<Option<&NamedWindow>> = match &feature.aggregate {
            Some(aggregate) => aggregate.windows_in(view).iter().map(Some).collect(),
            None => vec![None],
        };
        windows.into_iter().map(move |window| {
            let name = match window {
                Some(window) => format!("{}_{}", feature.name, window.suffix()),
                None => feature.name.to_string(),
            };
            (feature, name, window)
        })
    })
}

//! What a world's service asks for beside features of views, as definitions have it.

use arrow::array::Float64Array;
use asof_model::{
    Derived, DerivedFeature, DerivedVersion, Input, LabelReading, RequestColumn, Step as DerivedStep,
    StepInput,
};
use asof_testkit::brought;

use super::*;

/// Where the column of a feature of a view stands.
pub(super) fn column(world: &World, read: Read) -> usize {
    let (reading, feature) = place(world, read).unwrap();
    let before = world.window_views.iter().take(reading.saturating_sub(world.views.len()));
    2 * reading.min(world.views.len()) + before.map(|view| view.features().count()).sum::<usize>() + feature
}

/// The reading of a feature of a view, and the feature, by position.
fn place(world: &World, read: Read) -> Option<(usize, usize)> {
    match read {
        Read::N(view) => Some((view, 0)),
        Read::State(view) => Some((view, 1)),
        Read::Window(view, feature) => Some((world.views.len() + view, feature)),
        Read::Derived(_) | Read::Quantity | Read::Price | Read::Time => None,
    }
}

/// Adds what is derived to what is asked for, and the labels.
pub(super) fn add(world: &World, selection: &mut Selection) {
    let mut features = Vec::new();
    for (at, (term, data_type)) in world.service.derived.iter().enumerate() {
        let input = |read: Read| match (place(world, read), read) {
            (Some((reading, feature)), _) => {
                let view = &selection.readings[reading].view;
                let feature = view.features[feature].feature.name.clone();
                Input::Feature { view: view.address.clone(), feature }
            }
            (None, Read::Derived(before)) => {
                Input::Derived { derived: address("computed"), feature: name(&format!("d{before}")) }
            }
            (None, Read::Quantity) => Input::Request { column: name("quantity") },
            (None, Read::Price) => Input::Request { column: name("price") },
            (None, _) => Input::RequestTime,
        };
        features.push(DerivedFeature {
            feature: plain(&format!("d{at}"), &term.to_string(), data_type.clone()).feature,
            data_type: data_type.clone(),
            inputs: term.reads().into_iter().map(input).collect(),
        });
    }
    let reads: Vec<Read> = world.service.derived.iter().flat_map(|(term, _)| term.reads()).collect();
    let all = [(Read::Quantity, "quantity", DataType::Int64), (Read::Price, "price", DataType::Float64)];
    let used: Vec<_> = all.into_iter().filter(|(read, ..)| reads.contains(read)).collect();
    selection.request = used
        .iter()
        .map(|(_, called, data_type)| RequestColumn { name: name(called), data_type: data_type.clone() })
        .collect();
    let derived = Arc::new(DerivedVersion {
        address: address("computed"),
        id: VersionId(format!("{:0>32}", "computed")),
        definition: Derived {
            name: name("computed"),
            request: selection.request.clone(),
            features: features.iter().map(|it| it.feature.clone()).collect(),
            about: About::default(),
        },
        features,
        stands_on: Vec::new(),
    });
    for (at, (term, data_type)) in world.service.derived.iter().enumerate() {
        let input = |read: Read| match (place(world, read), read) {
            (Some((reading, feature)), _) => StepInput::Feature { reading, feature },
            (None, Read::Derived(before)) => StepInput::Step(before),
            (None, Read::Time) => StepInput::RequestTime,
            (None, read) => StepInput::Request(used.iter().position(|(it, ..)| *it == read).unwrap()),
        };
        let inputs = term.reads().into_iter().map(input).collect();
        selection.steps.push(DerivedStep { derived: Arc::clone(&derived), feature: at, inputs });
        selection.columns.push(OutputColumn {
            name: format!("d{at}"),
            from: Origin::Derived { step: at },
            data_type: data_type.clone(),
        });
    }
    for (at, label) in world.service.labels.iter().enumerate() {
        let (reading, feature) = place(world, label.of).unwrap();
        let reading = selection.readings[reading].clone();
        let data_type = reading.view.features[feature].data_type.clone();
        let after = Length::from_micros(label.after);
        selection.labels.push(LabelReading { name: format!("l{at}"), reading, feature, after, data_type });
    }
}

/// What spine rows bring beside their keys.
pub(super) fn brought_columns<'a>(rows: impl Iterator<Item = &'a SpineRow> + Clone) -> (ArrayRef, ArrayRef) {
    let quantity: Int64Array = rows.clone().map(|row| brought(row).0).collect();
    let price: Float64Array = rows.map(|row| brought(row).1).collect();
    (Arc::new(quantity), Arc::new(price))
}

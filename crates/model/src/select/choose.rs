//! Picks made into readings, steps and columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{SelectError, label_name, of_features, output_name, shown};
use crate::nearest::did_you_mean;
use crate::{
    Address, Catalog, DataType, DerivedVersion, Input, Label, LabelReading, Name, Origin, OutputColumn, Pick,
    Reading, Reference, RequestColumn, Selection, Stale, Step, StepInput, StoredLabel, StoredReading,
    StoredSelection, StoredStep, VersionId, ViewVersion,
};

/// How many derived features may stand one on the other.
const DEEPEST: usize = 64;

/// What picks come to.
#[derive(Default)]
pub(crate) struct Chosen {
    pub(crate) readings: Vec<Reading>,
    pub(crate) columns: Vec<OutputColumn>,
    pub(crate) request: Vec<RequestColumn>,
    pub(crate) steps: Vec<Step>,
    pub(crate) labels: Vec<LabelReading>,
}

/// What stands at the name a pick gives.
enum Asked<'a> {
    View(&'a Arc<ViewVersion>),
    Derived(&'a Arc<DerivedVersion>),
}

/// Entity key to the name it has in requests and spines.
type Roles = BTreeMap<Name, Name>;

struct Choosing<'a> {
    catalog: &'a Catalog,
    /// The project the picks are made in.
    project: &'a Name,
    chosen: Chosen,
    /// For each column of the request the derived that first named it.
    brought: Vec<Address>,
    /// For each reading the pick that first needed it.
    needed: Vec<usize>,
    errors: Vec<(usize, SelectError)>,
}

/// Readings, steps and output columns of picks made in a project, or everything that is wrong with them, each
/// with the position of its pick; labels are counted behind the picks.
pub(crate) fn choose(
    catalog: &Catalog,
    project: &Name,
    picks: &[Pick],
    labels: &[Label],
    full_names: bool,
) -> Result<Chosen, Vec<(usize, SelectError)>> {
    let mut choosing = Choosing {
        catalog,
        project,
        chosen: Chosen::default(),
        brought: Vec::new(),
        needed: Vec::new(),
        errors: Vec::new(),
    };
    for (at, pick) in picks.iter().enumerate() {
        if let Err(found) = choosing.pick(at, pick, full_names) {
            choosing.errors.extend(found.into_iter().map(|error| (at, error)));
        }
    }
    for (nth, label) in labels.iter().enumerate() {
        let at = picks.len() + nth;
        if let Err(found) = choosing.label(at, label, full_names) {
            choosing.errors.extend(found.into_iter().map(|error| (at, error)));
        }
    }
    choosing.names(picks.len());
    let Choosing { chosen, mut errors, .. } = choosing;
    if chosen.columns.is_empty() && errors.is_empty() {
        errors.push((0, SelectError::Nothing));
    }
    if errors.is_empty() { Ok(chosen) } else { Err(errors) }
}

impl<'a> Choosing<'a> {
    fn pick(&mut self, at: usize, pick: &Pick, full_names: bool) -> Result<(), Vec<SelectError>> {
        let asked = self.asked(&pick.view)?;
        let names: Vec<&Name> = match &asked {
            Asked::View(view) => view.features.iter().map(|it| &it.feature.name).collect(),
            Asked::Derived(derived) => derived.features.iter().map(|it| &it.feature.name).collect(),
        };
        let mut errors = self.wrong_keys(&asked, &pick.keys);
        let features = match &pick.feature {
            None => (0..names.len()).collect(),
            Some(feature) => position(&asked, &pick.view, feature, &names).map_or_else(
                |error| {
                    errors.push(error);
                    Vec::new()
                },
                |at| vec![at],
            ),
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        for feature in features {
            let (from, data_type) = match &asked {
                Asked::View(view) => {
                    let reading = self.reading(at, view, &pick.keys)?;
                    (Origin::Feature { reading, feature }, view.features[feature].data_type.clone())
                }
                Asked::Derived(derived) => {
                    let step = self.step(at, derived, feature, &pick.keys, 0).map_err(|error| vec![error])?;
                    (Origin::Derived { step }, derived.features[feature].data_type.clone())
                }
            };
            let name = output_name(&pick.view.name, names[feature], pick, full_names);
            let column = OutputColumn { name, from, data_type };
            match self.chosen.columns.iter().find(|other| other.name == column.name) {
                Some(other) => {
                    let error = self.collision(&column.name, self.of_column(other), self.of_column(&column));
                    self.errors.push((at, error));
                }
                None => self.chosen.columns.push(column),
            }
        }
        Ok(())
    }

    fn label(&mut self, at: usize, label: &Label, full_names: bool) -> Result<(), Vec<SelectError>> {
        let asked = self.asked(&label.view)?;
        let Asked::View(view) = &asked else {
            let text = format!("{}.{}", label.view, label.feature);
            let hint = "a label is read, after the time asked, from a view: name its feature".to_owned();
            return Err(vec![SelectError::BadFeature { text, hint }]);
        };
        let errors = self.wrong_keys(&asked, &label.keys);
        if !errors.is_empty() {
            return Err(errors);
        }
        let names: Vec<&Name> = view.features.iter().map(|it| &it.feature.name).collect();
        let feature = position(&asked, &label.view, &label.feature, &names).map_err(|error| vec![error])?;
        let reading = self.new_reading(view, &label.keys)?;
        if reading.source.definition.event_time.is_none() {
            return Err(vec![SelectError::ClocklessLabel {
                label: format!("{}.{}", label.view, label.feature),
                after: label.after.to_string(),
                source_name: shown(self.project, &reading.source.address),
            }]);
        }
        let name = label_name(label, full_names);
        let own = self.of_label(&reading, feature, label.after);
        let columns = self.chosen.columns.iter().find(|it| it.name == name).map(|it| self.of_column(it));
        let labels = self.chosen.labels.iter().find(|it| it.name == name);
        let other = columns.or_else(|| labels.map(|it| self.of_label(&it.reading, it.feature, it.after)));
        if let Some(other) = other {
            self.errors.push((at, self.collision(&name, other, own)));
            return Ok(());
        }
        let data_type = view.features[feature].data_type.clone();
        self.chosen.labels.push(LabelReading { name, reading, feature, after: label.after, data_type });
        Ok(())
    }

    fn asked(&self, reference: &Reference) -> Result<Asked<'a>, Vec<SelectError>> {
        let home = reference.project.as_ref().unwrap_or(self.project);
        let Some(state) = self.catalog.projects.get(home) else {
            return Err(vec![self.catalog.unknown_project(home.as_str())]);
        };
        if let Some(view) = state.views.get(&reference.name) {
            return Ok(Asked::View(view));
        }
        if let Some(derived) = state.derived.get(&reference.name) {
            return Ok(Asked::Derived(derived));
        }
        let names: Vec<&str> = state.views.keys().chain(state.derived.keys()).map(Name::as_str).collect();
        let hint = did_you_mean(reference.name.as_str(), names.iter().copied(), "views are");
        Err(vec![SelectError::UnknownView { view: reference.to_string(), hint }])
    }

    /// The keys of a role that nothing has. A derived has those of all views it reads.
    fn wrong_keys(&self, asked: &Asked<'_>, roles: &Roles) -> Vec<SelectError> {
        let (address, mut keys) = match asked {
            Asked::View(view) => (&view.address, Vec::new()),
            Asked::Derived(derived) => (&derived.address, Vec::new()),
        };
        match asked {
            Asked::View(view) => keys.extend(view.keys.iter().map(|it| it.key.name.as_str())),
            Asked::Derived(derived) => self.keys_of(derived, &mut keys, 0),
        }
        let unknown = roles.keys().filter(|key| !keys.contains(&key.as_str()));
        unknown
            .map(|key| {
                let hint = did_you_mean(key.as_str(), keys.iter().copied(), "its keys are");
                SelectError::UnknownKey { view: shown(self.project, address), key: key.to_string(), hint }
            })
            .collect()
    }

    fn keys_of(&self, derived: &'a DerivedVersion, keys: &mut Vec<&'a str>, depth: usize) {
        for on in &derived.stands_on {
            if let Some(view) = self.catalog.view(&on.address) {
                for key in &view.keys {
                    if !keys.contains(&key.key.name.as_str()) {
                        keys.push(key.key.name.as_str());
                    }
                }
            } else if let Some(other) = self.catalog.derived(&on.address)
                && depth < DEEPEST
            {
                self.keys_of(other, keys, depth + 1);
            }
        }
    }

    fn new_reading(&self, view: &Arc<ViewVersion>, roles: &Roles) -> Result<Reading, Vec<SelectError>> {
        let source = self.catalog.source_of(view).map_err(|stale| vec![SelectError::ViewStale(stale)])?;
        let keys = view.keys.iter().map(|it| roles.get(&it.key.name).unwrap_or(&it.key.name).clone());
        Ok(Reading { view: view.clone(), source: source.clone(), keys: keys.collect() })
    }

    /// The reading of a view in a role, which all who take of it share.
    fn reading(
        &mut self,
        at: usize,
        view: &Arc<ViewVersion>,
        roles: &Roles,
    ) -> Result<usize, Vec<SelectError>> {
        let reading = self.new_reading(view, roles)?;
        let readings = &mut self.chosen.readings;
        let same = |it: &Reading| it.view.address == reading.view.address && it.keys == reading.keys;
        if let Some(found) = readings.iter().position(same) {
            return Ok(found);
        }
        readings.push(reading);
        self.needed.push(at);
        Ok(readings.len() - 1)
    }

    /// The step that computes a derived feature in a role, behind the steps that it reads.
    fn step(
        &mut self,
        at: usize,
        derived: &'a Arc<DerivedVersion>,
        feature: usize,
        roles: &Roles,
        depth: usize,
    ) -> Result<usize, SelectError> {
        let wanted = &derived.features[feature];
        if depth > DEEPEST {
            let feature = format!("{}.{}", shown(self.project, &derived.address), wanted.feature.name);
            return Err(SelectError::TooDeep { feature, most: DEEPEST });
        }
        let mut inputs = Vec::new();
        for input in &wanted.inputs {
            inputs.push(match input {
                Input::Feature { view: of, feature: name } => {
                    let view = self.catalog.view(of);
                    self.agreed(derived, of, view.map(|it| &it.id))?;
                    let view = view.ok_or_else(|| gone(derived, of))?;
                    let feature = view.features.iter().position(|it| it.feature.name == *name);
                    let feature = feature.ok_or_else(|| gone(derived, of))?;
                    let reading =
                        self.reading(at, view, roles).map_err(|mut errors| errors.swap_remove(0))?;
                    StepInput::Feature { reading, feature }
                }
                Input::Derived { derived: of, feature: name } => {
                    let other = if *of == derived.address { Some(derived) } else { self.catalog.derived(of) };
                    if *of != derived.address {
                        self.agreed(derived, of, other.map(|it| &it.id))?;
                    }
                    let other = other.ok_or_else(|| gone(derived, of))?;
                    let feature = other.features.iter().position(|it| it.feature.name == *name);
                    let feature = feature.ok_or_else(|| gone(derived, of))?;
                    StepInput::Step(self.step(at, other, feature, roles, depth + 1)?)
                }
                Input::Request { column } => StepInput::Request(self.brought(derived, column)?),
                Input::RequestTime => StepInput::RequestTime,
            });
        }
        let same =
            |it: &Step| it.derived.address == derived.address && it.feature == feature && it.inputs == inputs;
        if let Some(found) = self.chosen.steps.iter().position(same) {
            return Ok(found);
        }
        self.chosen.steps.push(Step { derived: derived.clone(), feature, inputs });
        Ok(self.chosen.steps.len() - 1)
    }

    /// Whether what a derived reads is still what it was agreed with.
    fn agreed(
        &self,
        derived: &DerivedVersion,
        on: &Address,
        now: Option<&VersionId>,
    ) -> Result<(), SelectError> {
        let agreed = derived.stands_on.iter().find(|it| it.address == *on).map(|it| &it.id);
        match (agreed, now) {
            (Some(agreed), Some(now)) if agreed == now => Ok(()),
            (Some(agreed), Some(now)) => Err(SelectError::ViewStale(Stale::Derived {
                derived: derived.address.clone(),
                on: on.clone(),
                agreed: agreed.short().to_owned(),
                current: format!("now {}", now.short()),
            })),
            _ => Err(gone(derived, on)),
        }
    }

    /// What the request brings, by position.
    fn brought(&mut self, derived: &DerivedVersion, name: &Name) -> Result<usize, SelectError> {
        let Some(column) = derived.definition.request.iter().find(|it| it.name == *name) else {
            return Err(gone(derived, &derived.address));
        };
        let Some(found) = self.chosen.request.iter().position(|it| it.name == *name) else {
            self.chosen.request.push(column.clone());
            self.brought.push(derived.address.clone());
            return Ok(self.chosen.request.len() - 1);
        };
        let first = &self.chosen.request[found];
        if first.data_type == column.data_type {
            return Ok(found);
        }
        Err(SelectError::RequestTypes {
            column: name.to_string(),
            first: shown(self.project, &self.brought[found]),
            first_type: first.data_type.clone(),
            second: shown(self.project, &derived.address),
            second_type: column.data_type.clone(),
        })
    }

    /// Keys, what the request brings and output columns stand side by side in a spine or a request, so no two
    /// have one name. Labels are counted behind `picks`.
    fn names(&mut self, picks: usize) {
        let mut errors = Vec::new();
        let chosen = &self.chosen;
        let mut types: BTreeMap<&Name, (&DataType, &Reading)> = BTreeMap::new();
        let labels = chosen.labels.iter().enumerate().map(|(nth, it)| (picks + nth, &it.reading));
        for (at, reading) in self.needed.iter().copied().zip(&chosen.readings).chain(labels) {
            for (key, asked) in reading.view.keys.iter().zip(&reading.keys) {
                match types.get(asked) {
                    Some((data_type, first)) if **data_type != key.key.data_type => {
                        let error = SelectError::KeyTypes {
                            key: asked.to_string(),
                            first: shown(self.project, &first.view.address),
                            first_type: (*data_type).clone(),
                            second: shown(self.project, &reading.view.address),
                            second_type: key.key.data_type.clone(),
                        };
                        errors.push((at, error));
                    }
                    Some(_) => {}
                    None => drop(types.insert(asked, (&key.key.data_type, reading))),
                }
            }
        }
        let columns = chosen.columns.iter().map(|it| (self.at_of(it), &it.name, self.of_column(it)));
        let labels = chosen
            .labels
            .iter()
            .enumerate()
            .map(|(nth, it)| (picks + nth, &it.name, self.of_label(&it.reading, it.feature, it.after)));
        let outputs: Vec<(usize, &String, String)> = columns.chain(labels).collect();
        for (at, name, feature) in &outputs {
            if types.keys().any(|key| key.as_str() == *name) {
                let error = SelectError::KeyCollision { column: (*name).clone(), feature: feature.clone() };
                errors.push((*at, error));
            }
        }
        for (column, derived) in chosen.request.iter().zip(&self.brought) {
            let name = column.name.as_str();
            let output = outputs.iter().find(|(_, other, _)| *other == name);
            let what = match output {
                Some((_, _, feature)) => format!("the output column of `{feature}`"),
                None if types.keys().any(|key| key.as_str() == name) => "the name of a key".to_owned(),
                None => continue,
            };
            let (column, derived) = (name.to_owned(), shown(self.project, derived));
            let at = output.map_or(0, |(at, ..)| *at);
            errors.push((at, SelectError::RequestCollision { column, derived, what }));
        }
        self.errors.extend(errors);
    }

    /// The pick that first needed what a column is of.
    fn at_of(&self, column: &OutputColumn) -> usize {
        let of_step = |step: usize| {
            self.chosen.steps.get(step)?.inputs.iter().find_map(|input| match input {
                StepInput::Feature { reading, .. } => Some(*reading),
                _ => None,
            })
        };
        let reading = match column.from {
            Origin::Feature { reading, .. } => Some(reading),
            Origin::Derived { step } => of_step(step),
        };
        reading.and_then(|reading| self.needed.get(reading).copied()).unwrap_or_default()
    }

    fn collision(&self, column: &str, first: String, second: String) -> SelectError {
        SelectError::Collision { column: column.to_owned(), first, second }
    }

    /// What a column is of, for messages.
    fn of_column(&self, column: &OutputColumn) -> String {
        match column.from {
            Origin::Feature { reading, feature } => self.of_reading(&self.chosen.readings[reading], feature),
            Origin::Derived { step } => {
                let Step { derived, feature, .. } = &self.chosen.steps[step];
                let name = &derived.features[*feature].feature.name;
                format!("{}.{name}", shown(self.project, &derived.address))
            }
        }
    }

    fn of_label(&self, reading: &Reading, feature: usize, after: crate::Length) -> String {
        format!("{} after {after}", self.of_reading(reading, feature))
    }

    fn of_reading(&self, reading: &Reading, feature: usize) -> String {
        let view = shown(self.project, &reading.view.address);
        let feature = &reading.view.features[feature].feature.name;
        let own = reading.view.keys.iter().map(|it| &it.key.name).eq(&reading.keys);
        if own {
            format!("{view}.{feature}")
        } else {
            let keys: Vec<&str> = reading.keys.iter().map(Name::as_str).collect();
            format!("{view}.{feature} by {}", keys.join(", "))
        }
    }
}

fn position(
    asked: &Asked<'_>,
    view: &Reference,
    feature: &Name,
    names: &[&Name],
) -> Result<usize, SelectError> {
    if let Some(at) = names.iter().position(|name| *name == feature) {
        return Ok(at);
    }
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    Err(SelectError::UnknownFeature {
        kind: match asked {
            Asked::View(_) => "view",
            Asked::Derived(_) => "derived",
        },
        hint: of_features(view, feature, &names),
        view: view.to_string(),
        feature: feature.to_string(),
    })
}

/// What a derived was agreed with is not there any more.
fn gone(derived: &DerivedVersion, on: &Address) -> SelectError {
    let agreed = derived.stands_on.iter().find(|it| it.address == *on);
    SelectError::ViewStale(Stale::Derived {
        derived: derived.address.clone(),
        on: on.clone(),
        agreed: agreed.map_or(String::new(), |it| it.id.short().to_owned()),
        current: "gone".to_owned(),
    })
}

/// A selection as a service version stores it.
pub(crate) fn stored(chosen: &Chosen) -> StoredSelection {
    let Chosen { readings, columns, request, steps, labels } = chosen;
    stored_of(readings, columns, request, steps, labels)
}

impl Selection {
    /// The selection as a record stores it: views and derived by address and version.
    pub fn stored(&self) -> StoredSelection {
        stored_of(&self.readings, &self.columns, &self.request, &self.steps, &self.labels)
    }
}

fn stored_of(
    readings: &[Reading],
    columns: &[OutputColumn],
    request: &[RequestColumn],
    steps: &[Step],
    labels: &[LabelReading],
) -> StoredSelection {
    let stored = |it: &Reading| StoredReading {
        view: it.view.address.clone(),
        view_id: it.view.id.clone(),
        keys: it.keys.clone(),
    };
    StoredSelection {
        readings: readings.iter().map(stored).collect(),
        columns: columns.to_vec(),
        request: request.to_vec(),
        steps: steps
            .iter()
            .map(|it| StoredStep {
                derived: it.derived.address.clone(),
                derived_id: it.derived.id.clone(),
                feature: it.feature,
                inputs: it.inputs.clone(),
            })
            .collect(),
        labels: labels
            .iter()
            .map(|it| StoredLabel {
                name: it.name.clone(),
                reading: stored(&it.reading),
                feature: it.feature,
                after: it.after,
                data_type: it.data_type.clone(),
            })
            .collect(),
    }
}

//! What operators answer for a selection: its readings, and those its labels are read from, by the source they
//! stand on and how long after the spine's times they are asked.

use std::sync::Arc;

use asof_model::{Cut, Length, Reading, Selection, SourceCut, SourceVersion};

/// A reading that an operator answers.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) reading: Reading,
    /// The features of its view that are taken, by position.
    pub(super) features: Vec<usize>,
    /// Of one that labels are read from, how long after the spine's times it is asked.
    pub(super) after: Option<Length>,
    /// What of its source it is answered from; none: what there is.
    pub(super) cut: Option<Cut>,
}

/// What sources are read as.
#[derive(Debug, Clone)]
pub(super) enum Cuts {
    /// Those named as they were read then, the others as they are.
    OfSources(Vec<SourceCut>),
    /// Each reading of the selection from its own.
    OfReadings(Vec<Cut>),
}

impl Cuts {
    /// Of a reading, by its number in the selection where it has one.
    fn of(&self, number: Option<usize>, reading: &Reading) -> Option<Cut> {
        match self {
            Cuts::OfSources(all) => {
                let found = all.iter().find(|cut| cut.source == reading.source.address);
                found.map(|cut| cut.cut.clone())
            }
            Cuts::OfReadings(all) => all.get(number?).cloned(),
        }
    }

    /// Those of sources.
    pub(super) fn of_sources(&self) -> &[SourceCut] {
        match self {
            Cuts::OfSources(all) => all,
            Cuts::OfReadings(_) => &[],
        }
    }
}

/// All that is asked: the readings of the selection, and behind them those of its labels.
#[derive(Debug)]
pub(super) struct Questions {
    pub(super) asked: Vec<Asked>,
    /// Per label which of them it is read from.
    pub(super) labels: Vec<usize>,
}

/// What one operator answers: all that is asked of one source, so long after the spine's times.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) source: Arc<SourceVersion>,
    pub(super) after: Option<Length>,
    pub(super) cut: Option<Cut>,
    /// Positions in [`Questions::asked`].
    pub(super) members: Vec<usize>,
}

impl Questions {
    /// Labels of one view in one role, as long after, share what is asked.
    pub(super) fn of(selection: &Selection, cuts: &Cuts) -> Questions {
        let readings = selection.readings.iter().enumerate();
        let mut asked: Vec<Asked> = readings
            .map(|(number, reading)| Asked {
                reading: reading.clone(),
                features: selection.taken(number),
                after: None,
                cut: cuts.of(Some(number), reading),
            })
            .collect();
        let mut labels = Vec::with_capacity(selection.labels.len());
        for label in &selection.labels {
            let same = |it: &Asked| {
                it.after == Some(label.after)
                    && it.reading.view.address == label.reading.view.address
                    && it.reading.keys == label.reading.keys
            };
            let found = asked.iter().position(same).unwrap_or_else(|| {
                let reading = label.reading.clone();
                let cut = cuts.of(None, &reading);
                asked.push(Asked { reading, features: Vec::new(), after: Some(label.after), cut });
                asked.len() - 1
            });
            labels.push(found);
            if let Some(found) = asked.get_mut(found)
                && let Err(at) = found.features.binary_search(&label.feature)
            {
                found.features.insert(at, label.feature);
            }
        }
        Questions { asked, labels }
    }

    /// One pass over a source for all that is asked of it at one time from one cut, in order of first use.
    pub(super) fn passes(&self) -> Vec<Pass> {
        let mut passes: Vec<Pass> = Vec::new();
        for (number, asked) in self.asked.iter().enumerate() {
            let source = &asked.reading.source;
            let same = |pass: &&mut Pass| {
                pass.source.address == source.address
                    && pass.source.id == source.id
                    && pass.after == asked.after
                    && pass.cut == asked.cut
            };
            match passes.iter_mut().find(same) {
                Some(pass) => pass.members.push(number),
                None => passes.push(Pass {
                    source: Arc::clone(source),
                    after: asked.after,
                    cut: asked.cut.clone(),
                    members: vec![number],
                }),
            }
        }
        passes
    }
}

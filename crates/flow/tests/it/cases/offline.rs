//! Answers of training: from files, from halves, from tables and logs.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::UInt8Type;
use asof_compute::{Outcome, Status, arrow_type};
use asof_engine::Engine;
use asof_engine::point_in_time::{AnswerBatch, Manner, SpineRows, answer};
use asof_engine::training::TrainRequest;
use asof_model::{Catalog, Column, OnOverflow, Origin, Question, Selection};
use futures::TryStreamExt;
use tokio::runtime::Runtime;

use super::folder::{Answers, Case, TIME};
use super::given::spine;
use crate::fixture::name;
use crate::node::{request, trained};

/// Who trains, and what there is to train of.
pub(super) struct Offline<'a> {
    pub(super) case: &'a Case,
    pub(super) catalog: &'a Arc<Catalog>,
    pub(super) engine: &'a Engine,
    pub(super) runtime: &'a Runtime,
}

pub(super) const QUESTIONS: [Question; 2] = [Question::Known, Question::Event];

impl Offline<'_> {
    pub(super) fn selection(&self) -> Selection {
        let selected = self.catalog.select(&name("shop"), &self.case.ask(), false);
        selected.unwrap_or_else(|error| panic!("{}: {error}", self.case.name))
    }

    /// Trains as a user does, by both questions; how many values were compared.
    pub(super) fn train(&self, about: &str) -> usize {
        QUESTIONS.iter().map(|question| self.train_with(*question, about)).sum()
    }

    fn train_with(&self, question: Question, about: &str) -> usize {
        let (case, selection) = (self.case, self.selection());
        let trained = |on_overflow| {
            let spine = case.folder.join("spine.csv");
            let request = TrainRequest { on_overflow, ..request(self.catalog, case.ask(), &spine, question) };
            trained(self.runtime, self.engine, self.catalog, request).map(|(found, _)| found)
        };
        let found = if case.overflows() {
            let refused = trained(OnOverflow::Refuse).unwrap_err();
            assert!(
                refused.to_string().contains("overflow") || format!("{refused:?}").contains("overflow"),
                "{refused}"
            );
            trained(OnOverflow::Null)
        } else {
            trained(OnOverflow::Refuse)
        };
        let found = found.unwrap_or_else(|error| panic!("{}, {about}, {question:?}: {error}", case.name));
        let width = case.spine.num_columns();
        let schema = found.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let spine = case.spine.schema();
        assert_eq!(names[..width], spine.fields().iter().map(|it| it.name().as_str()).collect::<Vec<_>>());
        assert_eq!(names[width..], case.columns(), "{}, {about}: the columns", case.name);
        let types = selection.columns.iter().map(|it| &it.data_type);
        let types = types.chain(selection.labels.iter().map(|it| &it.data_type));
        let mut answers = Answers::default();
        for ((column, name), data_type) in found.columns()[width..].iter().zip(&names[width..]).zip(types) {
            assert_eq!(*column.data_type(), arrow_type(data_type), "{}: the type of `{name}`", case.name);
            answers.value(name, column);
        }
        case.check(question, &self.all(), &answers, about)
    }

    fn all(&self) -> Vec<usize> {
        (0..self.case.spine.num_rows()).collect()
    }

    /// Asks the operator by both questions, in one piece or in halves: values, and the statuses that it tells.
    pub(super) fn answer(&self, in_halves: bool, about: &str) -> usize {
        QUESTIONS.iter().map(|question| self.answer_with(*question, in_halves, about)).sum()
    }

    fn answer_with(&self, question: Question, in_halves: bool, about: &str) -> usize {
        let selection = self.selection();
        let keys = selection.readings.iter().chain(selection.labels.iter().map(|it| &it.reading));
        let keys = keys.flat_map(|it| it.keys.iter().zip(&it.view.keys));
        let keys =
            keys.map(|(name, key)| Column { name: name.to_string(), data_type: key.key.data_type.clone() });
        let request = selection.request.iter();
        let request = request.map(|it| Column { name: it.name.to_string(), data_type: it.data_type.clone() });
        let spine = spine(self.case, &keys.chain(request).collect::<Vec<_>>());
        let rows = SpineRows { batches: vec![spine], time: TIME.to_owned() };
        let on_overflow = OnOverflow::Null;
        let manner = Manner { question, on_overflow, in_halves, outcomes: true, ..Manner::default() };
        let answered = self.runtime.block_on(async {
            let answered = answer(self.engine, self.catalog, &selection, &rows, manner, &[], None).await?;
            answered.batches.try_collect::<Vec<AnswerBatch>>().await
        });
        let batches =
            answered.unwrap_or_else(|error| panic!("{}, {about}, {question:?}: {error}", self.case.name));
        let mut answers = Answers::default();
        let joined = |of: &dyn Fn(&AnswerBatch) -> Arc<dyn Array>| {
            let parts: Vec<_> = batches.iter().map(of).collect();
            arrow::compute::concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap()
        };
        let statuses = |codes: &dyn Array| {
            let codes = codes.as_primitive::<UInt8Type>().values();
            codes.iter().map(|code| Status::from_code(*code).unwrap().name().to_owned()).collect::<Vec<_>>()
        };
        let outcomes = |codes: &dyn Array| {
            let name = |code: Option<u8>| match code {
                Some(code) if code == Outcome::Present as u8 => "present",
                Some(code) if code == Outcome::Nothing as u8 => "null",
                Some(_) => "overflow",
                None => "no_key",
            };
            let codes = codes.as_primitive::<UInt8Type>();
            codes.iter().map(|code| name(code).to_owned()).collect::<Vec<_>>()
        };
        for (at, column) in selection.columns.iter().enumerate() {
            answers.value(&column.name, &joined(&|batch| Arc::clone(&batch.columns[at])));
            let Origin::Feature { reading, .. } = column.from else { continue };
            let found = match selection.readings[reading].view.definition.is_window() {
                true => outcomes(&joined(&|batch| Arc::new(batch.outcomes[at].clone().unwrap()))),
                false => statuses(&joined(&|batch| Arc::new(batch.status[reading].clone()))),
            };
            answers.statuses.push((column.name.clone(), found));
        }
        for (at, label) in selection.labels.iter().enumerate() {
            answers.value(&label.name, &joined(&|batch| Arc::clone(&batch.labels[at])));
            if !label.reading.view.definition.is_window() {
                let codes = joined(&|batch| Arc::new(batch.label_status[at].clone()));
                answers.statuses.push((label.name.clone(), statuses(&codes)));
            }
        }
        self.case.check(question, &self.all(), &answers, about)
    }
}

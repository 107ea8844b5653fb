//! What training says of a world, of all rows and of those that an older cut holds, with the labels of its service.

use asof_engine::point_in_time::{AnswerBatch, Manner, SpineRows, answer};
use asof_model::{Address, Cut, OnImmature, OnOverflow, SourceCut, VisibleTimes};
use asof_testkit::oracle::{Reach, label};
use futures::TryStreamExt;

use super::*;

/// What a training reads and when.
pub(super) struct Training {
    /// T.
    at: i64,
    /// The rows that were there.
    given: Vec<usize>,
    /// None: what there is.
    cuts: Vec<SourceCut>,
    /// None: both.
    question: Option<Question>,
}

impl Training {
    /// Of what there is now.
    pub(super) fn now(node: &Node, given: &[usize]) -> Training {
        Training { at: node.now(), given: given.to_vec(), cuts: Vec::new(), question: None }
    }

    /// By one question only.
    pub(super) fn by(self, question: Question) -> Training {
        Training { question: Some(question), ..self }
    }

    /// The same again, by what it read.
    pub(super) fn again(self, read: Vec<(Address, Cut)>) -> Training {
        let cut = |(source, cut)| {
            let source_id = crate::fixture::source(true).id;
            SourceCut { source, source_id, visible: VisibleTimes::Declared, cut }
        };
        Training { cuts: read.into_iter().map(cut).collect(), ..self }
    }

    /// How far the source reaches that all labels are of.
    fn reach(&self, prepared: &PreparedSelection, world: &World) -> Reach {
        let source = &prepared.selection().readings[0].source.definition;
        let is_pushed = matches!(source.place, Place::Push { .. });
        let greatest = self.given.iter().map(|at| world.rows[*at].e).max();
        Reach { greatest, pushed: is_pushed.then_some(self.at) }
    }

    /// Holds what it says of all spine rows, by its questions, against the oracle: how many answers of windows, and what
    /// was read.
    pub(super) fn compare(
        &self,
        node: &Node,
        prepared: &PreparedSelection,
        world: &World,
        edges: &mut Edges,
        about: &str,
    ) -> (usize, Vec<(Address, Cut)>) {
        let spine_rows: Vec<(usize, &SpineRow)> = spine_of(world).collect();
        let reach = self.reach(prepared, world);
        let rows_of = |case: usize| -> Vec<Row> {
            let own = self.given.iter().filter(|at| world.cases[case].0.contains(at));
            own.map(|at| world.rows[*at].clone()).collect()
        };
        let (mut compared, mut read) = (0, Vec::new());
        for (question, on_immature) in
            [(Question::Known, OnImmature::Keep), (Question::Event, OnImmature::Drop)]
        {
            if self.question.is_some_and(|other| other != question) {
                continue;
            }
            let labelled = |(case, spine): &(usize, &SpineRow)| -> Vec<(Status, Value)> {
                let (rows, labels) = (rows_of(*case), &world.service.labels);
                labels.iter().map(|it| label(&rows, world, it, spine, reach)).collect()
            };
            let labels: Vec<Vec<(Status, Value)>> = spine_rows.iter().map(labelled).collect();
            let is_kept = |of: &[(Status, Value)]| {
                on_immature == OnImmature::Keep || of.iter().all(|(status, _)| *status != Status::NotMature)
            };
            let (asked, labels): (Vec<(usize, &SpineRow)>, Vec<Vec<(Status, Value)>>) =
                spine_rows.iter().copied().zip(labels).filter(|(_, of)| is_kept(of)).unzip();

            let spine = SpineRows { batches: vec![brought_beside(world)], time: "t".to_owned() };
            let manner = Manner {
                question,
                on_overflow: OnOverflow::Null,
                outcomes: true,
                on_immature,
                asked_at: Some(Timestamp(self.at)),
                ..Manner::default()
            };
            let (catalog, cuts) = (node.registry.catalog(), &self.cuts);
            let found = node.runtime.block_on(async {
                let found =
                    answer(&node.engine, &catalog, prepared.selection(), &spine, manner, cuts, None).await?;
                let batches = found.batches.try_collect::<Vec<AnswerBatch>>().await?;
                Ok::<_, asof_engine::Error>((batches, found.cuts))
            });
            let (batches, cuts) = found.unwrap_or_else(|error| panic!("{about}: {error}"));
            read = cuts;
            let places: Vec<(usize, usize)> = batches
                .iter()
                .enumerate()
                .flat_map(|(at, of)| (0..of.rows).map(move |row| (at, row)))
                .collect();
            assert_eq!(places.len(), asked.len(), "{about}");
            let latest = 2 * world.views.len();
            let columns = prepared.selection().columns.len() - world.service.derived.len();
            let found = |column: usize, row: usize| {
                let (batch, row) = (&batches[places[row].0], places[row].1);
                let status = match &batch.outcomes[column] {
                    _ if column >= columns => COMPUTED,
                    None => Status::from_code(batch.status[column / 2].value(row)).unwrap().name(),
                    Some(outcomes) if outcomes.is_null(row) => "no_key",
                    Some(outcomes) => match outcomes.value(row) {
                        code if code == Outcome::Present as u8 => "present",
                        code if code == Outcome::Nothing as u8 => "null",
                        _ => "overflow",
                    },
                };
                assert_eq!(batch.outcomes[column].is_none(), column < latest || column >= columns);
                (value(&batch.columns[column], row), status)
            };
            compared += compare_found(world, &self.given, &asked, question, found, about);
            for (row, (wanted, (case, spine))) in labels.iter().zip(&asked).enumerate() {
                let (batch, row) = (&batches[places[row].0], places[row].1);
                for (number, (status, wanted)) in wanted.iter().enumerate() {
                    let told = Status::from_code(batch.label_status[number].value(row)).unwrap();
                    let found = value(&batch.labels[number], row);
                    assert!((&found, told) == (wanted, *status), "{}", {
                        let label = world.service.labels[number];
                        let rows = rows_of(*case);
                        format!(
                            "{about}, {question:?}: {label:?} of {spine:?} at {reach:?}\n{found:?} {told:?}, not {wanted:?} {status:?}\n{rows:#?}"
                        )
                    });
                }
                if question == Question::Known {
                    edges.look_at_service(world, &rows_of(*case), spine, reach);
                }
            }
        }
        (compared, read)
    }
}

/// What training says of all that is there, by both questions; how many answers of windows.
pub(super) fn compare_offline(
    node: &Node,
    prepared: &PreparedSelection,
    world: &World,
    given: &[usize],
    about: &str,
) -> usize {
    Training::now(node, given).compare(node, prepared, world, &mut Edges::default(), about).0
}

/// The spine and what it brings.
fn brought_beside(world: &World) -> RecordBatch {
    let spine = world.spine_table();
    let (names, mut columns) = (spine.schema(), spine.columns().to_vec());
    let mut names: Vec<String> = names.fields().iter().map(|field| field.name().clone()).collect();
    let (quantity, price) = service::brought_columns(world.spine.iter());
    names.extend(["quantity".to_owned(), "price".to_owned()]);
    columns.extend([quantity, price]);
    RecordBatch::try_from_iter_with_nullable(
        names.into_iter().zip(columns).map(|(name, it)| (name, it, true)),
    )
    .unwrap()
}

//! A case folder as it is read, and what it says an answer must be.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema};
use asof_model::{Ask, Question};

use super::text::text;

/// The column of every spine that holds the time asked.
pub(super) const TIME: &str = "t";

/// Behind the name of a feature: the column of its statuses.
const STATUS: &str = ".status";

/// A way to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Files read in place, trained.
    Batch,
    /// The same in a partial and a final half, sent through the codec.
    Halves,
    /// Rows pushed and loaded, in several orders: read online as they come and as of each spine row's time, then trained.
    Streamed,
    /// Read online, of what is materialised of files.
    Materialized,
    /// Trained from table and log, while the log is moved.
    Flushed,
    /// The oracle of the test kit.
    Oracle,
}

impl Way {
    const ALL: [Way; 6] =
        [Way::Batch, Way::Halves, Way::Streamed, Way::Materialized, Way::Flushed, Way::Oracle];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// A case.
#[derive(Debug)]
pub(super) struct Case {
    /// The folder's name.
    pub(super) name: String,
    /// Where it is.
    pub(super) folder: PathBuf,
    /// `features.yaml`.
    pub(super) definitions: String,
    /// Ways that it does not go, with the reason.
    pub(super) without: BTreeMap<Way, String>,
    /// `spine.csv`: all columns are texts, null where a cell is empty.
    pub(super) spine: RecordBatch,
    known: RecordBatch,
    event: Option<RecordBatch>,
}

/// What a way answers: by column, a cell for every spine row.
#[derive(Debug, Default, Clone)]
pub(super) struct Answers {
    /// Of features and labels.
    pub(super) values: Vec<(String, Vec<String>)>,
    /// Of those that the way tells the status of.
    pub(super) statuses: Vec<(String, Vec<String>)>,
}

impl Answers {
    /// Takes a column as it came.
    pub(super) fn value(&mut self, name: &str, column: &dyn Array) {
        self.values.push((name.to_owned(), (0..column.len()).map(|row| text(column, row)).collect()));
    }
}

/// Where the cases are.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases")
}

/// Reads a CSV file, all columns as texts.
pub(super) fn table(path: &Path) -> RecordBatch {
    let about = || path.display().to_string();
    let open = || File::open(path).unwrap_or_else(|error| panic!("{}: {error}", about()));
    let format = Format::default().with_header(true);
    let (found, _) = format.infer_schema(open(), Some(0)).unwrap();
    let fields = found.fields().iter().map(|field| Field::new(field.name(), DataType::Utf8, true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let reader = ReaderBuilder::new(Arc::clone(&schema)).with_format(format).with_batch_size(1 << 12);
    let mut reader = reader.build(open()).unwrap();
    let read = reader.next().unwrap_or(Ok(RecordBatch::new_empty(schema)));
    read.unwrap_or_else(|error| panic!("{}: {error}", about()))
}

/// A column of a [`table`].
pub(super) fn cells(table: &RecordBatch, name: &str) -> Option<Vec<String>> {
    let column = table.column_by_name(name)?.as_string::<i32>();
    Some(column.iter().map(|cell| cell.unwrap_or_default().to_owned()).collect())
}

fn names(table: &RecordBatch) -> Vec<String> {
    table.schema().fields().iter().map(|field| field.name().clone()).collect()
}

impl Case {
    /// Every case there is, by name.
    pub(super) fn all() -> Vec<Case> {
        let folders = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
        let mut cases: Vec<Case> = folders.filter(|path| path.is_dir()).map(Case::read).collect();
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        cases
    }

    fn read(folder: PathBuf) -> Case {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let definitions = std::fs::read_to_string(folder.join("features.yaml"))
            .unwrap_or_else(|error| panic!("{name}/features.yaml: {error}"));
        assert!(definitions.starts_with("# "), "{name}: a comment on top says what the case is about");
        let mut without = BTreeMap::new();
        for line in definitions.lines().filter_map(|line| line.strip_prefix("# not ")) {
            let (way, reason) =
                line.split_once(": ").unwrap_or_else(|| panic!("{name}: `# not {line}`: why?"));
            let way = Way::ALL.into_iter().find(|it| it.to_string() == way);
            let way = way.unwrap_or_else(|| panic!("{name}: `# not {line}` names no way"));
            without.insert(way, reason.to_owned());
        }
        let event = folder.join("expected_event.csv");
        let case = Case {
            spine: table(&folder.join("spine.csv")),
            known: table(&folder.join("expected.csv")),
            event: event.exists().then(|| table(&event)),
            name,
            folder,
            definitions,
            without,
        };
        for expected in [Some(&case.known), case.event.as_ref()].into_iter().flatten() {
            let spine = case.spine.schema().fields().len();
            assert_eq!(names(expected)[..spine], names(&case.spine), "{}: the spine's columns", case.name);
            let given = expected.project(&(0..spine).collect::<Vec<_>>()).unwrap();
            assert_eq!(given, case.spine, "{}: the spine's rows", case.name);
        }
        case
    }

    /// What is asked for: the service `model` where there is one, else all features in the order they are defined.
    pub(super) fn ask(&self) -> Ask {
        let named = |kind: &str| {
            let names = self.definitions.lines().filter_map(move |line| line.strip_prefix(kind));
            names.map(|name| name.trim().to_owned()).collect::<Vec<_>>()
        };
        if named("service: ").contains(&"model".to_owned()) {
            return Ask::Service("model".to_owned());
        }
        let all = named("view: ").into_iter().chain(named("derived: "));
        Ask::Features(all.map(|name| format!("{name}.*")).collect())
    }

    fn expected(&self, question: Question) -> &RecordBatch {
        match question {
            Question::Known => &self.known,
            Question::Event => self.event.as_ref().unwrap_or(&self.known),
        }
    }

    /// Whether some value is out of range or over a cap.
    pub(super) fn overflows(&self) -> bool {
        let of = |table: &RecordBatch| {
            names(table).iter().any(|name| cells(table, name).unwrap().contains(&"overflow".to_owned()))
        };
        of(&self.known) || self.event.as_ref().is_some_and(of)
    }

    /// The columns that must be answered, in their order.
    pub(super) fn columns(&self) -> Vec<String> {
        let all = names(&self.known).split_off(self.spine.num_columns());
        all.into_iter().filter(|name| !name.ends_with(STATUS)).collect()
    }

    /// Holds answers to some of the spine's rows against what is expected; how many values were compared.
    pub(super) fn check(&self, question: Question, rows: &[usize], found: &Answers, about: &str) -> usize {
        let expected = self.expected(question);
        let mut compared = 0;
        let statuses = found.statuses.iter().map(|(name, found)| (format!("{name}{STATUS}"), found, true));
        let values = found.values.iter().map(|(name, found)| (name.clone(), found, false));
        for (name, found, may_lack) in values.chain(statuses) {
            let Some(wanted) = cells(expected, &name) else {
                assert!(may_lack, "{}, {about}: expected.csv has no column `{name}`", self.name);
                continue;
            };
            assert_eq!(found.len(), rows.len(), "{}, {about}: `{name}` of every spine row", self.name);
            for (found, row) in found.iter().zip(rows) {
                let spine = names(&self.spine).into_iter().map(|column| {
                    let cell = cells(&self.spine, &column).unwrap().swap_remove(*row);
                    format!("{column}={cell}")
                });
                assert!(
                    *found == wanted[*row],
                    "{}, {about}, {question:?}: `{name}` of spine row {} ({}) is `{found}`, expected `{}`",
                    self.name,
                    row + 1,
                    spine.collect::<Vec<_>>().join(" "),
                    wanted[*row],
                );
                compared += 1;
            }
        }
        compared
    }
}

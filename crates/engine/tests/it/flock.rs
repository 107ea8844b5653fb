//! A small project to train from and to query: sellers' prices that became known late, and facts
//! without a clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use asof_engine::Error;
use asof_engine::no_progress;
use asof_engine::query::{Recall, SqlLimits, SqlScope};
use asof_engine::training::{SpineInput, TrainRequest, Training, TrainingReport};
use asof_model::{
    About, Address, Ask, Catalog, DataType, Feature, Features, FileFormat, Format, History, Key, Length,
    Name, OnImmature, OnNullKey, OnOverflow, Origin, OutputColumn, Principal, Question, Reading, Reference,
    Revision, Selection, SourceVersion, SystemTable, Timestamp, TrainingSet, TypedFeature, Version,
    VersionId, View, ViewKey, ViewVersion,
};
use futures::TryStreamExt;

use crate::project::{Folder, at, columns, expression, files, name, version};

pub(crate) const PRICES: &str = "\
seller,posted,loaded,price,secret
1,2024-01-01T00:00:00Z,2024-01-01T06:00:00Z,10,BOB-SSN-123
1,2024-01-02T00:00:00Z,2024-01-05T00:00:00Z,20,17
2,2024-01-01T12:00:00Z,,30,4
2,2023-12-01T00:00:00Z,2023-12-01T00:00:00Z,5,5
,2024-01-01T00:00:00Z,2024-01-01T00:00:00Z,99,6
";

pub(crate) const SELLERS: &str = "\
id,town,Rating
1,Oslo,4.5
2,Bergen,
3,Oslo,3.25
";

pub(crate) const SPINE: &str = "\
row,seller,at
a,1,2024-01-03T00:00:00Z
b,2,2024-01-03T00:00:00Z
c,,2024-01-03T00:00:00Z
d,9,2024-01-03T00:00:00Z
e,1,2024-01-10T00:00:00Z
f,1,2023-01-01T00:00:00Z
b,2,2024-01-03T00:00:00Z
";

pub(crate) struct Flock {
    pub folder: Folder,
    pub catalog: Arc<Catalog>,
}

pub(crate) fn view_version(
    called: &str,
    source: &SourceVersion,
    key: &str,
    filter: Option<&str>,
    ttl: Option<&str>,
    features: &[(&str, &str, &str)],
) -> ViewVersion {
    let features: Vec<TypedFeature> = features
        .iter()
        .map(|(called, text, kind)| TypedFeature {
            feature: Feature {
                name: name(called),
                expression: expression(text),
                aggregate: None,
                default: None,
                sensitivity: None,
                about: About::default(),
            },
            data_type: DataType::parse(kind).unwrap(),
        })
        .collect();
    let entity = Address { project: name("shop"), name: name("seller") };
    ViewVersion {
        address: Address { project: name("shop"), name: name(called) },
        id: VersionId(format!("{called:0<32}")),
        definition: View {
            name: name(called),
            entity: Reference { project: None, name: name("seller") },
            source: Reference { project: None, name: source.address.name.clone() },
            keys: BTreeMap::new(),
            filter: filter.map(expression),
            ttl: ttl.map(|it| Length::parse(it).unwrap()),
            history: History::None,
            refresh: None,
            windows: Vec::new(),
            retention: None,
            features: Features::Named(features.iter().map(|it| it.feature.clone()).collect()),
            about: About::default(),
        },
        entity,
        source: source.address.clone(),
        source_id: source.id.clone(),
        keys: vec![ViewKey {
            key: Key { name: name("seller"), data_type: DataType::Int64 },
            column: key.to_owned(),
        }],
        features,
    }
}

impl Flock {
    pub(crate) fn new() -> Flock {
        let folder = Folder::new();
        folder.write("data/prices.csv", PRICES);
        folder.write("data/sellers.csv", SELLERS);
        let mut prices = files("price_rows", "data/prices.csv", Format::Csv);
        prices.event_time = at("posted");
        prices.available_at = at("loaded");
        let kinds = [
            ("seller", "int64"),
            ("posted", "timestamp"),
            ("loaded", "timestamp"),
            ("price", "int64"),
            ("secret", "string"),
        ];
        let prices = version(prices, columns(&kinds));
        let sellers = files("seller_rows", "data/sellers.csv", Format::Csv);
        let sellers =
            version(sellers, columns(&[("id", "int64"), ("town", "string"), ("Rating", "float64")]));
        let views = [
            view_version(
                "prices",
                &prices,
                "seller",
                Some("price < 90"),
                Some("3d"),
                &[("price", "price", "int64"), ("twice", "price * 2", "int64")],
            ),
            view_version(
                "sellers",
                &sellers,
                "id",
                None,
                None,
                &[("town", "town", "string"), ("rating", "\"Rating\"", "float64")],
            ),
        ];
        let roots = BTreeMap::from([(name("shop"), folder.root().to_owned())]);
        let sources = [prices, sellers].map(|it| Version::Source(Arc::new(it)));
        let views = views.map(|it| Version::View(Arc::new(it)));
        let catalog = Catalog::from_versions(Revision(7), roots, sources.into_iter().chain(views));
        Flock { folder, catalog: Arc::new(catalog) }
    }

    /// Everything of both views, asked with `seller`.
    pub(crate) fn selection(&self) -> Selection {
        let mut readings = Vec::new();
        let mut columns = Vec::new();
        for (number, view) in self.catalog.views().enumerate() {
            for (at, feature) in view.features.iter().enumerate() {
                columns.push(OutputColumn {
                    name: feature.feature.name.to_string(),
                    from: Origin::Feature { reading: number, feature: at },
                    data_type: feature.data_type.clone(),
                });
            }
            readings.push(Reading {
                source: Arc::clone(self.catalog.source(&view.source).unwrap()),
                view: Arc::clone(view),
                keys: vec![name("seller")],
            });
        }
        Selection {
            project: name("shop"),
            service: None,
            readings,
            columns,
            request: Vec::new(),
            steps: Vec::new(),
            labels: Vec::new(),
        }
    }

    pub(crate) fn request(&self, spine: impl Into<Vec<u8>>, format: FileFormat) -> TrainRequest {
        TrainRequest {
            project: name("shop"),
            ask: Ask::Features(vec!["prices.*".to_owned(), "sellers.*".to_owned()]),
            full_names: false,
            selection: self.selection(),
            spine: SpineInput::Bytes {
                bytes: spine.into().into(),
                format,
                name: Some(format!("spine.{}", format.name())),
            },
            time: None,
            question: Question::Known,
            on_null_key: OnNullKey::Keep,
            on_overflow: OnOverflow::Refuse,
            on_immature: OnImmature::Keep,
            asked_at: Timestamp::LAST,
            output: FileFormat::Parquet,
        }
    }

    pub(crate) fn begin(&self, request: TrainRequest) -> Result<Training, Error> {
        self.folder.runtime.block_on(self.folder.engine.train(
            Arc::clone(&self.catalog),
            request,
            no_progress(),
        ))
    }

    pub(crate) fn end(&self, mut training: Training) -> Result<(RecordBatch, TrainingReport), Error> {
        self.folder.runtime.block_on(async move {
            let schema = Arc::clone(training.schema());
            let mut batches = Vec::new();
            while let Some(batch) = training.next().await? {
                batches.push(batch);
            }
            let report = training.finish().await?;
            Ok((arrow::compute::concat_batches(&schema, &batches).unwrap(), report))
        })
    }

    pub(crate) fn train(&self, request: TrainRequest) -> Result<(RecordBatch, TrainingReport), Error> {
        self.begin(request).and_then(|training| self.end(training))
    }

    pub(crate) fn rebuild(&self, set: &TrainingSet) -> Result<(RecordBatch, TrainingReport), Error> {
        let training = self.folder.runtime.block_on(self.folder.engine.rebuild(set, no_progress()))?;
        self.end(training)
    }

    pub(crate) fn scope(&self, sets: Vec<TrainingSet>) -> SqlScope {
        let runs = SystemTable {
            name: "runs",
            columns: columns(&[("id", "string"), ("rows", "int64"), ("at", "timestamp")]),
            rows: vec![
                serde_json::json!({"id": "one", "rows": 5, "at": 1_700_000_000_000_000_i64}),
                serde_json::json!({"id": "two"}),
            ],
        };
        SqlScope {
            catalog: Arc::clone(&self.catalog),
            project: name("shop"),
            principal: Principal::owner(),
            system: vec![runs],
            training_sets: sets.iter().map(|set| set.id.clone()).collect(),
            recall: Recall(Arc::new(move |id| {
                let found = sets.iter().find(|set| set.id == id).cloned();
                Box::pin(async move { Ok(found) })
            })),
        }
    }

    pub(crate) fn sql_in(
        &self,
        scope: SqlScope,
        text: &str,
        limits: SqlLimits,
    ) -> Result<RecordBatch, Error> {
        self.folder.runtime.block_on(async {
            let answer = self.folder.engine.sql(scope, text, limits).await?;
            let batches: Vec<RecordBatch> = answer.rows.try_collect().await?;
            Ok(arrow::compute::concat_batches(&answer.schema, &batches).unwrap())
        })
    }

    pub(crate) fn sql(&self, text: &str) -> Result<RecordBatch, Error> {
        self.sql_in(self.scope(Vec::new()), text, SqlLimits::default())
    }
}

/// A report as the registry records it.
pub(crate) fn recorded(report: TrainingReport) -> TrainingSet {
    TrainingSet {
        format: TrainingSet::FORMAT,
        id: "0123456789ab".to_owned(),
        project: Name::new("shop").unwrap(),
        created_at: asof_model::Timestamp(0),
        created_by: "owner".to_owned(),
        recipe: report.recipe,
        outcome: report.outcome,
    }
}

//! What people are shown of the data: some rows of a view or a source, and how many there may be.

use std::path::Path;
use std::time::Duration;

use asof_model::{Catalog, Format, Project, ProjectFile, Revision, resolve};

use crate::project::{Folder, columns, files, said, table, version};

const SOON: Duration = Duration::from_secs(60);

/// What stands when these definitions are applied.
pub(crate) fn applied(folder: &Folder, definitions: &str) -> Catalog {
    let file = |path: &str, text: &str| ProjectFile { path: path.to_owned(), text: text.to_owned() };
    let (project, told) =
        Project::read(&[file("asof.yaml", "project: shop"), file("features/a.yaml", definitions)]);
    assert!(told.is_empty(), "{told:?}");
    let project = project.unwrap();
    let nothing = Catalog::default();
    let (types, told) = folder.runtime.block_on(folder.engine.check(&project, folder.root(), &nothing));
    assert!(told.is_empty(), "{told:?}");
    let (versions, told) = resolve(&project, &Catalog::default(), &types);
    assert!(told.is_empty(), "{told:?}");
    let roots = [(project.config.project.clone(), folder.root().to_owned())].into();
    Catalog::from_versions(Revision(1), roots, versions)
}

const DEFINITIONS: &str = "\
entity: seller
keys: {seller_id: int64}
---
source: events
path: data/*.csv
event_time: at
delete_when: kind = 'gone'
---
view: v
entity: seller
source: events
keys: {seller_id: id}
where: kind <> 'test'
features: {price: price * 2, late: \"event_time > timestamp '2024-01-02'\"}
---
source: joined
sql: select id, max(at) as at from events group by id
event_time: at
";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write(
        "data/a.csv",
        "id,at,kind,price\n1,2024-01-01,sale,1.5\n,2024-01-02,sale,\n2,2024-01-03,gone,3\n",
    );
    folder.write(
        "data/b.csv",
        "id,at,kind,price\n3,2024-01-04,test,4\n4,2024-01-05,sale,5\n5,2024-01-06,sale,6\n",
    );
    folder
}

#[test]
fn some_rows_of_a_view_and_of_a_source() {
    let folder = folder();
    let catalog = applied(&folder, DEFINITIONS);
    let view = catalog.views().next().unwrap().clone();
    let all = folder.runtime.block_on(folder.engine.sample(&catalog, &view, 10, SOON)).unwrap();
    assert!(!all.cut_short);
    // Neither the delete nor what `where` leaves out; a row without a key is one.
    insta::assert_snapshot!(table(&all.rows));
    for rows in [0, 1, 2, 3] {
        let some = folder.runtime.block_on(folder.engine.sample(&catalog, &view, rows, SOON)).unwrap();
        assert_eq!((some.rows.num_rows(), some.cut_short), (rows, false));
        assert_eq!(some.rows.schema(), all.rows.schema());
    }
    for (name, most, wanted) in [("events", 4, 4), ("events", 100, 6), ("joined", 100, 6)] {
        let project = &catalog.projects.values().next().unwrap();
        let source = project.sources.get(name).unwrap();
        let some =
            folder.runtime.block_on(folder.engine.sample_source(&catalog, source, most, SOON)).unwrap();
        assert_eq!(some.rows.num_rows(), wanted, "{name}");
        let names: Vec<&str> = source.columns.iter().map(|column| column.name.as_str()).collect();
        let schema = some.rows.schema();
        let shown: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(shown, names);
    }
}

#[test]
fn a_sample_of_broken_files_says_why() {
    let folder = folder();
    let catalog = applied(&folder, DEFINITIONS);
    let view = catalog.views().next().unwrap().clone();
    folder.write("data/a.csv", "id,at,kind,price\n1,zebra,sale,1.5\n");
    let error = folder.runtime.block_on(folder.engine.sample(&catalog, &view, 10, SOON)).unwrap_err();
    insta::assert_snapshot!(said(&error));
}

#[test]
fn rows_are_counted_where_that_costs_nothing_and_judged_elsewhere() {
    let folder = Folder::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let long: String = (0..20_000).map(|n| format!("{n},some words\n")).collect();
    folder.write("long.csv", format!("id,name\n{long}"));
    folder.write("short.csv", "id,name\n1,a\n");
    folder.write("none.csv", "id,name\n");
    let estimate = |source: asof_model::Source, root: &Path| {
        let source = version(source, columns(&[("id", "int64")]));
        folder.runtime.block_on(folder.engine.estimate_rows(&source, root)).unwrap()
    };
    for (path, rows) in [
        ("core_plain.parquet", 50),
        ("core_pages_lz4.parquet", 50),
        ("duckdb.parquet", 2),
        ("core_*.parquet", 300),
    ] {
        assert_eq!(
            estimate(files("s", path, Format::Parquet), &fixtures.join("plain")),
            Some(rows),
            "{path}"
        );
    }
    for (path, rows) in
        [("partitioned", 3), ("deletion_vectors", 731), ("mapped_by_id", 3), ("checkpointed", 14)]
    {
        assert_eq!(estimate(files("s", path, Format::Delta), &fixtures.join("delta")), Some(rows), "{path}");
    }
    // Text is judged by its first lines: within a tenth for lines of like length, the header left out.
    let judged = estimate(files("s", "long.csv", Format::Csv), folder.root()).unwrap();
    assert!((18_000..22_000).contains(&judged), "{judged}");
    assert_eq!(estimate(files("s", "short.csv", Format::Csv), folder.root()), Some(1));
    assert_eq!(estimate(files("s", "none.csv", Format::Csv), folder.root()), Some(0));
    let mut query = files("s", "", Format::Parquet);
    query.place = asof_model::Place::Sql { text: "select 1 as id".to_owned() };
    assert_eq!(estimate(query, folder.root()), None);
    let source = version(files("s", "nowhere.csv", Format::Csv), Vec::new());
    let error = folder.runtime.block_on(folder.engine.estimate_rows(&source, folder.root())).unwrap_err();
    insta::assert_snapshot!(said(&error));
}

//! Plain files that other engines wrote: `fixtures/plain/make.py` says who wrote what, and what is in them.

use std::path::{Path, PathBuf};

use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use asof_engine::source::fixed;
use asof_model::{Catalog, Column, Format, Project, ProjectFile};
use serde_json::Value;

use crate::project::{Folder, all, at, fetched, files, version};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/plain")
}

fn expected() -> Vec<Value> {
    let text = std::fs::read_to_string(fixtures().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every cell as text, null as none.
fn cells(batch: &RecordBatch) -> Vec<Vec<Option<String>>> {
    let options = FormatOptions::new().with_null("null");
    let columns: Vec<ArrayFormatter<'_>> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    (0..batch.num_rows())
        .map(|row| {
            let cell = |(column, shown): (&arrow::array::ArrayRef, &ArrayFormatter<'_>)| {
                column.is_valid(row).then(|| shown.value(row).to_string())
            };
            batch.columns().iter().zip(&columns).map(cell).collect()
        })
        .collect()
}

/// The columns that an apply finds, and what it warns of.
fn found(folder: &Folder, path: &str, options: &Value) -> (Vec<Column>, Vec<String>) {
    let options = if options.is_null() { String::new() } else { format!("options: {options}\n") };
    let file = |path: &str, text: String| ProjectFile { path: path.to_owned(), text };
    let definitions = [
        file("asof.yaml", "project: shop".to_owned()),
        file("features/a.yaml", format!("source: plain\npath: {path}\n{options}event_time: none\n")),
    ];
    let (project, wrong) = Project::read(&definitions);
    assert!(wrong.is_empty(), "{path}: {wrong:?}");
    let project = project.unwrap();
    let nothing = Catalog::default();
    let (types, told) = folder.runtime.block_on(folder.engine.check(&project, folder.root(), &nothing));
    let wrong: Vec<_> = told.iter().filter(|it| it.is_error()).collect();
    assert!(wrong.is_empty(), "{path}: {wrong:?}");
    let columns = types.source_columns.into_values().next().unwrap();
    (columns, told.into_iter().map(|it| it.message).collect())
}

#[test]
fn files_of_other_engines_are_read_as_they_were_meant() {
    let all_files = expected();
    assert!(all_files.len() > 20, "only {} files are expected", all_files.len());
    let mut wrong = Vec::new();
    for one in &all_files {
        let path = one["path"].as_str().unwrap();
        let folder = Folder::new();
        folder.write(path, std::fs::read(fixtures().join(path)).unwrap());
        let (columns, told) = found(&folder, path, &one["options"]);
        let types: Vec<String> =
            columns.iter().map(|column| format!("{} {}", column.name, column.data_type)).collect();
        let wanted: Vec<String> = one["columns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| format!("{} {}", column[0].as_str().unwrap(), column[1].as_str().unwrap()))
            .collect();
        if types != wanted {
            wrong.push(format!("{path}: the columns are\n  {types:?}, not\n  {wanted:?}"));
            continue;
        }
        let left_out: Vec<&str> =
            one["left_out"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(told.len(), left_out.len(), "{path}: {told:?}");
        for name in left_out {
            assert!(
                told.iter().any(|text| text.contains(&format!("column `{name}` is"))),
                "{path}: {told:?}"
            );
        }
        let format = match path.rsplit('.').next() {
            Some("parquet") => Format::Parquet,
            Some("ndjson") => Format::Ndjson,
            _ => Format::Csv,
        };
        let mut source = files("plain", path, format);
        if let (asof_model::Place::Files { options, .. }, Some(given)) =
            (&mut source.place, one["options"].as_object())
        {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            options.extend(given.iter().map(|(name, value)| (name.clone(), text(value))));
        }
        source.event_time = one["event_time"].as_str().and_then(at);
        let rows = match folder.rows(&version(source, columns), &all()) {
            Ok(rows) => rows,
            Err(error) => {
                wrong.push(format!("{path}: {error}"));
                continue;
            }
        };
        let own: Vec<usize> = (fixed::ALL.len()..rows.num_columns()).collect();
        let mut seen = cells(&rows.project(&own).unwrap());
        let wanted: Vec<Vec<Option<String>>> = serde_json::from_value(one["rows"].clone()).unwrap();
        // The row's own time is that of the column it is read from.
        if let Some(name) = one["event_time"].as_str() {
            let times = rows.project(&[0, rows.schema().index_of(name).unwrap()]).unwrap();
            assert_eq!(times.column(0), times.column(1), "{path}");
        }
        // Threads read row groups as they come.
        let mut ordered = wanted.clone();
        seen.sort();
        ordered.sort();
        for (row, (seen, wanted)) in seen.iter().zip(&ordered).enumerate() {
            for ((seen, wanted), name) in seen.iter().zip(wanted).zip(&types) {
                if seen != wanted {
                    wrong.push(format!("{path}: row {row}, column {name}: {seen:?}, not {wanted:?}"));
                }
            }
        }
        if seen.len() != wanted.len() {
            wrong.push(format!("{path}: {} rows, not {}", seen.len(), wanted.len()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_fixture_is_expected() {
    let all_files = expected();
    let named: Vec<&str> = all_files.iter().map(|one| one["path"].as_str().unwrap()).collect();
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let ours = ["make.py", "expected.json"].contains(&name.as_str());
        assert!(ours || named.contains(&name.as_str()), "`{name}` is in no test");
    }
}

#[test]
fn single_rows_of_every_parquet_file_are_found_again() {
    use asof_engine::source::ScanColumns;
    for one in expected().iter().filter(|one| one["path"].as_str().unwrap().ends_with(".parquet")) {
        let path = one["path"].as_str().unwrap();
        let folder = Folder::new();
        folder.write(path, std::fs::read(fixtures().join(path)).unwrap());
        let (columns, _) = found(&folder, path, &Value::Null);
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let source = version(files("plain", path, Format::Parquet), columns);
        let want = ScanColumns { columns: names.clone(), address: true, ..ScanColumns::default() };
        let scan = folder.scan(&source, &want).unwrap();
        let rows = folder.collect(&scan).unwrap();
        let address = rows.schema().index_of(fixed::ADDRESS).unwrap();
        let own: Vec<usize> = (address + 1..rows.num_columns()).collect();
        let addresses =
            arrow::array::AsArray::as_primitive::<arrow::datatypes::UInt64Type>(rows.column(address));
        let seen = cells(&rows.project(&own).unwrap());
        let mut pairs: Vec<(u64, Vec<Option<String>>)> =
            addresses.values().iter().copied().zip(seen).collect();
        pairs.sort();
        // Every third row: some within each page and row group, some left out.
        let picked: Vec<(u64, Vec<Option<String>>)> = pairs.into_iter().step_by(3).collect();
        let asked: Vec<u64> = picked.iter().map(|(address, _)| *address).collect();
        let found = fetched(scan.fetch.as_deref().unwrap(), &asked, &names).unwrap();
        let fetched = arrow::compute::concat_batches(&found[0].schema(), &found).unwrap();
        let wanted: Vec<_> = picked.into_iter().map(|(_, row)| row).collect();
        assert_eq!(cells(&fetched), wanted, "{path}");
    }
}

//! A Delta table as another engine writes it, commit by commit.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use serde_json::{Value, json};

pub(crate) struct DeltaTable {
    folder: PathBuf,
    version: u64,
}

impl DeltaTable {
    /// A table without rows in a folder, by columns of which some are in the log alone.
    pub(crate) fn begin(folder: &Path, schema: &Schema, partitions: &[&str]) -> DeltaTable {
        let mut table = DeltaTable { folder: folder.to_owned(), version: 0 };
        let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
        table.commit(&[protocol.to_string(), metadata(schema, partitions)]);
        table
    }

    pub(crate) fn commit(&mut self, actions: &[String]) {
        let log = self.folder.join("_delta_log");
        std::fs::create_dir_all(&log).unwrap();
        std::fs::write(log.join(format!("{:020}.json", self.version)), actions.join("\n")).unwrap();
        self.version += 1;
    }

    /// The columns from now on.
    pub(crate) fn change(&mut self, schema: &Schema, partitions: &[&str]) {
        self.commit(&[metadata(schema, partitions)]);
    }

    /// A data file, and the action that adds it.
    pub(crate) fn add(&self, file: &str, rows: &RecordBatch) -> String {
        self.add_in(file, &json!({}), rows)
    }

    /// The same, in a partition.
    pub(crate) fn add_in(&self, file: &str, partition: &Value, rows: &RecordBatch) -> String {
        let path = self.folder.join(file);
        let written = std::fs::File::create(&path).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(written, rows.schema(), None).unwrap();
        writer.write(rows).unwrap();
        writer.close().unwrap();
        let stats = json!({"numRecords": rows.num_rows()}).to_string();
        let size = path.metadata().unwrap().len();
        let add = json!({
            "path": file, "partitionValues": partition, "size": size, "modificationTime": 1, "dataChange": true,
            "stats": stats,
        });
        json!({"add": add}).to_string()
    }
}

fn metadata(schema: &Schema, partitions: &[&str]) -> String {
    let kind = |of: &DataType| match of {
        DataType::Boolean => "boolean",
        DataType::Int64 => "long",
        DataType::Utf8 => "string",
        DataType::Timestamp(..) => "timestamp",
        other => panic!("a column of type {other}"),
    };
    let fields = schema.fields().iter().map(|field| {
        json!({"name": field.name(), "type": kind(field.data_type()), "nullable": true, "metadata": {}})
    });
    let schema = json!({"type": "struct", "fields": fields.collect::<Vec<_>>()}).to_string();
    let metadata = json!({
        "id": "5fba94ed-9794-4965-ba6e-6ee3c0d22af9", "format": {"provider": "parquet", "options": {}},
        "schemaString": schema, "partitionColumns": partitions, "configuration": {}, "createdTime": 0,
    });
    json!({"metaData": metadata}).to_string()
}

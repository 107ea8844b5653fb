-- The registry, version 1. Described in docs/formats/registry.md; never edited, only followed.
PRAGMA application_id = 1095978822; -- "ASOF"

-- One row for every apply that changed something. Immutable.
CREATE TABLE change (
    revision INTEGER PRIMARY KEY,
    project  TEXT NOT NULL,
    base     INTEGER NOT NULL,
    at       INTEGER NOT NULL, -- microseconds since 1970, UTC
    by       TEXT NOT NULL,
    root     TEXT NOT NULL
) STRICT;

-- The project as it stands: its newest change.
CREATE TABLE project (
    name     TEXT PRIMARY KEY,
    root     TEXT NOT NULL,
    revision INTEGER NOT NULL REFERENCES change (revision)
) STRICT, WITHOUT ROWID;

-- What each change did to each thing. Immutable: the whole history, removals included.
CREATE TABLE version (
    project  TEXT NOT NULL,
    kind     TEXT NOT NULL CHECK (kind IN ('entity', 'source', 'view', 'service')),
    name     TEXT NOT NULL,
    revision INTEGER NOT NULL REFERENCES change (revision),
    action   TEXT NOT NULL CHECK (action IN ('created', 'changed', 'described', 'removed')),
    id       TEXT NOT NULL,
    format   INTEGER NOT NULL,
    body     TEXT NOT NULL, -- JSON; of a removal, the version removed
    PRIMARY KEY (project, kind, name, revision)
) STRICT, WITHOUT ROWID;
CREATE INDEX version_by_revision ON version (revision);
CREATE INDEX version_by_id ON version (id);

-- Which version of each thing stands. The only rows of a thing that are ever altered.
CREATE TABLE standing (
    project  TEXT NOT NULL,
    kind     TEXT NOT NULL,
    name     TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (project, kind, name),
    FOREIGN KEY (project, kind, name, revision) REFERENCES version (project, kind, name, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE run (
    id         TEXT PRIMARY KEY,
    project    TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('load', 'materialize', 'train')),
    subject    TEXT NOT NULL,
    by         TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    state      TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed', 'interrupted')),
    error      TEXT, -- JSON: kind, code, message
    counts     TEXT NOT NULL DEFAULT '{}' -- JSON: name to whole number
) STRICT, WITHOUT ROWID;
CREATE INDEX run_by_start ON run (project, started_at);
CREATE INDEX run_by_state ON run (state);

-- Immutable.
CREATE TABLE training_set (
    id           TEXT PRIMARY KEY,
    project      TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    created_by   TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    row_count    INTEGER NOT NULL,
    format       INTEGER NOT NULL,
    body         TEXT NOT NULL -- JSON
) STRICT, WITHOUT ROWID;
CREATE INDEX training_set_by_project ON training_set (project, created_at);

CREATE TRIGGER change_is_immutable BEFORE UPDATE ON change
BEGIN SELECT RAISE(ABORT, 'a change is never altered'); END;
CREATE TRIGGER change_is_kept BEFORE DELETE ON change
BEGIN SELECT RAISE(ABORT, 'a change is never deleted'); END;
CREATE TRIGGER version_is_immutable BEFORE UPDATE ON version
BEGIN SELECT RAISE(ABORT, 'a version is never altered'); END;
CREATE TRIGGER version_is_kept BEFORE DELETE ON version
BEGIN SELECT RAISE(ABORT, 'a version is never deleted'); END;
CREATE TRIGGER training_set_is_immutable BEFORE UPDATE ON training_set
BEGIN SELECT RAISE(ABORT, 'a training set is never altered'); END;

-- The registry, version 2: derived features are things too. SQLite cannot alter a check, so `version` is made
-- anew with every row it has, and `standing`, which points into it, around it.
CREATE TABLE standing_before (
    project  TEXT NOT NULL,
    kind     TEXT NOT NULL,
    name     TEXT NOT NULL,
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO standing_before SELECT project, kind, name, revision FROM standing;
DROP TABLE standing;

CREATE TABLE version_of_2 (
    project  TEXT NOT NULL,
    kind     TEXT NOT NULL CHECK (kind IN ('entity', 'source', 'view', 'derived', 'service')),
    name     TEXT NOT NULL,
    revision INTEGER NOT NULL REFERENCES change (revision),
    action   TEXT NOT NULL CHECK (action IN ('created', 'changed', 'described', 'removed')),
    id       TEXT NOT NULL,
    format   INTEGER NOT NULL,
    body     TEXT NOT NULL, -- JSON; of a removal, the version removed
    PRIMARY KEY (project, kind, name, revision)
) STRICT, WITHOUT ROWID;
INSERT INTO version_of_2
    SELECT project, kind, name, revision, action, id, format, body FROM version;
DROP TABLE version;
ALTER TABLE version_of_2 RENAME TO version;
CREATE INDEX version_by_revision ON version (revision);
CREATE INDEX version_by_id ON version (id);
CREATE TRIGGER version_is_immutable BEFORE UPDATE ON version
BEGIN SELECT RAISE(ABORT, 'a version is never altered'); END;
CREATE TRIGGER version_is_kept BEFORE DELETE ON version
BEGIN SELECT RAISE(ABORT, 'a version is never deleted'); END;

-- Which version of each thing stands. The only rows of a thing that are ever altered.
CREATE TABLE standing (
    project  TEXT NOT NULL,
    kind     TEXT NOT NULL,
    name     TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (project, kind, name),
    FOREIGN KEY (project, kind, name, revision) REFERENCES version (project, kind, name, revision)
) STRICT, WITHOUT ROWID;
INSERT INTO standing SELECT project, kind, name, revision FROM standing_before;
DROP TABLE standing_before;

-- The registry, version 3: of each training set the greatest position up to which it read a stored source, so that a
-- node that starts need not read all records.
ALTER TABLE training_set ADD COLUMN position INTEGER;
DROP TRIGGER training_set_is_immutable;
UPDATE training_set SET position = (
    SELECT max(cut.value) FROM json_tree(training_set.body, '$.recipe.cuts') AS cut
     WHERE cut.key = 'position' AND cut.type = 'integer'
);
CREATE TRIGGER training_set_is_immutable BEFORE UPDATE ON training_set
BEGIN SELECT RAISE(ABORT, 'a training set is never altered'); END;
CREATE INDEX training_set_by_position ON training_set (position);

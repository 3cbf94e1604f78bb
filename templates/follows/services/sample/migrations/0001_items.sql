-- SQLite and Postgres share this text: use TEXT, BIGINT, DOUBLE PRECISION and BYTEA only. Times are microseconds since
-- 1970. Never edit a migration that was applied, not even a comment: add another one.
CREATE TABLE items (
    item_id     TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    create_time BIGINT NOT NULL
);

-- The copy: the last event of each key that origin publishes. A rebuild deletes the rows of earlier generations.
CREATE TABLE copies (
    key        TEXT   NOT NULL PRIMARY KEY,
    type       TEXT   NOT NULL,
    event      BYTEA  NOT NULL,
    generation BIGINT NOT NULL
);

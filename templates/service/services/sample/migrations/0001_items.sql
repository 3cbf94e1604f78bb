-- Both databases read this text: TEXT, BIGINT, DOUBLE PRECISION and BYTEA only; times are microseconds since 1970.
CREATE TABLE items (
    item_id     TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    create_time BIGINT NOT NULL
);

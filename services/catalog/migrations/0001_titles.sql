-- Both databases read this text: TEXT, BIGINT, DOUBLE PRECISION and BYTEA only; times are microseconds since 1970.
-- Ids are UUIDs of version 7, which begin with the time they were made: their order is the order of creation.
CREATE TABLE titles (
    title_id    TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    synopsis    TEXT   NOT NULL,
    year        BIGINT NOT NULL,
    price_cents BIGINT NOT NULL,
    revision    BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);

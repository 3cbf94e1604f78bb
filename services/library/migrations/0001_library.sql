-- Both databases read this text: TEXT, BIGINT, DOUBLE PRECISION and BYTEA only; times are microseconds since 1970.

-- The copy of the catalog's titles. A rebuild deletes the rows of earlier generations.
CREATE TABLE titles (
    title_id    TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    price_cents BIGINT NOT NULL,
    revision    BIGINT NOT NULL,
    generation  BIGINT NOT NULL
);

-- A rental has the id of its operation. Released ones are kept.
CREATE TABLE rentals (
    rental_id   TEXT   NOT NULL PRIMARY KEY,
    viewer_id   TEXT   NOT NULL,
    title_id    TEXT   NOT NULL,
    price_cents BIGINT NOT NULL,
    charge_id   TEXT   NOT NULL UNIQUE,
    state       BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);

-- A viewer rents a title once: the states below 3 are RESERVED and GRANTED.
CREATE UNIQUE INDEX rentals_once ON rentals (viewer_id, title_id) WHERE state < 3;
CREATE INDEX rentals_of_viewer ON rentals (viewer_id, rental_id);

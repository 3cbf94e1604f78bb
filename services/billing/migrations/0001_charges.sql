-- Both databases read this text: TEXT, BIGINT, DOUBLE PRECISION and BYTEA only; times are microseconds since 1970.
-- The request_id of a charge is its key, and is kept with it. A refund of an unknown charge is a row, too.
CREATE TABLE charges (
    charge_id    TEXT   NOT NULL PRIMARY KEY,
    card         TEXT   NOT NULL,
    amount_cents BIGINT NOT NULL,
    state        BIGINT NOT NULL,
    create_time  BIGINT NOT NULL,
    update_time  BIGINT NOT NULL
);

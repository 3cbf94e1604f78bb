-- Charges at billing that belong to no rental, as after a restore of this database from an earlier backup. A refund deletes
-- its row. A rebuild of the copy deletes the rows of earlier generations.
CREATE TABLE orphan_charges (
    charge_id    TEXT   NOT NULL PRIMARY KEY,
    amount_cents BIGINT NOT NULL,
    found_time   BIGINT NOT NULL,
    generation   BIGINT NOT NULL
);

-- A rendering writes its pictures under its own id while it goes on; the last step points the title to it. So a title
-- has all its pictures or, until the first rendering is finished, none.
CREATE TABLE artworks (
    title_id    TEXT   NOT NULL PRIMARY KEY,
    rendering   TEXT   NOT NULL,
    create_time BIGINT NOT NULL
);

CREATE TABLE renditions (
    rendering TEXT   NOT NULL,
    title_id  TEXT   NOT NULL,
    size      BIGINT NOT NULL,
    width     BIGINT NOT NULL,
    height    BIGINT NOT NULL,
    content   BYTEA  NOT NULL,
    PRIMARY KEY (rendering, size)
);

CREATE INDEX renditions_of_title ON renditions (title_id);

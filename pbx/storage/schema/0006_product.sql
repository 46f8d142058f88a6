-- Tables of our own, prefix pbx_.

CREATE TABLE pbx_schema (
    number integer NOT NULL PRIMARY KEY,
    applied timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE pbx_state (
    name varchar(64) NOT NULL PRIMARY KEY,
    value text
);

CREATE TABLE pbx_changes (
    table_name varchar(64) NOT NULL PRIMARY KEY,
    counter bigint NOT NULL DEFAULT 0
);

CREATE TABLE pbx_batches (
    token varchar(36) NOT NULL PRIMARY KEY,
    written timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
);

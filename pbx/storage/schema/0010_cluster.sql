-- What the nodes of a cluster count together when there is no Redis.

CREATE TABLE pbx_tally (
    key varchar(64) NOT NULL,
    node varchar(64) NOT NULL,
    name varchar(64) NOT NULL,
    number integer NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX pbx_tally_idx ON pbx_tally (key, node, name);

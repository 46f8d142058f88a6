-- The web pages: links that log in once, sessions that were ended before their time; and the
-- indices that the call history of one user needs.

CREATE TABLE pbx_web (
    hash varchar(64) NOT NULL PRIMARY KEY,
    kind varchar(16) NOT NULL,
    username varchar(64) NOT NULL DEFAULT '',
    domain varchar(64) NOT NULL DEFAULT '',
    expires bigint NOT NULL DEFAULT 0
);

CREATE INDEX pbx_cdr_caller_idx ON pbx_cdr (caller, started);
CREATE INDEX pbx_cdr_callee_idx ON pbx_cdr (callee, started);

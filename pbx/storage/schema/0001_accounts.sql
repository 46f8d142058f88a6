-- Tables with the names and columns of OpenSIPS 3.6: who may do what.
-- {serial}, {bigserial}, {bytea} stand for the types of the dialect (pbx/storage/layout.py).

CREATE TABLE version (
    table_name varchar(32) NOT NULL,
    table_version integer NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX version_t_name_idx ON version (table_name);

CREATE TABLE subscriber (
    id {serial},
    username varchar(64) NOT NULL DEFAULT '',
    domain varchar(64) NOT NULL DEFAULT '',
    password varchar(128) NOT NULL DEFAULT '',
    ha1 varchar(64) NOT NULL DEFAULT '',
    ha1_sha256 varchar(64) NOT NULL DEFAULT '',
    ha1_sha512t256 varchar(64) NOT NULL DEFAULT '',
    email_address varchar(64) NOT NULL DEFAULT '',
    ha1b varchar(64) NOT NULL DEFAULT '',
    rpid varchar(64)
);
CREATE UNIQUE INDEX subscriber_account_idx ON subscriber (username, domain);
CREATE INDEX subscriber_username_idx ON subscriber (username);

CREATE TABLE uri (
    id {serial},
    username varchar(64) NOT NULL DEFAULT '',
    domain varchar(64) NOT NULL DEFAULT '',
    uri_user varchar(64) NOT NULL DEFAULT '',
    last_modified timestamp NOT NULL DEFAULT '1900-01-01 00:00:01'
);
CREATE UNIQUE INDEX uri_account_idx ON uri (username, domain, uri_user);

CREATE TABLE domain (
    id {serial},
    domain varchar(64) NOT NULL DEFAULT '',
    attrs varchar(255),
    accept_subdomain integer NOT NULL DEFAULT 0,
    last_modified timestamp NOT NULL DEFAULT '1900-01-01 00:00:01'
);
CREATE UNIQUE INDEX domain_domain_idx ON domain (domain);

CREATE TABLE dbaliases (
    id {serial},
    alias_username varchar(64) NOT NULL DEFAULT '',
    alias_domain varchar(64) NOT NULL DEFAULT '',
    username varchar(64) NOT NULL DEFAULT '',
    domain varchar(64) NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX dbaliases_alias_idx ON dbaliases (alias_username, alias_domain);
CREATE INDEX dbaliases_target_idx ON dbaliases (username, domain);

CREATE TABLE address (
    id {serial},
    grp smallint NOT NULL DEFAULT 0,
    ip varchar(50) NOT NULL,
    mask smallint NOT NULL DEFAULT 32,
    port integer NOT NULL DEFAULT 0,
    proto varchar(4) NOT NULL DEFAULT 'any',
    pattern varchar(64),
    context_info varchar(32)
);

CREATE TABLE grp (
    id {serial},
    username varchar(64) NOT NULL DEFAULT '',
    domain varchar(64) NOT NULL DEFAULT '',
    grp varchar(64) NOT NULL DEFAULT '',
    last_modified timestamp NOT NULL DEFAULT '1900-01-01 00:00:01'
);
CREATE UNIQUE INDEX grp_uniq_idx ON grp (username, domain, grp);

CREATE TABLE re_grp (
    id {serial},
    reg_exp varchar(128) NOT NULL DEFAULT '',
    group_id integer NOT NULL DEFAULT 0
);

CREATE TABLE usr_preferences (
    id {serial},
    uuid varchar(64) NOT NULL DEFAULT '',
    username varchar(64) NOT NULL DEFAULT '',
    domain varchar(64) NOT NULL DEFAULT '',
    attribute varchar(32) NOT NULL DEFAULT '',
    type integer NOT NULL DEFAULT 0,
    value varchar(128) NOT NULL DEFAULT '',
    last_modified timestamp NOT NULL DEFAULT '1900-01-01 00:00:01'
);

CREATE TABLE speed_dial (
    id {serial},
    username varchar(64) NOT NULL DEFAULT '',
    domain varchar(64) NOT NULL DEFAULT '',
    sd_username varchar(64) NOT NULL DEFAULT '',
    sd_domain varchar(64) NOT NULL DEFAULT '',
    new_uri varchar(255) NOT NULL DEFAULT '',
    fname varchar(64) NOT NULL DEFAULT '',
    lname varchar(64) NOT NULL DEFAULT '',
    description varchar(64) NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX speed_dial_uniq_idx ON speed_dial (username, domain, sd_domain, sd_username);

CREATE TABLE userblacklist (
    id {serial},
    username varchar(64) NOT NULL DEFAULT '',
    domain varchar(64) NOT NULL DEFAULT '',
    prefix varchar(64) NOT NULL DEFAULT '',
    whitelist smallint NOT NULL DEFAULT 0
);

CREATE TABLE globalblacklist (
    id {serial},
    prefix varchar(64) NOT NULL DEFAULT '',
    whitelist smallint NOT NULL DEFAULT 0,
    description varchar(255)
);

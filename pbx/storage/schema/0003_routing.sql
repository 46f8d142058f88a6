-- Tables with the names and columns of OpenSIPS 3.6: destinations, gateways, dial plan.
-- {serial}, {bigserial}, {bytea} stand for the types of the dialect (pbx/storage/layout.py).

CREATE TABLE dispatcher (
    id {serial},
    setid integer NOT NULL DEFAULT 0,
    destination varchar(192) NOT NULL DEFAULT '',
    socket varchar(128),
    state integer NOT NULL DEFAULT 0,
    probe_mode integer NOT NULL DEFAULT 0,
    weight varchar(64) NOT NULL DEFAULT '1',
    priority integer NOT NULL DEFAULT 0,
    attrs varchar(128),
    description varchar(64)
);

CREATE TABLE load_balancer (
    id {serial},
    group_id integer NOT NULL DEFAULT 0,
    dst_uri varchar(128) NOT NULL,
    resources varchar(255) NOT NULL,
    probe_mode integer NOT NULL DEFAULT 0,
    attrs varchar(255),
    description varchar(128)
);
CREATE INDEX load_balancer_dsturi_idx ON load_balancer (dst_uri);

CREATE TABLE dr_gateways (
    id {serial},
    gwid varchar(64) NOT NULL,
    type integer NOT NULL DEFAULT 0,
    address varchar(128) NOT NULL,
    strip integer NOT NULL DEFAULT 0,
    pri_prefix varchar(16),
    attrs varchar(255),
    probe_mode integer NOT NULL DEFAULT 0,
    state integer NOT NULL DEFAULT 0,
    socket varchar(128),
    description varchar(128)
);
CREATE UNIQUE INDEX dr_gateways_dr_gw_idx ON dr_gateways (gwid);

CREATE TABLE dr_rules (
    ruleid {serial},
    groupid varchar(255) NOT NULL,
    prefix varchar(64) NOT NULL,
    timerec varchar(255),
    priority integer NOT NULL DEFAULT 0,
    routeid varchar(255),
    gwlist varchar(255),
    sort_alg varchar(1) NOT NULL DEFAULT 'N',
    sort_profile integer,
    attrs varchar(255),
    description varchar(128)
);

CREATE TABLE dr_carriers (
    id {serial},
    carrierid varchar(64) NOT NULL,
    gwlist varchar(255) NOT NULL,
    flags integer NOT NULL DEFAULT 0,
    sort_alg varchar(1) NOT NULL DEFAULT 'N',
    state integer NOT NULL DEFAULT 0,
    attrs varchar(255),
    description varchar(128)
);
CREATE UNIQUE INDEX dr_carriers_dr_carrier_idx ON dr_carriers (carrierid);

CREATE TABLE dr_groups (
    id {serial},
    username varchar(64) NOT NULL,
    domain varchar(128),
    groupid integer NOT NULL DEFAULT 0,
    description varchar(128)
);

CREATE TABLE dr_partitions (
    id {serial},
    partition_name varchar(255) NOT NULL,
    db_url varchar(255) NOT NULL,
    drd_table varchar(255),
    drr_table varchar(255),
    drg_table varchar(255),
    drc_table varchar(255),
    ruri_avp varchar(255),
    gw_id_avp varchar(255),
    gw_priprefix_avp varchar(255),
    gw_sock_avp varchar(255),
    rule_id_avp varchar(255),
    rule_prefix_avp varchar(255),
    carrier_id_avp varchar(255)
);

CREATE TABLE dialplan (
    id {serial},
    dpid integer NOT NULL,
    pr integer NOT NULL DEFAULT 0,
    match_op integer NOT NULL,
    match_exp varchar(255) NOT NULL,
    match_flags integer NOT NULL DEFAULT 0,
    subst_exp varchar(255),
    repl_exp varchar(255),
    timerec varchar(255),
    disabled integer NOT NULL DEFAULT 0,
    attrs varchar(255)
);

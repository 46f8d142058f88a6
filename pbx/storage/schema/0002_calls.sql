-- Tables with the names and columns of OpenSIPS 3.6: registrations, calls, accounting.
-- {serial}, {bigserial}, {bytea} stand for the types of the dialect (pbx/storage/layout.py).

CREATE TABLE location (
    contact_id {bigserial},
    username varchar(64) NOT NULL DEFAULT '',
    domain varchar(64),
    contact text NOT NULL,
    received varchar(255),
    path text,
    expires integer NOT NULL,
    q real NOT NULL DEFAULT 1.0,
    callid varchar(255) NOT NULL DEFAULT 'Default-Call-ID',
    cseq integer NOT NULL DEFAULT 13,
    last_modified timestamp NOT NULL DEFAULT '1900-01-01 00:00:01',
    flags integer NOT NULL DEFAULT 0,
    cflags varchar(255),
    user_agent varchar(512) NOT NULL DEFAULT '',
    socket varchar(64),
    methods integer,
    sip_instance varchar(255),
    kv_store text,
    attr varchar(255),
    pbx_node varchar(64)
);
CREATE INDEX location_account_idx ON location (username, domain);
CREATE INDEX location_expires_idx ON location (expires);

CREATE TABLE dialog (
    dlg_id bigint NOT NULL PRIMARY KEY,
    callid varchar(255) NOT NULL,
    from_uri varchar(255) NOT NULL,
    from_tag varchar(255) NOT NULL,
    to_uri varchar(255) NOT NULL,
    to_tag varchar(255) NOT NULL,
    mangled_from_uri varchar(255),
    mangled_to_uri varchar(255),
    caller_cseq varchar(11) NOT NULL,
    callee_cseq varchar(11) NOT NULL,
    caller_ping_cseq integer NOT NULL,
    callee_ping_cseq integer NOT NULL,
    caller_route_set text,
    callee_route_set text,
    caller_contact varchar(255),
    callee_contact varchar(255),
    caller_sock varchar(64) NOT NULL,
    callee_sock varchar(64) NOT NULL,
    state integer NOT NULL,
    start_time integer NOT NULL,
    timeout integer NOT NULL,
    vars {bytea},
    profiles text,
    script_flags varchar(255),
    module_flags integer NOT NULL DEFAULT 0,
    flags integer NOT NULL DEFAULT 0,
    rt_on_answer varchar(64),
    rt_on_timeout varchar(64),
    rt_on_hangup varchar(64)
);

CREATE TABLE acc (
    id {serial},
    method varchar(16) NOT NULL DEFAULT '',
    from_tag varchar(255) NOT NULL DEFAULT '',
    to_tag varchar(255) NOT NULL DEFAULT '',
    callid varchar(255) NOT NULL DEFAULT '',
    sip_code varchar(3) NOT NULL DEFAULT '',
    sip_reason varchar(255) NOT NULL DEFAULT '',
    time timestamp NOT NULL,
    duration integer NOT NULL DEFAULT 0,
    ms_duration integer NOT NULL DEFAULT 0,
    setuptime integer NOT NULL DEFAULT 0,
    created timestamp
);
CREATE INDEX acc_callid_idx ON acc (callid);

CREATE TABLE missed_calls (
    id {serial},
    method varchar(16) NOT NULL DEFAULT '',
    from_tag varchar(255) NOT NULL DEFAULT '',
    to_tag varchar(255) NOT NULL DEFAULT '',
    callid varchar(255) NOT NULL DEFAULT '',
    sip_code varchar(3) NOT NULL DEFAULT '',
    sip_reason varchar(255) NOT NULL DEFAULT '',
    time timestamp NOT NULL,
    setuptime integer NOT NULL DEFAULT 0,
    created timestamp
);
CREATE INDEX missed_calls_callid_idx ON missed_calls (callid);

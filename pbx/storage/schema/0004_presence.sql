-- Tables with the names and columns of OpenSIPS 3.6: presence and stored messages.
-- {serial}, {bigserial}, {bytea} stand for the types of the dialect (pbx/storage/layout.py).

CREATE TABLE presentity (
    id {serial},
    username varchar(64) NOT NULL,
    domain varchar(64) NOT NULL,
    event varchar(64) NOT NULL,
    etag varchar(64) NOT NULL,
    expires integer NOT NULL,
    received_time integer NOT NULL,
    body {bytea},
    extra_hdrs {bytea},
    sender varchar(255)
);
CREATE UNIQUE INDEX presentity_presentity_idx ON presentity (username, domain, event, etag);

CREATE TABLE active_watchers (
    id {serial},
    presentity_uri varchar(255) NOT NULL,
    watcher_username varchar(64) NOT NULL,
    watcher_domain varchar(64) NOT NULL,
    to_user varchar(64) NOT NULL,
    to_domain varchar(64) NOT NULL,
    event varchar(64) NOT NULL DEFAULT 'presence',
    event_id varchar(64),
    to_tag varchar(64) NOT NULL,
    from_tag varchar(64) NOT NULL,
    callid varchar(255) NOT NULL,
    local_cseq integer NOT NULL,
    remote_cseq integer NOT NULL,
    contact varchar(255) NOT NULL,
    record_route text,
    expires integer NOT NULL,
    status integer NOT NULL DEFAULT 2,
    reason varchar(64),
    version integer NOT NULL DEFAULT 0,
    socket_info varchar(64) NOT NULL,
    local_contact varchar(255) NOT NULL,
    sharing_tag varchar(32)
);
CREATE UNIQUE INDEX active_watchers_active_watchers_idx ON active_watchers (presentity_uri, callid, to_tag, from_tag);

CREATE TABLE watchers (
    id {serial},
    presentity_uri varchar(255) NOT NULL,
    watcher_username varchar(64) NOT NULL,
    watcher_domain varchar(64) NOT NULL,
    event varchar(64) NOT NULL DEFAULT 'presence',
    status integer NOT NULL,
    reason varchar(64),
    inserted_time integer NOT NULL
);
CREATE UNIQUE INDEX watchers_watcher_idx ON watchers (presentity_uri, watcher_username, watcher_domain, event);

CREATE TABLE xcap (
    id {serial},
    username varchar(64) NOT NULL,
    domain varchar(64) NOT NULL,
    doc {bytea} NOT NULL,
    doc_type integer NOT NULL,
    etag varchar(64) NOT NULL,
    source integer NOT NULL,
    doc_uri varchar(255) NOT NULL,
    port integer NOT NULL
);
CREATE UNIQUE INDEX xcap_account_doc_type_idx ON xcap (username, domain, doc_type, doc_uri);
CREATE INDEX xcap_source_idx ON xcap (source);

CREATE TABLE pua (
    id {serial},
    pres_uri varchar(255) NOT NULL DEFAULT '',
    pres_id varchar(255) NOT NULL DEFAULT '',
    event integer NOT NULL DEFAULT 0,
    expires integer NOT NULL DEFAULT 0,
    desired_expires integer NOT NULL DEFAULT 0,
    flag integer NOT NULL DEFAULT 0,
    etag varchar(64),
    tuple_id varchar(64),
    watcher_uri varchar(255),
    to_uri varchar(255),
    call_id varchar(64),
    to_tag varchar(64),
    from_tag varchar(64),
    cseq integer,
    record_route text,
    contact varchar(255),
    remote_contact varchar(255),
    version integer,
    extra_headers text,
    sharing_tag varchar(32)
);

CREATE TABLE rls_presentity (
    id {serial},
    rlsubs_did varchar(255) NOT NULL DEFAULT '',
    resource_uri varchar(255) NOT NULL DEFAULT '',
    content_type varchar(255) NOT NULL DEFAULT '',
    presence_state {bytea} NOT NULL,
    expires integer NOT NULL DEFAULT 0,
    updated integer NOT NULL DEFAULT 0,
    auth_state integer NOT NULL DEFAULT 0,
    reason varchar(64) NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX rls_presentity_uniq_idx ON rls_presentity (rlsubs_did, resource_uri);

CREATE TABLE rls_watchers (
    id {serial},
    presentity_uri varchar(255) NOT NULL DEFAULT '',
    to_user varchar(64) NOT NULL DEFAULT '',
    to_domain varchar(64) NOT NULL DEFAULT '',
    watcher_username varchar(64) NOT NULL DEFAULT '',
    watcher_domain varchar(64) NOT NULL DEFAULT '',
    event varchar(64) NOT NULL DEFAULT '',
    event_id varchar(64),
    to_tag varchar(64) NOT NULL DEFAULT '',
    from_tag varchar(64) NOT NULL DEFAULT '',
    callid varchar(64) NOT NULL DEFAULT '',
    local_cseq integer NOT NULL DEFAULT 0,
    remote_cseq integer NOT NULL DEFAULT 0,
    contact varchar(64) NOT NULL DEFAULT '',
    record_route text,
    expires integer NOT NULL DEFAULT 0,
    status integer NOT NULL DEFAULT 0,
    reason varchar(64) NOT NULL DEFAULT '',
    version integer NOT NULL DEFAULT 0,
    socket_info varchar(64) NOT NULL DEFAULT '',
    local_contact varchar(255) NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX rls_watchers_uniq_idx ON rls_watchers (presentity_uri, callid, to_tag, from_tag);

CREATE TABLE silo (
    id {serial},
    src_addr varchar(1024) NOT NULL DEFAULT '',
    dst_addr varchar(1024) NOT NULL DEFAULT '',
    username varchar(64) NOT NULL DEFAULT '',
    domain varchar(64) NOT NULL DEFAULT '',
    inc_time integer NOT NULL DEFAULT 0,
    exp_time integer NOT NULL DEFAULT 0,
    snd_time integer NOT NULL DEFAULT 0,
    ctype varchar(255),
    body {bytea}
);
CREATE INDEX silo_account_idx ON silo (username, domain);

-- Tables with the names and columns of OpenSIPS 3.6: features beyond the reference deployment.
-- {serial}, {bigserial}, {bytea} stand for the types of the dialect (pbx/storage/layout.py).

CREATE TABLE registrant (
    id {serial},
    registrar varchar(255) NOT NULL DEFAULT '',
    proxy varchar(255),
    aor varchar(255) NOT NULL DEFAULT '',
    third_party_registrant varchar(255),
    username varchar(64),
    password varchar(64),
    binding_uri varchar(255) NOT NULL DEFAULT '',
    binding_params varchar(64),
    expiry integer,
    forced_socket varchar(64),
    cluster_shtag varchar(64),
    state integer NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX registrant_uniq_idx ON registrant (aor, binding_uri, registrar);

CREATE TABLE rtpengine (
    id {serial},
    socket text NOT NULL,
    set_id integer NOT NULL DEFAULT 0
);

CREATE TABLE rtpproxy_sockets (
    id {serial},
    rtpproxy_sock text NOT NULL,
    set_id integer NOT NULL DEFAULT 0
);

CREATE TABLE tls_mgm (
    id {serial},
    domain varchar(64) NOT NULL DEFAULT '',
    match_ip_address varchar(255),
    match_sip_domain varchar(255),
    type integer NOT NULL DEFAULT 0,
    method varchar(16),
    verify_cert integer,
    require_cert integer,
    certificate {bytea},
    private_key {bytea},
    crl_check_all integer,
    crl_dir varchar(255),
    ca_list {bytea},
    ca_dir varchar(255),
    cipher_list varchar(255),
    dh_params {bytea},
    ec_curve varchar(255)
);
CREATE UNIQUE INDEX tls_mgm_uniq_idx ON tls_mgm (domain, type);

CREATE TABLE clusterer (
    id {serial},
    cluster_id integer NOT NULL DEFAULT 0,
    node_id integer NOT NULL DEFAULT 0,
    url varchar(64) NOT NULL DEFAULT '',
    state integer NOT NULL DEFAULT 1,
    no_ping_retries integer NOT NULL DEFAULT 3,
    priority integer NOT NULL DEFAULT 50,
    sip_addr varchar(64),
    flags varchar(64),
    description varchar(64)
);
CREATE UNIQUE INDEX clusterer_uniq_idx ON clusterer (cluster_id, node_id);

CREATE TABLE sip_trace (
    id {serial},
    time_stamp timestamp NOT NULL DEFAULT '1900-01-01 00:00:01',
    callid varchar(255) NOT NULL DEFAULT '',
    trace_attrs varchar(255),
    msg text NOT NULL,
    method varchar(32) NOT NULL DEFAULT '',
    status varchar(255),
    from_proto varchar(5) NOT NULL DEFAULT '',
    from_ip varchar(50) NOT NULL DEFAULT '',
    from_port integer NOT NULL DEFAULT 0,
    to_proto varchar(5) NOT NULL DEFAULT '',
    to_ip varchar(50) NOT NULL DEFAULT '',
    to_port integer NOT NULL DEFAULT 0,
    fromtag varchar(64) NOT NULL DEFAULT '',
    direction varchar(4) NOT NULL DEFAULT ''
);

CREATE TABLE sockets (
    id {serial},
    socket varchar(128) NOT NULL DEFAULT '',
    advertised varchar(128),
    tag varchar(128),
    flags varchar(128),
    tos varchar(32)
);

CREATE TABLE tcp_mgm (
    id {serial},
    proto varchar(8) NOT NULL DEFAULT '',
    remote_addr varchar(43),
    remote_port integer NOT NULL DEFAULT 0,
    local_addr varchar(43),
    local_port integer NOT NULL DEFAULT 0,
    priority integer NOT NULL DEFAULT 0,
    attrs varchar(255),
    connect_timeout integer NOT NULL DEFAULT 0,
    con_lifetime integer NOT NULL DEFAULT 0,
    msg_read_timeout integer NOT NULL DEFAULT 0,
    send_threshold integer NOT NULL DEFAULT 0,
    no_new_conn integer NOT NULL DEFAULT 0,
    alias_mode integer NOT NULL DEFAULT 0,
    parallel_read integer NOT NULL DEFAULT 0,
    keepalive integer NOT NULL DEFAULT 0,
    keepcount integer NOT NULL DEFAULT 0,
    keepidle integer NOT NULL DEFAULT 0,
    keepinterval integer NOT NULL DEFAULT 0
);

CREATE TABLE cpl (
    id {serial},
    username varchar(64) NOT NULL DEFAULT '',
    domain varchar(64) NOT NULL DEFAULT '',
    cpl_xml text,
    cpl_bin text
);
CREATE UNIQUE INDEX cpl_uniq_idx ON cpl (username, domain);

CREATE TABLE cachedb (
    id {serial},
    keyname varchar(255) NOT NULL DEFAULT '',
    value text NOT NULL,
    counter integer NOT NULL DEFAULT 0,
    expires integer NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX cachedb_uniq_idx ON cachedb (keyname);

CREATE TABLE freeswitch (
    id {serial},
    username varchar(64),
    password varchar(64) NOT NULL DEFAULT '',
    ip varchar(20) NOT NULL DEFAULT '',
    port integer NOT NULL DEFAULT 8021,
    events_csv varchar(255)
);

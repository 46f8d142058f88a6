-- One row per leg of a call, and the view "cdr": one row per call as its users saw it.
-- A call through FreeSWITCH has two legs with one correlation: the main one from the caller to the
-- node (main = 1), which the node answers at once, and the node's own to the callee (main = 0),
-- whose answer is the real one. Times are given as timestamps and as seconds since 1970.

CREATE TABLE pbx_cdr (
    did varchar(64) NOT NULL PRIMARY KEY,
    correlation varchar(64) NOT NULL DEFAULT '',
    main integer NOT NULL DEFAULT 1,
    call_id varchar(255) NOT NULL DEFAULT '',
    from_tag varchar(255) NOT NULL DEFAULT '',
    to_tag varchar(255) NOT NULL DEFAULT '',
    caller varchar(255) NOT NULL DEFAULT '',
    caller_name varchar(255) NOT NULL DEFAULT '',
    callee varchar(255) NOT NULL DEFAULT '',
    caller_address varchar(64) NOT NULL DEFAULT '',
    callee_address varchar(64) NOT NULL DEFAULT '',
    start_time timestamp NOT NULL,
    answer_time timestamp,
    end_time timestamp NOT NULL,
    started double precision NOT NULL DEFAULT 0,
    answered double precision NOT NULL DEFAULT 0,
    ended double precision NOT NULL DEFAULT 0,
    disposition varchar(16) NOT NULL DEFAULT '',
    ended_by varchar(16) NOT NULL DEFAULT '',
    sip_code integer NOT NULL DEFAULT 0,
    sip_reason varchar(255) NOT NULL DEFAULT '',
    caller_domain varchar(64) NOT NULL DEFAULT '',
    callee_domain varchar(64) NOT NULL DEFAULT '',
    packets integer NOT NULL DEFAULT 0,
    loss double precision NOT NULL DEFAULT 0,
    jitter double precision NOT NULL DEFAULT 0,
    mos double precision NOT NULL DEFAULT 0
);
CREATE INDEX pbx_cdr_correlation_idx ON pbx_cdr (correlation);
CREATE INDEX pbx_cdr_started_idx ON pbx_cdr (started);
CREATE INDEX pbx_cdr_start_time_idx ON pbx_cdr (start_time);

CREATE VIEW cdr AS
SELECT
    m.start_time AS start_time,
    CASE WHEN t.did IS NULL THEN m.answer_time ELSE t.answer_time END AS answer_time,
    m.end_time AS end_time,
    CASE
        WHEN t.did IS NULL AND m.answered > 0 THEN ROUND((m.ended - m.answered) * 1000) / 1000
        WHEN t.answered > 0 AND m.ended > t.answered
            THEN ROUND((m.ended - t.answered) * 1000) / 1000
        ELSE 0
    END AS duration,
    m.caller AS caller,
    m.caller_name AS caller_name,
    m.callee AS callee,
    CASE
        WHEN t.did IS NULL THEN m.disposition
        WHEN t.disposition = 'cancelled' AND (m.ended_by <> 'caller' OR m.ended > t.ended + 3)
            THEN 'missed'
        ELSE t.disposition
    END AS disposition,
    CASE
        WHEN t.did IS NULL OR t.answered = 0 THEN m.ended_by
        WHEN t.ended_by IN ('timeout', 'admin', 'pbx') THEN t.ended_by
        WHEN t.ended_by = 'callee' AND (m.ended_by = 'callee' OR t.ended < m.ended) THEN 'callee'
        WHEN t.ended_by = 'caller' AND m.ended_by = 'callee' THEN 'pbx'
        ELSE m.ended_by
    END AS ended_by,
    CASE WHEN t.did IS NULL THEN m.sip_code ELSE t.sip_code END AS sip_code,
    CASE WHEN t.did IS NULL THEN m.sip_reason ELSE t.sip_reason END AS sip_reason,
    m.call_id AS call_id,
    (SELECT COUNT(*) FROM pbx_cdr n WHERE n.correlation = m.correlation) AS legs,
    m.started AS started,
    CASE WHEN t.did IS NULL THEN m.answered ELSE t.answered END AS answered,
    m.ended AS ended,
    m.caller_address AS caller_address,
    CASE WHEN t.did IS NULL THEN m.callee_address ELSE t.callee_address END AS callee_address,
    m.correlation AS correlation
FROM pbx_cdr m
LEFT JOIN pbx_cdr t ON t.did = (
    SELECT s.did FROM pbx_cdr s
    WHERE s.correlation = m.correlation AND s.main = 0
    ORDER BY CASE WHEN s.answered > 0 THEN 0 ELSE 1 END, s.started DESC
    LIMIT 1
)
WHERE m.main = 1;

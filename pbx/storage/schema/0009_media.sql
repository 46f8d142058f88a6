-- The view of 0007 with how calls through the media engine were heard: packets of both sides, the
-- share of them that was lost, the jitter in milliseconds of the worse side and its estimated mean
-- opinion score. 0 for calls whose media did not pass here.

DROP VIEW IF EXISTS cdr;

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
    m.correlation AS correlation,
    m.packets + COALESCE(t.packets, 0) AS packets,
    CASE WHEN COALESCE(t.loss, 0) > m.loss THEN t.loss ELSE m.loss END AS loss,
    CASE WHEN COALESCE(t.jitter, 0) > m.jitter THEN t.jitter ELSE m.jitter END AS jitter,
    CASE
        WHEN m.mos = 0 THEN COALESCE(t.mos, 0)
        WHEN COALESCE(t.mos, 0) = 0 OR t.mos > m.mos THEN m.mos
        ELSE t.mos
    END AS mos
FROM pbx_cdr m
LEFT JOIN pbx_cdr t ON t.did = (
    SELECT s.did FROM pbx_cdr s
    WHERE s.correlation = m.correlation AND s.main = 0
    ORDER BY CASE WHEN s.answered > 0 THEN 0 ELSE 1 END, s.started DESC
    LIMIT 1
)
WHERE m.main = 1;

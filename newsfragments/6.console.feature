The operator's console at `/console` shows calls, registrations, FreeSWITCH nodes, gateways and health as they change.

Browsers reach SIP over WebSocket also at `/sip` of the HTTP and HTTPS ports, from our own pages and from origins that `[websocket] allowed_origins` names.

Phones register over UDP, TCP, TLS and WebSocket and call each other, directly or through balanced FreeSWITCH nodes.

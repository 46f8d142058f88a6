"""Time and retransmission: the state machines of pbx.sip with a clock and a flow."""

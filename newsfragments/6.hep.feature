The plugin `hep` sends all messages as HEPv3 to a capture server, with one correlation id for both legs of a call.

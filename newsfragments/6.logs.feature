The log has a line for each turn of a call, comes as text or JSON, and `pbxctl log` sets levels by module and shows the messages of one user, call or address.

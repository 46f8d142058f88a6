Floods are limited, and sources that guess passwords or scan are banned, by SIP and web alike; `pbxctl bans`, `ban` and `unban` show and change it.

The plugin `heartbeat` tells how late the reactor comes back to its work, and whether the PBX itself or other processes are why: `pbxctl mi heartbeat`.

`pbxctl import FILE.cfg` turns an OpenSIPS 2.4 or 3.x configuration into ours, and lists what it understood, what is different here (rules and oddities by number) and what it left out.

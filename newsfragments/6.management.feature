OpenSIPS tools manage the PBX over HTTP (`mi_http`), a FIFO (`mi_fifo`) and datagrams (`mi_datagram`): `opensips-cli` works unmodified, from this host or elsewhere with a token.

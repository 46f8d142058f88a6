Every db_mode of registrations and calls keeps what docs/storage.md promises for `kill -9`; in registrar mode 3 rows that other programs change in `location` count within 5 seconds.

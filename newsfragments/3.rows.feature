A database made by OpenSIPS 3.x is used as it is and what is added is logged; rows with NULLs, wrong types or malformed URIs are named in the log by table, id and column, and the others are used.

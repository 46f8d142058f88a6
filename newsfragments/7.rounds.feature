`make bench` compares the PBX and kamailio in alternating rounds, each with its own PostgreSQL and Redis, and prints medians with their spread at two rates.

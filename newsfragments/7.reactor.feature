Waking up for a UDP datagram takes some microseconds less of the CPU.

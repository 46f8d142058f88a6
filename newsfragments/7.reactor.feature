Waking up for a UDP datagram takes some 6 us less of the CPU.

An answered call keeps less than half of the memory for the 32 s in which its 2xx may be repeated.

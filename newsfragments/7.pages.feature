Where the kernel gives large pages only to who asks, the PBX asks for its heap: some 8 % less CPU.

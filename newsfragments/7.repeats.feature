Answers that are kept for repeated requests take less than half of the memory, and `max_finished_bytes` in `[transaction]` bounds it.

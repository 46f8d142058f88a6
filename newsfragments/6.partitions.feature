Dynamic routing has partitions: `[drouting] use_partitions` reads `dr_partitions`, and a policy names the one to use.

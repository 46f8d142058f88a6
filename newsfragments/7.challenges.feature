Challenges (401, 407) and answers to OPTIONS keep no state: floods of requests without password cost no memory.

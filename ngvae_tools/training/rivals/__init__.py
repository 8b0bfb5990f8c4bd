"""Other answers to how many dimensions data need, on the same networks: for the benchmark alone."""

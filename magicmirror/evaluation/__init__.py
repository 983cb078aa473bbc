"""The paper's metrics, the benchmark runner and its report."""

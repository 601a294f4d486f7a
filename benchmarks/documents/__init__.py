"""What writes the tables and figures of the documents from what was measured (benchmarks/results)."""

"""What a step costs: operations, and seconds once they are measured. Start at `program_cost`."""

"""System: what the machine does to a program, such as time limits, signals, forks and logging."""

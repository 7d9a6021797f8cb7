"""What the machine does to a program: time limits, signals, forks, wake-ups."""

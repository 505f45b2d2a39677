"""What programs that sample share: arguments, jobs, drawing, writing, reading."""

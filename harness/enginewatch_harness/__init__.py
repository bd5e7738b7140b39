"""Plans, builds, runs, load, schedule and the command line of enginewatch."""

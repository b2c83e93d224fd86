"""The commands of `mynah`, one file for each group."""

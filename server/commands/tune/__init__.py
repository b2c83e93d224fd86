"""The commands `mynah tune ...`, one file each."""

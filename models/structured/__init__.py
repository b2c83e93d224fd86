"""JSON of a wanted shape: a schema turned into the grammar that writes nothing else."""

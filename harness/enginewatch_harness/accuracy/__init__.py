"""How far an engine's outputs are from the fp32 reference on the same inputs."""

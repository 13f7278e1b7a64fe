"""Memory held to what its kernel writes: the evidence of the image, the judgement, the report."""

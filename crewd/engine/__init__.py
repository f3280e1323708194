"""ACT: the patrol, which looks, judges, decides, acts and tells, once a round."""

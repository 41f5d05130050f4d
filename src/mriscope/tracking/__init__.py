"""Recording of runs in MLflow: the only package that imports MLflow, which happens when it is first needed."""

"""What runs record in MLflow: the only room that knows MLflow, which is imported when it is first needed."""

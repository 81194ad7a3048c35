"""End-to-end tests. A package, so that what they share ends with them: the Airflow and the browser."""

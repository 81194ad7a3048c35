"""Carries Omnitron's cancellation plans to an ERP and the ERP's answer back.

Every plan is a row in a journal, every step is a function that moves a row one state on.
The package runs without Airflow; `airflow_bridge` is the one module that knows it.
"""

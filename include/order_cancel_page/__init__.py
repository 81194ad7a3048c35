"""The page inside Airflow's UI: flows, plans and what a person decides about them.

It uses the product and is unknown to it. Nothing here sends anything to the ERP: what sends is an ordinary DAG
run, started by the browser through Airflow's own API as the user.

    mount          what the plugin registers; light, since every Airflow process reads it
    app            the web app, put together
    rights         what a route states: who may use it; refuses routes that state nothing
    door           what the page wants to know of Airflow
    airflow_door   the only module here that knows Airflow
    shell          templates, links, assets
"""

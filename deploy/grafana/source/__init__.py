"""The dashboards of crewd as code: one module a dashboard. `python -m deploy.grafana.source` writes their JSON.

It needs grafana-foundation-sdk (development only). What is shipped is the JSON, in deploy/grafana/dashboards.
"""

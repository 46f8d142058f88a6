`/metrics` tells Prometheus about messages, calls, registrations, nodes, gateways, database and queues; `etc/monitoring` has alerts and a Grafana dashboard.

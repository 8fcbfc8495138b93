"""From an anomaly map to regions, verdict, tables, pictures and a report."""

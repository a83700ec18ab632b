"""The cloud sync service: ingest, object storage, catalog, query, web page."""

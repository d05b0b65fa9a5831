"""What a reader sees of records: figures, the ledger of claims, the report, tables."""

"""Components: their types, their code, their linking and their stores, beside those of core modules."""

"""The only door to Hydra: the configuration is composed, checked and handed on as settings; tables are rows of data."""

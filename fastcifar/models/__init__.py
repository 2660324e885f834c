"""The networks: their names (`names`), and the modules that make them (`build`)."""

"""The report regenerated from run directories: figures, tables, verdicts and the page that holds them."""

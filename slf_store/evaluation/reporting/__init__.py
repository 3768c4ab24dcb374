"""The report on paper and on screen: tables, figures, findings."""

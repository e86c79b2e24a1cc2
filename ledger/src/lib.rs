//! Pure rules: slots and verdicts, tariff, rating, accounts and postings

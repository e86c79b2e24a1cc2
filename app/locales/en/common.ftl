# Words used on more than one page.
brand = Urja
language = Language
noscript = This page needs JavaScript. The same figures are in the API under /api/v1.
loading = Loading…
as-of = as of { $time }
offline = No answer from the head-end. These are the last known figures, { $time }.
no-answer = No answer from the head-end. Trying again every few seconds.
units = { $units } units
